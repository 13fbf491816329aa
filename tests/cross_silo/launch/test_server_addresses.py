"""Consecutive ports, and the host at which servers reach each other."""

import pytest

from cross_silo.errors import UserError
from cross_silo.launch.server_addresses import listening_at, reached_at


def test_the_ports_follow_the_first_one():
    assert listening_at("127.0.0.1:6668", 3) == ["127.0.0.1:6668", "127.0.0.1:6669", "127.0.0.1:6670"]
    assert listening_at("[::1]:80", 2) == ["[::1]:80", "[::1]:81"]


@pytest.mark.parametrize(
    ("address", "ip", "expected"),
    [
        ("0.0.0.0:80", "10.1.2.3", ["10.1.2.3:80", "10.1.2.3:81"]),
        ("[::]:80", "fd00::1", ["[fd00::1]:80", "[fd00::1]:81"]),
        ("fl.example.org:80", "10.1.2.3", ["fl.example.org:80", "fl.example.org:81"]),
    ],
)
def test_servers_that_listen_everywhere_reach_each_other_at_tcp_server_ip(address, ip, expected):
    assert reached_at(address, ip, 2) == expected


@pytest.mark.parametrize(
    ("address", "count", "message"),
    [
        ("127.0.0.1:1", 37, "--local_server_num is 37, expected at most 36"),
        ("127.0.0.1:65535", 2, "there are no 2 ports from 65535 on"),
    ],
)
def test_what_cannot_be(address, count, message):
    with pytest.raises(UserError, match=message):
        listening_at(address, count)
