"""The scheduler as a real process: ready, small, mends Redis, ends with the job."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request

import pytest

from cross_silo.coordination import JobStore
from cross_silo.coordination.client import make_client
from cross_silo.coordination.embedded import EmbeddedRedis
from cross_silo.engines.native.scheduler import JobWatch
from cross_silo.launch import proc
from cross_silo.launch.ready import read_ready

RUNNING = {"state": "running", "instance": "i1", "started": "1"}
FINISHED = {**RUNNING, "state": "finished"}


def wait(condition, seconds=15):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


class Process:
    """A scheduler process on its own Redis."""

    def __init__(self, directory, redis_port):
        self.yaml = directory / "federated.yaml"
        self.yaml.write_text(f"fl_name: job\ndistributed_cache:\n  address: 127.0.0.1:{redis_port}\n")
        self.redis_port = redis_port
        self.directory = directory
        self.address = "127.0.0.1:0"
        self.store = JobStore(make_client("127.0.0.1", redis_port), "job")
        self.process = None

    def start(self):
        (self.directory / "scheduler").mkdir(exist_ok=True)
        command = [sys.executable, "-m", "cross_silo.engines.native.scheduler", "--yaml_config", str(self.yaml)]
        command += ["--scheduler_manage_address", self.address, "--run_dir", str(self.directory)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        wait(lambda: self.process.poll() is not None or self.ready())
        if self.ready():
            self.address = self.ready()["address"]
        return self

    def ready(self):
        return read_ready(self.directory / "scheduler", self.process.pid)

    def get(self, path):
        with urllib.request.urlopen(f"http://{self.address}{path}", timeout=10) as reply:
            return json.load(reply)

    def end(self, seconds=15):
        out, _ = self.process.communicate(timeout=seconds)
        return self.process.returncode, out


@pytest.fixture
def scheduler(tmp_path, free_port):
    made = Process(tmp_path, free_port).start()
    yield made
    if made.process.poll() is None:
        made.process.kill()
        made.process.communicate()
    EmbeddedRedis("127.0.0.1", free_port).stop_if_unused()


def test_it_serves_brings_redis_along_and_leaves_politely(scheduler, free_port):
    assert scheduler.address.startswith("127.0.0.1:")
    embedded = EmbeddedRedis("127.0.0.1", free_port)
    assert embedded.users() == {scheduler.process.pid: "scheduler"}
    wait(lambda: scheduler.store.members("scheduler"))
    (member,) = scheduler.store.members("scheduler").values()
    assert member["address"] == scheduler.address
    scheduler.store.begin({"instance": "i1"})
    assert scheduler.get("/state")["cluster_state"] == "CLUSTER_DISABLE"
    scheduler.process.send_signal(signal.SIGTERM)
    status, out = scheduler.end()
    assert status == 0
    assert f"scheduler INFO serves at {scheduler.address}" in out
    assert embedded.pid() is None


def test_it_stays_small_without_mindspore_and_numpy(scheduler):
    scheduler.store.begin({"instance": "i1"})
    for _ in range(50):
        scheduler.get("/state")
    with open(f"/proc/{scheduler.process.pid}/status", encoding="utf-8") as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    with open(f"/proc/{scheduler.process.pid}/maps", encoding="utf-8") as maps:
        mapped = maps.read()
    assert peak < 60 * 1024
    assert "mindspore" not in mapped
    assert "numpy" not in mapped


@pytest.mark.parametrize(("state", "status"), [("finished", 0), ("stopped", 0), ("failed", 1)])
def test_it_ends_when_the_job_has_ended_and_its_servers_have_left(scheduler, state, status):
    scheduler.store.begin({"instance": "i1"})
    scheduler.store.beat("server", "n", {})
    time.sleep(1.2)
    scheduler.store.end(state, "for a reason")
    time.sleep(1.5)
    assert scheduler.process.poll() is None
    scheduler.store.leave("server", "n")
    found, out = scheduler.end()
    assert found == status
    assert f"job {state}, its servers have left: for a reason" in out


def test_a_dead_embedded_redis_is_started_anew(scheduler, free_port):
    embedded = EmbeddedRedis("127.0.0.1", free_port)
    first = embedded.pid()
    os.kill(first, signal.SIGKILL)
    wait(lambda: embedded.pid() not in (None, first))
    wait(lambda: scheduler.store.members("scheduler"))
    scheduler.store.begin({"instance": "i2"})
    assert scheduler.get("/queryInstance")["result"]["instance"] == "i2"
    scheduler.process.send_signal(signal.SIGTERM)
    status, out = scheduler.end()
    assert (status, out.count("started anew")) == (0, 1)
    assert embedded.pid() is None


def test_a_killed_one_is_replaced_and_goes_on_with_the_job(scheduler):
    scheduler.store.begin({"instance": "i1"})
    scheduler.store.beat("server", "n", {})
    first = scheduler.process
    first.kill()
    first.communicate()
    scheduler.start()
    assert scheduler.get("/state")["cluster_state"] == "CLUSTER_READY"
    scheduler.store.end("finished", "")
    scheduler.store.leave("server", "n")
    assert scheduler.end()[0] == 0


def test_an_address_in_use_and_one_of_other_machines_are_user_errors(scheduler, tmp_path):
    other = Process(tmp_path, scheduler.redis_port)
    other.address = scheduler.address
    status, out = other.start().end()
    assert status == 2
    assert f"error: --scheduler_manage_address: cannot listen on {scheduler.address}" in out
    other.address = "0.0.0.0:18019"
    status, out = other.start().end()
    assert status == 2
    assert "error: --scheduler_manage_address is '0.0.0.0', which other machines reach, but auth.mode is none" in out
    assert proc.start_time(scheduler.process.pid) is not None


def test_the_ended_record_of_an_earlier_job_does_not_end_a_new_scheduler():
    watch = JobWatch()
    assert watch.look(FINISHED, servers=0) is None
    assert watch.look(FINISHED, servers=0) is None
    assert watch.look({**RUNNING, "started": "2"}, servers=1) is None
    assert watch.look({**FINISHED, "started": "2"}, servers=1) is None
    assert watch.look({**FINISHED, "started": "2"}, servers=0) == "finished"


def test_a_job_that_begins_and_ends_between_two_looks_ends_the_scheduler():
    watch = JobWatch()
    assert watch.look(None, servers=0) is None
    assert watch.look({**FINISHED, "state": "failed"}, servers=0) == "failed"


def test_a_job_whose_servers_died_is_waited_for():
    watch = JobWatch()
    for _ in range(3):
        assert watch.look(RUNNING, servers=0) is None
    assert watch.look(None, servers=0) is None
