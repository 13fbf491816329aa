"""A certificate authority of a job's own, for a trial: it issues the certificates of services, silos and operator.

Certificates are X.509 v3 (RFC 5280) with ECDSA keys on P-256: the common name is the name, the organizational unit
the role; a silo's may not be a service's (extended key usage).
"""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Sequence

try:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
except ImportError:
    from cross_silo.errors import UserError

    raise UserError("making certificates needs the package cryptography; pip install 'cross-silo[certs]'") from None

from cross_silo.config.auth import OPERATOR, SCHEDULER, SERVER, SILO, Auth
from cross_silo.errors import UserError
from cross_silo.security.secret_file import check_secret, write_secret

SKEW = datetime.timedelta(minutes=5)
"""Certificates begin this much before now, as clocks differ."""
PUBLIC_MODE = 0o644


@dataclass(frozen=True)
class Issued:
    """A certificate that lies in the directory."""

    name: str
    role: str
    ends: datetime.datetime
    hosts: Sequence[str]
    """Names and addresses that it is for, where it is a service's."""


def role_of(name: str) -> str:
    """Return the role that a certificate of ``name`` has."""
    if name in (SERVER, SCHEDULER):
        return SERVER
    return OPERATOR if name == OPERATOR else SILO


class Authority:
    """The authority whose key is ``ca.key`` in a directory, and what it issues there."""

    def __init__(self, directory: Path, days: float = 3650, now: Optional[datetime.datetime] = None) -> None:
        """Read the authority of ``directory``, or make one that lasts ``days``. Raises UserError."""
        self._files = Auth(dir=str(directory))
        self._key_file = self._files.key_file("ca")
        self._now = now or datetime.datetime.now(datetime.timezone.utc)
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._files.ca_file.exists() or self._key_file.exists():
            check_secret(self._key_file, "the authority's key")
            self._key = _read_key(self._key_file)
            self._certificate = _read_certificates(self._files.ca_file)[0]
        else:
            self._make(days, ())

    def renew(self, days: float = 3650) -> None:
        """Take a new key and certificate; ``ca.pem`` holds the one before behind it, until all have new ones."""
        self._make(days, (self._certificate,))

    def _make(self, days: float, before: Sequence[x509.Certificate]) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        serial = x509.random_serial_number()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"cross-silo authority {serial % 16**8:08x}")])
        certificate = (
            self._builder(name, name, key, days)
            .serial_number(serial)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        self._key, self._certificate = key, certificate
        write_secret(self._key_file, _pem(key))
        write_secret(self._files.ca_file, b"".join(map(_public, (certificate, *before))), PUBLIC_MODE)

    def issue(self, name: str, hosts: Sequence[str] = (), days: float = 365) -> Issued:
        """Make key and certificate of ``name`` and write them.

        Args:
            hosts: names and addresses at which a service is asked.
        """
        role = role_of(name)
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, role),
                x509.NameAttribute(NameOID.COMMON_NAME, name),
            ]
        )
        purposes = [ExtendedKeyUsageOID.CLIENT_AUTH]
        if role == SERVER:
            purposes.append(ExtendedKeyUsageOID.SERVER_AUTH)
        issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = (
            self._builder(subject, self._certificate.subject, key, days)
            .serial_number(x509.random_serial_number())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(issuer_key, critical=False)
        )
        if role == SERVER:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False
            )
        certificate = builder.sign(self._key, hashes.SHA256())
        write_secret(self._files.key_file(name), _pem(key))
        write_secret(self._files.cert_file(name), _public(certificate), PUBLIC_MODE)
        return _issued(name, certificate)

    def find(self, name: str) -> Optional[Issued]:
        """Return the certificate of ``name`` that lies there. Raises UserError where it cannot be read."""
        path = self._files.cert_file(name)
        return _issued(name, _read_certificates(path)[0]) if path.exists() else None

    def _builder(
        self, subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: float
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .not_valid_before(self._now - SKEW)
            .not_valid_after(self._now + datetime.timedelta(days=days))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )


def _issued(name: str, certificate: x509.Certificate) -> Issued:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        hosts = [str(entry.value) for entry in found]
    except x509.ExtensionNotFound:
        hosts = []
    units = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
    return Issued(name, str(units[0].value) if units else "", certificate.not_valid_after_utc, hosts)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError:
        raise UserError(f"host {host!r}: expected a name in ASCII or an address") from None


def _key_usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _public(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _read_certificates(path: Path) -> List[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise UserError(f"certificate {path}: {error.strerror}") from None
    except ValueError:
        raise UserError(f"{path} holds no certificate in PEM") from None


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError):
        raise UserError(f"{path} holds no private key in PEM without a password") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UserError(f"{path}: expected an ECDSA key, as this tool makes it")
    return key
