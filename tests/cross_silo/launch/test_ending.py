"""Ending roles: polite, then hard, with children, and nobody else."""

import json
import subprocess
import sys
import time

from cross_silo.launch import proc
from cross_silo.launch.ending import end_roles
from cross_silo.launch.role import running_roles
from cross_silo.launch.start import start_roles


def running_of(job):
    return [role for role in running_roles() if role.role_dir.parent == job.run_dir]


def test_a_polite_role_ends_at_once(job, dummy):
    start_roles(job, [dummy("server_0"), dummy("worker_0")])
    began = time.monotonic()
    assert end_roles(running_of(job)) == []
    assert time.monotonic() - began < 2
    assert running_of(job) == []


def test_a_stubborn_one_and_a_childs_refusal_end_by_force(job, dummy):
    start_roles(job, [dummy("server_0", "--stubborn"), dummy("worker_0", "--child"), dummy("worker_1")])
    child = int((job.run_dir / "worker_0" / "child.pid").read_text())
    killed = end_roles(running_of(job), polite_seconds=0.5)
    assert sorted(role.name for role in killed) == ["server_0", "worker_0"]
    assert running_of(job) == []
    assert proc.start_time(child) is None


def test_children_of_a_role_that_died_are_still_found(job, dummy):
    start_roles(job, [dummy("worker_0", "--child")])
    (role,) = running_of(job)
    subprocess.run(["kill", "-9", str(role.pid)], check=True)
    assert proc.wait_gone([role.main], 5) == []
    (orphaned,) = running_of(job)
    assert orphaned.main is None
    assert orphaned.children == role.children
    end_roles([orphaned], polite_seconds=0.2)
    assert running_of(job) == []


def test_a_process_that_got_a_dead_roles_pid_is_left_alone(job, dummy):
    start_roles(job, [dummy("worker_0")])
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        file = job.run_dir / "worker_0" / "process.json"
        record = json.loads(file.read_text())
        file.write_text(json.dumps({**record, "pid": stranger.pid, "start_time": proc.start_time(stranger.pid)}))
        end_roles(running_of(job))
        assert running_of(job) == []
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_an_identity_with_another_start_time_is_not_signalled():
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        assert proc.end_processes([(bystander.pid, proc.start_time(bystander.pid) + 1)], polite_seconds=0.1) == []
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_zombie_counts_as_gone():
    ended = subprocess.Popen([sys.executable, "-c", "pass"])
    deadline = time.monotonic() + 10
    while proc.start_time(ended.pid) is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert proc.start_time(ended.pid) is None
    ended.wait()
