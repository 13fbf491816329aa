"""Redis with a password, an ACL user and TLS, and what a process says that is not let in."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time

import pytest

from cross_silo.config.auth import SERVER, SILO
from cross_silo.config.federated import DistributedCache
from cross_silo.coordination import JobStore, connect, job_names
from cross_silo.coordination.client import PASSWORD, make_client
from cross_silo.coordination.embedded import EmbeddedRedis, find_binary
from cross_silo.errors import UserError
from cross_silo.protocol.tls import server_context
from tests.support.auth_files import expired, make_auth

SECRET = 'pass word"\\1'


class Redis:
    """A redis-server with settings of the test's."""

    def __init__(self, port, *lines):
        self.address = f"127.0.0.1:{port}"
        command = [find_binary(), "-", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        with self.process.stdin as settings:
            settings.write("".join(line + "\n" for line in lines).encode())
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)

    def end(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def start(free_port):
    started = []

    def make(*lines):
        started.append(Redis(free_port, *lines))
        return started[-1]

    yield make
    for one in started:
        one.end()


def use(where):
    """Do with Redis what a job does."""
    client = connect(where, start_embedded=False)
    store = JobStore(client, "job")
    store.begin({"instance": "i1"})
    assert store.acquire_lease("silo_0", "w0", 5.0, {})[0]
    store.beat("server", "host:1", {"address": "a:1"})
    store.request("stop", {"reason": "x"})
    assert store.take_requests() == [("stop", {"reason": "x"})]
    assert list(store.leases()) == ["silo_0"] and list(store.members("server")) == ["host:1"]
    assert store.end("finished", "") and store.job()["state"] == "finished"
    assert job_names(client) == ["job"]


def test_a_password(start, monkeypatch):
    made = start('requirepass "pass word\\"\\\\1"')
    with pytest.raises(UserError, match=f"does not let this process in without the password of {PASSWORD}"):
        connect(made.address, start_embedded=False)
    monkeypatch.setenv(PASSWORD, "wrong")
    with pytest.raises(UserError, match="does not let this process in with the password") as error:
        connect(made.address, start_embedded=False)
    assert "wrong" not in str(error.value)
    monkeypatch.setenv(PASSWORD, SECRET)
    use(made.address)


def test_a_user_with_what_a_job_needs(start, monkeypatch):
    made = start("user default off", "user fl on >secret ~cross_silo:* &* -@all +@all -@dangerous +info")
    monkeypatch.setenv(PASSWORD, "secret")
    use(DistributedCache(address=made.address, user="fl"))
    with pytest.raises(UserError, match="does not let this process in with the password"):
        connect(DistributedCache(address=made.address, user="other"), start_embedded=False)


def test_a_user_who_may_not_even_ping(start, monkeypatch):
    made = start("user default off", "user fl on >secret ~* -@all")
    monkeypatch.setenv(PASSWORD, "secret")
    with pytest.raises(UserError, match="does not let this process in .*: .*permission"):
        connect(DistributedCache(address=made.address, user="fl"), start_embedded=False)


def test_a_password_of_several_lines(monkeypatch):
    monkeypatch.setenv(PASSWORD, "a\nrename-command GET")
    with pytest.raises(UserError, match=f"{PASSWORD}: expected one line"):
        make_client("127.0.0.1", 1)


def test_the_embedded_one_takes_the_password(free_port, monkeypatch):
    embedded = EmbeddedRedis("127.0.0.1", free_port)
    monkeypatch.setenv(PASSWORD, SECRET)
    try:
        embedded.ensure("tests")
        use(f"127.0.0.1:{free_port}")
        with open(f"/proc/{embedded.pid()}/cmdline", "rb") as file:
            assert b"pass word" not in file.read()
        monkeypatch.delenv(PASSWORD)
        with pytest.raises(UserError, match="without the password"):
            connect(f"127.0.0.1:{free_port}", start_embedded=True)
    finally:
        embedded.leave()


class TlsProxy:
    """Speaks TLS in front of a plain address; asks for a client's certificate where it has authorities."""

    def __init__(self, auth, target, asks):
        self._context = server_context(auth / "server.pem", auth / "server.key", auth / "ca.pem" if asks else None)
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(raw,), daemon=True).start()

    def _serve(self, raw):
        host, port = self._target.split(":")
        try:
            with (
                self._context.wrap_socket(raw, server_side=True) as client,
                socket.create_connection((host, int(port))) as redis,
            ):
                client.settimeout(0.01)  # half-duplex in turns is enough for requests and replies
                redis.settimeout(0.01)
                while True:
                    for source, sink in ((client, redis), (redis, client)):
                        try:
                            data = source.recv(65536)
                        except TimeoutError:
                            continue
                        except socket.timeout:
                            continue
                        if not data:
                            return
                        sink.sendall(data)
        except OSError:
            pass

    def end(self):
        self._listener.close()


@pytest.fixture
def proxied(start, tmp_path):
    """From (authorities asked for?) to settings of a Redis behind TLS."""
    auth = make_auth(tmp_path / "auth", (SERVER, "silo_0"))
    made = start()
    proxies = []

    def make(asks=False, **settings):
        proxies.append(TlsProxy(auth, made.address, asks))
        return DistributedCache(address=proxies[-1].address, cacert_filename=str(auth / "ca.pem"), **settings)

    make.auth = auth
    yield make
    for one in proxies:
        one.end()


def test_tls(proxied):
    use(proxied())


def test_tls_with_a_certificate_of_ours(proxied):
    auth = proxied.auth
    files = {"cert_filename": str(auth / "silo_0.pem"), "private_key_filename": str(auth / "silo_0.key")}
    use(proxied(asks=True, **files))
    with pytest.raises(UserError, match="no Redis answers"):
        connect(proxied(asks=True), start_embedded=False)
    os.chmod(auth / "silo_0.key", 0o644)
    with pytest.raises(UserError, match="private_key_filename .* others could read it"):
        connect(proxied(asks=True, **files), start_embedded=False)


def test_a_redis_of_another_authority_or_out_of_date(proxied, tmp_path):
    settings = proxied()
    other = make_auth(tmp_path / "other", (SILO,))
    strange = DistributedCache(address=settings.address, cacert_filename=str(other / "ca.pem"))
    with pytest.raises(UserError, match="self.signed certificate|unable to get local issuer"):
        connect(strange, start_embedded=False)
    expired(proxied.auth, SERVER)
    with pytest.raises(UserError, match="certificate has expired"):
        connect(proxied(), start_embedded=False)


def test_other_machines_without_password_and_tls_are_warned_of(caplog):
    with pytest.raises(UserError, match="no Redis answers at 0.0.0.0:1"):
        connect("0.0.0.0:1", start_embedded=False)
    assert "without a password: who reaches it, controls the job" in caplog.text
    assert "without TLS" in caplog.text
