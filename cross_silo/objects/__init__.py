"""Files at s3://, http(s):// and local paths: fetched resumably and checked, put with a check, listed, removed."""

from __future__ import annotations

from cross_silo.objects.credentials import Credentials
from cross_silo.objects.directory import fetch_all
from cross_silo.objects.download import fetch
from cross_silo.objects.location import is_remote, shown
from cross_silo.objects.stored import Entry, Stored
from cross_silo.objects.upload import listing, put, remove

__all__ = ["Credentials", "Entry", "Stored", "fetch", "fetch_all", "is_remote", "listing", "put", "remove", "shown"]
