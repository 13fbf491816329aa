"""What summary.json says, from a real store."""

import json
import math

import pytest

from cross_silo.errors import UserError
from cross_silo.report.summary import mean_loss, read_summary, summarize, write_summary


def record(round, attempt=1, good=True, losses=(1.0, 3.0), ended=None, reason=""):
    participants = [
        {"silo": f"silo_{i}", "worker": "w", "node": "h:1", "samples": 10 * (i + 1), "loss": loss, "steps": 5}
        for i, loss in enumerate(losses)
    ]
    return {
        "round": round, "attempt": attempt, "good": good, "reason": reason, "participants": participants,
        "samples": 30, "seconds": {"round": 2.0, "training": 1.5, "aggregation": 0.1, "checkpoint": 0.1},
        "bytes_up": 100, "bytes_down": 200, "ended": round + attempt / 10 if ended is None else ended,
        "checkpoint": f"c{round}.ckpt" if good else "",
    }  # fmt: skip


def metrics(value):
    return {"AP": value / 2, "AP50": value, "AP75": value / 4, "classes": {"cell": {"AP": value / 2}}}


@pytest.fixture
def job(store):
    settings, versions = json.dumps({"round": {"max_uploads": 2}}), json.dumps({"numpy": "2"})
    store.begin(
        {"fl_name": "job", "instance": "i1", "engine": "native", "fl_iteration_num": 3, "fingerprint": "f",
         "model_bytes": 164, "started": 1769860000.5, "settings": settings, "versions": versions}
    )  # fmt: skip
    return store


def test_job_rounds_and_evaluations(job, tmp_path):
    job.add_round(record(1))
    job.add_round(record(2, good=False, losses=(2.0, None), reason="silo_1 (h:1): no heartbeat for 15 s"))
    job.add_round(record(2, attempt=2))
    job.add_evaluation(0, metrics(0.0))
    job.add_evaluation(1, metrics(0.4))
    job.add_evaluation(2, metrics(0.3))
    job.end("failed", "too many failures")
    write_summary(tmp_path / "run", job)
    summary = read_summary(tmp_path / "run")
    assert summary["state"] == "failed" and summary["reason"] == "too many failures"
    assert (summary["fl_iteration_num"], summary["model_bytes"], summary["started"]) == (3, 164, 1769860000.5)
    assert summary["settings"] == {"round": {"max_uploads": 2}} and summary["versions"] == {"numpy": "2"}
    assert (summary["good_rounds"], summary["failed_attempts"]) == (2, 1)
    assert (summary["bytes_up"], summary["bytes_down"]) == (300, 600)
    assert (summary["final_AP50"], summary["best_AP50"]) == (0.3, 0.4)
    assert summary["evaluations"]["0"]["AP50"] == 0.0 and summary["evaluations"]["1"]["classes"]
    first, failed, second = summary["rounds"]
    assert first["losses"] == {"silo_0": 1.0, "silo_1": 3.0}
    assert first["mean_loss"] == pytest.approx((10 * 1 + 20 * 3) / 30)
    assert (first["AP"], first["AP50"], first["AP75"]) == (0.2, 0.4, 0.1)
    assert failed["AP50"] is None and failed["losses"] == {"silo_0": 2.0, "silo_1": None}
    assert failed["reason"] == "silo_1 (h:1): no heartbeat for 15 s"
    assert (second["round"], second["attempt"], second["AP50"]) == (2, 2, 0.3)
    assert first["seconds"]["training"] == 1.5 and first["participants"][1]["node"] == "h:1"


