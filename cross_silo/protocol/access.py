"""Who asks, and what they may ask: certificates and tokens, on the side that serves and on the side that asks.

An identity comes from the connection itself (the TLS session's peer certificate) or from the token's hash, never
from what a request says of itself.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, FrozenSet, Mapping, Optional, Tuple, Union

from cross_silo.config.auth import OPERATOR, SERVER, SILO
from cross_silo.config.federated import FederatedConfig
from cross_silo.errors import UserError
from cross_silo.protocol import tls
from cross_silo.security.reloading import Reloading
from cross_silo.security.secret_file import check_secret

ROLES = (SILO, OPERATOR, SERVER)
"""What a certificate's organizational unit and a token's role may be."""
TOKEN = "CROSS_SILO_TOKEN"
"""Environment variable with the token of the process's silo; it goes before the file."""
MIN_TOKEN, MAX_TOKEN = 32, 512
AUTHORIZATION = "Authorization"


class AccessError(Exception):
    """A request that is not let in; ``status`` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        """Args: ``message`` is one line, without anything secret."""
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Identity:
    """Who asks."""

    role: str
    """silo, operator or server."""
    name: str

    def __str__(self) -> str:
        return f"{self.role} {self.name}" if self.role != self.name else self.role


def peer_identity(certificate: Optional[Mapping[str, Any]]) -> Identity:
    """Return whose certificate it is: its common name, and its role as organizational unit.

    Args:
        certificate: a verified one, as ``SSLSocket.getpeercert`` returns it.

    Raises:
        AccessError: it names nobody, or several.
    """
    subject = [pair for part in (certificate or {}).get("subject", ()) for pair in part]
    names = [value for key, value in subject if key == "commonName"]
    roles = [value for key, value in subject if key == "organizationalUnitName"]
    if len(names) != 1 or len(roles) != 1 or roles[0] not in ROLES:
        raise AccessError(
            403, f"the certificate names {names} as {roles}; expected one name (CN) with one role (OU) of {ROLES}"
        )
    return Identity(roles[0], names[0])


def token_hash(token: str) -> str:
    """Return what the services keep of a token. A token is random and long, so that one SHA-256 is enough."""
    return hashlib.sha256(token.encode()).hexdigest()


class Tokens:
    """Whose token it is, by the hashes of all."""

    def __init__(self, path: Path) -> None:
        """Read ``path``. Raises UserError."""
        check_secret(path, "tokens")
        try:
            items = json.loads(path.read_text(encoding="utf-8"))
            self._known = [(bytes.fromhex(item["sha256"]), Identity(item["role"], item["name"])) for item in items]
        except (OSError, ValueError, TypeError, KeyError):
            self._known = []
        if not self._known or any(len(known) != 32 or who.role not in ROLES for known, who in self._known):
            raise UserError(f"{path}: expected names, roles and SHA-256 hashes, as tools/make_tokens.py writes them")

    def find(self, token: str) -> Optional[Identity]:
        """Return whose token it is; the time taken does not depend on which one or how much of one it is."""
        hashed = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        found = None
        for known, identity in self._known:
            if hmac.compare_digest(known, hashed):
                found = identity
        return found


class Access:
    """What one service lets in."""

    def __init__(
        self,
        config: FederatedConfig,
        name: str,
        roles: Tuple[str, ...],
        also: Optional[Mapping[str, Tuple[str, ...]]] = None,
    ) -> None:
        """Read what ``config`` asks for.

        Args:
            name: of the service's own certificate.
            roles: who may ask it.
            also: by path, who else may ask that.

        Raises:
            UserError: a certificate, key or list of tokens is missing or cannot be used.
        """
        self.config = config
        self._roles = roles
        self._also = {path: frozenset(more) for path, more in (also or {}).items()}
        self._enrolled: FrozenSet[str] = frozenset(config.silo_names)
        self._tokens: Optional[Reloading[Tokens]] = None
        self._context: Optional[Reloading[ssl.SSLContext]] = None
        auth = config.auth
        if auth.mode == "token":
            self._tokens = Reloading(lambda: Tokens(auth.tokens_file), (auth.tokens_file,))
        if config.has_tls:
            cert, key, ca = auth.cert_file(name), auth.key_file(name), auth.ca_file
            tls.check_own(cert, key, ca, serves=True)
            peers = ca if auth.mode == "mtls" else None
            self._context = Reloading(lambda: tls.server_context(cert, key, peers), (cert, key, ca))

    @property
    def context(self) -> Optional[ssl.SSLContext]:
        """The TLS context for a new connection; None: no TLS."""
        return self._context.get() if self._context is not None else None

    def admit(self, connection: Any, path: str, authorization: Optional[str]) -> Optional[Identity]:
        """Return who asks for ``path``; None where nobody is asked who they are.

        Args:
            connection: the socket, after its handshake.
            authorization: the request's header of that name.

        Raises:
            AccessError: 401 where it is not known who asks, 403 where they may not.
        """
        if self.config.auth.mode == "none":
            return None
        if self._tokens is None:
            identity = peer_identity(connection.getpeercert())
        else:
            identity = self._bearer(self._tokens.get(), authorization)
        if identity.role not in self._roles and identity.role not in self._also.get(path, ()):
            raise AccessError(403, f"{path} is not for {identity}; expected the role {' or '.join(self._roles)}")
        if identity.role == SILO and identity.name not in self._enrolled:
            raise AccessError(403, f"silo {identity.name!r} is not enrolled")
        return identity

    @staticmethod
    def _bearer(tokens: Tokens, authorization: Optional[str]) -> Identity:
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise AccessError(401, "no token came with the request; expected Authorization: Bearer ...")
        identity = tokens.find(token.strip()[:MAX_TOKEN])
        if identity is None:
            raise AccessError(401, "the token is not known")
        return identity


OPEN = Access(FederatedConfig(), "", ROLES)
"""Lets everybody in; for services on loopback."""


class Credentials:
    """What one who asks shows: a certificate, a token, or nothing. It never appears in a text."""

    def __init__(
        self,
        context: Optional[Reloading[ssl.SSLContext]] = None,
        token: str = "",
        certificate: Optional[Mapping[str, Any]] = None,
    ) -> None:
        """Made by :func:`credentials`."""
        self._context = context
        self._token = token
        self.certificate = certificate
        """As it was when it was read; None: none is shown."""

    def __repr__(self) -> str:
        return f"Credentials(tls={self._context is not None}, token={'...' if self._token else None})"

    @property
    def context(self) -> Optional[ssl.SSLContext]:
        """The TLS context for a new connection; None: no TLS."""
        return self._context.get() if self._context is not None else None

    def headers(self) -> Dict[str, str]:
        """Return the headers to send with each request."""
        return {AUTHORIZATION: f"Bearer {self._token}"} if self._token else {}


def credentials(config: FederatedConfig, name: str, role: str = SILO) -> Credentials:
    """Return what ``name`` shows to the services of the job, by its files in auth.dir.

    Raises:
        UserError: a file is missing or cannot be used, or is of another name or role.
    """
    auth = config.auth
    token = read_token(auth.token_file(name)) if auth.mode == "token" else ""
    if not config.has_tls:
        return Credentials(token=token)
    ca = auth.ca_file
    if auth.mode != "mtls":
        return Credentials(Reloading(lambda: tls.client_context(ca), (ca,)), token)
    cert, key = auth.cert_file(name), auth.key_file(name)
    certificate = tls.check_own(cert, key, ca, serves=False)
    found = _named_in(certificate, cert)
    if found != Identity(role, name):
        raise UserError(f"certificate {cert} is that of {found}, expected {role} {name}")
    context = Reloading(lambda: tls.client_context(ca, cert, key), (ca, cert, key))
    return Credentials(context, certificate=certificate)


def identity_of(cert: Path, key: Path, ca: Path) -> Identity:
    """Return whose certificate it is, refusing one that the services would refuse. Raises UserError."""
    return _named_in(tls.check_own(cert, key, ca, serves=False), cert)


def _named_in(certificate: Mapping[str, Any], cert: Path) -> Identity:
    try:
        return peer_identity(certificate)
    except AccessError as error:
        raise UserError(f"{cert}: {error}") from None


def read_token(path: Union[str, Path]) -> str:
    """Return the token of the environment or, without one there, of the file. Raises UserError."""
    token, where = os.environ.get(TOKEN, "").strip(), f"environment variable {TOKEN}"
    if not token:
        where = f"token {path}"
        check_secret(Path(path), "token")
        token = Path(path).read_text(encoding="utf-8", errors="replace").strip()
    if not (MIN_TOKEN <= len(token) <= MAX_TOKEN and token.isascii() and token.isprintable() and " " not in token):
        raise UserError(f"{where}: expected one line of {MIN_TOKEN} to {MAX_TOKEN} printable characters, no spaces")
    return token
