"""Certificates and tokens of a role: there, its own, in date, and for the address that is asked."""

from __future__ import annotations

import ipaddress
import ssl
import time
from typing import Any, Dict, List, Mapping

from cross_silo.config.auth import SERVER
from cross_silo.config.federated import split_address
from cross_silo.errors import UserError
from cross_silo.launch.server_addresses import reached_at
from cross_silo.preflight.check import ERROR, OK, WARNING, Check
from cross_silo.preflight.plan import WORKER, Plan
from cross_silo.protocol import tls
from cross_silo.protocol.access import Tokens, credentials

SOON = 14 * 24 * 3600.0
"""Seconds before its end from which on a certificate is to be renewed."""


def check_access(plan: Plan) -> List[Check]:
    """Look at what the role shows to others and what it knows of them."""
    auth = plan.config.auth
    if auth.mode == "none" and not plan.config.has_tls:
        return [Check("access", OK, "auth.mode is none: this machine alone")]
    checks = []
    if plan.role == WORKER:
        for silo in plan.silos:
            checks += _silo(plan, silo)
        return checks
    if auth.mode == "token":
        try:
            Tokens(auth.tokens_file)
            checks.append(Check("tokens", OK, str(auth.tokens_file)))
        except UserError as error:
            checks.append(Check("tokens", ERROR, str(error)))
    if plan.servers > 1:
        checks.append(_among_servers(plan))
    return checks + (_service(plan) if plan.config.has_tls else [])


def _among_servers(plan: Plan) -> Check:
    """Look at what the first server shows to the others."""
    try:
        credentials(plan.config, SERVER, SERVER)
    except UserError as error:
        return Check("access among servers", ERROR, f"{error}; several servers need it for each other")
    return Check("access among servers", OK, f"{plan.config.auth.mode}, as server")


def _silo(plan: Plan, silo: str) -> List[Check]:
    try:
        certificate = credentials(plan.config, silo).certificate
    except UserError as error:
        return [Check(f"access of {silo}", ERROR, str(error))]
    if certificate is None:
        return [Check(f"access of {silo}", OK, "token" + (", over TLS" if plan.config.has_tls else ""))]
    return [_dates(f"certificate of {silo}", certificate)]


def _service(plan: Plan) -> List[Check]:
    auth, name = plan.config.auth, plan.role
    try:
        certificate = tls.check_own(auth.cert_file(name), auth.key_file(name), auth.ca_file, serves=True)
    except UserError as error:
        return [Check("certificate", ERROR, str(error))]
    checks = [_dates("certificate", certificate), _names(plan.address, plan.flag, certificate)]
    among = reached_at(plan.address, plan.tcp_server_ip, plan.servers)[0]
    if plan.servers > 1 and among != plan.address:
        checks.append(_names(among, "--tcp_server_ip", certificate))
    return checks


def _dates(what: str, certificate: Mapping[str, Any]) -> Check:
    left = ssl.cert_time_to_seconds(certificate["notAfter"]) - time.time()
    found = f"valid until {certificate['notAfter']}"
    if left < SOON:
        return Check(what, WARNING, f"{found}: {left / 86400:.0f} days; renew it (tools/make_certs.py)")
    return Check(what, OK, found)


def _names(asked: str, flag: str, certificate: Mapping[str, Any]) -> Check:
    """Look whether the certificate is for the address: those who ask compare the two."""
    names: Dict[str, List[str]] = {}
    for kind, name in certificate.get("subjectAltName", ()):
        names.setdefault(kind, []).append(name)
    shown = ", ".join(names.get("DNS", []) + names.get("IP Address", [])) or "no name"
    host = split_address(asked, "address")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        known = host in names.get("DNS", [])
    else:
        known = address.is_unspecified or address in map(ipaddress.ip_address, names.get("IP Address", []))
    if known:
        return Check("certificate's names", OK, shown)
    found = f"{flag} is {host}, but the certificate is for {shown}; expected the name that is asked"
    return Check("certificate's names", WARNING, found)
