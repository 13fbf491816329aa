"""The launcher with real processes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cross_silo.errors import UserError
from cross_silo.launch import proc
from cross_silo.launch.role import running_roles
from cross_silo.launch.start import check_free, start_roles


def running_of(job):
    return {role.name: role for role in running_roles() if role.role_dir.parent == job.run_dir}


def test_roles_run_in_the_background_and_are_shown(job, dummy, capsys):
    assert start_roles(job, [dummy("server_0", "--say", "hello"), dummy("worker_1")]) == 0
    live = running_of(job)
    assert sorted(live) == ["server_0", "worker_1"]
    record = json.loads((job.run_dir / "server_0" / "process.json").read_text())
    assert live["server_0"].main == (record["pid"], record["start_time"])
    assert os.getsid(record["pid"]) == record["pid"] != os.getsid(0)
    assert (job.run_dir / "server_0" / "server.log").read_text() == "hello\n"
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["role", "pid", "address", "log"]
    assert first.split() == ["server_0", str(record["pid"]), "127.0.0.1:1", str(job.run_dir / "server_0/server.log")]
    assert second.split()[0] == "worker_1"


def test_a_log_is_appended_to(job, dummy):
    for _ in range(2):
        start_roles(job, [dummy("scheduler", "--say", "started", "--exit", "0")])
    assert (job.run_dir / "scheduler" / "scheduler.log").read_text() == "started\nstarted\n"


def test_a_role_that_runs_is_refused_by_name(job, dummy):
    start_roles(job, [dummy("worker_0")])
    pid = running_of(job)["worker_0"].pid
    with pytest.raises(UserError, match=rf"worker_0 of job 'job' runs already in .*run \(pid {pid}\)"):
        start_roles(job, [dummy("worker_0")])
    with pytest.raises(UserError, match="worker_0 of job 'job' runs already"):
        start_roles(job, [dummy("worker_1"), dummy("worker_0", "--say", "of other data")])
    assert list(running_of(job)) == ["worker_0"]


@pytest.mark.parametrize("one_by_one", [False, True])
def test_the_same_command_again_starts_those_that_died(job, dummy, capsys, one_by_one):
    roles = [dummy("server_0"), dummy("evaluator")]
    start_roles(job, roles, one_by_one=one_by_one)
    before = running_of(job)
    os.kill(before["server_0"].pid, signal.SIGKILL)
    assert proc.wait_gone([before["server_0"].main], 5) == []
    capsys.readouterr()
    assert start_roles(job, roles, one_by_one=one_by_one) == 0
    after = running_of(job)
    assert after["evaluator"].main == before["evaluator"].main
    assert after["server_0"].main != before["server_0"].main
    _, started, stays = capsys.readouterr().out.splitlines()
    assert started.split()[:2] == ["server_0", str(after["server_0"].pid)]
    assert stays == f"evaluator (pid {before['evaluator'].pid}) runs already and stays"


def test_the_record_of_a_dead_role_does_not_refuse_its_next_start(job, dummy):
    start_roles(job, [dummy("worker_0")])
    first = running_of(job)["worker_0"].main
    os.kill(first[0], signal.SIGKILL)
    assert proc.wait_gone([first], 5) == []
    start_roles(job, [dummy("worker_0")])
    assert running_of(job)["worker_0"].main != first


def test_a_role_that_dies_is_reported_by_its_own_error_line(job, dummy):
    role = dummy("worker_0", "--say", "progress\nerror: no server answers at 127.0.0.1:1\nbye", "--exit", "2")
    with pytest.raises(UserError) as caught:
        start_roles(job, [role])
    message = str(caught.value)
    assert "ended with status 2: no server answers at 127.0.0.1:1" in message
    assert str(job.run_dir / "worker_0" / "worker.log") in message
    assert "\n" not in message


def test_a_role_that_dies_without_a_word_of_error_is_reported_by_the_end_of_this_starts_log(job, dummy):
    log = job.run_dir / "worker_0" / "worker.log"
    log.parent.mkdir(parents=True)
    log.write_text("error: of an earlier start\n")
    lines = "\n".join(f"line {number}" for number in range(50))
    with pytest.raises(UserError) as caught:
        start_roles(job, [dummy("worker_0", "--say", lines, "--exit", "1")])
    head, *tail = str(caught.value).splitlines()
    assert head.startswith("worker_0 (pid ")
    assert "ended with status 1" in head
    assert [line.strip() for line in tail] == [f"line {number}" for number in range(30, 50)]


def test_one_that_dies_takes_those_started_with_it_along(job, dummy):
    with pytest.raises(UserError, match="worker_1"):
        start_roles(job, [dummy("worker_0", "--child"), dummy("worker_1", "--exit", "1")])
    assert running_of(job) == {}


def test_a_role_that_never_serves_is_ended_at_its_deadline(job, dummy):
    began = time.monotonic()
    with pytest.raises(UserError, match=r"server_0 .* does not serve after 0.6 s; end of .*server.log:\n  waiting"):
        start_roles(job, [dummy("server_0", "--never_ready", "--say", "waiting", ready_seconds=0.6)])
    assert time.monotonic() - began < 5
    assert running_of(job) == {}


def test_a_role_that_ends_well_before_it_serves_is_no_failure(job, dummy, capsys):
    assert start_roles(job, [dummy("server_0", "--exit", "0")]) == 0
    assert "server_0  ended well" in capsys.readouterr().out


def test_ready_of_an_earlier_process_does_not_count(job, dummy):
    (job.run_dir / "server_0").mkdir(parents=True)
    (job.run_dir / "server_0" / "ready.json").write_text(json.dumps({"pid": os.getpid(), "address": "a:1"}))
    with pytest.raises(UserError, match="does not serve"):
        start_roles(job, [dummy("server_0", "--never_ready", ready_seconds=0.5)])


def test_one_by_one_the_second_starts_when_the_first_serves(job, dummy):
    roles = [dummy("server_0", "--never_ready", ready_seconds=0.5), dummy("evaluator")]
    with pytest.raises(UserError, match="server_0"):
        start_roles(job, roles, one_by_one=True)
    assert not (job.run_dir / "evaluator").exists()


def test_an_address_in_use_is_refused_before_anything_starts(job, dummy, free_port):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free_port))
        listener.listen()
        address = f"127.0.0.1:{free_port}"
        with pytest.raises(UserError, match=f"--http_server_address is {address}: Address already in use"):
            start_roles(job, [dummy("server_0", address=address, listen_flag="--http_server_address")])
    assert not job.run_dir.exists()
    check_free(address, "--http_server_address")


def test_a_role_gets_its_own_environment(job, dummy, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    start_roles(job, [dummy("worker_0"), dummy("worker_1", environment={"OMP_NUM_THREADS": "3"})])
    told = [json.loads((job.run_dir / name / "ready.json").read_text())["address"] for name in ("worker_0", "worker_1")]
    assert told == ["7", "3"]


def test_a_run_directory_that_cannot_be_made_is_named(job, dummy, tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(UserError, match="--run_dir .*run: "):
        start_roles(job, [dummy("worker_0")])


LAUNCHER = """
import sys
from pathlib import Path
from cross_silo.errors import run_main
from cross_silo.launch.role import Job, Role
from cross_silo.launch.start import start_roles
run_dir = Path(sys.argv[1])
roles = [
    Role(name, [sys.executable, sys.argv[2], "--role_dir", str(run_dir / name), *flags.split()], "127.0.0.1:1")
    for name, _, flags in (argument.partition("=") for argument in sys.argv[4:])
]
run_main(lambda: start_roles(Job("job", "127.0.0.1:2345", run_dir), roles, foreground=sys.argv[3] == "foreground"))
"""


def launcher(job, mode, *roles):
    dummy = Path(__file__).resolve().parents[2] / "support" / "dummy_role.py"
    command = [sys.executable, "-c", LAUNCHER, str(job.run_dir), str(dummy), mode, *roles]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_running(job, count):
    deadline = time.monotonic() + 10
    while len(running_of(job)) < count or not all(
        (role.role_dir / "ready.json").exists() for role in running_of(job).values()
    ):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return running_of(job)


def test_a_single_role_in_the_foreground_takes_the_launchers_place(job):
    process = launcher(job, "foreground", "scheduler=--say hello --live 0.2 --status 3")
    out, _ = process.communicate(timeout=10)
    assert (process.returncode, out) == (3, "hello\n")
    record = json.loads((job.run_dir / "scheduler" / "process.json").read_text())
    assert record["pid"] == process.pid


def test_a_role_in_the_foreground_is_found_and_refused_like_any_other(job, dummy):
    process = launcher(job, "foreground", "scheduler=")
    assert wait_running(job, 1)["scheduler"].main[0] == process.pid
    with pytest.raises(UserError, match=f"scheduler of job 'job' runs already .*pid {process.pid}"):
        start_roles(job, [dummy("scheduler")])
    process.terminate()
    assert process.wait(10) == 0
    process.communicate()


def test_several_in_the_foreground_give_the_first_bad_status(job):
    process = launcher(job, "foreground", "server_0=--live 1", "evaluator=--live 1 --status 4")
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 4
    assert "evaluator" in out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_several_in_the_foreground_end_with_the_launcher(job, number):
    process = launcher(job, "foreground", "server_0=", "evaluator=--child")
    assert process.stdout.readline().startswith("role")
    process.send_signal(number)
    assert process.wait(20) == {signal.SIGTERM: 143, signal.SIGINT: 130}[number]
    process.communicate()
    assert running_of(job) == {}


def test_an_interrupted_launcher_leaves_nothing_behind(job):
    process = launcher(job, "background", "server_0=--never_ready")
    deadline = time.monotonic() + 10
    while not running_of(job) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    process.communicate()
    assert running_of(job) == {}


def test_two_launchers_at_once_start_a_role_once(job):
    both = [launcher(job, "background", "worker_0=") for _ in range(2)]
    results = sorted((process.communicate(timeout=20)[1], process.returncode) for process in both)
    assert [status for _, status in results] == [0, 2]
    assert "runs already" in results[1][0]
    assert list(running_of(job)) == ["worker_0"]
