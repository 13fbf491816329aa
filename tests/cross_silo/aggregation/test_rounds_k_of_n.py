"""Rounds that go on when some silos are away: windows, losses, late silos, the trigger, the draw."""

import collections

import pytest

from cross_silo.aggregation.rounds import AVERAGING, CLOSING, IDLE, JOINING, TRAINING, UPDATING
from cross_silo.config.federated import Round
from cross_silo.config.participation import AggregationTrigger
from tests.support.rounds_job import Job

START, UPDATE, GLOBAL = 300, 600, 3600
WINDOWS = {
    "start_fl_job_time_window": START * 1000,
    "update_model_time_window": UPDATE * 1000,
    "global_iteration_time_window": GLOBAL * 1000,
}


def make(silos=3, trigger=None, away=(), **settings):
    """A job of ``silos`` silos, those in ``away`` without a live worker."""
    settings = Round(start_fl_job_threshold=silos, **{**WINDOWS, **settings})
    participation = settings.participation(AggregationTrigger(**(trigger or {})))
    names = {f"silo_{i}": f"host:{i}" for i in range(silos)}
    job = Job(settings, participation=participation, known=lambda: {**names, **dict.fromkeys(job.away, "")})
    job.away = [f"silo_{i}" for i in away]
    return job


def joined(job, *silos):
    for i in silos:
        assert job.join(i, 10 * (i + 1)).ok
    return job


def silos(outcome):
    return [participant.silo for participant in outcome.participants]


def test_all_who_joined_are_waited_for_within_the_window():
    job = joined(make(min_clients=2), 0, 1, 2)
    job.push(0), job.push(1)
    job.now += UPDATE - 1
    job.rounds.tick()
    assert job.rounds.phase == UPDATING
    assert job.push(2)
    assert job.rounds.phase == CLOSING
    assert job.rounds.total_samples == 60


def test_the_update_window_closes_with_those_who_pushed():
    job = joined(make(update_model_ratio=0.6), 0, 1, 2)
    job.push(2), job.push(0)
    job.now += UPDATE
    job.rounds.tick()
    assert (job.rounds.phase, job.rounds.total_samples) == (AVERAGING, 40)
    late = job.admit(1)
    assert (late.code, late.reason) == (
        300,
        "round 1 goes on without silo silo_1: did not push before the updateModel window of 600 s "
        "(round.update_model_time_window) ended",
    )
    job.average()
    job.rounds.succeed()
    outcome = job.outcome()
    assert outcome.good and silos(outcome) == ["silo_0", "silo_2"]
    assert list(outcome.left_out) == ["silo_1"]
    later = job.admit(1, iteration=1)
    assert (later.code, later.reason) == (
        300,
        "round 1 closed without silo silo_1: did not push before the updateModel window of 600 s "
        "(round.update_model_time_window) ended",
    )


def test_the_global_window_closes_with_those_who_pushed():
    job = joined(make(min_clients=1), 0, 1, 2)
    job.now += GLOBAL - 10
    job.push(1)
    job.now += 10
    job.rounds.tick()
    assert (job.rounds.phase, job.rounds.total_samples) == (AVERAGING, 20)


def test_too_few_updates_at_a_windows_end_fail_the_round():
    job = joined(make(min_clients=2), 0, 1, 2)
    job.push(0)
    job.now += UPDATE
    job.rounds.tick()
    assert job.outcome().reason == (
        "round 1 attempt 1 failed: updateModel window of 600 s "
        "(round.update_model_time_window) ended; silo_1 (host:1), silo_2 (host:2) joined "
        "but did not push; 1 updates are in, 2 needed"
    )


def test_an_update_that_is_being_added_at_the_windows_end_is_waited_for():
    job = joined(make(min_clients=2), 0, 1, 2)
    assert job.admit(0).ok and job.admit(1).ok
    job.now += UPDATE
    job.rounds.tick()
    assert (job.rounds.phase, job.rounds.total_samples) == (UPDATING, 30)
    assert not job.admit(2).ok
    job.now += GLOBAL
    job.rounds.tick()  # nothing but the two sums ends this round now
    assert not job.add(0)
    assert job.add(1)
    assert job.rounds.phase == CLOSING


def test_a_lost_silo_is_gone_without_if_the_others_suffice():
    job = joined(make(min_clients=2), 0, 1, 2)
    assert not job.lose(2)
    assert job.rounds.left_out == {"silo_2": "no heartbeat for 15 s"}
    job.push(0)
    assert job.push(1)
    assert job.rounds.phase == CLOSING
    job.rounds.succeed()
    job.rounds.tick()
    assert [silos(outcome) for outcome in job.rounds.take_outcomes()] == [["silo_0", "silo_1"]]


def test_the_loss_of_the_last_silo_awaited_closes_the_round():
    job = joined(make(min_clients=2), 0, 1, 2)
    job.push(0), job.push(1)
    assert not job.lose(2)
    assert job.rounds.phase == AVERAGING
    job.average()
    assert job.rounds.phase == CLOSING


