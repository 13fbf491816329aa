"""The user's scripts as real commands, from start to finish, with the real scheduler and server."""

import datetime
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from cross_silo.checkpoint import CheckpointInfo, checkpoint_path, write_checkpoint
from cross_silo.coordination.embedded import EmbeddedRedis
from cross_silo.data.manifest import Manifest, write_manifest
from cross_silo.launch.ending import end_roles
from cross_silo.launch.free_ports import adjoining_ports
from cross_silo.launch.role import running_roles

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def free_ports(count):
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


class Site:
    """A directory with a job's files, in which the scripts run."""

    def __init__(self, directory):
        self.directory = directory
        self.redis_port, rest, http = free_ports(3)
        self.rest, self.http = f"127.0.0.1:{rest}", f"127.0.0.1:{http}"
        self.write_yaml()
        (directory / "model.yaml").write_text("detector: faster_rcnn\nnum_classes: 2\n")
        manifest = Manifest((), 1, 0, 0, (), 0, 0, {}, {}, True, "train.json", "", ())
        (directory / "data" / "mindrecord_0").mkdir(parents=True)
        write_manifest(str(directory / "data" / "mindrecord_0"), manifest)

    def write_yaml(self, more=""):
        text = f"fl_name: job\ndistributed_cache:\n  address: 127.0.0.1:{self.redis_port}\n{more}"
        (self.directory / "job.yaml").write_text(text)

    def write_model(self):
        (self.directory / "ckpt").mkdir()
        path = checkpoint_path(self.directory / "ckpt", "job", 0, datetime.datetime.now())
        write_checkpoint(path, {name: np.zeros(8, np.float32) for name in "vwx"}, CheckpointInfo(fl_name="job"))

    def call(self, script, *arguments):
        """Run a script; returns (status, output, errors)."""
        command = [sys.executable, str(SCRIPTS / script), *arguments]
        settings = {"cwd": self.directory, "stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
        done = subprocess.run(command, check=False, timeout=120, **settings)
        assert "Traceback" not in done.stdout + done.stderr
        return done.returncode, done.stdout, done.stderr

    def sched(self, *more):
        return self.call("run_sched.py", "--yaml_config", "job.yaml", "--scheduler_manage_address", self.rest, *more)

    def server(self, *more):
        arguments = ["--yaml_config", "job.yaml", "--tcp_server_ip", "127.0.0.1", "--checkpoint_dir", "ckpt"]
        return self.call("run_server.py", *arguments, "--http_server_address", self.http, *more)

    def worker(self, *more, script="run_worker.py"):
        arguments = ["--yaml_config", "job.yaml", "--config", "model.yaml", "--dataset_path", "data"]
        return self.call(script, *arguments, "--http_server_address", self.http, *more)

    def finish(self, *more):
        return self.call("finish.py", "--redis_port", str(self.redis_port), *more)

    def running(self):
        return [role.name for role in running_roles() if self.directory in role.role_dir.parents]


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path)
    yield made
    end_roles([role for role in running_roles() if tmp_path in role.role_dir.parents], polite_seconds=1)
    EmbeddedRedis("127.0.0.1", made.redis_port).stop_if_unused()


def test_a_job_is_started_watched_and_finished_by_its_scripts(site):
    site.write_model()
    status, out, errors = site.sched()
    assert (status, errors) == (0, "")
    run_dir = site.directory / "runs" / "job"
    head, row = out.splitlines()
    assert head.split() == ["role", "pid", "address", "log"]
    assert row.split()[0::2] == ["scheduler", site.rest]
    assert row.split()[3] == str(run_dir / "scheduler" / "scheduler.log")

    status, out, errors = site.server("--local_server_num", "1")
    assert (status, errors) == (0, "")
    assert out.splitlines()[1].split()[0::2] == ["server_0", site.http]
    assert site.running() == ["scheduler", "server_0"]

    deadline = time.monotonic() + 15
    while True:
        with urllib.request.urlopen(f"http://{site.rest}/state", timeout=10) as reply:
            state = json.load(reply)
        if state["nodes"] or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    assert (state["cluster_state"], state["nodes"][0]["tcp_address"]) == ("CLUSTER_READY", site.http)

    status, _, errors = site.server()
    assert status == 2
    assert errors.startswith("error: server_0 of job 'job' runs already in ")
    status, _, errors = site.server("--run_dir", "elsewhere")
    assert (status, errors.count("\n")) == (2, 1)
    assert f"--http_server_address is {site.http}: Address already in use" in errors

    status, out, errors = site.finish()
    assert (status, errors) == (0, "")
    assert "job 'job' ended" in out
    assert "killed" not in out
    assert site.running() == []
    assert EmbeddedRedis("127.0.0.1", site.redis_port).pid() is None
    assert site.finish() == (0, f"nothing runs at 127.0.0.1:{site.redis_port}\n", "")


def test_a_server_without_a_model_fails_with_the_command_that_makes_one(site):
    status, _, errors = site.server()
    assert status == 2
    assert errors.count("\n") == 1
    assert "tools/init_model.py" in errors
    assert str(site.directory / "runs" / "job" / "server_0" / "server.log") in errors
    assert EmbeddedRedis("127.0.0.1", site.redis_port).pid() is None


