"""Redis may be away for a while."""

import logging

import redis

from cross_silo.aggregation.guarded_store import PAUSE, GuardedStore


class Flaky:
    """A store that can be switched off."""

    def __init__(self):
        self.down = False
        self.calls = 0

    def job(self):
        self.calls += 1
        if self.down:
            raise redis.ConnectionError("refused")
        return {"state": "running"}


def test_the_default_stands_in_and_redis_is_left_alone_for_a_while(caplog):
    caplog.set_level(logging.INFO)
    flaky, now = Flaky(), [0.0]
    store = GuardedStore(flaky, lambda: now[0])
    assert store.call(lambda s: s.job(), None) == {"state": "running"}
    flaky.down = True
    assert store.call(lambda s: s.job(), "none") == "none"
    assert not store.available
    for _ in range(5):
        assert store.call(lambda s: s.job(), "none") == "none"
    assert flaky.calls == 2
    now[0] += PAUSE
    assert store.call(lambda s: s.job(), "none") == "none"
    assert flaky.calls == 3
    now[0] += PAUSE
    flaky.down = False
    assert store.call(lambda s: s.job(), None) == {"state": "running"}
    assert store.available
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "Redis does not answer (refused): rounds go on, their records follow when it is back",
        "Redis answers again after 4 s",
    ]