def test_a_loss_while_the_last_update_is_added():
    """The sum is divided afterwards: when the adding began the update was not known as the last."""
    job = joined(make(min_clients=2), 0, 1, 2)
    job.push(0), job.admit(1)
    assert not job.rounds.completes()
    assert not job.lose(2)
    assert job.rounds.added((1, 1), "silo_1", 0.5, {})
    job.average()


def test_one_loss_too_many_fails_the_round():
    job = joined(make(min_clients=2), 0, 1, 2)
    job.push(0)
    assert not job.lose(2)
    assert job.lose(1)
    assert job.outcome().reason == "round 1 attempt 1 failed: silo_1 (host:1): no heartbeat for 15 s"


def test_a_silo_that_cannot_push_is_gone_without():
    job = joined(make(min_clients=2), 0, 1, 2)
    assert not job.rounds.report("silo_1", "w1", (1, 1), "non-finite loss", "rpn_box: nan")
    assert job.rounds.left_out == {"silo_1": "non-finite loss: rpn_box: nan"}
    assert job.rounds.report("silo_2", "w2", (1, 1), "non-finite loss", "")


def test_a_lost_silo_that_is_back_soon_takes_part_again():
    job = joined(make(min_clients=2), 0, 1, 2)
    job.lose(2), job.push(0)
    job.now += START - 1
    assert job.join(2, 30).ok
    assert not job.push(1)
    assert job.push(2)
    assert (job.rounds.phase, job.rounds.left_out) == (CLOSING, {})


def test_a_lost_silo_that_is_back_late_waits_for_the_next_round():
    job = joined(make(min_clients=2), 0, 1, 2)
    job.lose(2), job.push(0)
    job.now += START
    refused = job.join(2)
    assert refused.waits and not refused.ok
    job.push(1)
    job.rounds.succeed()
    assert job.join(2).ok


def test_nobody_joins_a_round_that_has_all_its_updates():
    job = joined(make(min_clients=2), 0, 1, 2)
    job.lose(2), job.push(0), job.admit(1)
    assert job.rounds.completes()
    assert job.join(2).waits
    assert not job.lose(1)
    assert job.rounds.added((1, 1), "silo_1", 0.5, {})


# the start


def test_the_start_window_goes_on_with_those_who_joined():
    job = joined(make(min_clients=2), 0, 2)
    job.now += START
    job.rounds.tick()
    assert job.rounds.phase == TRAINING
    assert job.rounds.left_out == {"silo_1": "away at the round's start"}
    job.push(0)
    assert job.push(2)


def test_updates_may_all_be_in_when_the_start_window_ends():
    job = joined(make(min_clients=2), 0, 2)
    job.push(0), job.push(2)
    assert job.rounds.phase == JOINING
    job.now += START
    job.rounds.tick()
    job.average()


def test_the_update_window_may_end_before_the_start_window():
    job = joined(make(min_clients=2, start_fl_job_time_window=10_000_000), 0, 2)
    job.push(0), job.push(2)
    job.now += UPDATE
    job.rounds.tick()
    assert job.rounds.left_out == {"silo_1": "away at the round's start"}
    job.average()


def test_too_few_at_the_start_fail_the_round():
    job = joined(make(min_clients=2), 0)
    job.now += START
    job.rounds.tick()
    assert job.outcome().reason == (
        "round 1 attempt 1 failed: startFLJob window of 300 s "
        "(round.start_fl_job_time_window) ended; joined 1 of 3 (2 suffice): silo_0 (host:0); "
        "2 missing silos (silo_1 (host:1), silo_2 (host:2)) did not join"
    )


def test_after_the_first_round_dead_silos_are_not_waited_for():
    job = joined(make(min_clients=2, away=[1]), 0, 2)
    job.now += START
    job.rounds.tick()
    job.push(0), job.push(2)
    job.rounds.succeed()
    joined(job, 2, 0)
    assert (job.rounds.phase, job.rounds.left_out) == (TRAINING, {"silo_1": "away at the round's start"})
    job.push(0), job.push(2)
    job.rounds.succeed()
    job.away = []
    joined(job, 2, 0)
    assert job.rounds.phase == JOINING
    joined(job, 1)
    assert job.rounds.phase == TRAINING
    job.rounds.fail("any")
    job.away = ["silo_1"]
    joined(job, 0, 2)
    assert job.rounds.phase == TRAINING
    assert job.join(1).ok  # it is back


def test_a_silo_that_dies_while_the_start_waits_for_it():
    job = joined(make(min_clients=2, away=[1]), 0, 2)
    job.now += START
    job.rounds.tick()
    job.rounds.fail("any")
    job.away = []
    joined(job, 0, 2)
    job.rounds.tick()
    assert job.rounds.phase == JOINING
    job.away = ["silo_1"]
    job.rounds.tick()
    assert job.rounds.phase == TRAINING


