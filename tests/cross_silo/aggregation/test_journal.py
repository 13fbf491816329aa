"""Records of rounds: what they say, and that none is lost or doubled when Redis is away."""

import json
import logging

import pytest

from cross_silo.aggregation.guarded_store import GuardedStore
from cross_silo.aggregation.journal import Journal, interrupted_record, log_round, recovered_record, round_record
from cross_silo.aggregation.participant import Outcome, Participant


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Switch:
    """The job's store behind a switch."""

    def __init__(self, store):
        self.store, self.down = store, False

    def add_round(self, record):
        if self.down:
            raise ConnectionError("down")
        self.store.add_round(record)


def outcome(n, good=True, left_out=None):
    members = (
        Participant("silo_0", "w0", "h:0", 10, True, True, 2.0, {"steps": 5, "train_seconds": 1.5}),
        Participant("silo_1", "w1", "h:1", 30, good, good, 1.0, {}),
    )
    reason = "" if good else f"round {n} attempt 1 failed: why"
    return Outcome((n, 1), good, reason, members, 100.0, 107.0, 109.0, left_out or {})


def record(n, good=True):
    return round_record(outcome(n, good), 107.5, f"/c/{n}.ckpt" if good else "", 1.25, 1000, 2000)


@pytest.fixture
def journal(store, tmp_path):
    made = type("Made", (), {})()
    made.switch, made.clock, made.summaries = Switch(store), Clock(), []
    made.metrics = tmp_path / "server_0" / "metrics.json"
    guarded = GuardedStore(made.switch, made.clock)
    made.journal = Journal(guarded, made.metrics, lambda: made.summaries.append(1))
    return made


def test_what_a_record_says():
    found = record(3)
    assert found["seconds"] == {"round": 9.0, "training": 7.0, "aggregation": 0.5, "checkpoint": 1.25}
    assert (found["round"], found["attempt"], found["good"], found["samples"]) == (3, 1, True, 40)
    assert found["participants"][0] == {
        "silo": "silo_0", "worker": "w0", "node": "h:0", "samples": 10, "loss": 2.0, "steps": 5, "train_seconds": 1.5,
        "update_norm": None,
    }  # fmt: skip
    assert (found["bytes_up"], found["bytes_down"], found["checkpoint"]) == (1000, 2000, "/c/3.ckpt")
    failed = record(3, good=False)
    assert failed["participants"][1]["loss"] is None
    assert failed["seconds"]["aggregation"] == 0


def test_an_interrupted_attempt():
    found = interrupted_record((4, 2))
    assert found["reason"] == "round 4 attempt 2 failed: the server was restarted"
    assert (found["good"], found["participants"]) == (False, [])


def test_lines_of_the_log(caplog):
    caplog.set_level(logging.INFO)
    log_round(record(3))
    log_round(record(4, good=False))
    assert [entry.getMessage() for entry in caplog.records] == [
        "round 3 good: 2 silos, 40 samples, mean loss 1.2500, 9.00 s (averaging 0.50, checkpoint 1.25), "
        "0.0 MB up, 0.0 MB down",
        "round 4 attempt 1 failed: why",
    ]


def test_who_was_missing_is_logged_and_recorded(caplog):
    without = {"silo_2": "no heartbeat for 15 s", "silo_3": "away at the round's start"}
    found = round_record(outcome(3, left_out=without), 107.5, "/c/3.ckpt", 1.25, 1000, 2000)
    assert found["left_out"] == without
    log_round(found)
    (entry,) = [entry for entry in caplog.records if entry.levelno == logging.WARNING]
    assert entry.getMessage() == (
        "round 3 was made without silo_2: no heartbeat for 15 s; silo_3: away at the round's start"
    )


def test_metrics_are_one_json_line_a_round(journal):
    journal.journal.write([record(1)])
    journal.journal.write([record(2, good=False), record(2)])
    lines = [json.loads(line) for line in journal.metrics.read_text().splitlines()]
    assert [(line["round"], line["good"], line["loss"]) for line in lines] == [
        (1, True, 1.25), (2, False, 2.0), (2, True, 1.25),
    ]  # fmt: skip
    assert len(journal.summaries) == 2


def test_records_wait_for_redis(journal, store):
    journal.journal.write([record(1)])
    journal.switch.down = True
    for n in (2, 3):
        journal.journal.write([record(n)])
    journal.switch.down = False
    journal.journal.write([])
    assert [r["round"] for r in store.rounds()] == [1]
    journal.clock.now += 60
    journal.journal.write([])
    assert [r["round"] for r in store.rounds()] == [1, 2, 3]
    journal.journal.write([record(4)])
    assert [r["round"] for r in store.rounds()] == [1, 2, 3, 4]


def test_what_a_killed_server_wrote_is_recorded_as_it_was_and_not_told_twice(journal, store, caplog):
    caplog.set_level(logging.INFO)
    journal.journal.write([record(1)])
    journal.switch.down = True
    journal.journal.write([record(2), record(3, good=False), record(3)])
    with open(journal.metrics, "a") as file:
        file.write('{"round": 4, "che')  # it was killed here
    told, lines = len(caplog.records), journal.metrics.read_text()
    journal.switch.down = False
    successor = Journal(GuardedStore(journal.switch), journal.metrics, lambda: None)
    successor.recover([2, 3], recovered_record(3, "/c/3.ckpt"))
    found = store.rounds()
    assert found[1:] == [{**record(n), "ended": found[n - 1]["ended"]} for n in (2, 3)]
    assert (len(caplog.records), journal.metrics.read_text()) == (told, lines)


def test_a_round_of_which_nothing_was_written_is_told_from_its_checkpoint(journal, store, caplog):
    caplog.set_level(logging.INFO)
    journal.journal.write([record(1)])
    journal.journal.recover([2], recovered_record(2, "/c/2.ckpt"))
    assert [(r["round"], r["good"], len(r["participants"])) for r in store.rounds()] == [(1, True, 2), (2, True, 0)]
    assert "round 2 good: 0 silos" in caplog.text


@pytest.mark.parametrize("earlier", [1, 2, 5])
def test_rounds_of_an_earlier_instance_are_not_recovered(journal, store, earlier):
    journal.switch.down = True
    journal.journal.write([record(n) for n in range(1, earlier + 1)])
    journal.journal.write([{**record(1), "checkpoint": "/c/new_1.ckpt"}])
    journal.switch.down = False
    successor = Journal(GuardedStore(journal.switch), journal.metrics, lambda: None)
    successor.recover([1, 2], recovered_record(2, "/c/new_2.ckpt"))
    assert [(r["round"], r["checkpoint"]) for r in store.rounds()] == [(1, "/c/new_1.ckpt"), (2, "/c/new_2.ckpt")]


def test_an_emptied_redis_gets_all_again(journal, store):
    journal.journal.write([record(n) for n in (1, 2)])
    store.clear()
    journal.journal.redis_was_emptied()
    journal.journal.write([record(3)])
    assert [r["round"] for r in store.rounds()] == [1, 2, 3]


def test_a_metrics_file_that_cannot_be_written_ends_nothing(journal, store, tmp_path, caplog):
    (tmp_path / "server_0").write_text("a file where a directory should be")
    journal.journal.write([record(1)])
    assert [r["round"] for r in store.rounds()] == [1]
    assert "metrics.json cannot be written" in caplog.text
