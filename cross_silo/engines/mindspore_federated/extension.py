"""The wheel's C++ engine, loaded without its Python package and so without MindSpore: 42 MB a process."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Dict, Iterator, Mapping, Tuple

from cross_silo.errors import UserError, run_main

NAME = "mindspore_federated._mindspore_federated"
SERVER, SCHEDULER = "MS_SERVER", "MS_SCHED"
"""What the engine calls its roles."""

Settings = Mapping[str, Any]
"""The engine's YAML: numbers, texts, truth values and mappings of them."""


def load() -> ModuleType:
    """Return the extension module. Raises UserError where this Python does not have it or cannot load it."""
    package = importlib.util.find_spec("mindspore_federated")
    places = list(package.submodule_search_locations or ()) if package else []
    suffixes = importlib.machinery.EXTENSION_SUFFIXES
    files = [Path(place, f"_mindspore_federated{suffix}") for place in places for suffix in suffixes]
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        raise UserError(
            f"{sys.executable} has no mindspore_federated for Python {sys.version_info[0]}.{sys.version_info[1]}; "
            "expected the environment that scripts/setup_engine.sh makes"
        )
    loader = importlib.machinery.ExtensionFileLoader(NAME, str(found))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(NAME, loader))
    try:
        loader.exec_module(module)
    except ImportError as error:
        raise UserError(f"{found} cannot be loaded: {error}") from None
    return module


def configure(engine: ModuleType, settings: Settings, role: str, where: str) -> None:
    """Give the engine its settings.

    Args:
        where: the YAML that they come from, for its messages.

    Raises:
        UserError: the engine refuses one.
    """
    items: Dict[str, Any] = {}
    for name, value in _flat(settings):
        item = engine.YamlConfigItem_()
        if isinstance(value, bool):
            item.set_bool_val(value)
        elif isinstance(value, int):
            item.set_int_val(value)
        elif isinstance(value, float):
            item.set_float_val(value)
        elif isinstance(value, str):
            item.set_str_val(value)
        else:
            item.set_dict()
        items[name] = item
    try:
        engine.FLContext.get_instance().load_yaml_config(items, where, role)
    except RuntimeError as error:
        raise UserError(f"{where}: the engine refuses it: {error}") from None


def _flat(settings: Settings, prefix: str = "") -> Iterator[Tuple[str, Any]]:
    for key, value in settings.items():
        yield prefix + key, value
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")


def main() -> int:
    """Tell whether this Python can load the engine."""
    load()
    return 0


if __name__ == "__main__":
    run_main(main)
