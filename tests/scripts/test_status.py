"""scripts/status.py and the routes behind it, on a job of real processes."""

from __future__ import annotations

import importlib.util
import json
import urllib.request
from pathlib import Path

import pytest

from cross_silo.errors import UserError
from tests.support.federation import Federation

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "status.py"
SPEC = importlib.util.spec_from_file_location("status_script", SCRIPT)
status_script = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(status_script)


@pytest.fixture
def job(tmp_path, store, redis_address, free_port):
    made = Federation(tmp_path, redis_address, free_port, rounds=2, silos=["silo_0", "silo_1", "silo_2"])
    yield made
    made.close()


def shown(capsys, *flags):
    status = status_script.main([*flags, "--json"])
    return status, json.loads(capsys.readouterr().out)


def get(address, path):
    with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as reply:
        return reply.read().decode()


def test_a_job_from_its_start_to_its_end(job, capsys, redis_address):
    flags = ["--yaml_config", str(job.yaml), "--scheduler_manage_address", "127.0.0.1:0", "--run_dir", str(job.run_dir)]
    scheduler = job.start("cross_silo.engines.native.scheduler", "scheduler.log", *flags)
    job.wait_log("scheduler.log", "serves at ")
    rest = job.log("scheduler.log").split("serves at ")[1].split()[0]
    server = job.server()
    assert "time-outs: round.start_fl_job_time_window 300 s, " in job.log("server.log")
    first = job.worker(0, num_samples=12)
    job.wait(lambda: status_script.find(status_script.parse(["--address", rest]))()["windows"], "a round", 60)

    status, found = shown(capsys, "--address", rest)
    assert (status, found["state"], found["phase"], found["round"]) == (0, "running", "joining", 1)
    assert set(found["windows"]) >= {"round.start_fl_job_time_window", "round.global_iteration_time_window"}
    assert 200 < found["windows"]["round.start_fl_job_time_window"] <= 300
    entry = found["participants"][0]
    assert (entry["silo"], entry["samples"], entry["live"]) == ("silo_0", 12, True)
    assert entry["in_round"] in ("joined", "pushed")
    assert [(missing["silo"], missing["seen"]) for missing in found["missing"]] == [
        ("silo_1", False),
        ("silo_2", False),
    ]
    assert json.loads(get(job.address, "/status"))["instance"] == found["instance"]
    assert 'cross_silo_silo_up{silo="silo_0"} 1.0' in get(job.address, "/metrics")
    assert "cross_silo_missing_silos 2.0" in get(rest, "/metrics")

    first.kill()
    assert shown(capsys, "--redis_address", redis_address)[1]["fl_name"] == job.name
    lost = {}

    def is_missing():
        lost.update(shown(capsys, "--yaml_config", str(job.yaml))[1])
        return [entry["silo"] for entry in lost["missing"] if entry["seen"]] == ["silo_0"]

    job.wait(is_missing, "the killed worker to be missed")
    assert lost["participants"][0]["last_seen"] >= 2.0  # its lease
    workers = [job.worker(i) for i in range(2)]
    assert [job.status(process) for process in (*workers, server, scheduler)] == [0] * 4, job.log("server.log")
    status, found = shown(capsys, "--redis_address", redis_address, "--watch")
    assert (status, found["state"], found["good_rounds"], found["updates"]) == (0, "finished", 2, 4)
    assert status_script.main(["--redis_address", redis_address]) == 0
    assert f"job {job.name} (" in capsys.readouterr().out


def test_nobody_and_nothing_there_are_clear_errors(job, redis_address, free_port):
    with pytest.raises(UserError, match="which job is not said; expected --redis_port"):
        status_script.main([])
    with pytest.raises(UserError, match=f"--address 127.0.0.1:{free_port}: nobody answers"):
        status_script.main(["--address", f"127.0.0.1:{free_port}"])
    with pytest.raises(UserError, match="has no record of a job"):
        status_script.main(["--redis_address", redis_address])
    with pytest.raises(UserError, match=f"no record of job '{job.name}' in Redis"):
        status_script.main(["--yaml_config", str(job.yaml)])


@pytest.mark.parametrize(
    ("state", "status"),
    [("running", 0), ("disabled", 0), ("finished", 0), ("stopped", 0), ("failed", 1), ("no_server", 1)],
)
def test_the_exit_status_tells_programs_that_somebody_must_look(monkeypatch, capsys, state, status):
    monkeypatch.setattr(status_script, "find", lambda arguments: lambda: {"state": state})
    assert status_script.main(["--redis_port", "1", "--json"]) == status
    assert json.loads(capsys.readouterr().out) == {"state": state}


def test_watching_ends_with_the_job(monkeypatch, capsys):
    states = iter(["running", "no_server", "failed"])
    last = status_script.watch(lambda: {"state": next(states)}, as_json=True, pause=lambda seconds: None)
    assert last == {"state": "failed"}
    assert len(capsys.readouterr().out.splitlines()) == 3
