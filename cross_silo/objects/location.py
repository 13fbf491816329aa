"""URLs of objects: what scheme, bucket and key they name, and how they are shown without anything secret."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from cross_silo.errors import UserError

S3, FILE, HTTP = "s3", "file", "http"


@dataclass(frozen=True)
class Location:
    """Where an object is."""

    kind: str
    """s3, file, or http (https too)."""
    url: str
    bucket: str = ""
    key: str = ""
    """Of an object in a bucket, or a path of this machine."""

    def __str__(self) -> str:
        return shown(self.url)


def locate(url: str) -> Location:
    """Read a URL or a local path. Raises UserError for what is neither."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises where it is none
    except ValueError as error:
        raise UserError(f"url {url.partition('?')[0]!r}: {error}") from None
    if "@" in parts.netloc:
        raise UserError(f"url {shown(url)} holds a user's name or password; expected none")
    if parts.scheme == "s3":
        bucket, key = parts.netloc, url[len("s3://") + len(parts.netloc) :].lstrip("/")
        if not bucket:
            raise UserError(f"url {url!r} names no bucket; expected s3://bucket/key")
        return Location(S3, url, bucket, key)
    if parts.scheme in ("http", "https"):
        if not parts.netloc:
            raise UserError(f"url {url!r} names no host; expected {parts.scheme}://host/path")
        return Location(HTTP, url)
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost") or not parts.path:
            raise UserError(f"url {url!r} is not of this machine; expected file:///path")
        return Location(FILE, url, key=unquote(parts.path))
    if "://" in url or not url:
        raise UserError(f"url {shown(url)!r} has no scheme that is known; expected s3, http, https, file or a path")
    return Location(FILE, url, key=url)


def is_remote(url: str) -> bool:
    """Tell whether ``url`` names something that is not a file of this machine. Raises UserError."""
    return locate(url).kind != FILE


def shown(url: str) -> str:
    """Return ``url`` for a message: without a query, which may hold a signature, and without a user's name."""
    if "://" not in url:
        return url
    parts = urlsplit(url)
    if parts.scheme == "s3":  # a key may hold any character
        return f"s3://{url[len('s3://') :].rpartition('@')[2] if '@' in parts.netloc else url[len('s3://') :]}"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}" + ("?..." if parts.query else "")
