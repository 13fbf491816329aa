"""Which server of a job holds which tensor: a function of names, sizes and the number of servers alone."""

from __future__ import annotations

from typing import Dict, Iterable, List, Mapping, Optional

DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
MAX_SERVERS = len(DIGITS)

Split = Dict[str, int]
"""From a tensor's name to the index of its server."""


def split(sizes: Mapping[str, int], count: int) -> Split:
    """Spread tensors over ``count`` servers by their bytes: the largest first, each to the server with the least."""
    loads = [0] * count
    found = {}
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        lightest = loads.index(min(loads))
        found[name] = lightest
        loads[lightest] += sizes[name]
    return found


def names_of(found: Split, index: int) -> List[str]:
    """Return the names that server ``index`` holds, in order."""
    return sorted(name for name, server in found.items() if server == index)


def to_text(found: Split) -> str:
    """Return a split as a header carries it: a digit a tensor, in the order of the tensors' names."""
    return "".join(DIGITS[found[name]] for name in sorted(found))


def from_text(text: str, names: Iterable[str], count: int) -> Optional[Split]:
    """Return the split that :func:`to_text` wrote; None where it is not one of ``names`` over ``count`` servers."""
    ordered, known = sorted(names), DIGITS[:count]
    if len(text) != len(ordered) or not set(text) <= set(known):
        return None
    return {name: known.index(digit) for name, digit in zip(ordered, text)}
