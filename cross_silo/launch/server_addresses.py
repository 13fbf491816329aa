"""Where the servers of a job are: the first one's address, and the ports that follow it."""

from __future__ import annotations

from typing import List

from cross_silo.config.federated import split_address
from cross_silo.errors import UserError
from cross_silo.protocol.split import MAX_SERVERS

FLAG = "--http_server_address"
EVERYWHERE = ("0.0.0.0", "::")
"""Hosts that mean every address of the machine."""


def listening_at(address: str, count: int) -> List[str]:
    """Return the addresses at which ``count`` servers listen, the first one at ``address``. Raises UserError."""
    host, port = split_address(address, FLAG)
    if count > MAX_SERVERS:
        raise UserError(f"--local_server_num is {count}, expected at most {MAX_SERVERS}")
    if port + count - 1 > 65535:
        raise UserError(f"{FLAG} is {address}: there are no {count} ports from {port} on")
    return [_joined(host, port + index) for index in range(count)]


def reached_at(address: str, tcp_server_ip: str, count: int) -> List[str]:
    """Return the addresses at which the servers reach each other."""
    found = listening_at(address, count)
    host = split_address(address, FLAG)[0]
    return [_joined(tcp_server_ip, split_address(one, FLAG)[1]) for one in found] if host in EVERYWHERE else found


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
