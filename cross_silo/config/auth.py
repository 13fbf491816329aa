"""Who may talk to a job's services, and where each role's certificate, key and token lie."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Sequence

from cross_silo.config.schema import require
from cross_silo.errors import UserError

MODES = ("mtls", "token", "none")
SERVER, SCHEDULER, OPERATOR, SILO = "server", "scheduler", "operator", "silo"
"""Roles; the first three are names of certificates, too."""
RESERVED = ("ca", SERVER, SCHEDULER, OPERATOR, "tokens")
"""File names in the directory that no silo may have."""


@dataclass(frozen=True)
class Auth:
    """How requests to the server and to the management REST are authenticated."""

    mode: str = "none"
    """mtls: by certificate; token: by a secret in each request; none: not at all, on loopback only."""
    dir: str = "auth"
    """Directory with ca.pem and, by the role's or silo's name, {name}.pem, {name}.key and {name}.token."""

    def __post_init__(self) -> None:
        require(self.mode in MODES, f"mode is {self.mode!r}, expected one of {', '.join(MODES)}")
        require(bool(self.dir), "dir is empty, expected a directory")

    @property
    def ca_file(self) -> Path:
        """Certificates of the authorities that peers' certificates must come from (PEM)."""
        return Path(self.dir) / "ca.pem"

    @property
    def tokens_file(self) -> Path:
        """What the services know of the tokens: names, roles and hashes (JSON)."""
        return Path(self.dir) / "tokens.json"

    def cert_file(self, name: str) -> Path:
        """Certificate of ``name``, with intermediates after it (PEM)."""
        return Path(self.dir) / f"{name}.pem"

    def key_file(self, name: str) -> Path:
        """Private key of ``name`` (PEM, without a password)."""
        return Path(self.dir) / f"{name}.key"

    def token_file(self, name: str) -> Path:
        """Token of ``name``: one line."""
        return Path(self.dir) / f"{name}.token"


def check_silo_name(name: str) -> None:
    """Refuse a name that cannot be a certificate's and a file's. Raises ValueError."""
    require(
        re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name) is not None and name not in RESERVED,
        f"silo {name!r}: expected 1-64 letters, digits, '_', '-' or '.', a letter or digit first, "
        f"and none of {', '.join(RESERVED)}",
    )


def check_silos_flag(silos: Sequence[str]) -> None:
    """Refuse names of the flag --silos that cannot be those of certificates and files. Raises UserError."""
    for silo in silos:
        try:
            check_silo_name(silo)
        except ValueError as error:
            raise UserError(f"--silos: {error}") from None


def check_enrolled(auth: Auth, silos: Sequence[str]) -> None:
    """Refuse an authenticated job that does not say which silos are enrolled. Raises ValueError."""
    if auth.mode == "none":
        return
    require(bool(silos), f"auth.mode is {auth.mode}, but silos names nobody; expected the list of enrolled silos")
    for name in silos:
        check_silo_name(name)
