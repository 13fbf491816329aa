"""What a server waits for at its job's end, by a clock of the test's own."""

from types import SimpleNamespace

import pytest

from cross_silo.aggregation import ending
from cross_silo.aggregation.ending import await_evaluation, await_workers
from cross_silo.aggregation.guarded_store import GuardedStore


class Time:
    """Both the clock and the event that is waited on; ``events`` happen at their second."""

    def __init__(self, **events):
        self.now, self.left_at = 0.0, None
        self.events = sorted((float(at[1:]), action) for at, action in events.items())

    def clock(self):
        return self.now

    def wait(self, seconds):
        self.now += seconds
        while self.events and self.events[0][0] <= self.now:
            self.events.pop(0)[1]()
        return self.left_at is not None and self.now >= self.left_at


class Silos:
    """Leases of some silos."""

    def __init__(self, *names):
        self.names = {name: SimpleNamespace(info={"phase": "waiting"}) for name in names}

    def live(self):
        return self.names


def test_workers_that_leave():
    silos = Silos("a", "b")
    time = Time(s5=lambda: silos.names.pop("a"), s7=lambda: silos.names.pop("b"))
    await_workers(silos, time, clock=time.clock)
    assert time.now == pytest.approx(7, abs=0.3)


def test_workers_that_stay(caplog):
    time = Time()
    await_workers(Silos("b", "a"), time, clock=time.clock)
    assert time.now == pytest.approx(ending.WORKERS_SECONDS, abs=0.3)
    assert "silos a, b have not left within 30 s" in caplog.text


def test_a_silo_that_measures_the_last_model_is_waited_for():
    silos = Silos("a", "b")
    time = Time(s1=lambda: silos.names["a"].info.update(phase="measuring"), s100=silos.names.clear)
    await_workers(silos, time, measuring=500, clock=time.clock)
    assert time.now == pytest.approx(100, abs=0.3)


def test_a_silo_that_measures_for_too_long(caplog):
    silos = Silos("a")
    silos.names["a"].info["phase"] = "measuring"
    time = Time()
    await_workers(silos, time, measuring=50, clock=time.clock)
    assert time.now == pytest.approx(50, abs=0.3)
    assert "silos a have not left within 50 s" in caplog.text


def test_clients_without_a_lease_get_a_moment():
    time = Time()
    await_workers(Silos(), time, clock=time.clock)
    assert time.now == pytest.approx(ending.LINGER_SECONDS, abs=0.3)


def test_being_asked_to_leave_ends_the_wait(store):
    time = Time()
    time.left_at = 1
    await_workers(Silos("a"), time, clock=time.clock)
    assert time.now == pytest.approx(1, abs=0.3)
    store.beat("evaluator", "e", {})
    await_evaluation(GuardedStore(store), 3, 100, time, clock=time.clock)
    assert time.now == pytest.approx(1, abs=0.5)


def test_the_last_evaluation(store):
    store.beat("evaluator", "e", {}, seconds=60)
    time = Time(s4=lambda: store.add_evaluation(2, {"AP": 0}), s9=lambda: store.add_evaluation(3, {"AP": 0}))
    await_evaluation(GuardedStore(store), 3, 100, time, clock=time.clock)
    assert time.now == pytest.approx(9, abs=0.3)


def test_the_deadline_of_the_evaluation(store, caplog):
    store.beat("evaluator", "e", {}, seconds=60)
    time = Time()
    await_evaluation(GuardedStore(store), 3, 20, time, clock=time.clock)
    assert time.now == pytest.approx(20, abs=0.5)
    assert "round 3 was not evaluated within 20 s (evaluation.deadline)" in caplog.text


def test_without_an_evaluator_nothing_is_awaited(store):
    time = Time(s2=lambda: store.leave("evaluator", "e"))
    store.beat("evaluator", "e", {}, seconds=60)
    await_evaluation(GuardedStore(store), 3, 100, time, clock=time.clock)
    assert time.now == pytest.approx(2, abs=0.3)
