"""A silo's secret: 32 bytes of the operating system that never leave it, and all randomness that comes from them."""

from __future__ import annotations

import hashlib
import hmac
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cross_silo.errors import UserError
from cross_silo.security.secret_file import check_secret, write_secret

SECRET_BYTES = 32


@dataclass(frozen=True)
class Secret:
    """Makes random words and names that nobody can make or link without it, and the same ones whenever asked again."""

    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.key) != SECRET_BYTES:
            raise ValueError(f"a secret of {len(self.key)} bytes, expected {SECRET_BYTES}")

    def words(self, purpose: bytes, item: bytes, count: int) -> np.ndarray:
        """Return ``count`` random words, uint32, of SHAKE-256 (FIPS 202) keyed with the secret.

        Args:
            purpose: what they are for; those of different purposes are independent.
            item: for what of that; likewise.
        """
        # Both are of any length: their hashes are not, so that no two pairs run into the same bytes.
        place = hashlib.sha256(purpose).digest() + hashlib.sha256(item).digest()
        return np.frombuffer(hashlib.shake_256(self.key + place).digest(4 * count), "<u4")

    def name(self, item: bytes) -> str:
        """Return the name under which ``item`` is sent: HMAC-SHA256, hex."""
        return hmac.new(self.key, b"name" + item, hashlib.sha256).hexdigest()


def open_secret(path: Path) -> Secret:
    """Return the secret at ``path``, made where there is none, readable by its owner alone.

    Raises:
        UserError: others may read it, or it is no secret.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_secret(path, os.urandom(SECRET_BYTES))
    check_secret(path, "the silo's secret")
    key = path.read_bytes()
    if len(key) != SECRET_BYTES:
        raise UserError(f"the silo's secret {path} has {len(key)} bytes, expected {SECRET_BYTES}")
    return Secret(key)
