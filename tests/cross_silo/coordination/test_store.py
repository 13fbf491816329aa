"""The job store against a real Redis."""

import threading
import time

import pytest
import redis

from cross_silo.coordination import JobStore, connect, job_names


@pytest.fixture
def client(redis_address):
    return connect(redis_address, start_embedded=False)


def test_job_fields_come_back_as_text_with_state_running(store):
    assert store.job() is None
    store.begin({"instance": "a", "fl_iteration_num": 3, "ratio": 0.5})
    assert store.job() == {
        "instance": "a",
        "fl_iteration_num": "3",
        "ratio": "0.5",
        "state": "running",
        "reason": "",
    }


def test_begin_replaces_fields_and_drops_old_requests_but_keeps_rounds(store):
    store.begin({"instance": "a", "phase": "training"})
    store.request("stop")
    store.add_round({"round": 1})
    store.begin({"instance": "b"})
    assert "phase" not in store.job()
    assert store.take_requests() == []
    assert store.rounds() == [{"round": 1}]


def test_update_of_a_job_that_is_gone_sets_nothing(store):
    assert store.update(iteration=2) is False
    assert store.job() is None


def test_an_ended_job_keeps_its_state_but_takes_other_fields(store):
    store.begin({})
    assert store.end("failed", "silo_1 missing")
    assert store.update(state="running", reason="", iteration=7) is True
    job = store.job()
    assert (job["state"], job["reason"], job["iteration"]) == ("failed", "silo_1 missing", "7")


