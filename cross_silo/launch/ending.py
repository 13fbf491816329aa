"""Ends roles with all their processes: asked first, killed after ten seconds."""

from __future__ import annotations

from typing import List, Sequence

from cross_silo.launch import proc
from cross_silo.launch.role import Running, running_roles

POLITE_SECONDS = 10.0


def end_roles(roles: Sequence[Running], polite_seconds: float = POLITE_SECONDS) -> List[Running]:
    """End ``roles``: SIGTERM to their leaders, then to what is left of them; SIGKILL to what stays.

    Returns:
        Those of which a process had to be killed.
    """
    killed = proc.end_processes([leader for role in roles for leader in role.leaders], polite_seconds)
    directories = {role.role_dir for role in roles}
    left = [identity for role in running_roles() if role.role_dir in directories for identity in role.processes]
    killed += proc.end_processes(left, min(polite_seconds, 2.0))
    hard = set(killed)
    return [role for role in roles if hard & set(role.processes)]
