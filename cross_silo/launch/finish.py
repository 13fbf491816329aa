"""Ends one job: its server is asked to stop it, its processes on this machine are ended, and the embedded Redis."""

from __future__ import annotations

import socket
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, List, Optional, Sequence, Set, Tuple

import redis

from cross_silo.config.federated import DistributedCache, is_loopback, split_address
from cross_silo.coordination import JobStore, connect, job_names
from cross_silo.coordination.embedded import EmbeddedRedis
from cross_silo.coordination.store import ROLES
from cross_silo.errors import UserError
from cross_silo.launch import proc
from cross_silo.launch.ending import POLITE_SECONDS, end_roles
from cross_silo.launch.record import read_json
from cross_silo.launch.role import PROCESS_FILE, Running, normal_address, running_roles
from cross_silo.launch.table import table

SERVER_SECONDS = 5.0
"""Time that the server has to stop the job in order, before its process is told to end."""
REASON = "ended by finish.py"


@dataclass(frozen=True)
class Target:
    """Which job is meant, by what is known of it."""

    redis: str = ""
    """host:port; empty: that of the roles found in ``run_dir``."""
    fl_name: str = ""
    run_dir: Optional[Path] = None
    settings: DistributedCache = DistributedCache()
    """ACL user and TLS of Redis."""

    @property
    def place(self) -> str:
        """Where the job is looked for, as the user gave it."""
        return f"in {self.run_dir}" if self.run_dir else f"at {self.redis}"


def finish(target: Target, say: Callable[[str], None] = print) -> None:
    """End the job and say what was ended; says so where nothing runs.

    Raises:
        UserError: several jobs run there and none is named.
    """
    everything = running_roles()
    here = [role for role in everything if _is_there(role, target)]
    fl_name, address = choose(here, target)
    embedded = _embedded(address)
    redis_pid = embedded.pid() if embedded else None
    if fl_name is None:
        of_job = f" of job {target.fl_name!r}" if target.fl_name else ""
        say(f"nothing{of_job} runs {target.place}")
    else:
        mine = [role for role in everything if role.fl_name == fl_name and role.redis == address]
        _end_job(fl_name, address, mine, say, target.settings)
    if embedded is not None and redis_pid is not None:
        _end_redis(embedded, redis_pid, say)


def choose(here: Sequence[Running], target: Target) -> Tuple[Optional[str], str]:
    """Return (job, Redis address) that ``target`` means; (None, address) where nothing of it runs.

    Raises:
        UserError: it means several.
    """
    found: Set[Tuple[str, str]] = {(role.fl_name, role.redis) for role in here}
    if target.redis and not target.run_dir:
        found |= {(name, normal_address(target.redis)) for name in live_jobs(target.redis, target.settings)}
    found = {job for job in found if target.fl_name in ("", job[0])}
    if len(found) > 1:
        names = ", ".join(sorted(name for name, _ in found))
        raise UserError(f"several jobs run {target.place}: {names}; expected --fl_name with one of them")
    if found:
        return found.pop()
    address = target.redis or recorded_address(target.run_dir)
    return None, normal_address(address) if address else ""


def recorded_address(run_dir: Optional[Path]) -> str:
    """Return the Redis address in the records of ``run_dir``; empty where there is none."""
    records = (read_json(file) for file in sorted(run_dir.glob(f"*/{PROCESS_FILE}"))) if run_dir else ()
    return next((record["redis"] for record in records if record), "")


def live_jobs(address: str, settings: DistributedCache = DistributedCache()) -> List[str]:  # noqa: B008
    """Return the jobs with live processes of which the Redis at ``address`` knows; none where it is gone."""
    try:
        client = connect(replace(settings, address=address), start_embedded=False)
        return [name for name in job_names(client) if JobStore(client, name).is_live()]
    except (UserError, redis.RedisError):
        return []


def _is_there(role: Running, target: Target) -> bool:
    if target.run_dir is not None and role.role_dir.parent != target.run_dir:
        return False
    return not target.redis or role.redis == normal_address(target.redis)


def _end_job(
    fl_name: str, address: str, roles: Sequence[Running], say: Callable[[str], None], settings: DistributedCache
) -> None:
    store = _store(replace(settings, address=address), fl_name, say)
    asked = _ask_server(store) if store is not None else False
    if asked:
        cloud = ROLES  # these leave by themselves once the server has stopped the job
        proc.terminate(leader for role in roles if not role.name.startswith(cloud) for leader in role.leaders)
        proc.wait_gone([identity for role in roles for identity in role.processes], SERVER_SECONDS)
    killed = end_roles(roles, POLITE_SECONDS - SERVER_SECONDS if asked else POLITE_SECONDS)
    rows = [(role.name, role.pid, "killed" if role in killed else "ended", role.role_dir) for role in roles]
    if rows:
        say(table(("role", "pid", "", "directory"), rows))
    elsewhere = _sign_off(store, {pid for role in roles for pid, _ in role.processes}) if store is not None else []
    if elsewhere:
        say(f"job {fl_name!r} was told to stop; not on this machine, or not this user's: {', '.join(elsewhere)}")
    else:
        say(f"job {fl_name!r} ended")


def _store(settings: DistributedCache, fl_name: str, say: Callable[[str], None]) -> Optional[JobStore]:
    try:
        return JobStore(connect(settings, start_embedded=False), fl_name)
    except UserError as error:
        say(f"Redis is not told: {error}")
        return None


def _ask_server(store: JobStore) -> bool:
    try:
        if not store.members("server"):
            return False
        store.request("stop", {"reason": REASON})
    except redis.RedisError:
        return False
    return True


def _sign_off(store: JobStore, ended: Set[int]) -> List[str]:
    """Mark the job as stopped and take what was killed, and could not sign off itself, out of its record.

    Returns:
        The processes elsewhere that take part in it.
    """
    nodes = {f"{socket.gethostname()}:{pid}" for pid in ended}
    elsewhere = []
    try:
        store.end("stopped", REASON)
        for role in ROLES:
            for node in store.members(role):
                if node in nodes:
                    store.leave(role, node)
                else:
                    elsewhere.append(f"{role} {node}")
        for silo, lease in sorted(store.leases().items()):
            if lease.get("node") in nodes:
                store.release_lease(silo, lease["worker"])
            else:
                elsewhere.append(f"{silo} {lease.get('node', '')}".strip())
    except redis.RedisError:
        pass
    return elsewhere


def _embedded(address: str) -> Optional[EmbeddedRedis]:
    host, port = split_address(address, "address") if address else ("", 0)
    return EmbeddedRedis(host, port) if is_loopback(host) else None


def _end_redis(embedded: EmbeddedRedis, pid: int, say: Callable[[str], None]) -> None:
    name = f"embedded Redis at {embedded.host}:{embedded.port} (pid {pid})"
    embedded.stop_if_unused()
    if embedded.pid() is None:  # the job's last process may have stopped it
        say(f"{name} ended")
    else:
        users = ", ".join(f"{user} (pid {number})" for number, user in sorted(embedded.users().items()))
        say(f"{name} stays: {users} still use it")