def test_what_silos_measured_themselves(job, tmp_path):
    job.add_round(record(1, good=False))
    job.add_round(record(1, attempt=2))
    job.add_round(record(2))
    job.add_silo_evaluation(0, "silo_0", {"AP": 0.0, "AP50": 0.0, "AP75": 0.0})
    job.add_silo_evaluation(1, "silo:1", {"AP": 0.2, "AP50": 0.5, "AP75": 0.1})
    write_summary(tmp_path, job)
    job.clear()  # Redis was restarted
    job.begin({"instance": "i1"})
    job.add_silo_evaluation(1, "silo_0", {"AP": 0.1, "AP50": 0.25, "AP75": 0.0})
    write_summary(tmp_path, job)
    summary = read_summary(tmp_path)
    assert [entry["silo_AP50"] for entry in summary["rounds"]] == [{}, {"silo:1": 0.5, "silo_0": 0.25}, {}]
    assert list(summary["silo_evaluations"]) == ["0", "1"]
    assert summary["silo_evaluations"]["1"]["silo:1"]["AP"] == 0.2


def test_a_job_without_rounds_or_evaluations(job, tmp_path):
    write_summary(tmp_path, job)
    summary = read_summary(tmp_path)
    assert summary["rounds"] == [] and summary["final_AP50"] is summary["best_AP50"] is None
    assert summary["state"] == "running"


def test_good_rounds_are_the_servers_count_where_records_are_lost(job, tmp_path):
    job.add_round(record(3))
    job.update(good_rounds=3, iteration=4, attempt=1)
    write_summary(tmp_path, job)
    summary = read_summary(tmp_path)
    assert (summary["good_rounds"], summary["iteration"], summary["attempt"]) == (3, 4, 1)


def test_the_last_rounds_model_counts_as_final_only_when_measured(job, tmp_path):
    job.add_round(record(1))
    job.add_round(record(2))
    job.add_evaluation(1, metrics(0.4))
    write_summary(tmp_path, job)
    assert read_summary(tmp_path)["final_AP50"] is None


def test_rounds_that_the_store_lost_stay_in_the_file(job, tmp_path):
    job.add_round(record(1))
    job.add_evaluation(1, metrics(0.4))
    write_summary(tmp_path, job)
    job.clear()
    job.begin({"instance": "i1"})
    job.add_round(record(1, ended=9.0))  # attempt 1 of a restarted server
    write_summary(tmp_path, job)
    assert [(entry["round"], entry["ended"]) for entry in read_summary(tmp_path)["rounds"]] == [(1, 1.1), (1, 9.0)]
    assert read_summary(tmp_path)["evaluations"]["1"]["AP50"] == 0.4


def test_another_instance_of_the_job_begins_anew(job, tmp_path):
    job.add_round(record(1))
    write_summary(tmp_path, job)
    job.clear()
    job.begin({"instance": "i2"})
    write_summary(tmp_path, job)
    assert read_summary(tmp_path)["rounds"] == []


def test_without_a_record_of_the_job_the_file_stays(job, tmp_path):
    job.add_round(record(1))
    write_summary(tmp_path, job)
    job.clear()
    write_summary(tmp_path, job)
    assert len(read_summary(tmp_path)["rounds"]) == 1


def test_numbers_that_json_does_not_know_become_null(job, tmp_path):
    job.add_round(record(1, good=False, losses=(math.nan, math.inf)))
    write_summary(tmp_path, job)
    text = (tmp_path / "summary.json").read_text()
    assert "NaN" not in text and "Infinity" not in text
    assert read_summary(tmp_path)["rounds"][0]["losses"] == {"silo_0": None, "silo_1": None}


def test_mean_loss_is_weighted_by_samples():
    assert mean_loss([{"samples": 1, "loss": 4.0}, {"samples": 3, "loss": 0.0}, {"samples": 5, "loss": None}]) == 1.0
    assert mean_loss([{"samples": 5, "loss": None}]) is None
    assert mean_loss([]) is None


def test_round_0_alone_is_no_result():
    summary = summarize({"state": "running"}, [], {0: metrics(0.1)})
    assert summary["final_AP50"] is None and summary["evaluations"]["0"]["AP50"] == 0.1


@pytest.mark.parametrize("content, reason", [(None, "No such file"), ("{", "not valid JSON"), ("[]", "no rounds")])
def test_what_is_no_summary_is_named(tmp_path, content, reason):
    if content is not None:
        (tmp_path / "summary.json").write_text(content)
    with pytest.raises(UserError, match=rf"summary\.json: .*{reason}"):
        read_summary(tmp_path)
