"""The HTTP base: routes, bounded bodies, stalled peers, a clean stop."""

import contextlib
import http.client
import json
import socket
import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cross_silo.errors import UserError
from cross_silo.protocol import connections, http_handler, http_service
from cross_silo.protocol.http_service import HttpService, Response, json_response
from cross_silo.protocol.limits import RateLimit


class Routes:
    """Handlers that note what happened."""

    def __init__(self):
        self.sent = []
        self.entered = threading.Event()
        self.go_on = threading.Event()

    def table(self):
        return {
            ("POST", "/json"): lambda request: json_response(request.json()),
            ("POST", "/upload"): self.upload,
            ("GET", "/large"): lambda request: Response(200, memoryview(bytes(3 << 20)), sent=self.sent.append),
            ("GET", "/slow"): self.slow,
            ("GET", "/good"): lambda request: self.settled(True),
            ("GET", "/withdrawn"): lambda request: self.settled(False),
            ("GET", "/fault"): lambda request: 1 // 0,
        }

    def upload(self, request):
        content = bytearray(request.length)
        request.read_into(memoryview(content))
        return json_response({"sum": sum(content)})

    def settled(self, good):
        return Response(200, bytes(3 << 20), sent=self.sent.append, settle=lambda: self.go_on.wait(10) and good)

    def slow(self, request):
        self.entered.set()
        self.go_on.wait(10)
        return Response(200, b"done")


@pytest.fixture
def routes():
    return Routes()


@pytest.fixture
def service(routes):
    made = HttpService("127.0.0.1:0", "--address", routes.table())
    made.start()
    yield made
    made.stop(grace=0)


def ask(service, method, path, body=None, headers=None):
    connection = http.client.HTTPConnection(service.address, timeout=10)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def raw(service, content: bytes) -> socket.socket:
    host, port = service.address.split(":")
    peer = socket.create_connection((host, int(port)), timeout=10)
    peer.sendall(content)
    return peer


def test_a_large_body_arrives_whole(service):
    body = bytes(range(256)) * 20_000
    status, answer = ask(service, "POST", "/upload", body)
    assert (status, json.loads(answer)) == (200, {"sum": sum(body)})


def test_one_connection_serves_several_requests(service):
    connection = http.client.HTTPConnection(service.address, timeout=10)
    for i in range(3):
        connection.request("POST", "/json", json.dumps({"i": i}))
        assert json.loads(connection.getresponse().read()) == {"i": i}
    connection.close()


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "error"),
    [
        ("GET", "/pushWeight", None, 404, "is not served"),
        ("GET", "/json", None, 405, "is not served"),
        ("POST", "/json", "{", 400, "not valid JSON"),
        ("POST", "/json", "[1]", 400, "not a JSON object"),
        ("POST", "/json", "[" * 60_000, 400, "not valid JSON"),
        ("POST", "/json", "x" * 70_000, 413, "expected at most 65536"),
        ("GET", "/fault", None, 500, "see the server's log"),
    ],
)
def test_errors_are_one_json_line(service, method, path, body, status, error):
    found, answer = ask(service, method, path, body)
    assert found == status
    assert error in json.loads(answer)["error"]


@pytest.mark.parametrize(
    ("header", "status"),
    [("Transfer-Encoding: chunked", b"411"), ("Content-Length: -5", b"400"), ("Content-Length: 1e3", b"400")],
)
def test_bodies_of_unknown_length_are_refused(service, header, status):
    peer = raw(service, f"POST /json HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n".encode())
    assert peer.recv(1000).startswith(b"HTTP/1.1 " + status)
    peer.close()


def test_an_unread_body_does_not_swallow_the_reply(service):
    """The peer sends 4 MB that nobody reads; it must see 404 and not a reset connection."""
    status, _ = ask(service, "POST", "/nowhere", bytes(4 << 20))
    assert status == 404


def test_a_stalled_peer_is_dropped(monkeypatch, routes):
    monkeypatch.setattr(http_service, "STALL_SECONDS", 0.2)
    service = HttpService("127.0.0.1:0", "--address", routes.table())
    service.start()
    peer = raw(service, b"POST /upload HTTP/1.1\r\nContent-Length: 100\r\n\r\nhalf")
    began = time.monotonic()
    assert peer.recv(1000) == b""
    assert time.monotonic() - began < 5
    assert ask(service, "POST", "/upload", b"\1\2") == (200, b'{"sum": 3}')
    peer.close()
    service.stop(grace=0)


