"""Connections with a clock of the test's own: deadlines, and who makes room."""

import socket

import pytest

from cross_silo.protocol.connections import (
    HEADER_SECONDS,
    SLOWEST_BYTES_PER_SECOND,
    STALL_SECONDS,
    Connections,
)


class Site:
    """Connections with their peers' ends."""

    def __init__(self, most):
        self.now = 100.0
        self.all = Connections(most, lambda: self.now)
        self.peers = []

    def connect(self):
        ours, peer = socket.socketpair()
        peer.settimeout(0.01)
        self.peers.append(peer)
        made = self.all.add(ours, "peer")
        if made is None:
            ours.close()
        return made, peer

    def after(self, seconds):
        self.now += seconds
        self.all.expire()


@pytest.fixture
def site():
    made = Site(most=2)
    yield made
    made.all.cut_all()
    for peer in made.peers:
        peer.close()


def is_cut(peer):
    try:
        return peer.recv(1) == b""
    except TimeoutError:
        return False
    except socket.timeout:
        return False


def test_headers_must_come_in_time(site):
    _, peer = site.connect()
    site.after(HEADER_SECONDS - 0.1)
    assert not is_cut(peer)
    site.after(0.2)
    assert is_cut(peer)


def test_nothing_is_awaited_while_the_service_works(site):
    connection, peer = site.connect()
    connection.work()
    site.after(1e6)
    assert not is_cut(peer)
    assert site.all.busy()


def test_a_transfer_has_time_by_its_size(site):
    connection, peer = site.connect()
    connection.transfer(10 * SLOWEST_BYTES_PER_SECOND)
    site.after(STALL_SECONDS + 9)
    assert not is_cut(peer)
    site.after(2)
    assert is_cut(peer)


def test_the_one_that_waits_longest_makes_room(site):
    first, peer = site.connect()
    site.after(1)
    _, second_peer = site.connect()
    site.after(1)
    first.await_request(5)  # it made a request meanwhile
    assert site.connect()[0] is not None
    assert is_cut(second_peer)
    assert not is_cut(peer)


def test_those_in_a_request_make_no_room(site):
    for connection, _ in (site.connect(), site.connect()):
        connection.transfer(10)
    assert site.connect()[0] is None


def test_one_that_left_makes_room(site):
    first, _ = site.connect()
    second, peer = site.connect()
    first.work()
    second.work()
    site.all.remove(first)
    assert site.connect()[0] is not None
    assert not is_cut(peer)
