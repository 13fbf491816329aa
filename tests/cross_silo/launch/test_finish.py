"""Ending a job by its Redis or its run directory: exactly its processes, also where Redis or a record is gone."""

import os
import shutil
import signal
import socket
import time

import pytest

from cross_silo.coordination import JobStore, connect
from cross_silo.coordination.embedded import EmbeddedRedis
from cross_silo.errors import UserError
from cross_silo.launch import proc
from cross_silo.launch.finish import Target, finish
from cross_silo.launch.role import Job, running_roles
from cross_silo.launch.start import start_roles


@pytest.fixture
def address(free_port):
    yield f"127.0.0.1:{free_port}"
    embedded = EmbeddedRedis("127.0.0.1", free_port)
    if embedded.pid() is not None:
        os.kill(embedded.pid(), signal.SIGKILL)


@pytest.fixture
def start(address, dummy, job, tmp_path):
    """Start a job's server at the Redis and a worker; returns the job."""

    def make(fl_name="job", worker_flags=()):
        made = Job(fl_name, address, tmp_path / f"run_{fl_name}")
        server = dummy("server_0", "--serve_redis", address, "--fl_name", fl_name, where=made)
        start_roles(made, [server, dummy("worker_0", *worker_flags, where=made)])
        return made

    return make


@pytest.fixture
def said():
    return []


def run_finish(said, *target):
    said.clear()
    finish(Target(*target), said.append)
    return "\n".join(said)


def running(fl_name):
    return [role.name for role in running_roles() if role.fl_name == fl_name]


def test_a_job_ends_in_order_with_its_redis_and_a_second_call_finds_nothing(start, address, said, free_port):
    made = start()
    out = run_finish(said, address)
    assert running("job") == []
    assert "server_0" in out
    assert "worker_0" in out
    assert "job 'job' ended" in out
    assert "embedded Redis at" in out
    assert "killed" not in out
    assert "stopped in order" in (made.run_dir / "server_0" / "server.log").read_text()
    assert EmbeddedRedis("127.0.0.1", free_port).pid() is None
    assert run_finish(said, address) == f"nothing runs at {address}"


def test_localhost_is_the_same_place(start, address, said):
    start()
    assert "job 'job' ended" in run_finish(said, address.replace("127.0.0.1", "localhost"))
    assert running("job") == []


def test_only_the_named_job_of_two_at_a_redis_ends(start, address, said):
    start("north")
    start("south")
    with pytest.raises(UserError, match=f"several jobs run at {address}: north, south; expected --fl_name with one"):
        run_finish(said, address)
    out = run_finish(said, address, "north")
    assert running("north") == []
    assert running("south") == ["server_0", "worker_0"]
    assert "stays: server_0 (pid" in out
    assert run_finish(said, address, "north").startswith(f"nothing of job 'north' runs at {address}")
    run_finish(said, address)
    assert running("south") == []


def test_processes_in_other_run_directories_of_the_job_end_too(start, dummy, address, said, tmp_path):
    made = start()
    elsewhere = Job("job", address, tmp_path / "elsewhere")
    start_roles(elsewhere, [dummy("worker_1", where=elsewhere)])
    stranger = Job("other", "127.0.0.1:9", tmp_path / "stranger")
    start_roles(stranger, [dummy("worker_2", where=stranger)])
    run_finish(said, "", "", made.run_dir)
    assert running("job") == []
    assert running("other") == ["worker_2"]


@pytest.mark.parametrize("by_run_dir", [False, True])
def test_without_redis_the_job_is_found_by_port_or_run_directory(start, address, said, free_port, by_run_dir):
    made = start()
    os.kill(EmbeddedRedis("127.0.0.1", free_port).pid(), signal.SIGKILL)
    out = run_finish(said, "", "", made.run_dir) if by_run_dir else run_finish(said, address)
    assert running("job") == []
    assert "job 'job' ended" in out


def test_a_run_directory_that_was_deleted_hides_nothing(start, address, said):
    made = start()
    shutil.rmtree(made.run_dir)
    run_finish(said, address)
    assert running("job") == []


def test_stubborn_processes_are_killed_and_their_leases_given_back(start, address, said, monkeypatch):
    monkeypatch.setattr("cross_silo.launch.finish.SERVER_SECONDS", 0.5)
    monkeypatch.setattr("cross_silo.launch.finish.POLITE_SECONDS", 1.0)
    start(worker_flags=("--stubborn",))
    (worker,) = [role for role in running_roles() if role.fl_name == "job" and role.name == "worker_0"]
    keeper = connect(address, start_embedded=False, user="tests")
    store = JobStore(keeper, "job")
    host = socket.gethostname()
    store.acquire_lease("silo_0", "w0", 60, {"node": f"{host}:{worker.pid}"})
    store.acquire_lease("silo_1", "w1", 60, {"node": "elsewhere:7"})
    began = time.monotonic()
    out = run_finish(said, address)
    assert time.monotonic() - began < 4
    assert [line.split()[2] for line in out.splitlines() if line.startswith("worker_0")] == ["killed"]
    assert list(store.leases()) == ["silo_1"]
    assert "not on this machine, or not this user's: silo_1 elsewhere:7" in out
    assert (store.job()["state"], store.job()["reason"]) == ("stopped", "ended by finish.py")
    EmbeddedRedis("127.0.0.1", int(address.rpartition(":")[2])).leave()


def test_a_server_that_was_killed_leaves_a_redis_that_finish_ends(start, address, said, free_port):
    start()
    for role in running_roles():
        if role.fl_name == "job":
            os.kill(role.pid, signal.SIGKILL)
            assert proc.wait_gone([role.main], 5) == []
    assert EmbeddedRedis("127.0.0.1", free_port).pid() is not None
    run_finish(said, address)
    assert EmbeddedRedis("127.0.0.1", free_port).pid() is None
    assert run_finish(said, address) == f"nothing runs at {address}"


def test_the_record_of_a_dead_run_directory_leads_to_its_redis(start, address, said, free_port):
    made = start()
    for role in running_roles():
        if role.fl_name == "job":
            os.kill(role.pid, signal.SIGKILL)
            assert proc.wait_gone([role.main], 5) == []
    out = run_finish(said, "", "", made.run_dir)
    assert out.startswith(f"nothing runs in {made.run_dir}")
    assert EmbeddedRedis("127.0.0.1", free_port).pid() is None


def test_a_run_directory_that_never_was_runs_nothing(said, tmp_path):
    assert run_finish(said, "", "", tmp_path / "gone") == f"nothing runs in {tmp_path / 'gone'}"
