"""TLS over real sockets in large pieces, with this project's other end and with the standard library's."""

from __future__ import annotations

import socket
import threading

import numpy as np
import pytest

from cross_silo.config.auth import SERVER
from cross_silo.protocol.tls import client_context, server_context
from cross_silo.protocol.tls_stream import TlsStream
from tests.support.auth_files import make_auth

CONTENT = np.random.default_rng(1).integers(0, 256, 5_000_011, np.uint8).tobytes()


@pytest.fixture(scope="module")
def contexts(tmp_path_factory):
    auth = make_auth(tmp_path_factory.mktemp("made") / "auth", (SERVER, "silo_0"))
    files = [(auth / f"{name}.pem", auth / f"{name}.key") for name in (SERVER, "silo_0")]
    return server_context(*files[0], auth / "ca.pem"), client_context(auth / "ca.pem", *files[1])


def ours(sock, context, server_side):
    return TlsStream(sock, context, server_side, None if server_side else "127.0.0.1")


def the_librarys(sock, context, server_side):
    host = None if server_side else "127.0.0.1"
    return context.wrap_socket(sock, server_side, do_handshake_on_connect=False, server_hostname=host)


ENDS = {"both": (ours, ours), "server": (ours, the_librarys), "client": (the_librarys, ours)}


@pytest.fixture(params=list(ENDS))
def pair(request, contexts):
    """A server's and a client's end, after the handshake."""
    sockets = socket.socketpair()
    for one in sockets:
        one.settimeout(20)
    ends = [
        make(one, context, i == 0) for i, (make, one, context) in enumerate(zip(ENDS[request.param], sockets, contexts))
    ]
    thread = threading.Thread(target=ends[0].do_handshake)
    thread.start()
    ends[1].do_handshake()
    thread.join()
    yield ends
    for one in (*ends, *sockets):
        one.close()


def receive(end, size):
    content = bytearray(size)
    done = 0
    while done < size and (count := end.recv_into(memoryview(content)[done:])):
        done += count
    return bytes(content[:done])


def test_large_messages_arrive_whole_both_ways(pair):
    server, client = pair
    for source, sink in ((client, server), (server, client)):
        sending = threading.Thread(target=source.sendall, args=(memoryview(CONTENT),))
        sending.start()
        assert receive(sink, len(CONTENT)) == CONTENT
        sending.join()


def test_the_certificate_of_the_other_end(pair):
    subject = [pair_ for part in pair[0].getpeercert()["subject"] for pair_ in part]
    assert ("commonName", "silo_0") in subject


def test_what_is_there_comes_at_once(pair):
    server, client = pair
    client.sendall(b"abc")
    assert receive(server, 3) == b"abc"
    client.sendall(b"defg")
    buffer = bytearray(1 << 20)
    assert server.recv_into(buffer) == 4  # and does not wait for more
    assert buffer[:4] == b"defg"


@pytest.mark.parametrize("cut", [0, 100_000])
def test_a_peer_that_leaves(contexts, cut):
    """Also in the middle of a message: what came is there, then the end."""
    raw = socket.socketpair()
    server, client = (ours(one, context, i == 0) for i, (one, context) in enumerate(zip(raw, contexts)))
    thread = threading.Thread(target=server.do_handshake)
    thread.start()
    client.do_handshake()
    thread.join()
    client.sendall(CONTENT[:cut])
    raw[1].close()
    assert receive(server, cut + 10) == CONTENT[:cut]
    assert server.recv_into(bytearray(10)) == 0
    raw[0].close()


def test_a_peer_that_leaves_in_the_handshake(contexts):
    raw = socket.socketpair()
    raw[1].sendall(b"\x16\x03\x01")
    raw[1].close()
    with pytest.raises(OSError):
        ours(raw[0], contexts[0], True).do_handshake()
    raw[0].close()


@pytest.mark.parametrize("pair", ["both", "server"], indirect=True)
def test_the_socket_is_closed_after_its_readers(pair):
    server, client = pair
    client.sendall(b"line\nrest")
    reader = server.makefile("rb")
    server.close()
    assert reader.readline() == b"line\n"
    assert server.fileno() >= 0
    reader.close()
    assert server.fileno() == -1
