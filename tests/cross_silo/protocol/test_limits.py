"""Bounds by key, with a clock of the test's own."""

from cross_silo.protocol import limits
from cross_silo.protocol.limits import OneAtATime, RateLimit


def test_a_burst_and_then_a_rate():
    now = [0.0]
    limit = RateLimit(rate=2.0, burst=3, clock=lambda: now[0])
    assert [limit.allow("a") for _ in range(4)] == [True, True, True, False]
    assert limit.allow("b")
    now[0] = 0.4
    assert not limit.allow("a")
    now[0] = 1.0
    assert [limit.allow("a") for _ in range(3)] == [True, True, False]
    now[0] = 1000.0
    assert [limit.allow("a") for _ in range(4)] == [True, True, True, False]


def test_keys_are_forgotten(monkeypatch):
    monkeypatch.setattr(limits, "MAX_KEYS", 10)
    limit = RateLimit(rate=0.0, burst=1)
    for key in range(100):
        assert limit.allow(str(key))
    assert len(limit._buckets) == 10
    assert not limit.allow("99")


def test_one_at_a_time():
    busy = OneAtATime()
    with busy.hold("a") as first, busy.hold("a") as second, busy.hold("b") as other:
        assert (first, second, other) == (True, False, True)
    with busy.hold("a") as again:
        assert again
    with busy.hold("") as one, busy.hold("") as two:
        assert one and two
