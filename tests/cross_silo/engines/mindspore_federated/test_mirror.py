"""Rounds beside the engine's iterations, under a clock of the test's own."""

import threading

import pytest

from cross_silo.aggregation.guarded_store import GuardedStore
from cross_silo.aggregation.leases import Leases
from cross_silo.aggregation.rounds import ENDED_FAILED, FINISHED, Rounds
from cross_silo.config.federated import Round
from cross_silo.engines.mindspore_federated.mirror import LATE_SECONDS, Mirror, engine_sizes, longer
from cross_silo.engines.mindspore_federated.record import Verdict
from cross_silo.protocol.schema import NEWEST

SETTINGS = Round(start_fl_job_threshold=2, start_fl_job_time_window=300_000, max_consecutive_failures=3)
SAMPLES = {0: 10, 1: 30}


class Job:
    """A mirror of two silos' rounds with workers w0 and w1."""

    def __init__(self, store, last=3):
        self.now = 1000.0
        self.leases = Leases(GuardedStore(store), 15.0, (), 2, lambda: self.now)
        self.rounds = Rounds(longer(SETTINGS), last, lambda: self.now, known=self.leases.expected)
        self.paths = {}
        self.mirror = Mirror(self.rounds, self.leases, lambda round: self.paths.get(round, ""), lambda: self.now)
        for i in SAMPLES:
            self.leases.acquire(f"silo_{i}", f"w{i}", {"node": f"host:{i}"})

    def begin(self, i, samples=None):
        return self.mirror.begin(f"silo_{i}", f"w{i}", samples or SAMPLES[i], 0)

    def join(self, iteration):
        """Both silos join, and tell which iteration of the engine they got."""
        self.begin(0)
        places = [self.begin(1), self.begin(0)][::-1]
        assert all(place.joined for place in places), places
        for i, place in enumerate(places):
            assert self.mirror.started(f"silo_{i}", f"w{i}", self.rounds.key, iteration, place.size)[0]
        return places

    def push(self, i, key=None):
        told = {"steps": 5, "loss": 0.5}
        return self.mirror.pushed(f"silo_{i}", f"w{i}", key or self.rounds.key, 0.5, told, 100)

    def judge(self, verdict):
        self.mirror.judge(verdict, 200)

    def make_round(self, iteration):
        self.join(iteration)
        assert self.push(0) and self.push(1)
        self.judge(Verdict(iteration, True, "", self.rounds.iteration, "made.ckpt", 0.1))

    def records(self):
        return [(record["round"], record["attempt"], record["good"]) for record in self.mirror.take_records()]


@pytest.fixture
def job(store):
    return Job(store)


def test_nobody_begins_before_all_are_there(job):
    place = job.begin(0)
    assert (place.joined, place.waits, place.reason) == (False, True, "1 of 2 silos are there")
    assert job.begin(1).joined and job.begin(0).joined


def test_the_first_waits_for_the_last(job):
    places = []
    waiting = threading.Thread(target=lambda: places.append(job.mirror.begin("silo_0", "w0", 10, 20.0)))
    waiting.start()
    while not job.rounds.participants:
        pass
    assert job.begin(1).joined
    waiting.join(timeout=20)
    assert [(place.joined, place.size, place.number) for place in places] == [(True, 10, 0)]


def test_sizes_the_engine_would_refuse_are_scaled_by_one_factor():
    assert engine_sizes({"a": 10, "b": 65_535}) == {"a": 10, "b": 65_535}
    scaled = engine_sizes({"a": 10, "b": 100_000, "c": 200_000})
    assert scaled == {"a": 3, "b": 32_768, "c": 65_535}
    assert engine_sizes({"a": 1, "b": 10**9}) == {"a": 1, "b": 65_535}


def test_all_scale_by_the_largest_silo(job):
    job.begin(0, samples=131_070)
    assert (job.begin(1, samples=65_535).size, job.begin(0, samples=131_070).size) == (32_768, 65_535)


