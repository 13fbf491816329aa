"""Files as torch.save writes them, made without PyTorch: CPython's pickler, and empty classes under its names."""

from __future__ import annotations

import collections
import contextlib
import io
import pickle
import struct
import sys
import types
import zipfile
from typing import Any, Dict, Iterator, List, Tuple
from unittest import mock

import numpy as np

KINDS = {"f8": "Double", "f4": "Float", "f2": "Half", "i8": "Long", "i4": "Int", "i2": "Short", "i1": "Char"}
KINDS.update({"u1": "Byte", "b1": "Bool"})
MAGIC_NUMBER = 0x1950A86A20F9469CFC6C


@contextlib.contextmanager
def importable(*things: Any) -> Iterator[None]:
    """Let the pickler find classes and functions under the module names that they say they are of."""
    modules: Dict[str, types.ModuleType] = {}
    for thing in things:
        parts = thing.__module__.split(".")
        for depth in range(1, len(parts) + 1):
            name = ".".join(parts[:depth])
            modules.setdefault(name, sys.modules.get(name) or types.ModuleType(name))
        if thing.__module__ not in sys.modules:
            setattr(modules[thing.__module__], thing.__qualname__, thing)
    with mock.patch.dict(sys.modules, modules):
        yield


def named_class(dotted: str) -> type:
    """Return an empty class that calls itself ``dotted``."""
    module, _, name = dotted.rpartition(".")
    return type(name, (), {"__module__": module})


def named_function(dotted: str) -> Any:
    """Return a function that calls itself ``dotted`` and must not be called."""

    def function(*arguments: Any) -> None:
        raise AssertionError(f"{dotted} was called")

    function.__module__, _, function.__qualname__ = dotted.rpartition(".")
    function.__name__ = function.__qualname__
    return function


STORAGES = {kind: named_class(f"torch.{kind}Storage") for kind in [*KINDS.values(), "BFloat16"]}
REBUILD_TENSOR = named_function("torch._utils._rebuild_tensor_v2")
REBUILD_PARAMETER = named_function("torch._utils._rebuild_parameter")


class Storage:
    """Numbers that lie outside of the pickle."""

    def __init__(self, key: str, numbers: np.ndarray, kind: str = "") -> None:
        self.key, self.numbers = key, numbers.reshape(-1)
        self.kind = kind or KINDS[numbers.dtype.str[1:]]


class Tensor:
    """A view of a storage, pickled as PyTorch's."""

    def __init__(self, storage: Storage, offset: Any, size: Any, stride: Any, parameter: bool = False) -> None:
        self.arguments = (storage, offset, size, stride, False, collections.OrderedDict())
        self.parameter = parameter

    def __reduce_ex__(self, protocol: int) -> Tuple[Any, ...]:
        if self.parameter:
            return REBUILD_PARAMETER, (Tensor(*self.arguments[:4]), True, collections.OrderedDict())
        return REBUILD_TENSOR, self.arguments


def tensor(key: str, array: np.ndarray, parameter: bool = False) -> Tensor:
    """Return a contiguous tensor with a storage of its own."""
    strides = tuple(stride // array.itemsize for stride in np.ascontiguousarray(array).strides)
    return Tensor(Storage(key, np.ascontiguousarray(array)), 0, array.shape, strides[: array.ndim], parameter)


def module(dotted: str, parameters: Dict[str, Any], children: Dict[str, Any], **more: Any) -> Any:
    """Return an object of the class ``dotted`` whose state is that of a network's module."""
    owner = named_class(dotted)
    made = owner()
    made.__dict__.update(training=True, _parameters=parameters, _buffers={}, _modules=children, **more)
    return made


class _Pickler(pickle.Pickler):
    def __init__(self, file: Any, protocol: int, legacy: bool) -> None:
        super().__init__(file, protocol)
        self.legacy = legacy
        self.storages: Dict[str, Storage] = {}

    def persistent_id(self, thing: Any) -> Any:
        if not isinstance(thing, Storage):
            return None
        self.storages[thing.key] = thing
        identity = ("storage", STORAGES[thing.kind], thing.key, "cpu", thing.numbers.size)
        return (*identity, None) if self.legacy else identity


def pickled(thing: Any, *named: Any, protocol: int = 2, legacy: bool = False) -> Tuple[bytes, List[Storage]]:
    """Return the pickle of ``thing``, in which the classes and functions ``named`` occur, and its storages."""
    file = io.BytesIO()
    pickler = _Pickler(file, protocol, legacy)
    with importable(*STORAGES.values(), REBUILD_TENSOR, REBUILD_PARAMETER, *named):
        pickler.dump(thing)
    return file.getvalue(), list(pickler.storages.values())


def zipped(path: Any, content: bytes, storages: List[Storage], **records: bytes) -> str:
    """Write an archive as torch.save lays it out; ``records`` are further ones."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        for storage in storages:
            archive.writestr(f"archive/data/{storage.key}", storage.numbers.tobytes())
        for name, record in {"version": b"3\n", **records}.items():
            archive.writestr(f"archive/{name}", record)
    return str(path)


def save(path: Any, thing: Any, *named: Any, protocol: int = 2, **records: bytes) -> str:
    """Write ``thing`` as torch.save does."""
    return zipped(path, *pickled(thing, *named, protocol=protocol), **records)


def save_legacy(path: Any, thing: Any, *named: Any, little_endian: bool = True) -> str:
    """Write ``thing`` as torch.save did before PyTorch 1.6."""
    content, storages = pickled(thing, *named, legacy=True)
    machine = {"protocol_version": 1001, "little_endian": little_endian, "type_sizes": {"short": 2}}
    parts = [pickle.dumps(part, 2) for part in (MAGIC_NUMBER, 1001, machine)]
    parts += [content, pickle.dumps([storage.key for storage in storages], 2)]
    for storage in storages:
        order = "<" if little_endian else ">"
        numbers = storage.numbers.astype(storage.numbers.dtype.newbyteorder(order))
        parts += [struct.pack(f"{order}q", storage.numbers.size), numbers.tobytes()]
    with open(path, "wb") as file:
        file.write(b"".join(parts))
    return str(path)
