"""What a pickle of PyTorch is read into: inert records and plain containers, never an object of the file's choice."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple

SHOWN = 100
"""Characters of a file's own names and texts in an error message at most."""


class RefusedError(ValueError):
    """The file holds something that is not read, or is damaged; says what."""


def printable(text: str) -> str:
    """Return the beginning of a file's text, without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:SHOWN])


@dataclass(frozen=True)
class Name:
    """What a pickle calls a class or function; nothing looks it up."""

    module: str
    name: str

    def __str__(self) -> str:
        return printable(f"{self.module}.{self.name}")


@dataclass(eq=False)
class Instance:
    """An object by its class's name and its state; a module of a network has its tensors in there."""

    of: Name
    state: Optional[Dict[Any, Any]] = None


@dataclass(eq=False, frozen=True)
class Inert:
    """A value that no tensor depends on, such as a path or a date; only its class's name is kept."""

    of: Name


@dataclass(eq=False, frozen=True)
class Storage:
    """A run of numbers in the file."""

    key: str
    element: str
    """One of :data:`ELEMENTS`."""
    count: int


@dataclass(eq=False, frozen=True)
class Tensor:
    """A view of a storage; offset and strides are in elements. Not yet checked against the storage."""

    storage: Storage
    offset: int
    size: Tuple[int, ...]
    stride: Tuple[int, ...]


ELEMENTS = {
    "torch.DoubleStorage": "f8",
    "torch.FloatStorage": "f4",
    "torch.HalfStorage": "f2",
    "torch.BFloat16Storage": "bf16",
    "torch.LongStorage": "i8",
    "torch.IntStorage": "i4",
    "torch.ShortStorage": "i2",
    "torch.CharStorage": "i1",
    "torch.ByteStorage": "u1",
    "torch.BoolStorage": "?",
}
"""Element types, as numpy writes them (bf16 aside), by storage class."""

ORDERED_DICT = "collections.OrderedDict"
REBUILD_TENSOR = ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor")
REBUILD_PARAMETER = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")
SETS = ("builtins.set", "__builtin__.set", "builtins.frozenset", "__builtin__.frozenset")

INERT = frozenset(
    [
        "torch.Size",
        "torch.device",
        "torch.serialization._get_layout",
        "torch.nn.parameter.Parameter",
        "collections.defaultdict",
        "collections.Counter",
        "argparse.Namespace",
        "datetime.date",
        "datetime.datetime",
        "datetime.timedelta",
        "_codecs.encode",
        "numpy.ndarray",
        "numpy.dtype",
        *(
            f"{owner}.{name}"
            for owner in ("numpy.core", "numpy._core")
            for name in ("multiarray.scalar", "multiarray._reconstruct", "numeric._frombuffer")
        ),
        *(
            f"{module}.{name}"
            for module in ("pathlib", "pathlib._local")
            for name in ("Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
        ),
        *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in ("dict", "list", "int", "float")),
    ]
)
"""Classes and functions of values beside the tensors: a training run's arguments, its best result, its date."""

DTYPE = re.compile(r"torch\.(float|bfloat|int|uint|complex)\d+|torch\.bool")
MODULE_CLASS = re.compile(r"(torch\.nn|torchvision|models|ultralytics|yolov5)(\.[A-Za-z_]\w*)+", re.ASCII)
"""Classes of networks: PyTorch's, torchvision's and the public YOLO projects' (``models.yolo.DetectionModel``)."""


def is_known(name: str) -> bool:
    """Whether a file may mention ``name`` at all."""
    return (
        name in INERT
        or name in ELEMENTS
        or name == ORDERED_DICT
        or name in REBUILD_TENSOR + REBUILD_PARAMETER + SETS
        or bool(DTYPE.fullmatch(name) or MODULE_CLASS.fullmatch(name))
    )
