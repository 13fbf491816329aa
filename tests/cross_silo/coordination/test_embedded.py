"""The embedded Redis: who starts it, who stops it, and what becomes of processes that die without a word."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
import redis

from cross_silo.coordination import connect
from cross_silo.coordination.client import make_client
from cross_silo.coordination.embedded import EmbeddedRedis, find_binary
from cross_silo.errors import UserError
from cross_silo.launch.proc import start_time

USER = """
import sys
from cross_silo.coordination import connect
connect(sys.argv[1], start_embedded=True, user=sys.argv[2])
print("connected", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def embedded(free_port):
    instance = EmbeddedRedis("127.0.0.1", free_port)
    yield instance
    pid = instance.pid()
    if pid is not None:
        os.kill(pid, signal.SIGKILL)


def start_user(embedded, name):
    command = [sys.executable, "-c", USER, f"127.0.0.1:{embedded.port}", name]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "connected\n"
    return process


def end_user(process):
    process.stdin.close()
    assert process.wait(10) == 0


def gone(pid):
    deadline = time.monotonic() + 5
    while start_time(pid) is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    return start_time(pid) is None


def test_the_first_user_starts_it_and_the_last_one_out_stops_it(embedded):
    first = start_user(embedded, "scheduler")
    pid = embedded.pid()
    second = start_user(embedded, "server_0")
    assert embedded.pid() == pid
    assert embedded.users() == {first.pid: "scheduler", second.pid: "server_0"}
    end_user(first)
    assert embedded.pid() == pid
    make_client("127.0.0.1", embedded.port).ping()
    end_user(second)
    assert embedded.pid() is None
    assert gone(pid)


def test_it_has_no_persistence_and_no_dangerous_commands(embedded):
    assert embedded.ensure("tests") is True
    assert embedded.ensure("tests") is False
    client = make_client("127.0.0.1", embedded.port)
    client.set("key", "value")
    for command in ("CONFIG GET save", "SAVE", "DEBUG SLEEP 0"):
        with pytest.raises(redis.ResponseError, match="unknown command"):
            client.execute_command(*command.split())
    assert client.info("persistence")["aof_enabled"] == 0
    assert embedded.leave() is True
    assert [file.name for file in embedded.directory.iterdir() if file.suffix in (".rdb", ".aof")] == []


def test_users_that_were_killed_do_not_keep_it(embedded):
    dead = start_user(embedded, "server_0")
    dead.kill()
    dead.wait()
    pid = embedded.pid()
    assert pid is not None
    assert embedded.stop_if_unused() is True
    assert gone(pid)


def test_a_dead_one_is_started_anew_and_its_users_stay(embedded):
    user = start_user(embedded, "scheduler")
    first = embedded.pid()
    os.kill(first, signal.SIGKILL)
    assert gone(first)
    client = connect(f"127.0.0.1:{embedded.port}", start_embedded=True)
    assert client.ping()
    assert embedded.pid() not in (None, first)
    assert embedded.stop_if_unused() is False
    end_user(user)
    assert embedded.pid() is None


def test_many_at_once_start_one(embedded):
    started = []
    barrier = threading.Barrier(6)

    def ensure():
        barrier.wait()
        started.append(EmbeddedRedis("127.0.0.1", embedded.port).ensure("tests"))

    threads = [threading.Thread(target=ensure) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(started) == [False] * 5 + [True]
    assert embedded.leave() is True


def wait_until_it_answers(client):
    deadline = time.monotonic() + 20
    while True:
        try:
            return client.ping()
        except redis.ConnectionError:
            assert time.monotonic() < deadline, "Redis does not answer within 20 s"
            time.sleep(0.05)


def test_the_redis_of_others_is_used_and_never_stopped(embedded, tmp_path):
    command = [find_binary(), "--port", str(embedded.port), "--bind", "127.0.0.1", "--save", ""]
    other = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
    try:
        client = make_client("127.0.0.1", embedded.port)
        wait_until_it_answers(client)
        end_user(start_user(embedded, "server_0"))
        assert embedded.pid() is None
        assert embedded.stop_if_unused() is False
        assert client.ping()
    finally:
        other.kill()
        other.wait()


def test_a_record_whose_pid_now_belongs_to_another_is_not_ours(embedded):
    embedded.ensure(None)
    record = embedded.directory / "redis.json"
    text = record.read_text()
    record.write_text(text.replace(f'"pid": {embedded.pid()}', f'"pid": {os.getpid()}'))
    assert embedded.pid() is None
    assert embedded.stop_if_unused() is False
    record.write_text(text)
    assert embedded.stop_if_unused() is True


def test_nothing_at_another_machines_address_is_an_error(free_port):
    with pytest.raises(UserError, match=r"no Redis answers at 192\.0\.2\.1|no Redis .*0\.0\.0\.0"):
        connect(f"0.0.0.0:{free_port}", start_embedded=True, user="server_0")


def test_nothing_on_loopback_is_an_error_for_a_visitor(free_port):
    with pytest.raises(UserError, match=f"no Redis answers at 127.0.0.1:{free_port} .*refused"):
        connect(f"127.0.0.1:{free_port}", start_embedded=False)


def test_a_listener_that_is_not_redis_is_named(free_port):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free_port))
        listener.listen()

        def answer():
            for _ in range(20):
                try:
                    connection, _address = listener.accept()
                    connection.recv(100)
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                    connection.close()
                except OSError:
                    return

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(UserError, match=f"127.0.0.1:{free_port}"):
            connect(f"127.0.0.1:{free_port}", start_embedded=True, user="server_0")


def test_a_binary_on_path_does_where_the_package_is_missing(monkeypatch, tmp_path):
    binary = find_binary()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="no redis-server found"):
        find_binary()
    shutil.copy(binary, tmp_path / "redis-server")
    assert find_binary() == str(tmp_path / "redis-server")


def test_a_start_that_fails_tells_why(embedded, monkeypatch, tmp_path):
    broken = tmp_path / "redis-server"
    broken.write_text("#!/bin/sh\necho disk on fire\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr("cross_silo.coordination.embedded.find_binary", lambda: str(broken))
    with pytest.raises(UserError, match="does not start at .*disk on fire"):
        embedded.ensure("tests")
    assert embedded.users() == {}
