"""An object store of its own process (moto) that knows one user's key and refuses others."""

import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import boto3

from cross_silo.objects import Credentials

SECONDS = 120.0


class S3Server:
    """The store; ``credentials`` are the user's."""

    def __init__(self, directory: Path, port: int) -> None:
        """Start it and make its user."""
        self.endpoint = f"http://127.0.0.1:{port}"
        with open(directory / "moto.log", "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
                stdout=log,
                stderr=log,
                env={**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": "1000000"},
            )
        try:
            self._set_up(directory / "moto.log")
        except BaseException:
            self.close()
            raise

    def _set_up(self, log: Path) -> None:
        """Wait until it answers, make its user, and have it ask for keys from then on."""
        self._wait(log)
        iam = self.client("iam", "setup", "setup")
        iam.create_user(UserName="silo")
        allowed = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}'
        iam.put_user_policy(UserName="silo", PolicyName="all", PolicyDocument=allowed)
        key = iam.create_access_key(UserName="silo")["AccessKey"]
        self.credentials = Credentials(self.endpoint, key["AccessKeyId"], key["SecretAccessKey"])
        from_now_on = {"data": b"0", "method": "POST", "headers": {"Content-Type": "text/plain"}}
        request = urllib.request.Request(f"{self.endpoint}/moto-api/reset-auth", **from_now_on)
        urllib.request.urlopen(request, timeout=SECONDS).close()
        self.s3 = self.client("s3", key["AccessKeyId"], key["SecretAccessKey"])

    def client(self, service: str, key: str, secret: str):
        """A client of Amazon's own library."""
        names = {"aws_access_key_id": key, "aws_secret_access_key": secret, "region_name": "us-east-1"}
        return boto3.client(service, endpoint_url=self.endpoint, **names)

    def bucket(self, name: str) -> str:
        """Make an empty bucket; its name."""
        self.s3.create_bucket(Bucket=name)
        return name

    def close(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait()

    def _wait(self, log: Path) -> None:
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                urllib.request.urlopen(f"{self.endpoint}/moto-api/", timeout=5).close()
                return
            except OSError:
                assert self.process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
