"""Certificates and tokens of a small job, made with the project's own tools."""

import datetime
from pathlib import Path

from cross_silo.config.auth import OPERATOR, SCHEDULER, SERVER, Auth
from cross_silo.config.federated import FederatedConfig
from cross_silo.security.authority import Authority
from cross_silo.security.tokens import make_tokens

SILOS = ("silo_0", "silo_1")


def make_auth(directory: Path, names=(SERVER, SCHEDULER, OPERATOR, *SILOS)) -> Path:
    """Write certificates of ``names`` and tokens of the silos, the operator and the server; returns the directory."""
    authority = Authority(directory)
    for name in names:
        authority.issue(name, ("127.0.0.1", "localhost"))
    make_tokens(directory, [OPERATOR, SERVER, *SILOS])
    return directory


def expired(directory: Path, name: str) -> None:
    """Replace a certificate by one that ended yesterday."""
    now = datetime.datetime.now(datetime.timezone.utc)
    Authority(directory, now=now - datetime.timedelta(days=2)).issue(name, ("127.0.0.1",), days=1)


def config(directory: Path, mode: str, **settings) -> FederatedConfig:
    """A job of the two silos with authentication."""
    return FederatedConfig(silos=SILOS, auth=Auth(mode, str(directory)), **settings)
