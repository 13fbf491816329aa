"""Which tensors of a .pth file are its network's, and their names as ``state_dict()`` gives them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Optional, Tuple

from cross_silo.checkpoint.pytorch.records import Inert, Instance, RefusedError, Tensor, printable

WEIGHT_KEYS = ("ema", "model", "state_dict", "model_state_dict")
"""Where a training run's checkpoint has its network, the first that is there: averaged weights before the others."""
MAX_MODULES = 100_000
MAX_DEPTH = 64
MAX_ENTRIES = 1_000_000
"""Of all modules together, each counted as often as the network holds it."""
MAX_NAME = 1000
"""Characters of a tensor's name."""


@dataclass
class Selection:
    """The network's tensors in a file, and what else is there."""

    tensors: Dict[str, Tensor] = field(default_factory=dict)
    left_out: Dict[str, str] = field(default_factory=dict)
    """Names of other entries, and why they are not read."""
    classes: Tuple[str, ...] = ()
    """Names of the object classes, where a whole network says them."""


def select(top: Any) -> Selection:
    """Return the tensors of what a file describes: a state_dict, a whole network, or a dict that has one of these.

    Raises:
        RefusedError: there are no tensors, or what holds them is unclear.
    """
    if _is_module(top):
        return _network(top)
    if type(top) is not dict:
        raise RefusedError(f"it holds a {kind(top)}; expected a state_dict or a network")
    if _has_tensors(top):
        return _state_dict(top)
    looked_at: Dict[int, bool] = {}  # a file may hold one large dict many times
    for value in top.values():
        if id(value) not in looked_at:
            looked_at[id(value)] = _is_module(value) or (type(value) is dict and _has_tensors(value))
    sets = [key for key, value in top.items() if looked_at[id(value)]]
    chosen = next((key for key in WEIGHT_KEYS if key in sets), None)
    if chosen is None and len(sets) == 1:
        chosen = sets[0]
    keys = ", ".join(printable(str(key)) for key in list(top)[:10]) or "none"
    if chosen is None:
        instance = next((value for value in top.values() if type(value) is Instance), None)
        raise RefusedError(
            f"it holds {'several sets of tensors' if sets else 'no tensors'} (its keys: {keys})"
            + (f"; {instance.of} is no network" if instance else "")
            + f"; expected a state_dict, or one at {', '.join(WEIGHT_KEYS)}"
        )
    selection = _network(top[chosen]) if _is_module(top[chosen]) else _state_dict(top[chosen])
    for key, value in top.items():
        if key != chosen:
            selection.left_out[printable(str(key))] = f"{kind(value)} beside the weights of {chosen!r}"
    return selection


def kind(value: Any) -> str:
    """Return what a value of a file is, by the class that the file names where it is a record."""
    return str(value.of) if type(value) in (Instance, Inert) else type(value).__name__


def _has_tensors(entries: Dict[Any, Any]) -> bool:
    return any(type(value) is Tensor for value in entries.values())


def _state_dict(entries: Dict[Any, Any]) -> Selection:
    selection = Selection()
    for key, value in entries.items():
        if type(key) is str and type(value) is Tensor:
            selection.tensors[_checked(key)] = value
        else:
            selection.left_out[printable(str(key))] = f"{kind(value)}, expected a tensor with a name"
    return selection


def _is_module(value: Any) -> bool:
    parts = ("_parameters", "_buffers", "_modules")
    return (
        type(value) is Instance
        and value.state is not None
        and all(type(value.state.get(part)) is dict for part in parts)
    )


def _network(top: Instance) -> Selection:
    """Walk a network as ``state_dict()`` does: a module's parameters, its buffers, then its modules."""
    selection = Selection(classes=_classes(top))
    # A list of what is left to walk, not recursion: the file says how deep it goes.
    rest: List[Iterator[Tuple[str, Instance]]] = [iter([("", top)])]
    count = entries = 0
    while rest:
        prefix, module = next(rest[-1], ("", None))
        if module is None:
            rest.pop()
            continue
        count += 1
        entries += sum(len(part) for part in (module.state or {}).values() if type(part) in (dict, list))
        if entries > MAX_ENTRIES:
            raise RefusedError(f"its network has more than {MAX_ENTRIES:,} entries")
        if count > MAX_MODULES or len(rest) > MAX_DEPTH:
            raise RefusedError(f"its network has more than {MAX_MODULES:,} modules or is {MAX_DEPTH} modules deep")
        for name, tensor in _own_tensors(prefix, module):
            if type(tensor) is not Tensor:
                raise RefusedError(f"{printable(name)} is a {kind(tensor)}, expected a tensor")
            selection.tensors[_checked(name)] = tensor
        rest.append(iter(_children(prefix, module)))
    if not selection.tensors:
        raise RefusedError(f"{top.of} has no tensors")
    return selection


def _own_tensors(prefix: str, module: Instance) -> Iterator[Tuple[str, Any]]:
    state = module.state or {}
    passing = state.get("_non_persistent_buffers_set")
    skipped = passing if type(passing) is list else []
    skipped = {name for name in skipped if type(name) is str}
    for name, value in state["_parameters"].items():
        if value is not None:
            yield f"{prefix}{name}", value
    for name, value in state["_buffers"].items():
        if value is not None and name not in skipped:
            yield f"{prefix}{name}", value


def _children(prefix: str, module: Instance) -> Iterator[Tuple[str, Instance]]:
    for name, child in (module.state or {})["_modules"].items():
        if child is None:
            continue
        if not _is_module(child):
            raise RefusedError(f"{printable(f'{prefix}{name}')} is a {kind(child)}, expected a module of the network")
        yield _checked(f"{prefix}{name}."), child


def _checked(name: str) -> str:
    if len(name) > MAX_NAME or not name.isprintable():
        raise RefusedError(f"it has a tensor named {printable(name)!r}...: too long or with control characters")
    return name


def _classes(top: Instance) -> Tuple[str, ...]:
    """Return a detector's class names, which YOLOv5 keeps as a list or by number."""
    names: Optional[Any] = (top.state or {}).get("names")
    if type(names) is dict and list(names) == list(range(len(names))):
        names = list(names.values())
    if type(names) is not list or any(type(name) is not str or not name.isprintable() for name in names):
        return ()
    return tuple(names)
