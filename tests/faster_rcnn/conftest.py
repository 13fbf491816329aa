"""MindSpore in graph mode for these tests; ``in_graph`` compiles a function."""

import pytest

import cross_silo.runtime

cross_silo.runtime.prepare()


@pytest.fixture(scope="session", autouse=True)
def graph_mode():
    cross_silo.runtime.start(seed=1)


@pytest.fixture(scope="session")
def in_graph(graph_mode):
    """Return a wrapper: the function, with constants after its tensors, as a graph from and to numpy arrays."""
    from mindspore import Tensor, nn

    class Compiled(nn.Cell):
        def __init__(self, function, constants):
            super().__init__()
            self.function, self.constants = function, constants

        def construct(self, *args):
            return self.function(*args, *self.constants)

    def wrap(function, *constants):
        cell = Compiled(function, constants)

        def call(*arrays):
            out = cell(*(Tensor(array) for array in arrays))
            return tuple(x.asnumpy() for x in out) if isinstance(out, tuple) else out.asnumpy()

        return call

    return wrap
