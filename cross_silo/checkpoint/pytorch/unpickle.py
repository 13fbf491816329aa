"""An interpreter of the pickle opcodes that torch.save writes; it makes records and calls nothing.

Opcodes: CPython's ``Lib/pickletools.py``. No name of the file is looked up, imported or called; an opcode or a name
that is not in a table here or in :mod:`records` ends the reading. Nothing is compared, hashed or printed but texts and
small numbers, and nothing recurses, so that a file's depth and shared parts cost no more than their bytes.
"""

from __future__ import annotations

import pickletools
from typing import Any, BinaryIO, Callable, Dict, List, Optional, Tuple

from cross_silo.checkpoint.pytorch.records import (
    ELEMENTS,
    INERT,
    MODULE_CLASS,
    ORDERED_DICT,
    REBUILD_PARAMETER,
    REBUILD_TENSOR,
    SETS,
    SHOWN,
    Inert,
    Instance,
    Name,
    RefusedError,
    Storage,
    Tensor,
    is_known,
    printable,
)

MAX_BYTES = 64 * 1024 * 1024
"""Of a pickle: tensors lie outside of it, so that a large network's has one or two."""
MAX_OPCODES = 2_000_000
"""A tensor takes about 40."""
MAX_NUMBER = 2**60
"""Above every size, offset and count there can be."""

CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
LITERALS = frozenset(
    ["BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8"]
    + ["BYTEARRAY8", "SHORT_BINSTRING", "BINSTRING", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"]
)
WRITTEN_BY_NAME = {"INST": "INST", "EXT1": "extension code", "EXT2": "extension code", "EXT4": "extension code"}
"""Opcodes that name a class in ways that torch.save never uses."""
EMPTY: Dict[str, Callable[[], Any]] = {"EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_SET": list, "EMPTY_DICT": dict}
"""What holds nothing yet. A set is read as a list: its members are not hashed."""


def unpickle(stream: BinaryIO, storages: Optional[Dict[str, Storage]] = None) -> Any:
    """Return what the pickle at the stream's position describes; the stream stands behind it afterwards.

    The storages that it mentions are added to ``storages`` by key.

    Texts, numbers, None, tuples, lists and dicts are themselves; everything else is a record.

    Raises:
        RefusedError: it is no pickle, is damaged, or holds what is not read.
    """
    machine = _Machine({} if storages is None else storages)
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if count == MAX_OPCODES:
                raise RefusedError(f"its pickle has more than {MAX_OPCODES:,} opcodes")
            if opcode.name == "STOP":
                return machine.result()
            machine.step(opcode.name, argument)
    except RefusedError:
        raise
    except (ValueError, OverflowError, IndexError) as error:
        raise RefusedError(f"its pickle is damaged: {printable(str(error)) or type(error).__name__}") from None
    raise RefusedError("its pickle does not end")


class _Machine:
    """The stack, the marks on it and the memo."""

    def __init__(self, storages: Dict[str, Storage]) -> None:
        self.storages = storages
        self.stack: List[Any] = []
        self.below: List[List[Any]] = []
        """The stacks under each mark."""
        self.memo: Dict[int, Any] = {}

    def result(self) -> Any:
        if self.below or len(self.stack) != 1:
            raise RefusedError("its pickle is damaged: it does not end with one value")
        return self.stack[0]

    def step(self, opcode: str, argument: Any) -> None:
        stack = self.stack
        if opcode in LITERALS:
            stack.append(argument)
        elif opcode in CONSTANTS:
            stack.append(CONSTANTS[opcode])
        elif opcode in EMPTY:
            stack.append(EMPTY[opcode]())
        elif opcode == "MARK":
            self.below.append(stack)
            self.stack = []
        elif opcode in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif opcode == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif opcode in ("BINGET", "LONG_BINGET"):
            if argument not in self.memo:
                raise RefusedError(f"its pickle is damaged: memo {argument} is not set")
            stack.append(self.memo[argument])
        elif opcode in ("TUPLE1", "TUPLE2", "TUPLE3"):
            stack.append(tuple(self.pop(int(opcode[-1]))))
        elif opcode in ("TUPLE", "FROZENSET"):
            items = self.pop_mark()
            self.stack.append(tuple(items))
        elif opcode in ("APPENDS", "ADDITEMS"):
            items = self.pop_mark()
            _extend(self.stack[-1], items)
        elif opcode == "APPEND":
            _extend(stack[-2], self.pop(1))
        elif opcode == "SETITEMS":
            items = self.pop_mark()
            _set_items(self.stack[-1], items)
        elif opcode == "SETITEM":
            _set_items(stack[-3], self.pop(2))
        elif opcode == "GLOBAL":
            stack.append(_named(*argument.split(" ", 1)))
        elif opcode == "STACK_GLOBAL":
            stack.append(_named(*self.pop(2)))
        elif opcode == "REDUCE":
            stack.append(_call(*self.pop(2)))
        elif opcode == "NEWOBJ":
            stack.append(_new(*self.pop(2)))
        elif opcode == "BUILD":
            _set_state(stack[-2], self.pop(1)[0])
        elif opcode == "BINPERSID":
            stack.append(self.persistent(stack.pop()))
        elif opcode == "POP":
            stack.pop()
        elif opcode == "POP_MARK":
            self.pop_mark()
        elif opcode in WRITTEN_BY_NAME:
            what = printable(str(argument).replace(" ", "."))
            raise RefusedError(f"it names {what} by {WRITTEN_BY_NAME[opcode]}, which is not read")
        elif opcode not in ("PROTO", "FRAME"):
            raise RefusedError(f"its pickle has the opcode {opcode}, which torch.save does not write")

    def persistent(self, identity: Any) -> Any:
        """Return what the file keeps outside of the pickle: a storage, or (older files) a class with its source."""
        if type(identity) is tuple and identity and type(identity[0]) is str:
            if identity[0] == "module" and len(identity) == 4 and type(identity[1]) is Name:
                return identity[1]
            if identity[0] == "storage":
                storage = _storage(identity)
                self.storages[storage.key] = storage
                return storage
        raise RefusedError("it refers to something outside of the pickle that is no storage")

    def pop(self, count: int) -> List[Any]:
        if len(self.stack) < count:
            raise RefusedError("its pickle is damaged: a value is missing")
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def pop_mark(self) -> List[Any]:
        if not self.below:
            raise RefusedError("its pickle is damaged: a mark is missing")
        items = self.stack
        self.stack = self.below.pop()
        return items


def _named(module: Any, name: Any) -> Name:
    if type(module) is not str or type(name) is not str:
        raise RefusedError("it names a class by what is no text")
    found = Name(module, name)
    if not is_known(f"{module}.{name}"):
        raise RefusedError(f"it names {found}, which is not read")
    return found


def _call(function: Any, arguments: Any) -> Any:
    """Return the record of what ``function(*arguments)`` would be."""
    if type(function) is not Name or type(arguments) is not tuple:
        raise RefusedError(f"it calls a {_kind(function)}")
    name = f"{function.module}.{function.name}"
    if name in REBUILD_TENSOR:
        return _tensor(arguments)
    if name in REBUILD_PARAMETER and arguments and type(arguments[0]) is Tensor:
        return arguments[0]
    if name == ORDERED_DICT and not arguments:
        return {}
    if name in SETS:
        if len(arguments) != 1 or type(arguments[0]) is not list:
            raise RefusedError(f"it calls {function} with other arguments than a list")
        return arguments[0]  # not a copy, of which a small file could ask for many
    if name in INERT:
        return Inert(function)
    raise RefusedError(f"it calls {function}, which is not read")


def _new(owner: Any, arguments: Any) -> Any:
    if type(owner) is not Name:
        raise RefusedError(f"it makes an object of a {_kind(owner)}")
    name = f"{owner.module}.{owner.name}"
    if name in INERT:
        return Inert(owner)
    if MODULE_CLASS.fullmatch(name) and arguments == ():
        return Instance(owner)
    raise RefusedError(f"it makes an object of {owner} in a way that is not read")


def _set_state(target: Any, state: Any) -> None:
    if type(target) is Inert:
        return
    if type(target) is dict and type(state) is dict:
        return  # attributes of an OrderedDict, such as a state_dict's versions
    if type(target) is Instance and target.state is None and type(state) is dict:
        target.state = state
        return
    what = target.of if type(target) is Instance else f"a {_kind(target)}"
    raise RefusedError(f"it sets the state of {what} to a {_kind(state)} in a way that is not read")


def _extend(target: Any, items: List[Any]) -> None:
    if type(target) is list:
        target.extend(items)
    elif type(target) is not Inert:
        raise RefusedError(f"it appends to a {_kind(target)}")


def _set_items(target: Any, items: List[Any]) -> None:
    if type(target) is Inert:
        return
    if type(target) is not dict or len(items) % 2:
        raise RefusedError(f"it sets items of a {_kind(target)}")
    for key, value in zip(items[::2], items[1::2]):
        target[_key(key)] = value


def _key(key: Any) -> Any:
    """Return ``key`` if hashing it is cheap whatever the file says."""
    if type(key) is str or key is None or (type(key) is int and abs(key) < MAX_NUMBER):
        return key
    raise RefusedError(f"it has a {_kind(key)} as a key; expected texts and whole numbers")


def _storage(identity: Tuple[Any, ...]) -> Storage:
    """Return the storage of ``("storage", class, key, device, count)``; older files have a None behind it."""
    if len(identity) not in (5, 6) or identity[5:] not in ((), (None,)):
        raise RefusedError("it describes a storage in a way that is not read")
    owner, key, _, count = identity[1:5]
    if type(owner) is not Name or type(key) is not str:
        raise RefusedError("it describes a storage in a way that is not read")
    name = f"{owner.module}.{owner.name}"
    if name not in ELEMENTS:
        raise RefusedError(f"it has a storage of {owner}; expected one of {', '.join(ELEMENTS)}")
    return Storage(key, ELEMENTS[name], _number("a storage's count", count))


def _tensor(arguments: Tuple[Any, ...]) -> Tensor:
    """Return the tensor of (storage, offset, size, stride, ...)."""
    if len(arguments) < 4 or type(arguments[0]) is not Storage:
        raise RefusedError("it has a tensor without a storage")
    storage, offset, size, stride = arguments[:4]
    if type(size) is not tuple or type(stride) is not tuple or len(size) != len(stride) or len(size) > 16:
        raise RefusedError("it has a tensor whose size and strides do not agree")
    return Tensor(
        storage,
        _number("a tensor's offset", offset),
        tuple(_number("a tensor's size", item) for item in size),
        tuple(_number("a tensor's stride", item) for item in stride),
    )


def _number(what: str, value: Any) -> int:
    if type(value) is not int:
        raise RefusedError(f"{what} is a {_kind(value)}; expected a whole number")
    if not 0 <= value < MAX_NUMBER:
        raise RefusedError(f"{what} is {str(value)[:SHOWN]}; expected 0 to {MAX_NUMBER}")
    return value


def _kind(value: Any) -> str:
    return type(value).__name__