def test_the_end_of_sending_is_told_once(service, routes):
    assert len(ask(service, "GET", "/large")[1]) == 3 << 20
    deadline = time.monotonic() + 5
    while not routes.sent and time.monotonic() < deadline:
        time.sleep(0.01)
    assert routes.sent == [3 << 20]


def test_the_end_of_a_reply_waits_until_it_is_settled(service, routes):
    answers = []
    asking = threading.Thread(target=lambda: answers.append(ask(service, "GET", "/good")))
    asking.start()
    time.sleep(0.2)
    assert answers == []
    routes.go_on.set()
    asking.join(timeout=5)
    assert answers == [(200, bytes(3 << 20))]


def test_a_withdrawn_reply_is_broken_off(service, routes):
    routes.go_on.set()
    with pytest.raises(http.client.IncompleteRead) as error:
        ask(service, "GET", "/withdrawn")
    assert 0 < error.value.expected <= http_handler.HELD_BYTES


def test_the_end_is_told_when_the_peer_leaves(service, routes):
    peer = raw(service, b"GET /large HTTP/1.1\r\n\r\n")
    peer.recv(10)
    peer.close()
    deadline = time.monotonic() + 5
    while not routes.sent and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(routes.sent) == 1


def test_stop_waits_for_requests_in_progress(routes):
    service = HttpService("127.0.0.1:0", "--address", routes.table())
    service.start()
    answers = []
    asking = threading.Thread(target=lambda: answers.append(ask(service, "GET", "/slow")))
    asking.start()
    assert routes.entered.wait(5)
    threading.Timer(0.2, routes.go_on.set).start()
    service.stop(grace=5)
    asking.join()
    assert answers == [(200, b"done")]
    with pytest.raises(ConnectionRefusedError):
        ask(service, "GET", "/slow")


def test_too_many_connections_are_refused(monkeypatch, service):
    service._server.connections._most = 2
    held = [raw(service, b"POST /upload HTTP/1.1\r\nContent-Length: 9\r\n\r\n") for _ in range(2)]
    time.sleep(0.1)
    peer = raw(service, b"")
    assert peer.recv(10) == b""
    for connection in (*held, peer):
        connection.close()


def test_a_taken_address_is_named(service):
    with pytest.raises(UserError, match=f"--address: cannot listen on {service.address}: Address already in use"):
        HttpService(service.address, "--address", {})


@pytest.mark.parametrize("address", ["0.0.0.0:0", "192.168.1.7:8080", "example.org:80"])
def test_other_machines_are_not_served(address):
    with pytest.raises(UserError, match="auth.mode is none; expected mtls or token, or a loopback address"):
        HttpService(address, "--address", {})


def test_an_address_without_a_port():
    with pytest.raises(UserError, match="--address is 'localhost', expected host:port"):
        HttpService("localhost", "--address", {})


def test_two_lengths_are_refused(service):
    peer = raw(service, b"POST /json HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}")
    assert peer.recv(1000).startswith(b"HTTP/1.1 400")
    peer.close()


@pytest.mark.parametrize(
    "content",
    [
        b"GET /" + b"a" * 20_000,
        b"GET /good HTTP/1.1\r\nX: " + b"a" * 20_000,
        b"GET /good HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(3000)) + b"\r\n",
    ],
)
def test_oversized_headers_are_refused(service, content):
    peer = raw(service, content)
    answer = b""
    while b"\r\n\r\n" not in answer and (piece := peer.recv(1000)):
        answer += piece
    assert answer.startswith(b"HTTP/1.1 431")
    peer.close()


@pytest.mark.parametrize("method", ["PUT", "DELETE", "FOO"])
def test_other_methods_are_refused(service, method):
    assert ask(service, method, "/json")[0] == 405


def test_a_request_that_is_none_is_refused_as_json(service):
    peer = raw(service, b"hello\r\n\r\n")
    answer = b""
    while piece := peer.recv(1000):
        answer += piece
    assert b'{"error": "Bad request syntax' in answer
    peer.close()


