"""How a job stands, from a real store; the lines for people; Prometheus' text."""

import json

import pytest
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from cross_silo.errors import UserError
from cross_silo.report.metrics import render
from cross_silo.report.show_status import head, status_view, tail
from cross_silo.report.status import read_status

NOW = 1_769_860_600.0
STARTED = NOW - 600
LATE = "round 2 attempt 1 failed: updateModel window of 600 s (round.update_model_time_window) ended"


def record(round, good=True, reason="", losses=(1.0, 3.0)):
    participants = [{"silo": f"silo_{i}", "samples": 10, "loss": loss} for i, loss in enumerate(losses)]
    return {"round": round, "attempt": 1, "good": good, "reason": reason, "participants": participants,
            "ended": STARTED + 10 * round, "bytes_up": 100, "bytes_down": 50, "seconds": {"round": 5.0}}  # fmt: skip


@pytest.fixture
def job(store):
    settings = {
        "silos": ["silo_0", "silo_1", "silo_2"],
        "lease": 20.0,
        "round": {"start_fl_job_threshold": 3},
        "stop_condition": {"metric": "rounds", "operator": ">=", "threshold": 30.0},
    }
    store.begin(
        {"fl_name": "job", "instance": "i1", "engine": "native", "fl_iteration_num": 30, "started": STARTED,
         "iteration": 2, "attempt": 2, "phase": "updating", "good_rounds": 1, "settings": json.dumps(settings),
         "refused_updates": '{"silo_1": {"norm": 2}}'}
    )  # fmt: skip
    server = {"address": "127.0.0.1:6668", "told": NOW - 2, "windows": {"round.update_model_time_window": 580.0}}
    store.beat("server", "h:1", {**server, "joined": ["silo_0", "silo_1"], "pushed": ["silo_0"], "left_out": {}})
    told = {"node": "h:2", "samples": 364, "phase": "training", "iteration": 2, "epoch": 2, "step": 40, "loss": 0.75}
    store.acquire_lease("silo_0", "w0", 20.0, told)
    store.note_seen(
        {"silo_0": {**told, "seen": NOW}, "silo_1": {**told, "node": "h:3", "loss": None, "seen": NOW - 35}}
    )
    store.add_round(record(1))
    store.add_round(record(2, good=False, reason=LATE))
    store.add_evaluation(0, {"AP": 0.0, "AP50": 0.001})
    store.add_evaluation(1, {"AP": 0.25, "AP50": 0.5})
    return store


def test_all_that_operators_ask_for(job):
    status = read_status(job, "job", NOW)
    assert (status["state"], status["phase"], status["round"], status["rounds"]) == ("running", "updating", 2, 30)
    assert (status["good_rounds"], status["failed_rounds"], status["aggregations"], status["updates"]) == (1, 1, 1, 2)
    first, second, third = status["participants"]
    assert (first["silo"], first["live"], first["node"], first["samples"]) == ("silo_0", True, "h:2", 364)
    assert (first["loss"], first["in_round"]) == (0.75, "pushed")
    assert first["last_seen"] == pytest.approx(0, abs=1)
    assert (second["live"], second["last_seen"], second["in_round"]) == (False, 35.0, "joined")
    assert second["loss"] == 3.0  # of the last round it took part in
    assert (third["live"], third["last_seen"], third["node"]) == (False, None, None)
    assert [(entry["silo"], NOW - entry["since"], entry["seen"]) for entry in status["missing"]] == [
        ("silo_1", 35.0, True),
        ("silo_2", 600.0, False),
    ]
    assert status["windows"] == {"round.update_model_time_window": 578.0}
    assert [failure["reason"] for failure in status["failures"]] == [LATE]
    assert status["evaluations"][1] == {"round": 1, "AP50": 0.5, "AP": 0.25}
    assert status["stop_condition"] == "rounds >= 30"
    assert json.loads(json.dumps(status)) == status


def test_a_job_without_a_server_says_so(job):
    job.leave("server", "h:1")
    status = read_status(job, "job", NOW)
    assert (status["state"], status["windows"]) == ("no_server", {})
    job.end("failed", "too many failures")
    status = read_status(job, "job", NOW)
    assert (status["state"], status["reason"], status["missing"]) == ("failed", "too many failures", [])


