"""Endpoint and keys of an object store, from the environment or from a Kubernetes Secret as Sedna reads it."""

from __future__ import annotations

import base64
import binascii
import os
from dataclasses import dataclass
from typing import Any, Mapping, Optional

from cross_silo.errors import UserError

ENDPOINT, ACCESS_KEY, SECRET_KEY = "S3_ENDPOINT_URL", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY"
"""Environment variables, and (the keys) entries of the Secret."""
ENDPOINT_ANNOTATION, HTTPS_ANNOTATION = "s3-endpoint", "s3-usehttps"


@dataclass(frozen=True, repr=False)
class Credentials:
    """How an object store is reached. The keys appear in no text."""

    endpoint_url: str
    access_key: str
    secret_key: str

    def __post_init__(self) -> None:
        if not self.endpoint_url.startswith(("http://", "https://")):
            raise UserError(f"{ENDPOINT} is {self.endpoint_url!r}, expected http://host:port or https://host:port")

    def __repr__(self) -> str:
        return f"Credentials(endpoint_url={self.endpoint_url!r})"

    @classmethod
    def from_env(cls, environ: Optional[Mapping[str, str]] = None) -> "Credentials":
        """Return those of the environment. Raises UserError naming the variables that are missing."""
        found = os.environ if environ is None else environ
        missing = [name for name in (ENDPOINT, ACCESS_KEY, SECRET_KEY) if not found.get(name)]
        if missing:
            raise UserError(f"s3:// needs the environment variables {', '.join(missing)}, which are not set")
        return cls(found[ENDPOINT], found[ACCESS_KEY], found[SECRET_KEY])

    @classmethod
    def from_secret(cls, secret: Mapping[str, Any]) -> "Credentials":
        """Return those of a Secret manifest: annotations ``s3-endpoint`` and ``s3-usehttps``, two entries of its data.

        Raises:
            UserError: the endpoint or a key is missing, or an entry of ``data`` is not base64.
        """
        metadata = secret.get("metadata") or {}
        annotations = metadata.get("annotations") or {}
        name = f"Secret/{metadata.get('name', '')}"
        endpoint = annotations.get(ENDPOINT_ANNOTATION, "")
        if not endpoint:
            raise UserError(f"{name}: metadata.annotations[{ENDPOINT_ANNOTATION}]: empty endpoint in secret")
        if "/" in endpoint or endpoint != endpoint.strip():
            raise UserError(
                f"{name}: metadata.annotations[{ENDPOINT_ANNOTATION}]: Invalid value: {endpoint!r}: expected "
                f"host[:port]; {HTTPS_ANNOTATION} says whether it is https"
            )
        scheme = "http" if annotations.get(HTTPS_ANNOTATION) == "0" else "https"
        keys = [_entry(secret, entry, name) for entry in (ACCESS_KEY, SECRET_KEY)]
        return cls(f"{scheme}://{endpoint}", *keys)

    def environment(self) -> Mapping[str, str]:
        """Return the variables that :meth:`from_env` reads, for a child process."""
        return {ENDPOINT: self.endpoint_url, ACCESS_KEY: self.access_key, SECRET_KEY: self.secret_key}


def _entry(secret: Mapping[str, Any], entry: str, name: str) -> str:
    block, found = "stringData", (secret.get("stringData") or {}).get(entry)
    encoded = (secret.get("data") or {}).get(entry)
    if not found and encoded:
        try:
            block, found = "data", base64.b64decode(str(encoded), validate=True).decode("utf-8")
        except (binascii.Error, UnicodeDecodeError):
            raise UserError(f"{name}: data.{entry}: Invalid value: expected base64 of text") from None
    if not found:
        raise UserError(f"{name}: stringData.{entry}: Required value: the object store's key")
    if str(found).split() != [str(found)]:
        raise UserError(f"{name}: {block}.{entry}: Invalid value: a space or a line's end in it; base64 of echo -n?")
    return str(found)
