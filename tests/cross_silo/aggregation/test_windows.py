"""Which time windows run in each phase of a round, and what they say when they end."""

from cross_silo.aggregation.rounds import FINISHED
from cross_silo.aggregation.windows import START, UPDATE, WHOLE
from tests.support.rounds_job import Job


def left(job):
    return {window.key: window.left(job.now) for window in job.rounds.windows()}


def test_windows_by_phase():
    job = Job()
    assert left(job) == {}
    job.join(0)
    job.now += 100
    assert left(job) == {START: 200.0, WHOLE: 3500.0}
    job.join(1)
    assert left(job) == {WHOLE: 3500.0}
    job.push(0)
    job.now += 50
    assert left(job) == {UPDATE: 550.0, WHOLE: 3450.0}
    job.push(1)
    assert left(job) == {}


def test_an_end_names_wait_length_and_key():
    job = Job()
    job.join(0)
    (start, whole) = job.rounds.windows()
    assert str(start) == "startFLJob window of 300 s (round.start_fl_job_time_window)"
    assert str(whole) == "global iteration window of 3600 s (round.global_iteration_time_window)"


def test_a_stop_condition_drops_the_round_that_has_begun():
    job = Job()
    job.make_round()
    job.outcome()
    job.join(0)
    job.join(1)
    job.push(0)
    job.rounds.finish()
    assert (job.rounds.state, job.rounds.reason, job.rounds.good_rounds) == (FINISHED, "", 1)
    assert job.rounds.take_outcomes() == []
    assert not job.admit(1).ok
    assert job.rounds.hopeless(2, 1, "") == "round 2 attempt 1 failed: the job is finished"


def test_a_round_whose_updates_are_all_in_still_becomes_good():
    job = Job()
    job.join(0)
    job.join(1)
    job.push(0)
    job.push(1)
    job.rounds.finish()
    job.rounds.succeed()
    assert (job.rounds.state, job.rounds.good_rounds) == (FINISHED, 1)
    assert job.outcome().good


def test_a_failed_job_is_not_finished_afterwards():
    job = Job()
    job.rounds.end("failed", "why")
    job.rounds.finish()
    assert (job.rounds.state, job.rounds.reason) == ("failed", "why")