def test_silos_of_no_known_name(store):
    settings = json.dumps({"silos": 0, "round": {"start_fl_job_threshold": 2}})
    store.begin({"started": STARTED, "settings": settings})
    store.acquire_lease("a", "w", 15.0, {})
    status = read_status(store, "job", NOW)
    assert status["missing"] == [{"silo": "", "since": STARTED, "seen": False}]
    assert "missing: a silo of no known name, not seen since" in tail(status)[0]


def test_no_job_is_a_clear_error(store):
    with pytest.raises(UserError, match="no record of job 'job' in Redis"):
        read_status(store, "job")


def test_what_people_see(job):
    status = read_status(job, "job", NOW)
    assert head(status)[:2] == [
        "job job (i1), engine native: running",
        "round 2 of 30, attempt 2: updating; 1 good, 1 failed, 1 aggregations of 2 updates",
    ]
    assert head(status)[3] == "time windows left: round.update_model_time_window 578 s"
    lines = tail(status)
    assert lines[0].startswith("missing: silo silo_1, last seen ")
    assert "AP50, AP by round: 0: 0.001, 0.000; 1: 0.500, 0.250" in lines
    assert lines[-3].endswith(LATE)
    assert lines[-2:] == ["ends with: rounds >= 30", "refused updates of silo silo_1: 2 norm"]
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115 - ends with the console
    console.print(status_view(status))
    rows = [line for line in console.export_text().splitlines() if line.startswith("│")]
    assert [cell.strip() for cell in rows[0].strip("│").split("│")] == [
        "silo_0", "h:2", "364", "training", "2", "40", "0.750", "0 s ago", "pushed"
    ]  # fmt: skip
    assert "missing" in rows[1] and "35 s ago" in rows[1] and "never" in rows[2]


def test_all_servers_are_shown(job):
    assert read_status(job, "job", NOW)["servers"] == [{"server": 0, "address": "127.0.0.1:6668", "lost": ""}]
    others = [{"server": 1, "address": "a:1", "lost": ""}, {"server": 2, "address": "a:2", "lost": "it was restarted"}]
    job.beat("server", "h:1", {"address": "127.0.0.1:6668", "told": NOW, "servers": others})
    status = read_status(job, "job", NOW)
    assert "; server_1 a:1; server_2 a:2 lost: it was restarted" in head(status)[2]
    found = samples(render(status))
    assert [found["cross_silo_server_up", str(index)] for index in range(3)] == [1, 1, 0]
    job.leave("server", "h:1")
    assert read_status(job, "job", NOW)["servers"] == []


def samples(text):
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_prometheus_reads_it(job):
    found = samples(render(read_status(job, "job", NOW)))
    assert found["cross_silo_job_known",] == 1
    assert found["cross_silo_job", "i1", "job", "running", "updating"] == 1
    assert (found["cross_silo_round",], found["cross_silo_good_rounds_total",]) == (2, 1)
    assert (found["cross_silo_failed_rounds_total",], found["cross_silo_bytes_up_total",]) == (1, 200)
    assert (found["cross_silo_silo_up", "silo_0"], found["cross_silo_silo_up", "silo_1"]) == (1, 0)
    assert (found["cross_silo_silo_loss", "silo_0"], found["cross_silo_silo_samples", "silo_0"]) == (0.75, 364)
    assert found["cross_silo_silo_last_seen_seconds", "silo_1"] == 35
    assert ("cross_silo_silo_last_seen_seconds", "silo_2") not in found
    assert found["cross_silo_missing_silos",] == 2
    assert found["cross_silo_window_left_seconds", "round.update_model_time_window"] == 578
    assert (found["cross_silo_evaluated_round",], found["cross_silo_accuracy", "AP50"]) == (1, 0.5)
    assert found["cross_silo_refused_updates_total", "norm", "silo_1"] == 2
    assert found["process_resident_memory_bytes",] > 1e6


def test_metrics_without_redis_are_those_of_the_process():
    found = samples(render(None))
    assert found["cross_silo_job_known",] == 0
    assert ("cross_silo_round",) not in found
    assert found["process_resident_memory_bytes",] > 1e6
