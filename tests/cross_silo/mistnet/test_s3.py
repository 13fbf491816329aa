"""Features by way of an S3 server that is killed in mid-upload: whatever it forgets, nothing is lost."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress

import pytest

from tests.support.mistnet_job import MistNetJob, free_port

pytestmark = pytest.mark.long
ACCESS = {"ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret"}


class Bucket:
    """A store of its own process with the bucket ``features``; it keeps nothing when it is killed."""

    def __init__(self, log):
        self.log = log
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self):
        with open(self.log, "ab") as output:
            command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
            self.process = subprocess.Popen(command, stdout=output, stderr=output, env=dict(os.environ))
        deadline = time.monotonic() + 120
        while True:
            with suppress(urllib.error.URLError, ConnectionError):
                request = urllib.request.Request(f"{self.url}/features", method="PUT")
                urllib.request.urlopen(request, timeout=10).close()
                return
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def objects(self):
        """How many shards it holds."""
        with urllib.request.urlopen(f"{self.url}/features?list-type=2", timeout=10) as reply:
            return reply.read().count(b"shard-")

    def kill(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def bucket(tmp_path):
    made = Bucket(tmp_path / "moto.txt")
    yield made
    made.kill()


def sent(job, index, silo):
    """The exit status of a silo; one that met the empty store before its bucket was there again is started again."""
    while job.status(silo) == 2:
        silo = job.silo(index)
    return silo.returncode


def test_killed_object_storage(tmp_path, redis_address, free_port, bucket, monkeypatch):
    for name, value in {**ACCESS, "S3_ENDPOINT_URL": bucket.url}.items():
        monkeypatch.setenv(name, value)
    transmitter = {"channel": "s3", "agg_data_path": "s3://features/data", "remove_at_end": True}
    job = MistNetJob(tmp_path, redis_address, free_port, transmitter=transmitter)
    try:
        server, trainer = job.server(), job.trainer()
        silos = [job.silo(0)]
        job.wait(lambda: bucket.objects() >= 1, "the first shard")
        bucket.kill()
        time.sleep(2)
        bucket.start()
        silos.append(job.silo(1))
        assert [sent(job, index, silo) for index, silo in enumerate(silos)] == [0, 0]
        assert [job.status(process) for process in (server, trainer)] == [0, 0]
        assert job.whole() == [0, 1]
        assert bucket.objects() == 0
    finally:
        job.close()
