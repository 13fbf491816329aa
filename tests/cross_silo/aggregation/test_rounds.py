"""The state machine by a clock of the test's own: windows, repeats, late and double pushes, losses, reports."""

import pytest

from cross_silo.aggregation.rounds import (
    AVERAGING,
    CLOSING,
    DISABLED,
    ENDED_FAILED,
    FINISHED,
    IDLE,
    JOINING,
    RUNNING,
    STOPPED,
    TRAINING,
    UPDATING,
)
from tests.support.rounds_job import Job


@pytest.fixture
def job():
    return Job()


def test_a_good_round(job):
    assert job.rounds.phase == IDLE
    assert job.join(0, 10).ok
    assert job.rounds.phase == JOINING
    job.now += 5
    assert job.join(1, 30).ok
    assert (job.rounds.phase, job.rounds.total_samples) == (TRAINING, 40)
    job.now += 100
    assert not job.push(0)
    assert job.rounds.phase == UPDATING
    job.now += 7
    assert job.push(1)
    assert job.rounds.phase == CLOSING
    job.now += 1
    job.rounds.succeed()

    assert (job.rounds.key, job.rounds.phase, job.rounds.good_rounds) == ((2, 1), IDLE, 1)
    outcome = job.outcome()
    assert (outcome.key, outcome.good, outcome.reason) == ((1, 1), True, "")
    assert (outcome.began, outcome.last_push, outcome.ended) == (1000, 1112, 1113)
    assert [(p.silo, p.samples, p.loss, p.stats) for p in outcome.participants] == [
        ("silo_0", 10, 0.5, {"steps": 3}),
        ("silo_1", 30, 0.5, {"steps": 3}),
    ]


def test_the_last_round_finishes_the_job(job):
    for n in range(1, 6):
        assert job.rounds.state == RUNNING
        assert job.rounds.iteration == n
        job.make_round()
    assert job.rounds.state == FINISHED


def test_a_job_that_has_all_rounds_is_finished_from_the_start():
    assert Job(last=5, iteration=6).rounds.state == FINISHED


def test_nobody_joins_and_nothing_times_out(job):
    job.now += 1e6
    job.rounds.tick()
    assert (job.rounds.key, job.rounds.phase) == ((1, 1), IDLE)


def test_joining_twice_is_told_and_changes_nothing(job):
    job.join(0, 10)
    again = job.join(0, 99)
    assert (again.code, again.reason) == (300, "Updating device metadata failed for fl id silo_0")
    assert job.rounds.total_samples == 10


def test_a_third_silo_is_refused(job):
    job.join(0), job.join(1)
    refused = job.join(2)
    assert refused.code == 300
    assert "has reached the threshold" in refused.reason


@pytest.mark.parametrize("samples", [0, -1, 2**31])
def test_the_weight_must_be_a_positive_int32(job, samples):
    assert job.join(0, samples).code == 400
    assert job.rounds.phase == IDLE


# windows


def test_start_window_names_who_is_missing():
    job = Job(known=lambda: {"silo_0": "host:0", "silo_1": "host:1"})
    job.join(0)
    job.now += 299
    job.rounds.tick()
    assert job.rounds.phase == JOINING
    job.now += 1
    job.rounds.tick()
    assert (job.rounds.key, job.rounds.phase) == ((1, 2), IDLE)
    assert job.outcome().reason == (
        "round 1 attempt 1 failed: startFLJob window of 300 s "
        "(round.start_fl_job_time_window) ended; joined 1 of 2: silo_0 (host:0); "
        "1 missing silo (silo_1 (host:1)) did not join"
    )


def test_start_window_of_unknown_silos(job):
    job.join(0)
    job.now += 300
    job.rounds.tick()
    assert job.outcome().reason.endswith("joined 1 of 2: silo_0 (host:0); 1 missing silo did not join")


def test_update_window_counts_from_the_first_update(job):
    job.join(0), job.join(1)
    job.now += 1000
    job.rounds.tick()
    job.push(0)
    job.now += 599
    job.rounds.tick()
    assert job.rounds.phase == UPDATING
    job.now += 1
    job.rounds.tick()
    assert job.outcome().reason == (
        "round 1 attempt 1 failed: updateModel window of 600 s "
        "(round.update_model_time_window) ended; silo_1 (host:1) joined but did not push"
    )


