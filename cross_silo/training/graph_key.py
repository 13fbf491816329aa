"""A name for a compiled graph: the same for two processes only if all that defines the graph is the same.

MindSpore's own compile cache compares nothing but the files that the entry script imports from outside sys.path.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
import sysconfig
from functools import partial
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import Dict, Iterable, List, Sequence, Set

import mindspore
import numpy as np
from mindspore import Parameter, Tensor, nn
from mindspore.ops import Primitive

import cross_silo

VERSIONED = ("mindspore", "numpy")
"""Packages that their versions stand for."""
CELLS_OWN = frozenset(vars(nn.Cell()))
"""What every cell holds: bookkeeping, children and parameters."""
CODE_SUFFIXES = (".py", ".so")
OTHER_VARIABLES = ("ONEDNN_MAX_CPU_ISA", "OMP_NUM_THREADS")


def graph_key(facts: Sequence[object], defined_by: Iterable[type], cell: nn.Cell, inputs: Sequence[Tensor]) -> str:
    """Return the name, 32 hexadecimal digits, of ``cell``'s graph for ``inputs``.

    The values of parameters and inputs are no part of it: a graph takes them when it runs. All else that the cells
    hold is, since a compiled graph has it as constants.

    Args:
        facts: settings that the graph is made from; their repr counts.
        defined_by: classes that build it, beside those of the cells in it; the code of their packages counts.
    """
    parameters = [(p.name, p.shape, str(p.dtype), p.requires_grad) for p in cell.get_parameters()]
    seen: Dict[int, object] = {}
    types = [*defined_by, *(type(part) for _, part in cell.cells_and_names())]
    content = [
        platform.node(),
        platform.machine(),
        sys.version,
        *(_release(sys.modules[name]) for name in VERSIONED),
        sorted((k, v) for k, v in os.environ.items() if k.startswith("MS_") or k in OTHER_VARIABLES),
        [mindspore.get_context(name) for name in ("mode", "device_target")],
        [repr(fact) for fact in facts],
        sorted(f"{t.__module__}.{t.__qualname__}" for t in types),
        parameters,
        [(tensor.shape, str(tensor.dtype)) for tensor in inputs],
        code_digest(types),
        [_constant(part, seen) for _, part in cell.cells_and_names()],
    ]
    return hashlib.sha256(repr(content).encode()).hexdigest()[:32]


def _constant(value: object, seen: Dict[int, object]) -> object:
    """Return what stands for a value that a cell holds: the same in two processes only if the value is.

    Args:
        seen: objects met before, which stand for themselves by their number; kept, so that no id is used again.
    """
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes, np.generic)):
        return repr(value)
    if isinstance(value, Parameter):
        return "parameter", value.name
    if isinstance(value, (Tensor, np.ndarray)):
        array = np.ascontiguousarray(value.asnumpy() if isinstance(value, Tensor) else value)
        return array.shape, str(array.dtype), hashlib.sha256(array.tobytes()).hexdigest()
    if isinstance(value, (type, ModuleType)):
        return getattr(value, "__qualname__", value.__name__)
    if id(value) in seen:
        return "met before", list(seen).index(id(value))
    seen[id(value)] = value
    return f"{type(value).__module__}.{type(value).__qualname__}", [_constant(part, seen) for part in _parts(value)]


def _parts(value: object) -> Iterable[object]:
    """Return the values that an object consists of, in an order of their own."""
    own = dict(getattr(value, "__dict__", {}))
    if isinstance(value, (list, tuple)):
        return value
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=repr)
    if isinstance(value, dict):
        return [part for key in sorted(value, key=repr) for part in (key, value[key])]
    if isinstance(value, Primitive):
        return value.name, dict(value.attrs)
    if isinstance(value, nn.Cell):
        return [part for key in sorted(own.keys() - CELLS_OWN) for part in (key, own[key])]
    if isinstance(value, partial):
        return value.func, value.args, value.keywords
    if str(getattr(value, "__module__", "")).partition(".")[0] in VERSIONED:
        return (getattr(value, "__qualname__", ""),)  # what MindSpore makes has addresses in it; our code says how
    if isinstance(value, FunctionType):  # its code counts with that of its package
        captured = [cell.cell_contents for cell in value.__closure__ or ()]
        return value.__qualname__, value.__defaults__, value.__kwdefaults__, captured
    if isinstance(value, MethodType):
        return value.__func__, value.__self__
    home = sys.modules.get(type(value).__module__)
    if home is None or _is_standard(home):
        text = repr(value)
        return () if " at 0x" in text else (text,)
    return (own,)


def code_digest(types: Iterable[type]) -> str:
    """Return a digest of the code that ``types`` come from: their packages' files and those of what they import.

    Followed are the imports that stand in the global names of the loaded modules; packages that are installed and say
    their version are taken at their word.
    """
    names = {t.__module__.partition(".")[0] for t in types}
    names.add(cross_silo.__name__)
    digest = hashlib.sha256()
    for name, files in sorted(_code_files(names).items()):
        digest.update(f"{name} {_release(sys.modules[name])}\n".encode())
        for file in files:
            digest.update(f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def _code_files(names: Set[str]) -> Dict[str, List[Path]]:
    """Return the code files of the top-level modules ``names`` and of those that they import."""
    found: Dict[str, List[Path]] = {}
    wanted = sorted(names)
    while wanted:
        name = wanted.pop()
        if name in found or name in VERSIONED or name not in sys.modules or _is_standard(sys.modules[name]):
            continue
        module = sys.modules[name]
        if name not in names and getattr(module, "__version__", None):
            found[name] = []
            continue
        found[name] = _files_of(module)
        if name != cross_silo.__name__:  # what it imports beside MindSpore and numpy defines no graph
            wanted += _imported_by(name)
    return found


def _files_of(module: ModuleType) -> List[Path]:
    """Return a top-level module's code files, sorted."""
    folders = [Path(folder) for folder in getattr(module, "__path__", ())]
    if not folders:
        return [Path(module.__file__)] if getattr(module, "__file__", None) else []
    return sorted(file for folder in folders for file in folder.rglob("*") if file.suffix in CODE_SUFFIXES)


def _imported_by(name: str) -> Set[str]:
    """Return the top-level modules that the global names of ``name``'s loaded modules come from."""
    imported = set()
    for loaded, module in list(sys.modules.items()):
        if loaded == name or loaded.startswith(f"{name}."):
            for value in list(vars(module).values()):
                origin = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
                if isinstance(origin, str):
                    imported.add(origin.partition(".")[0])
    return imported - {name}


def _is_standard(module: ModuleType) -> bool:
    """Tell whether a module is Python's own, for which its version stands."""
    file = getattr(module, "__file__", None)
    if file is None:
        return not hasattr(module, "__path__")
    standard = Path(sysconfig.get_paths()["stdlib"])
    inside = Path(file).parent
    return standard in (inside, *inside.parents) and not any(part.endswith("-packages") for part in inside.parts)


def _release(module: ModuleType) -> str:
    """Return a module's version and, where it has one, its build."""
    build = Path(getattr(module, "__file__", None) or "").parent / ".commit_id"
    return f"{getattr(module, '__version__', '')} {build.read_text() if build.is_file() else ''}"
