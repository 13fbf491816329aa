"""MindSpore in graph mode for these tests."""

import pytest

import cross_silo.runtime

cross_silo.runtime.prepare()


@pytest.fixture(scope="session", autouse=True)
def graph_mode():
    cross_silo.runtime.start(seed=1)