def test_200_idle_connections_disturb_nobody(service):
    idle = [raw(service, b"") for _ in range(100)] + [raw(service, b"POST /json HTTP/1.1\r\nX: ") for _ in range(100)]
    began = time.monotonic()
    assert ask(service, "POST", "/json", '{"i": 1}') == (200, b'{"i": 1}')
    assert time.monotonic() - began < 5
    for peer in idle:
        peer.close()


def test_more_idle_connections_than_there_is_room_for_disturb_nobody(service):
    service._server.connections._most = 50
    idle = [raw(service, b"") for _ in range(150)]
    assert ask(service, "POST", "/json", '{"i": 1}') == (200, b'{"i": 1}')
    assert idle[0].recv(10) == b""  # the oldest made room
    for peer in idle:
        peer.close()


@pytest.mark.parametrize(
    ("head", "drip"),
    [
        (b"", b"G"),
        (b"GET /good HTTP/1.1\r\nX: ", b"y"),
        (b"GET /good HTTP/1.1\r\n", b"X: y\r\n"),
        (b"POST /upload HTTP/1.1\r\nContent-Length: 100000\r\n\r\n", b"z"),
    ],
)
def test_a_peer_that_drips_is_dropped(monkeypatch, routes, head, drip):
    """Each byte comes soon after the one before; all of them never come."""
    for name, seconds in (("HEADER_SECONDS", 0.4), ("STALL_SECONDS", 0.4), ("SLOWEST_BYTES_PER_SECOND", 1e9)):
        monkeypatch.setattr(connections, name, seconds)
    monkeypatch.setattr(http_handler, "HEADER_SECONDS", 0.4)
    service = HttpService("127.0.0.1:0", "--address", routes.table())
    service.start()
    peer = raw(service, head)
    began = time.monotonic()
    with pytest.raises(OSError):
        while time.monotonic() - began < 15:
            peer.sendall(drip)
            time.sleep(0.05)
    assert time.monotonic() - began > 0.3
    assert ask(service, "POST", "/json", "{}") == (200, b"{}")
    peer.close()
    service.stop(grace=0)


def test_a_connection_between_requests_is_dropped_in_time(monkeypatch, routes):
    monkeypatch.setattr(connections, "IDLE_SECONDS", 0.3)
    service = HttpService("127.0.0.1:0", "--address", routes.table())
    service.start()
    peer = raw(service, b"POST /json HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}")
    answer = b""
    while piece := peer.recv(1000):
        answer += piece
    assert answer.endswith(b"{}")
    peer.close()
    service.stop(grace=0)


TEMPLATES = (
    b'POST /json HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nCross-Silo-Worker: w0\r\n\r\n{"a": 12}',
    b"GET /good HTTP/1.1\r\nAuthorization: Bearer abc\r\nExpect: 100-continue\r\n\r\n",
    b"POST /upload HTTP/1.1\r\nConnection: keep-alive\r\nContent-Length: 4\r\n\r\n1234GET /json HTTP/1.0\r\n\r\n",
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    template=st.sampled_from(TEMPLATES),
    changes=st.lists(st.tuples(st.integers(0, 120), st.integers(0, 3), st.binary(max_size=8)), max_size=6),
)
def test_mangled_requests_leave_it_serving(service, routes, template, changes):
    routes.go_on.set()
    content = bytearray(template)
    for place, cut, put in changes:
        content[place : place + cut] = put
    peer = raw(service, bytes(content))
    with contextlib.suppress(OSError):
        peer.shutdown(socket.SHUT_WR)
        while peer.recv(1 << 20):
            pass
    peer.close()
    assert ask(service, "POST", "/json", '{"i": 1}') == (200, b'{"i": 1}')


def test_uploads_that_are_broken_off_fill_no_log(service, caplog, monkeypatch):
    caplog.set_level("INFO")
    monkeypatch.setattr(service._server, "_complaints", RateLimit(0.001, 3))
    for _ in range(10):
        raw(service, b"POST /upload HTTP/1.1\r\nHost: any\r\nContent-Length: 1000\r\n\r\nshort").close()
    deadline = time.monotonic() + 20
    while caplog.text.count("broken off") < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    service.stop(grace=10)
    told = [entry.getMessage() for entry in caplog.records if entry.levelname == "INFO"]
    assert told == ["POST /upload from 127.0.0.1 broken off: the peer left after 5 of 1000 bytes"] * 3
