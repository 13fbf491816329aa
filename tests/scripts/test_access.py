"""The launching scripts with certificates: a job from its start to its end, Redis with a password beside it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cross_silo.config.auth import OPERATOR
from cross_silo.config.federated import load_federated
from cross_silo.protocol.access import credentials
from cross_silo.protocol.connection import exchange
from tests.support.auth_files import SILOS, make_auth
from tests.support.federation import Federation

SCRIPTS = Path(__file__).parents[2] / "scripts"


def run(script, *arguments):
    command = [sys.executable, str(SCRIPTS / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=SCRIPTS.parent)


@pytest.fixture
def job(tmp_path, monkeypatch):
    redis, server, scheduler = subprocess.run(
        [sys.executable, "-m", "cross_silo.launch.free_ports", "3"], capture_output=True, text=True, check=True
    ).stdout.split()
    monkeypatch.setenv("CROSS_SILO_REDIS_PASSWORD", "of the test")
    settings = {"silos": list(SILOS), "auth": {"mode": "mtls", "dir": "nowhere"}}
    made = Federation(tmp_path, f"127.0.0.1:{redis}", int(server), rounds=1, **settings)
    made.auth = make_auth(tmp_path / "auth")
    made.scheduler = f"127.0.0.1:{scheduler}"
    made.common = ("--yaml_config", made.yaml, "--run_dir", made.run_dir)
    yield made
    run("finish.py", "--yaml_config", made.yaml)
    made.close()


def test_a_job_from_its_start_to_its_end(job, monkeypatch):
    here = ("--auth_dir", job.auth)
    started = run("run_sched.py", *job.common, *here, "--scheduler_manage_address", job.scheduler)
    assert started.returncode == 0, started.stderr
    where = ("--http_server_address", job.address, "--checkpoint_dir", job.checkpoints)
    started = run("run_server.py", *job.common, *here, *where)
    assert started.returncode == 0, started.stderr
    host, port = job.scheduler.split(":")
    config = load_federated(job.yaml, str(job.auth))
    shown = credentials(config, OPERATOR, OPERATOR)
    reply = exchange(host, int(port), "/state", None, {}, 10.0, None, shown.context)
    assert json.loads(bytes(reply.body))["state"] == "running"
    monkeypatch.setenv("CROSS_SILO_AUTH_DIR", str(job.auth))
    workers = [job.worker(index) for index in range(2)]
    assert [job.status(worker) for worker in workers] == [0, 0], job.log("worker_0.log")
    job.wait(lambda: job.summary()["state"] == "finished", "the server to note the end")
    for path in job.run_dir.rglob("*"):
        assert not path.is_file() or b"of the test" not in path.read_bytes(), path


def test_what_is_missing_is_said_before_anything_starts(job):
    data = job.directory / "data"
    data.mkdir()
    for script, more, name in (
        ("run_sched.py", ("--scheduler_manage_address", job.scheduler), "scheduler.key"),
        ("run_server.py", ("--checkpoint_dir", job.checkpoints), "server.key"),
        ("run_worker.py", ("--dataset_path", data, "--config", job.model_yaml), "silo_0.key"),
    ):
        result = run(script, *job.common, *more)
        assert result.returncode == 2
        assert result.stderr == f"error: private key nowhere/{name}: No such file or directory\n"
    result = run(
        "run_worker.py", *job.common, "--dataset_path", data, "--auth_dir", job.auth, "--local_worker_num", "3"
    )
    assert "silos" in result.stderr and result.returncode == 2
    assert not job.run_dir.exists()


def test_other_machines_need_certificates_or_tokens_over_tls(job):
    job.yaml.write_text(job.yaml.read_text().replace("mode: mtls", "mode: token"))
    result = run("run_sched.py", *job.common, "--scheduler_manage_address", "0.0.0.0:18019")
    assert result.returncode == 2
    assert "tokens would travel in the clear; expected enable_ssl: true or auth.mode: mtls" in result.stderr
    job.yaml.write_text(job.yaml.read_text().replace("mode: token", "mode: none"))
    result = run("run_sched.py", *job.common, "--scheduler_manage_address", "0.0.0.0:18019")
    assert result.returncode == 2 and "auth.mode is none; expected mtls or token" in result.stderr
