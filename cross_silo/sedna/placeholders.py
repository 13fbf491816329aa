"""``$NODE`` in manifests, which a shell would have filled: filled from the command line, or refused."""

from __future__ import annotations

import re
from typing import Any, List, Mapping, Tuple

from cross_silo.errors import UserError

PLACEHOLDER = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})")
VERBATIM = ("command", "args", "stringData", "data", "annotations")
"""What is below these is a program's or a secret, and may have a $ of its own."""


def parse_assignments(flag: str, texts: "List[str]") -> "dict[str, str]":
    """Return the ``NAME=value`` of a flag. Raises UserError naming it."""
    values = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise UserError(f"{flag} is {text!r}, expected NAME=value")
        if values.get(name, value) != value:
            raise UserError(f"{flag} gives {name} twice: {values[name]!r} and {value!r}")
        values[name] = value
    return values


def is_open(text: str) -> bool:
    """Tell whether ``text`` has a placeholder, which :func:`fill` has told of."""
    return PLACEHOLDER.search(text) is not None


def fill(value: Any, values: Mapping[str, str], path: str = "") -> Tuple[Any, List[Tuple[str, str]]]:
    """Return ``value`` with its placeholders filled, and (path, name) of those for which there is no value."""
    if isinstance(value, dict):
        filled, missing = {}, []
        for key, item in value.items():
            if key in VERBATIM:
                filled[key] = item
                continue
            filled[key], more = fill(item, values, f"{path}.{key}" if path else key)
            missing += more
        return filled, missing
    if isinstance(value, list):
        pairs = [fill(item, values, f"{path}[{index}]") for index, item in enumerate(value)]
        return [item for item, _ in pairs], [entry for _, more in pairs for entry in more]
    if not isinstance(value, str):
        return value, []
    names = [first or second for first, second in PLACEHOLDER.findall(value)]
    missing = [(path, name) for name in names if name not in values]
    text = PLACEHOLDER.sub(lambda match: values.get(match[1] or match[2], match[0]), value)
    return text, missing
