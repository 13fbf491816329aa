"""A silo whose update was refused: its round goes on without it, or fails, and the next one has a place for it."""

import pytest

from cross_silo.aggregation.rounds import CLOSING, JOINING, TRAINING, UPDATING
from cross_silo.config.federated import Round
from tests.support.rounds_job import Job

WHY = "its update was refused: its norm is 9"


def make(silos, least, joined):
    job = Job(Round(start_fl_job_threshold=silos, min_clients=least))
    for i in range(joined):
        assert job.join(i).ok
    return job


def refuse(job, i):
    return job.rounds.lost(f"silo_{i}", f"w{i}", WHY, for_good=True)


def test_the_others_go_on_and_it_waits_for_the_next_round():
    job = make(3, 2, 3)
    assert not refuse(job, 1)
    again = job.join(1)
    assert (again.ok, again.waits) == (False, True)
    assert again.reason == "the update of silo silo_1 was refused in this round"
    assert job.rounds.may_push("silo_1", "w1", 1, 1).reason == f"round 1 goes on without silo silo_1: {WHY}"
    job.push(0), job.push(2)
    assert job.rounds.phase == CLOSING
    job.rounds.succeed()
    outcome = job.outcome()
    assert [participant.silo for participant in outcome.participants] == ["silo_0", "silo_2"]
    assert outcome.left_out == {"silo_1": WHY}
    assert job.join(1).ok


def test_too_few_others_fail_the_round_and_the_next_attempt_has_a_place():
    job = make(2, 0, 2)
    assert refuse(job, 1)
    assert job.outcome().reason == f"round 1 attempt 1 failed: silo_1 (host:1): {WHY}"
    assert job.join(1).ok


@pytest.mark.parametrize("joined", [1, 2])
def test_one_refused_before_all_are_there_is_not_waited_for(joined):
    """A silo that pushes at once, again and again, would otherwise fail rounds that the others never see."""
    job = make(3, 2, joined)
    assert not refuse(job, 0)
    assert (job.rounds.phase, job.rounds.attempt) == (JOINING, 1)
    assert not job.join(0).ok
    for i in range(joined, 3):
        assert job.join(i).ok
    assert job.rounds.phase == TRAINING
    assert list(job.rounds.participants) == ["silo_1", "silo_2"]
    job.rounds.tick()
    assert job.rounds.left_out == {"silo_0": WHY}


def test_one_refused_before_all_are_there_where_all_are_needed():
    job = make(3, 3, 1)
    assert refuse(job, 0)
    assert job.rounds.attempt == 2


def test_an_update_in_the_sum_stays_there():
    job = make(3, 1, 3)
    job.push(1)
    assert not refuse(job, 1)
    assert job.rounds.participants["silo_1"].pushed
    assert not refuse(job, 0)
    assert not refuse(job, 2)
    assert job.rounds.phase != UPDATING  # complete with the one that is in
    assert job.rounds.awaits_average