def test_three_servers_are_started_one_that_died_again_and_all_are_ended(site):
    site.write_model()
    address = f"127.0.0.1:{adjoining_ports(3)}"
    arguments = ("--local_server_num", "3", "--http_server_address", address)
    status, out, errors = site.server(*arguments)
    assert (status, errors) == (0, "")
    assert [line.split()[0] for line in out.splitlines()[1:4]] == ["server_1", "server_2", "server_0"]
    assert site.running() == ["server_0", "server_1", "server_2"]
    pid = next(role.pid for role in running_roles() if role.role_dir == site.directory / "runs" / "job" / "server_2")
    os.kill(pid, signal.SIGKILL)
    status, out, errors = site.server(*arguments)
    assert (status, errors) == (0, "")
    assert out.count("runs already and stays") == 2
    assert site.running() == ["server_0", "server_1", "server_2"]
    status, out, _ = site.finish()
    assert status == 0
    assert site.running() == []
    assert "killed" not in out


def test_a_redis_of_another_machine_that_is_not_there_is_named(site):
    text = (site.directory / "job.yaml").read_text().replace("127.0.0.1", "0.0.0.0")
    (site.directory / "job.yaml").write_text(text)
    status, _, errors = site.sched()
    assert status == 2
    assert errors.count("\n") == 1
    assert f"no Redis answers at 0.0.0.0:{site.redis_port} (distributed_cache.address)" in errors


def test_contradictions_in_the_yaml_are_found_first(site):
    site.write_yaml("silos: 2\nround:\n  start_fl_job_threshold: 3\n")
    for status, _, errors in (site.sched(), site.server(), site.worker()):
        assert status == 2
        assert "job.yaml: round.start_fl_job_threshold is 3, but silos allows 2" in errors
    assert not (site.directory / "runs").exists()


def test_a_workers_data_are_looked_at_first(site):
    status, _, errors = site.worker("--local_worker_num", "2")
    assert status == 2
    assert errors.startswith("error: data/mindrecord_1: no such directory")
    status, _, errors = site.worker("--silo", "a", "--local_worker_num", "2")
    assert (status, errors.count("\n")) == (2, 1)
    assert not (site.directory / "runs").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ("--device_num", "4", "--run_distribute", "True"),
            "--device_num is 4, but device_target is CPU in",
        ),
        (("--device_num", "4"), "--device_num is 4 with --run_distribute False"),
        (("--device_num", "0"), "argument --device_num: 0 is given, expected at least 1"),
        (("--run_distribute", "maybe"), "argument --run_distribute: 'maybe' is given, expected True or False"),
        (("--device_num", "1", "--http_server_address", "10.0.0.1:1"), "--http_server_address is '10.0.0.1'"),
    ],
)
def test_distributed_training_in_a_silo_says_what_it_cannot_do(site, flags, message):
    status, _, errors = site.worker(*flags, script="run_worker_distributed.py")
    assert status == 2
    assert message in errors


def test_one_device_in_a_silo_is_a_worker_with_its_log_elsewhere(site, monkeypatch):
    monkeypatch.chdir(site.directory)
    spec = importlib.util.spec_from_file_location("run_worker_distributed", SCRIPTS / "run_worker_distributed.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    started = []
    monkeypatch.setattr(script, "start_roles", lambda job, roles, foreground: started.extend(roles) or 0)
    flags = ["--yaml_config", "job.yaml", "--config", "model.yaml", "--dataset_path", "data", "--device_num", "1"]
    assert script.main([*flags, "--run_distribute", "True", "--http_server_address", site.http]) == 0
    (role,) = started
    assert (role.name, role.log_path) == ("worker_0", "worker_distributed/log_output/worker.log")
    assert role.command[2] == "cross_silo.training.worker"


def test_a_scheduler_in_the_foreground_prints_its_log_and_leaves_on_sigterm(site):
    command = [sys.executable, str(SCRIPTS / "run_sched.py"), "--yaml_config", "job.yaml", "--foreground"]
    command += ["--scheduler_manage_address", site.rest]
    process = subprocess.Popen(command, cwd=site.directory, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().endswith(f"scheduler INFO serves at {site.rest}\n")
    assert site.running() == ["scheduler"]
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(15) == 0
    process.communicate()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "expected --redis_port, --redis_address, --yaml_config or --run_dir"),
        (("--redis_port", "0"), "--redis_port is '127.0.0.1:0', expected host:port"),
        (("--redis_address", "localhost"), "--redis_address is 'localhost', expected host:port"),
    ],
)
def test_finish_asks_which_job(site, flags, message):
    status, _, errors = site.call("finish.py", *flags)
    assert (status, errors.count("\n")) == (2, 1)
    assert message in errors


@pytest.mark.parametrize(
    "script", ["run_sched.py", "run_server.py", "run_worker.py", "run_worker_distributed.py", "finish.py"]
)
def test_scripts_are_short_and_say_how_they_are_used(site, script):
    status, out, _ = site.call(script, "--help")
    assert status == 0
    assert "--run_dir" in out
    assert len((SCRIPTS / script).read_text().splitlines()) < 100
