"""Objects in a bucket, through s3fs: one request a call, so that retries and deadlines are the caller's."""

from __future__ import annotations

import asyncio
import functools
import os
import re
from pathlib import Path
from typing import Any, Dict, List, Mapping, Tuple

from cross_silo.errors import UserError
from cross_silo.objects.credentials import Credentials
from cross_silo.objects.location import Location
from cross_silo.objects.stored import BrokenError, ChangedError, Entry, Opened

CONNECT_SECONDS, READ_SECONDS = 10, 30
PART_BYTES = 8 * 2**20
PARTS_AT_ONCE = 2
"""Parts of an upload that are in memory at once."""
REGION = "us-east-1"
"""Signed into requests where the environment's AWS_DEFAULT_REGION names none; other stores than Amazon's ignore it."""
PAGE = 1000
"""Objects of one answer to a listing."""
STORES_KEPT = 4
SHA256 = "sha256"
"""Name in an object's metadata."""
REFUSED = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "403", "InvalidToken", "ExpiredToken")
GONE = ("PreconditionFailed", "412", "InvalidRange", "416")
BUSY_STATUS = (408, 429)


def open_store(credentials: Credentials) -> "S3Store":
    """Return the store of ``credentials``, with the connections that it has already. Raises UserError."""
    return _store_of(credentials, os.getpid())  # the loop of s3fs does not live on in a forked process


@functools.lru_cache(maxsize=STORES_KEPT)
def _store_of(credentials: Credentials, pid: int) -> "S3Store":
    return S3Store(credentials)


class S3Store:
    """One object store, asked with one key."""

    def __init__(self, credentials: Credentials) -> None:
        """Open it; nothing is asked yet. Raises UserError where s3fs is not installed."""
        try:
            from s3fs import S3FileSystem
        except ImportError:
            raise UserError("s3:// needs the packages of the extra 'objects'; expected cross-silo[objects]") from None
        import botocore.session

        region = botocore.session.get_session().get_config_variable("region") or REGION
        self._credentials = credentials
        self._fs = S3FileSystem(
            key=credentials.access_key,
            secret=credentials.secret_key,
            endpoint_url=credentials.endpoint_url,
            client_kwargs={"region_name": region},
            config_kwargs={
                "connect_timeout": CONNECT_SECONDS,
                "read_timeout": READ_SECONDS,
                "retries": {"max_attempts": 0},
            },
            skip_instance_cache=True,  # retries are set below, for this one alone
            use_listings_cache=False,
        )
        self._fs.retries = 1

    def open(self, place: Location, start: int, tag: str) -> Opened:
        """Begin to read an object at ``start`` if it is still that of ``tag``.

        Raises:
            BrokenError, ChangedError, UserError: no such object or bucket, or it may not be read.
        """
        from fsspec.asyn import sync

        limits: Dict[str, str] = {"Range": f"bytes={start}-", "IfMatch": tag} if start else {}
        reply = self._ask(place, "get_object", Key=place.key, **limits)
        body = reply["Body"]

        def read(amount: int) -> bytes:
            return self._wait(place, sync, self._fs.loop, body.read, amount)

        return Opened(
            start,
            start + int(reply["ContentLength"]),
            reply.get("ETag", ""),
            read,
            body.close,
            reply.get("Metadata", {}).get(SHA256, ""),
            _md5(reply),
        )

    def put(self, path: Path, place: Location, sha256: str) -> None:
        """Upload a file, in parts where it is large; a broken upload leaves nothing. Raises as :meth:`open`."""
        options: Dict[str, Any] = {"chunksize": PART_BYTES, "max_concurrency": PARTS_AT_ONCE}
        target = f"{place.bucket}/{place.key}"
        self._wait(place, self._fs.put_file, str(path), target, Metadata={SHA256: sha256}, **options)

    def listing(self, place: Location) -> List[Entry]:
        """Return the objects whose keys begin with that of ``place``, by key. Raises as :meth:`open`."""
        found: List[Entry] = []
        more: Mapping[str, str] = {}
        while True:
            reply = self._ask(place, "list_objects_v2", Prefix=place.key, MaxKeys=PAGE, **more)
            found += [
                Entry(f"s3://{place.bucket}/{item['Key']}", int(item["Size"])) for item in reply.get("Contents", ())
            ]
            if not reply.get("IsTruncated"):
                return found
            more = {"ContinuationToken": reply["NextContinuationToken"]}

    def remove(self, place: Location) -> None:
        """Remove one object; one that is not there is none the less removed. Raises as :meth:`open`."""
        self._ask(place, "delete_object", Key=place.key)

    def _ask(self, place: Location, method: str, **arguments: Any) -> Dict[str, Any]:
        return self._wait(place, self._fs.call_s3, method, Bucket=place.bucket, **arguments)

    def _wait(self, place: Location, function: Any, *arguments: Any, **options: Any) -> Any:
        """Return what a call of s3fs does; its errors in our words."""
        try:
            return function(*arguments, **options)
        except Exception as error:
            raise self._explain(place, error) from None

    def _explain(self, place: Location, error: Exception) -> Exception:
        """Return ``error`` as what a user can mend, or what is worth another try."""
        from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError, SSLError

        cause = error if isinstance(error, ClientError) else error.__cause__
        if isinstance(cause, ClientError):
            code, status = _code(cause)
            if code in GONE:
                return ChangedError()
            if status >= 500 or status in BUSY_STATUS:
                return BrokenError(f"the store answers {code} ({status})")
            if code in REFUSED or status in (401, 403):
                return UserError(
                    f"{place}: {self._credentials.endpoint_url} refuses the key ({code}); "
                    "expected ACCESS_KEY_ID and SECRET_ACCESS_KEY of a user who may do that"
                )
            if code == "NoSuchBucket":
                return UserError(f"{place}: no bucket {place.bucket!r} at {self._credentials.endpoint_url}")
            if code in ("NoSuchKey", "404"):
                return UserError(f"{place}: no such object at {self._credentials.endpoint_url}")
            return UserError(f"{place}: {self._credentials.endpoint_url} answers {code} ({status})")
        what = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, (ParamValidationError, SSLError, ValueError)):  # another try would not help
            return UserError(f"{place}: {self._credentials.endpoint_url}: {what}")
        transient = (BotoCoreError, OSError, EOFError, asyncio.TimeoutError)
        if isinstance(error, transient) or type(error).__module__.startswith("aiohttp"):
            return BrokenError(what)
        return error


def _code(error: Any) -> Tuple[str, int]:
    answer = error.response
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return str(answer.get("Error", {}).get("Code", "")), int(status)


def _md5(reply: Mapping[str, Any]) -> str:
    """Return the object's MD5 where its tag is one: not of an upload in parts, nor encrypted with a key of its own."""
    tag = str(reply.get("ETag", "")).strip('"')
    plain = reply.get("ServerSideEncryption", "AES256") == "AES256" and "SSECustomerAlgorithm" not in reply
    return tag if plain and re.fullmatch("[0-9a-f]{32}", tag) else ""
