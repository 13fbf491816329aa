"""Retries by a clock of the test's own."""

import pytest

from cross_silo.protocol.retry import Retrier, RetryPolicy


class Time:
    """A clock that only pauses move."""

    def __init__(self):
        self.now = 0.0
        self.pauses = []

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds


def retrier(time, jitter=0.0, **policy):
    return Retrier(RetryPolicy(**policy), time.clock, time.sleep, lambda: jitter)


def failing(times):
    """A call that fails ``times`` times."""
    calls = []

    def call():
        calls.append(1)
        if len(calls) <= times:
            raise ConnectionError(str(len(calls)))
        return len(calls)

    return call


def test_pauses_grow_to_the_longest():
    time = Time()
    assert retrier(time, first=1, factor=2, longest=5, deadline=100).run(failing(5), (OSError,)) == 6
    assert time.pauses == [1, 2, 4, 5, 5]


def test_the_deadline_ends_it_with_the_last_error():
    time = Time()
    with pytest.raises(ConnectionError, match="5"):
        retrier(time, first=1, factor=2, longest=5, deadline=10).run(failing(99), (OSError,))
    assert time.now == 10
    assert time.pauses == [1, 2, 4, 3]


def test_a_deadline_of_the_call_wins():
    time = Time()
    with pytest.raises(ConnectionError):
        retrier(time, first=1, deadline=100).run(failing(99), (OSError,), deadline=0)
    assert time.pauses == []


def test_jitter_shortens_by_up_to_half():
    time = Time()
    retrier(time, jitter=1.0, first=2, factor=2, longest=50, deadline=100).run(failing(3), (OSError,))
    assert time.pauses == [1, 2, 4]


def test_other_errors_pass():
    time = Time()
    with pytest.raises(ConnectionError):
        retrier(time).run(failing(1), (ValueError,))
    assert time.pauses == []