def test_the_size_that_the_engine_heard_first_stays_for_its_iteration(job):
    places = job.join(7)
    assert [place.size for place in places] == [10, 30]
    again = job.mirror.started("silo_0", "w0", job.rounds.key, 7, 12)
    assert again == (True, 10)
    assert job.mirror.started("silo_0", "w0", job.rounds.key, 8, 12) == (True, 12)


def test_nobody_enters_the_engine_for_an_attempt_that_is_over(job):
    """Its update, already in a round that is made, would else be averaged once more as the next round."""
    places = job.join(1)
    before = job.rounds.key
    job.judge(Verdict(1, True, "", 1, "made.ckpt"))
    assert job.mirror.started("silo_0", "w0", before, 2, places[0].size) == (False, 10)
    assert job.mirror.started("silo_0", "stranger", job.rounds.key, 2, 10) == (False, 10)


def test_who_is_ahead_of_the_verdict_waits_for_it(job):
    """A worker that joined iteration 3 although the verdict on 2 is not here may not go on with its round."""
    job.make_round(1)
    job.join(2)
    before, told = job.rounds.key, []
    ahead = threading.Thread(target=lambda: told.append(job.mirror.started("silo_0", "w0", before, 3, 10)))
    ahead.start()
    ahead.join(timeout=0.2)
    assert told == []
    assert job.push(0) and job.push(1)
    job.judge(Verdict(2, True, "", 2, "made.ckpt"))
    ahead.join(timeout=20)
    assert told == [(False, 10)]


def test_nobody_begins_with_a_round_that_is_made(job):
    """Its verdict is here before the last worker told of its update: who asks for a place gets one in the next."""
    job.join(1)
    job.push(0)
    judging = threading.Thread(target=lambda: job.judge(Verdict(1, True, "", 1, "made.ckpt")))
    with job.mirror.changed:
        judging.start()
        while not job.mirror.changed.wait_for(lambda: job.mirror._ending, 0.01):
            pass
        assert job.begin(0).key == (1, 1) and not job.begin(0).joined
        assert not job.mirror.started("silo_0", "w0", (1, 1), 2, 10)[0]
    assert job.push(1)
    judging.join(timeout=20)
    assert job.rounds.good_rounds == 1
    assert len(job.mirror.take_records()[0]["participants"]) == 2


def test_where_the_engine_has_a_rounds_model(job):
    job.make_round(1)
    job.judge(Verdict(2, False, "Global timer timeout!", 1))
    job.make_round(3)
    assert [job.mirror.made_by(round) for round in (1, 2)] == [1, 3]
    assert job.mirror.made_by(0) == NEWEST


def test_a_good_iteration_makes_the_round(job):
    job.make_round(1)
    assert job.rounds.good_rounds == 1
    assert job.mirror.verdict(1, 1, "w0", 0) == ("good", "")
    assert job.mirror.verdict(2, None, "", 0) == ("pending", "")
    (record,) = job.mirror.take_records()
    assert (record["round"], record["good"], record["checkpoint"]) == (1, True, "made.ckpt")
    assert [(entry["silo"], entry["samples"], entry["loss"]) for entry in record["participants"]] == [
        ("silo_0", 10, 0.5),
        ("silo_1", 30, 0.5),
    ]
    assert (record["bytes_up"], record["bytes_down"], record["seconds"]["checkpoint"]) == (200, 400, 0.1)


def test_a_failed_iteration_fails_the_attempt_and_names_who_is_missing(job):
    job.join(1)
    job.push(0)
    job.judge(Verdict(1, False, "Round updateModel timeout! This iteration is invalid.", 0))
    verdict, reason = job.mirror.verdict(1, 1, "w0", 0)
    assert (
        verdict == "failed" and "updateModel timeout" in reason and "silo_1 (host:1) joined but did not push" in reason
    )
    assert job.rounds.key == (1, 2)
    job.make_round(2)
    assert job.records() == [(1, 1, False), (1, 2, True)]