def test_only_the_first_end_counts_among_many_at_once(store, redis_address):
    store.begin({})
    barrier = threading.Barrier(8)
    won = []

    def end(number):
        mine = JobStore(connect(redis_address, start_embedded=False), "job")
        barrier.wait()
        if mine.end("failed", str(number)):
            won.append(str(number))

    threads = [threading.Thread(target=end, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [store.job()["reason"]]


def test_end_needs_a_job_and_a_final_state(store):
    assert store.end("finished", "") is False
    assert store.job() is None
    with pytest.raises(ValueError, match="running"):
        store.end("running", "")


def test_requests_come_once_and_in_order(store):
    store.request("disable")
    store.request("new_instance", {"client_epoch_num": 2})
    assert store.take_requests() == [("disable", {}), ("new_instance", {"client_epoch_num": 2})]
    assert store.take_requests() == []
    with pytest.raises(ValueError, match="scaleout"):
        store.request("scaleout")


def test_each_request_is_delivered_once_among_several_takers(store, redis_address):
    for number in range(200):
        store.request("new_instance", {"number": number})
    taken = []

    def take():
        mine = JobStore(connect(redis_address, start_embedded=False), "job")
        for _ in range(50):
            taken.extend(payload["number"] for _, payload in mine.take_requests())

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(200))


def test_members_live_as_long_as_they_beat(store, client):
    store.beat("server", "127.0.0.1:1", {"pid": 1})
    store.beat("server", "127.0.0.1:2", {"pid": 2}, seconds=0.05)
    store.beat("scheduler", "127.0.0.1:3", {"pid": 3})
    assert store.members("server") == {"127.0.0.1:1": {"pid": 1}, "127.0.0.1:2": {"pid": 2}}
    time.sleep(0.1)
    assert store.members("server") == {"127.0.0.1:1": {"pid": 1}}
    assert client.smembers("cross_silo:job:members:server") == {"127.0.0.1:1"}
    store.leave("server", "127.0.0.1:1")
    assert store.members("server") == {}
    assert list(store.members("scheduler")) == ["127.0.0.1:3"]


def test_a_lease_has_one_holder_who_can_renew_and_release_it(store):
    assert store.acquire_lease("silo_0", "w1", 5, {"node": "a:1"}) == (True, None, 5)
    granted, holder, left = store.acquire_lease("silo_0", "w2", 5, {"node": "b:2"})
    assert not granted
    assert holder == {"node": "a:1", "worker": "w1"}
    assert 4 < left <= 5
    assert store.acquire_lease("silo_0", "w1", 5, {"node": "a:1"})[0]
    assert store.renew_lease("silo_0", "w1", 9, {"node": "a:1", "step": 4})
    assert not store.renew_lease("silo_0", "w2", 9, {})
    assert not store.release_lease("silo_0", "w2")
    lease = store.leases()["silo_0"]
    assert (lease["worker"], lease["step"]) == ("w1", 4)
    assert 8 < lease["seconds_left"] <= 9
    assert store.release_lease("silo_0", "w1")
    assert store.leases() == {}
    assert not store.renew_lease("silo_0", "w1", 9, {})


def test_an_expired_lease_is_taken_over_and_lost_to_its_first_holder(store):
    store.acquire_lease("silo_0", "w1", 0.05, {})
    time.sleep(0.1)
    assert store.leases() == {}
    assert not store.renew_lease("silo_0", "w1", 5, {})
    assert store.acquire_lease("silo_0", "w2", 5, {})[0]
    assert not store.acquire_lease("silo_0", "w1", 5, {})[0]


def test_one_of_many_workers_at_once_gets_the_lease(store, redis_address):
    barrier = threading.Barrier(12)
    winners = []

    def acquire(worker):
        mine = JobStore(connect(redis_address, start_embedded=False), "job")
        barrier.wait()
        if mine.acquire_lease("silo_0", worker, 5, {"node": worker})[0]:
            winners.append(worker)

    threads = [threading.Thread(target=acquire, args=(f"w{number}",)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert winners == [store.leases()["silo_0"]["worker"]]


def test_rounds_keep_their_order_and_a_resent_one_counts_once(store):
    records = [{"round": 1, "attempt": 1, "good": False, "ended": 1.0}, {"round": 1, "attempt": 2, "ended": 2.5}]
    store.add_round(records[0])
    store.add_round(records[1])
    store.add_round(records[1])
    assert store.rounds() == records


def test_evaluations_are_in_the_order_of_rounds(store):
    for number in (10, 2, 0):
        store.add_evaluation(number, {"AP50": number / 10})
    assert list(store.evaluations().items()) == [(0, {"AP50": 0.0}), (2, {"AP50": 0.2}), (10, {"AP50": 1.0})]


def fill(store):
    store.begin({"instance": "a"})
    store.request("enable")
    store.add_round({"round": 1})
    store.add_evaluation(1, {"AP": 0.1})


def test_every_key_expires_and_touch_renews_the_jobs_own(redis_address, store, client):
    short = JobStore(client, "job", ttl=0.4)
    fill(short)
    short.beat("server", "n", {})
    short.acquire_lease("silo_0", "w", 5, {})
    keys = list(client.scan_iter("*"))
    assert len(keys) == 8
    assert all(key.startswith("cross_silo:job:") and client.pttl(key) > 0 for key in keys)
    for _ in range(4):
        time.sleep(0.2)
        short.touch()
    assert short.job()["instance"] == "a"
    assert len(short.rounds()) == len(short.evaluations()) == len(short.take_requests()) == 1
    time.sleep(0.6)
    assert short.job() is None
    assert (short.rounds(), short.evaluations()) == ([], {})


def test_clear_forgets_the_job_but_not_who_is_alive(store):
    fill(store)
    store.beat("server", "n", {})
    store.acquire_lease("silo_0", "w", 5, {})
    store.clear()
    assert store.job() is None
    assert (store.rounds(), store.evaluations(), store.take_requests()) == ([], {}, [])
    assert list(store.members("server")) == ["n"]
    assert list(store.leases()) == ["silo_0"]


def test_a_job_is_live_while_a_member_or_a_worker_is(store):
    store.begin({})
    assert not store.is_live()
    store.beat("evaluator", "n", {})
    assert store.is_live()
    store.leave("evaluator", "n")
    assert not store.is_live()
    store.acquire_lease("silo_0", "w", 5, {})
    assert store.is_live()


def test_jobs_do_not_see_each_other(store, client):
    other = JobStore(client, "job.2")
    fill(store)
    assert other.job() is None
    assert other.take_requests() == []
    other.beat("scheduler", "n", {})
    assert job_names(client) == ["job", "job.2"]


def test_the_store_goes_on_after_its_scripts_and_connections_are_gone(store, client):
    store.acquire_lease("silo_0", "w1", 5, {})
    client.script_flush()
    client.client_kill_filter(_type="normal", skipme=True)
    assert store.renew_lease("silo_0", "w1", 5, {})


def test_a_lost_redis_raises_within_seconds(free_port):
    from cross_silo.coordination.client import make_client

    began = time.monotonic()
    with pytest.raises(redis.ConnectionError):
        JobStore(make_client("127.0.0.1", free_port), "job").job()
    assert time.monotonic() - began < 3