def test_global_window_bounds_training(job):
    job.join(0), job.join(1)
    job.now += 3600
    job.rounds.tick()
    assert job.outcome().reason == (
        "round 1 attempt 1 failed: global iteration window of 3600 s (round.global_iteration_time_window) ended; "
        "silo_0 (host:0), silo_1 (host:1) joined but did not push"
    )


def test_a_round_that_is_being_saved_does_not_time_out(job):
    job.join(0), job.join(1), job.push(0), job.push(1)
    job.now += 1e6
    job.rounds.tick()
    assert job.rounds.phase == CLOSING


# updates


def test_an_update_before_everybody_joined_counts(job):
    job.join(0)
    assert not job.push(0)
    assert job.rounds.phase == JOINING
    job.join(1)
    assert job.rounds.phase == UPDATING
    assert job.push(1)


def test_the_last_update_waits_for_the_others_sums(job):
    job.join(0), job.join(1)
    job.admit(0), job.admit(1)
    assert not job.rounds.completes()
    assert not job.rounds.added((1, 1), "silo_0", 0.0, {})
    assert job.rounds.completes()
    assert job.rounds.phase == AVERAGING
    assert not job.rounds.awaits_average  # whoever adds it divides, too
    assert job.rounds.added((1, 1), "silo_1", 0.0, {})
    assert job.rounds.phase == CLOSING


def test_double_update_is_told_and_counted_once(job):
    job.join(0), job.join(1)
    job.push(0)
    again = job.admit(0)
    assert (again.code, again.reason) == (300, "Updating metadata of UpdateModelClientList failed for fl id silo_0")
    assert job.rounds.phase == UPDATING


def test_update_without_joining(job):
    job.join(0)
    assert job.admit(1).reason == "devices_meta for silo_1 is not set. Please retry later."


def test_update_of_another_worker_of_the_silo(job):
    job.join(0)
    assert job.rounds.admit("silo_0", "other", 1, None).code == 300


@pytest.mark.parametrize("iteration", [1, 3, 99])
def test_update_of_another_round(iteration):
    job = Job(iteration=2)
    job.join(0), job.join(1)
    refused = job.admit(0, iteration)
    assert refused.code == 300
    assert refused.reason == f"UpdateModel iteration number is invalid:{iteration}, current iteration:2"


def test_late_update_hears_why_its_attempt_failed(job):
    job.join(0), job.join(1)
    job.rounds.fail("a reason")
    job.join(0), job.join(1)
    refused = job.admit(0, 1, 1)
    assert refused.code == 300
    assert refused.reason == "attempt 1 of round 1: round 1 attempt 1 failed: a reason"
    assert job.admit(0, 1, 2).ok


def test_a_sum_that_ends_after_its_attempt_is_not_counted(job):
    job.join(0), job.join(1)
    job.admit(0)
    job.rounds.fail("meanwhile")
    job.join(0), job.join(1)
    assert not job.rounds.added((1, 1), "silo_0", 0.0, {})
    assert not job.rounds.participants["silo_0"].pushed


# failures


def test_a_repeated_round_keeps_its_number(job):
    job.join(0), job.join(1)
    job.rounds.fail("first")
    assert job.rounds.key == (1, 2)
    job.make_round()
    assert job.rounds.key == (2, 1)
    assert [(o.key, o.good) for o in job.rounds.take_outcomes()] == [((1, 1), False), ((1, 2), True)]


def test_verdicts(job):
    job.join(0)
    assert job.rounds.hopeless(1, 1, "") == ""
    job.rounds.fail("why")
    assert job.rounds.hopeless(1, 1, "") == "round 1 attempt 1 failed: why"
    assert job.rounds.hopeless(1, 2, "") == ""
    assert job.rounds.hopeless(1, None, "") == ""
    assert job.rounds.hopeless(2, 1, "") == "round 2 has not begun: the server makes round 1"


