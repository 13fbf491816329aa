"""Shared set-up of the tests."""

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Iterator

import pytest

import cross_silo.runtime
from cross_silo.coordination import JobStore, connect
from cross_silo.coordination.embedded import EmbeddedRedis
from cross_silo.launch import user_dir

if TYPE_CHECKING:
    from tests.support.s3_server import S3Server

cross_silo.runtime.prepare()


@pytest.fixture(scope="session", autouse=True)
def own_user_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keep locks and records of the tests, and of the processes that they start, away from the user's own."""
    directory = tmp_path_factory.mktemp("user")
    os.environ[user_dir.VARIABLE] = str(directory)
    return directory


@pytest.fixture
def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def redis_address(own_user_dir: Path) -> Iterator[str]:
    """host:port of one embedded Redis for the whole run; a test that stops Redis starts its own at ``free_port``."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    embedded = EmbeddedRedis("127.0.0.1", port)
    embedded.ensure("tests")
    yield f"127.0.0.1:{port}"
    embedded.leave()


@pytest.fixture
def store(redis_address: str) -> JobStore:
    """A job's store in an empty Redis; the job is named ``job``."""
    client = connect(redis_address, start_embedded=False, user=None)
    client.flushall()
    return JobStore(client, "job")


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[S3Server]":
    """One object store for the whole run; each test makes buckets of its own."""
    from tests.support.s3_server import S3Server

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = S3Server(tmp_path_factory.mktemp("s3"), port)
    yield server
    server.close()