def test_a_silo_lost_before_the_start_frees_its_place():
    job = joined(make(), 0, 1)
    assert not job.lose(1)
    joined(job, 2)
    assert job.rounds.phase == JOINING
    joined(job, 1)
    assert (job.rounds.phase, job.rounds.left_out) == (TRAINING, {})


def test_more_silos_than_places():
    job = joined(make(silos=2), 0, 1)
    surplus = job.join(2)
    assert surplus.waits and surplus.reason.startswith("Current amount for startFLJob has reached the threshold")
    job.push(0), job.push(1)
    job.rounds.succeed()
    joined(job, 2, 1)
    assert job.rounds.phase == TRAINING


# the trigger


def test_the_trigger_closes_at_once():
    job = joined(make(silos=4, trigger={"operator": ">", "threshold": 1}), 0, 1, 2, 3)
    assert not job.push(3)
    assert job.admit(1).ok
    surplus = job.admit(2)
    assert surplus.reason == "round 1 goes on without silo silo_2: 2 updates were enough (aggregation_trigger)"
    assert job.add(1)
    assert (job.rounds.phase, job.rounds.total_samples) == (CLOSING, 60)
    job.rounds.succeed()
    assert sorted(job.outcome().left_out) == ["silo_0", "silo_2"]


def test_the_trigger_needs_no_full_start():
    job = joined(make(trigger={"operator": ">=", "threshold": 1}), 0)
    assert job.push(0)
    assert job.rounds.phase == CLOSING


def test_fewer_than_the_trigger_asks_for_suffice_at_the_windows_end():
    job = joined(make(min_clients=1, trigger={"operator": "==", "threshold": 2}), 0, 1, 2)
    job.push(0)
    job.now += UPDATE
    job.rounds.tick()
    job.average()


def test_a_trigger_that_is_not_met_fails_the_round():
    job = joined(make(trigger={"operator": "==", "threshold": 2}), 0, 1, 2)
    job.push(0)
    job.now += UPDATE
    job.rounds.tick()
    assert not job.outcome().good


# the draw


def draw(seed, rounds=1, silos=5, order=None):
    job = make(silos=silos, select_num_clients=2, select_seed=seed)
    drawn = []
    for _ in range(rounds):
        answers = [job.join(i) for i in order or range(silos)]
        assert [answer.ok for answer in answers[:-1]] == [False] * (silos - 1)
        assert all(answer.waits or answer.ok for answer in answers)
        assert (job.rounds.phase, len(job.rounds.participants)) == (TRAINING, 2)
        names = sorted(job.rounds.participants)
        drawn.append(names)
        for i in range(silos):
            again = job.join(i)
            assert again.reason.startswith("Updating device metadata failed") == (f"silo_{i}" in names)
            assert again.waits == (f"silo_{i}" not in names)
        for name in names:
            job.push(int(name[-1]))
        assert job.rounds.phase == CLOSING
        job.rounds.succeed()
    return drawn


def test_a_draw_is_decided_by_seed_round_and_the_ready():
    assert draw(seed=7, rounds=4) == draw(seed=7, rounds=4, order=[3, 1, 4, 0, 2])
    assert draw(seed=7, rounds=4) != draw(seed=8, rounds=4)


def test_every_silo_is_drawn_as_often():
    drawn = [name for seed in range(400) for [names] in [draw(seed)] for name in names]
    counts = collections.Counter(drawn)
    assert len(counts) == 5
    assert all(abs(count - 160) < 60 for count in counts.values())  # 6 standard deviations


def test_a_silo_that_waits_for_the_draw_says_so_and_may_leave():
    job = make(select_num_clients=2)
    assert job.join(0).reason == "round 1 has 1 of 3 silos to draw from"
    assert not job.lose(0)
    assert job.rounds.phase == IDLE
    job.join(0), job.join(1)
    assert not job.lose(1)
    assert job.rounds.phase == JOINING
    job.join(1), job.join(2)
    assert job.rounds.phase == TRAINING


def test_the_draw_goes_on_with_those_ready_at_the_windows_end():
    job = make(silos=4, select_num_clients=3, min_clients=2)
    job.join(0)
    job.now += START
    job.rounds.tick()
    assert "joined 1 of 4 (2 suffice): silo_0 (host:0)" in job.outcome().reason
    job.join(0), job.join(3)
    job.now += START
    job.rounds.tick()
    assert sorted(job.rounds.participants) == ["silo_0", "silo_3"]
    assert job.rounds.left_out == dict.fromkeys(["silo_1", "silo_2"], "away at the round's start")


@pytest.mark.parametrize("phase", [AVERAGING, CLOSING])
def test_a_round_with_all_its_updates_outlives_a_stop(phase):
    job = joined(make(silos=2), 0, 1)
    job.push(0), job.admit(1)
    assert job.rounds.completes()
    if phase == CLOSING:
        job.rounds.added((1, 1), "silo_1", 0.5, {})
    job.rounds.end("stopped", "on request")
    assert job.rounds.phase == phase