def test_too_many_failures_end_the_job(job):
    for _ in range(3):
        assert job.rounds.state == RUNNING
        job.join(0)
        job.rounds.fail("silo_1 (host:1): gone")
    assert job.rounds.state == ENDED_FAILED
    assert job.rounds.reason == ("3 failed rounds in a row; the last: round 1 attempt 3 failed: silo_1 (host:1): gone")


def test_a_good_round_forgives_earlier_failures(job):
    for _ in range(3):
        for _ in range(2):
            job.join(0)
            job.rounds.fail("now and then")
        job.make_round()
    assert job.rounds.state == RUNNING


def test_a_lost_worker_fails_its_round(job):
    job.join(0), job.join(1)
    assert not job.rounds.lost("silo_1", "older worker", "no heartbeat for 15 s")
    assert not job.rounds.lost("silo_2", "w2", "no heartbeat for 15 s")
    assert job.rounds.lost("silo_1", "w1", "no heartbeat for 15 s")
    assert job.outcome().reason == "round 1 attempt 1 failed: silo_1 (host:1): no heartbeat for 15 s"


def test_a_lost_worker_whose_update_is_in_fails_nothing(job):
    job.join(0), job.join(1)
    job.push(1)
    assert not job.rounds.lost("silo_1", "w1", "no heartbeat")
    assert job.push(0)


def test_a_report_fails_the_round_at_once(job):
    job.join(0), job.join(1)
    assert not job.rounds.report("silo_1", "w1", (1, 2), "late", "")
    assert not job.rounds.report("silo_1", "stranger", (1, 1), "non-finite loss", "")
    assert job.rounds.report("silo_1", "w1", (1, 1), "non-finite loss", "rpn_box: nan")
    assert job.outcome().reason == "round 1 attempt 1 failed: silo_1 (host:1): non-finite loss: rpn_box: nan"
    assert job.rounds.key == (1, 2)


# what operators do


def test_disable_voids_the_round_without_counting(job):
    for _ in range(5):
        job.join(0)
        job.rounds.disable()
        assert job.rounds.state == DISABLED
        job.rounds.enable()
    assert job.rounds.state == RUNNING
    assert {outcome.reason.partition(": ")[2] for outcome in job.rounds.take_outcomes()} == {"the job was disabled"}


def test_stop_while_a_model_is_saved_keeps_the_round(job):
    job.join(0), job.join(1), job.push(0), job.push(1)
    job.rounds.end(STOPPED, "on request")
    job.rounds.succeed()
    assert (job.rounds.good_rounds, job.rounds.state, job.rounds.reason) == (1, STOPPED, "on request")


def test_an_ended_job_stays_ended(job):
    job.rounds.end(STOPPED, "first")
    job.rounds.end(ENDED_FAILED, "second")
    job.rounds.enable(), job.rounds.disable()
    assert (job.rounds.state, job.rounds.reason) == (STOPPED, "first")


def test_nobody_joins_a_job_that_does_not_run(job):
    job.rounds.disable()
    assert job.join(0).reason == "the job is disabled"
    job.rounds.enable()
    for _ in range(5):
        job.make_round()
    assert job.join(0).reason == "the job is finished"
    assert job.rounds.phase == IDLE


def test_the_successor_of_a_worker_that_pushed_waits_in_its_place(job):
    job.join(0), job.join(1)
    job.push(0)
    assert not job.rounds.join("silo_0", "w9", "host:9", 10).ok  # it is in the round already
    assert job.rounds.is_member("silo_0", "w9")
    again = job.rounds.admit("silo_0", "w9", 1, 1)
    assert again.reason == "Updating metadata of UpdateModelClientList failed for fl id silo_0"
    assert job.push(1)


def test_the_successor_of_a_worker_that_did_not_push_takes_its_place(job):
    job.join(0), job.join(1)
    job.rounds.join("silo_0", "w9", "host:9", 30)
    assert job.rounds.is_member("silo_0", "w9")
    assert job.rounds.total_samples == 40
    assert not job.rounds.lost("silo_0", "w0", "no heartbeat")
    assert job.rounds.admit("silo_0", "w9", 1, 1).ok
