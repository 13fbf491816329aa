"""Leases over a real Redis, timed by a clock of the test's own."""

import pytest

from cross_silo.aggregation.guarded_store import GuardedStore
from cross_silo.aggregation.leases import LeaseRefusedError, Leases

INFO = {"node": "host:1", "samples": 10}


class Clock:
    """Seconds that only the test moves."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def make(store, clock):
    def made(names=(), most=2, seconds=15.0):
        return Leases(GuardedStore(store), seconds, names, most, clock)

    return made


def test_a_taken_silo_is_refused_with_its_holder(make):
    leases = make()
    assert leases.acquire("silo_0", "w0", INFO) == 15
    assert leases.acquire("silo_0", "w0", INFO) == 15
    with pytest.raises(LeaseRefusedError) as error:
        leases.acquire("silo_0", "w1", INFO)
    assert (error.value.status, error.value.holder["node"]) == (409, "host:1")
    assert str(error.value) == "silo 'silo_0' is taken by host:1 for 15 s more"


def test_a_silent_worker_loses_its_silo(make, clock, store):
    leases = make()
    leases.acquire("silo_0", "w0", INFO)
    clock.now += 14
    leases.renew("silo_0", "w0", {"phase": "training"})
    clock.now += 14
    assert leases.expire() == []
    clock.now += 1
    (gone,) = leases.expire()
    assert (gone.silo, gone.worker, gone.node, gone.info["phase"]) == ("silo_0", "w0", "host:1", "training")
    assert leases.holder("silo_0") is None
    store.release_lease("silo_0", "w0")  # Redis counts by its own clock
    leases.acquire("silo_0", "w1", INFO)
    with pytest.raises(LeaseRefusedError, match="is taken by host:1"):
        leases.renew("silo_0", "w0", {})


def test_a_worker_that_comes_back_gets_a_free_silo_again(make, clock):
    leases = make()
    leases.acquire("silo_0", "w0", INFO)
    clock.now += 20
    leases.expire()
    leases.renew("silo_0", "w0", INFO)
    assert leases.holder("silo_0").worker == "w0"


def test_names_and_numbers_of_silos(make):
    with pytest.raises(LeaseRefusedError, match="silo 'x' is not enrolled; expected one of a, b") as error:
        make(names=("a", "b")).acquire("x", "w", INFO)
    assert error.value.status == 403
    leases = make(most=2)
    leases.acquire("a", "w0", INFO)
    leases.acquire("b", "w1", INFO)
    with pytest.raises(LeaseRefusedError, match="'c' is one too many: a, b take part, 2 expected") as error:
        leases.acquire("c", "w2", INFO)
    assert error.value.status == 403
    assert leases.release("a", "w0")
    assert leases.acquire("c", "w2", INFO) == 15


def test_only_the_holder_can_release(make):
    leases = make()
    leases.acquire("a", "w0", INFO)
    assert not leases.release("a", "w1")
    assert leases.holder("a").worker == "w0"
    assert leases.release("a", "w0")
    assert leases.live() == {}


def test_a_restarted_server_knows_the_leases(make):
    make().acquire("a", "w0", INFO)
    restarted = make()
    assert restarted.holder("a").node == "host:1"
    with pytest.raises(LeaseRefusedError):
        restarted.acquire("a", "w1", INFO)
    restarted.renew("a", "w0", {})


def test_redis_decides_where_another_server_granted(make, store):
    leases = make()
    store.acquire_lease("a", "elsewhere", 15, {"node": "other:1"})
    with pytest.raises(LeaseRefusedError, match="taken by other:1"):
        leases.acquire("a", "w0", INFO)
    assert leases.live() == {}


def test_an_emptied_redis_gets_the_lease_again(make, store):
    leases = make()
    leases.acquire("a", "w0", INFO)
    store.release_lease("a", "w0")
    leases.renew("a", "w0", {"phase": "waiting"})
    assert store.leases()["a"]["worker"] == "w0"


def test_expected_silos(make):
    leases = make(names=("a", "b"))
    leases.acquire("b", "w", INFO)
    assert leases.expected() == {"a": "", "b": "host:1"}
