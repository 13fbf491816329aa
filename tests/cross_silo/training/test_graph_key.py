"""A graph's name changes with all that defines the graph, and with nothing else."""

from __future__ import annotations

import functools
import importlib
import logging
import sys
from pathlib import Path

import numpy as np
import pytest

from cross_silo import runtime

runtime.prepare()
runtime.start(seed=1)

from mindspore import Parameter, Tensor, nn, ops  # noqa: E402

from cross_silo.training.graph_key import code_digest, graph_key  # noqa: E402


class Builder:
    """Stands for a detector's class."""


class Cell(nn.Cell):
    def __init__(self, shape=(2, 3), trained=True, value=0.0, inner=None):
        super().__init__()
        self.weight = Parameter(Tensor(np.full(shape, value, np.float32)), name="weight", requires_grad=trained)
        self.inner = inner or nn.ReLU()


def key(facts=("settings",), builder=Builder, shape=(1, 4), dtype=np.float32, pixel=0, **cell):
    return graph_key(facts, (builder,), Cell(**cell), [Tensor(np.full(shape, pixel, dtype))])


def test_processes_that_differ_in_values_alone_share_a_graph():
    assert key() == key() == key(value=1.0) == key(pixel=3)
    assert len(key()) == 32


@pytest.mark.parametrize(
    "other",
    [
        {"facts": ("other settings",)},
        {"builder": Cell},
        {"shape": (2, 4)},
        {"dtype": np.uint8},
        {"cell": (3, 3)},
        {"trained": False},
        {"inner": nn.Sigmoid()},
    ],
    ids=lambda other: next(iter(other)),
)
def test_what_defines_the_graph_counts(other):
    if "cell" in other:
        found = graph_key(("settings",), (Builder,), Cell(other["cell"]), [Tensor(np.zeros((1, 4), np.float32))])
    else:
        found = key(**other)
    assert found != key()


class Own:
    def __init__(self, value):
        self.value, self.owner = value, self


HELD = {
    "number": float,
    "text": str,
    "list": lambda number: [1, (2, number)],
    "mapping": lambda number: {"a": number},
    "array": lambda number: np.arange(3) + number,
    "tensor": lambda number: Tensor(np.arange(3) + number),
    "operator": ops.Concat,
    "object": Own,
    "function": lambda number: (np.sin, np.cos)[number],
    "closure": lambda number: lambda: number,
    "default": lambda number: functools.partial(max, key=lambda value, least=number: value + least),
    "partial": lambda number: functools.partial(max, number),
    "method": lambda number: Own(number).__init__,
    "path": lambda number: Path(str(number)),
}


@pytest.mark.parametrize("make", HELD.values(), ids=HELD)
def test_what_a_cell_holds_counts(make):
    def key_with(held):
        cell = Cell()
        cell.held = held
        return graph_key(("settings",), (Builder,), cell, [])

    assert key_with(make(0)) == key_with(make(0)) != key_with(make(1))


def test_objects_that_refer_to_many_others_take_no_time():
    first = [Own(0)]
    for _ in range(60):
        first = [first, first]
    cell = Cell()
    cell.held = [first, logging.getLogger("own"), object()]
    assert graph_key((), (Builder,), cell, []) == graph_key((), (Builder,), cell, [])


@pytest.mark.parametrize("name", ["MS_DEV_SOMETHING", "ONEDNN_MAX_CPU_ISA", "OMP_NUM_THREADS"])
def test_the_environment_counts(monkeypatch, name):
    before = key()
    monkeypatch.setenv(name, "7")
    assert key() != before


def test_the_code_of_the_builders_package_and_of_its_imports_counts(monkeypatch, tmp_path):
    package = tmp_path / "own_package_of_test"
    package.mkdir()
    files = {
        package / "__init__.py": "",
        package / "detector.py": "import helper_of_test\n\n\nclass Own:\n    pass\n",
        package / "loaded_later.py": "SCALE = 1\n",
        tmp_path / "helper_of_test.py": "from base_of_test import scale\n",
        tmp_path / "base_of_test.py": "SCALE = 1\n\n\ndef scale():\n    return SCALE\n",
        tmp_path / "stranger_of_test.py": "",
    }
    for file, text in files.items():
        file.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    own = importlib.import_module("own_package_of_test.detector").Own
    try:
        digests = [code_digest([own])]
        for file in files:
            file.write_text(f"{file.read_text()}# changed\n")
            digests.append(code_digest([own]))
    finally:
        for name in [name for name in sys.modules if "_of_test" in name]:
            del sys.modules[name]
    changed = [before != after for before, after in zip(digests, digests[1:])]
    assert changed == [True] * 5 + [False]  # what it does not import is no part of it


def test_a_new_version_of_what_is_installed_counts(monkeypatch, tmp_path):
    (tmp_path / "installed_of_test.py").write_text("__version__ = '1'\n\n\ndef used():\n    pass\n")
    (tmp_path / "user_of_test.py").write_text("from installed_of_test import used\n\n\nclass Own:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    own = importlib.import_module("user_of_test").Own
    try:
        before = code_digest([own])
        sys.modules["installed_of_test"].__version__ = "2"
        assert code_digest([own]) != before
    finally:
        del sys.modules["user_of_test"], sys.modules["installed_of_test"]
