"""TLS contexts of services and of those who ask them.

TLS 1.3, or 1.2 with ECDHE and AES-GCM, which processors speed up (RFC 8446; RFC 5288).
"""

from __future__ import annotations

import logging
import ssl
import time
from pathlib import Path
from typing import Any, Dict, Optional

from cross_silo.errors import UserError
from cross_silo.security.secret_file import check_secret

log = logging.getLogger(__name__)

CIPHERS_1_2 = "ECDHE+AESGCM"
WARNING_DAYS = 14
"""A certificate that ends sooner is warned of at the start."""


def server_context(cert_file: Path, key_file: Path, ca_file: Optional[Path]) -> ssl.SSLContext:
    """Return a service's context.

    Args:
        ca_file: authorities of the clients' certificates, which are asked for; None: clients show none.

    Raises:
        UserError: a file is missing or is not what it should be.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0  # nobody resumes a session
    _load_pair(context, cert_file, key_file)
    if ca_file is not None:
        _load_authorities(context, ca_file)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(ca_file: Path, cert_file: Optional[Path] = None, key_file: Optional[Path] = None) -> ssl.SSLContext:
    """Return the context of one who asks a service.

    Args:
        ca_file: authorities that the service's certificate must come from; it must be for the host that is asked.
        cert_file: certificate to be shown; None: none.

    Raises:
        UserError: a file is missing or is not what it should be.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT)
    _load_authorities(context, ca_file)
    if cert_file is not None and key_file is not None:
        _load_pair(context, cert_file, key_file)
    return context


def _context(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS_1_2)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    return context


def _load_authorities(context: ssl.SSLContext, path: Path) -> None:
    try:
        context.load_verify_locations(cafile=str(path))
    except ssl.SSLError:
        raise UserError(f"{path} holds no certificate, expected the authorities' in PEM") from None
    except OSError as error:
        raise UserError(f"certificate {path}: {error.strerror}") from None


def _load_pair(context: ssl.SSLContext, cert_file: Path, key_file: Path) -> None:
    check_secret(key_file, "private key")

    def no_password() -> str:
        raise UserError(f"private key {key_file} has a password, expected one without")

    try:
        context.load_cert_chain(str(cert_file), str(key_file), password=no_password)
    except ssl.SSLError as error:
        found = "is not the certificate's" if error.reason == "KEY_VALUES_MISMATCH" else "or its certificate is no PEM"
        raise UserError(f"{cert_file}: private key {key_file} {found}; expected a certificate and its key") from None
    except OSError as error:
        raise UserError(f"certificate {cert_file}: {error.strerror}") from None


def check_own(cert_file: Path, key_file: Path, ca_file: Path, serves: bool) -> Dict[str, Any]:
    """Refuse a certificate that peers would refuse: of another authority, out of date, for another purpose.

    It is shown in a handshake in memory, as it will be to peers.

    Args:
        serves: it is a service's; otherwise that of one who asks.

    Returns:
        The certificate, as ``SSLSocket.getpeercert`` has it.

    Raises:
        UserError: says what is wrong with it.
    """
    if serves:
        mine, other = server_context(cert_file, key_file, None), client_context(ca_file)
        other.check_hostname = False
    else:
        mine = _context(ssl.PROTOCOL_TLS_CLIENT)
        mine.check_hostname, mine.verify_mode = False, ssl.CERT_NONE
        _load_pair(mine, cert_file, key_file)
        other = server_context(cert_file, key_file, ca_file)
    to_mine, to_other = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        mine.wrap_bio(to_mine, to_other, server_side=serves),
        other.wrap_bio(to_other, to_mine, server_side=not serves),
    )
    try:
        for _ in range(4):  # round trips; two are enough
            for end in ends:
                try:
                    end.do_handshake()
                except ssl.SSLWantReadError:
                    pass
        found = ends[1].getpeercert() or {}
    except ssl.SSLCertVerificationError as error:
        raise UserError(f"certificate {cert_file}: {error.verify_message} (authorities: {ca_file})") from None
    except ssl.SSLError as error:
        raise UserError(f"certificate {cert_file} cannot be used: {error.reason or error}") from None
    days = (ssl.cert_time_to_seconds(found["notAfter"]) - time.time()) / 86400
    if days < WARNING_DAYS:
        log.warning("certificate %s ends in %.1f days, at %s", cert_file, days, found["notAfter"])
    return found