def test_an_iteration_in_which_nobody_of_this_attempt_is_fails_nothing(job):
    job.join(4)
    job.judge(Verdict(3, False, "Global timer timeout!", 0))
    assert job.rounds.key == (1, 1) and job.records() == []


def test_an_iteration_lost_before_its_verdict_fails_with_the_next(job):
    """Its server died when the engine counted on, before it told us."""
    job.join(4)
    assert job.push(0) and job.push(1)
    job.judge(Verdict(5, False, "the engine's server that had its updates is gone", 0))
    assert job.rounds.key == (1, 2)


def test_failures_in_a_row_end_the_job(job):
    for iteration in (1, 2, 3):
        job.join(iteration)
        job.judge(Verdict(iteration, False, "Weight aggregation failed", 0))
    assert job.rounds.state == ENDED_FAILED and "Weight aggregation failed" in job.rounds.reason


def test_a_round_whose_verdict_does_not_come_is_good_where_its_checkpoint_is_there(job):
    """Redis was away when the engine's server wanted to tell: repeating it would average the same updates again."""
    job.join(1)
    job.push(0), job.push(1)
    job.paths[1] = "made.ckpt"
    job.mirror.tick()
    assert job.rounds.key == (1, 1)
    job.now += LATE_SECONDS + 1
    job.mirror.tick()
    assert job.mirror.verdict(1, 1, "w0", 0) == ("good", "")
    (record,) = job.mirror.take_records()
    assert (record["good"], record["checkpoint"], len(record["participants"])) == (True, "made.ckpt", 2)
    job.judge(Verdict(1, True, "", 1, "made.ckpt"))
    assert job.rounds.good_rounds == 1


def test_a_round_whose_verdict_was_lost_is_good(job):
    """The server died between its checkpoint and the verdict: the next verdict knows of the round."""
    job.join(1)
    job.judge(Verdict(2, False, "Server that processed updateModel requests exited", 1))
    assert job.rounds.key == (2, 1) and job.records() == [(1, 1, True)]


def test_a_verdict_that_comes_twice_counts_once(job):
    job.make_round(1)
    job.judge(Verdict(1, True, "", 1, "made.ckpt"))
    assert job.rounds.good_rounds == 1


def test_the_last_good_round_finishes_the_job(job):
    for iteration in (1, 2, 3):
        job.make_round(iteration)
    assert job.rounds.state == FINISHED


def test_a_lost_silo_fails_the_attempt_and_the_iteration_goes_on(job):
    """The engine still has the survivor's update; the silo that is back completes the same iteration."""
    job.join(1)
    assert job.push(0)
    job.now += 20
    job.leases.renew("silo_0", "w0", {})
    job.leases.acquire("silo_0", "w0", {"node": "host:0"})
    job.mirror.tick()
    assert job.rounds.key == (1, 2)
    verdict, reason = job.mirror.verdict(1, 1, "w0", 0)
    assert verdict == "failed" and "no heartbeat" in reason
    job.leases.acquire("silo_1", "w1", {"node": "host:1"})
    job.make_round(1)
    assert job.records() == [(1, 1, False), (1, 2, True)]


def test_an_update_told_for_an_attempt_that_is_over_is_not_noted(job):
    job.join(1)
    job.judge(Verdict(1, False, "Global timer timeout!", 0))
    assert not job.push(0, key=(1, 1))


def test_an_engine_without_a_verdict_fails_the_round_in_the_end(job):
    job.join(1)
    job.push(0), job.push(1)
    job.now += longer(SETTINGS).global_iteration_time_window / 1000 + 1
    for i in SAMPLES:
        job.leases.acquire(f"silo_{i}", f"w{i}", {"node": f"host:{i}"})
    job.mirror.tick()
    verdict, reason = job.mirror.verdict(1, 1, "w0", 0)
    assert verdict == "failed" and "no verdict" in reason
