"""The prefetcher: order, how far ahead, errors, and that its thread ends."""

import gc
import threading
import time

import pytest

from cross_silo.data.prefetch import Prefetcher


def until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.fixture
def threads():
    """Return a function that counts the prefetching threads of the test."""
    before = set(threading.enumerate())
    return lambda: sum(thread.name == "prefetch" for thread in set(threading.enumerate()) - before)


def test_items_come_in_order_and_at_most_depth_ahead(threads):
    made = []

    def items():
        for value in range(50):
            made.append(value)
            yield value

    prefetcher = Prefetcher(items(), 3)
    until(lambda: len(made) == 4)  # three wait, one is in hand
    time.sleep(0.05)
    assert len(made) == 4
    assert [prefetcher.take() for _ in range(50)] == list(range(50))
    until(lambda: not threads())
    with pytest.raises(RuntimeError):
        prefetcher.take()


def test_an_error_comes_after_the_items_before_it():
    def items():
        yield 1
        raise KeyError("broken")

    prefetcher = Prefetcher(items(), 3)
    assert prefetcher.take() == 1
    with pytest.raises(KeyError, match="broken"):
        prefetcher.take()


@pytest.mark.parametrize("how", ["stop", "forget"])
def test_the_thread_ends_and_closes_the_iterator(how, threads):
    closed = threading.Event()

    def items():
        try:
            while True:
                yield 0
        finally:
            closed.set()

    prefetcher = Prefetcher(items(), 2)
    assert prefetcher.take() == 0
    if how == "stop":
        prefetcher.stop()
        with pytest.raises(RuntimeError, match="stopped"):
            prefetcher.take()
    else:
        del prefetcher
        gc.collect()
    assert closed.wait(10)
    until(lambda: not threads())
