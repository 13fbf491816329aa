"""Who may talk to a job in pods: a token for each silo, over TLS wherever other machines reach.

The aggregator's CROSS_SILO_TOKEN holds the hashes of all silos' tokens (tokens.json, as tools/make_tokens.py writes
it), a trainer's the token of its silo; certificates lie in CROSS_SILO_AUTH_DIR.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, Mapping, Tuple

from cross_silo.config.auth import SCHEDULER, SERVER, Auth
from cross_silo.config.federated import AUTH_DIR, is_loopback
from cross_silo.errors import UserError
from cross_silo.protocol.access import TOKEN, Tokens
from cross_silo.security.secret_file import write_secret
from cross_silo.sedna.environment import Settings

ANYWHERE = "0.0.0.0"
"""Where the aggregator listens in a pod: its Service forwards to the pod's address, which it does not know."""


@dataclass(frozen=True)
class PodAccess:
    """What a role adds to its plan, and to the environment of its processes."""

    federated: Dict[str, Any]
    """Keys of the federated YAML."""
    environment: Dict[str, str]


def aggregator_access(settings: Settings, run_dir: Path, environ: Mapping[str, str]) -> Tuple[Settings, PodAccess]:
    """Return the settings with the address to listen at, and who is let in there.

    Raises:
        UserError: other machines would reach it, and there is no token or no certificate.
    """
    token = environ.get(TOKEN, "").strip()
    host = settings.agg_bind_ip or ANYWHERE
    if not token:
        if not is_loopback(host):
            raise UserError(
                f"{TOKEN} is not set, and the aggregator would listen at {host}, which other machines reach; expected "
                "the content of tokens.json (tools/make_tokens.py), or AGG_BIND_IP: 127.0.0.1"
            )
        return replace(settings, agg_bind_ip=host), PodAccess({}, {})
    given = environ.get(AUTH_DIR, "")
    own = Auth(dir=str(run_dir / "sedna" / "auth"))
    Path(own.dir).mkdir(parents=True, exist_ok=True, mode=0o700)
    write_secret(own.tokens_file, token.encode() + b"\n")
    try:
        Tokens(own.tokens_file)
    except UserError:
        raise UserError(
            f"{TOKEN}: expected the content of tokens.json, which has the hashes of all silos' tokens "
            "(tools/make_tokens.py)"
        ) from None
    mounted = Auth(dir=given or "auth")
    names = [file.name for file in (mounted.cert_file(SERVER), mounted.key_file(SERVER), mounted.ca_file)]
    missing = [name for name in names if not (Path(mounted.dir) / name).is_file()]
    if missing and not is_loopback(host):
        raise UserError(
            f"{AUTH_DIR} is {given or 'not set'}: {', '.join(missing)} not found there, but tokens must not travel in "
            f"the clear to {host}; expected the server's certificate, its key and ca.pem (tools/make_certs.py)"
        )
    if not missing:
        links = dict(zip(names, names))
        # the scheduler serves this container alone, with the server's certificate
        links.update({own.cert_file(SCHEDULER).name: names[0], own.key_file(SCHEDULER).name: names[1]})
        for name, source in links.items():  # links, as a mounted Secret's files are replaced when it changes
            link = Path(own.dir) / name
            link.unlink(missing_ok=True)
            link.symlink_to((Path(mounted.dir) / source).absolute())
    content = _token_keys(settings, own.dir, has_tls=not missing)
    return replace(settings, agg_bind_ip=host), PodAccess(content, {AUTH_DIR: own.dir, TOKEN: ""})


def trainer_access(settings: Settings, environ: Mapping[str, str]) -> PodAccess:
    """Return what a trainer shows to the aggregator.

    Raises:
        UserError: the aggregator is another machine, and there is no token or no authority's certificate.
    """
    host = settings.agg_ip or "127.0.0.1"
    if not environ.get(TOKEN, "").strip():
        if not is_loopback(host):
            raise UserError(
                f"{TOKEN} is not set, and the aggregator is {host}, another machine; expected the silo's token "
                "(tools/make_tokens.py)"
            )
        return PodAccess({}, {})
    given = environ.get(AUTH_DIR, "")
    authority = Auth(dir=given or "auth").ca_file
    has_authority = authority.is_file()
    if not has_authority and not is_loopback(host):
        raise UserError(
            f"{AUTH_DIR} is {given or 'not set'}: ca.pem not found there, but the token must not travel in the clear "
            f"to {host}; expected the certificate of the authority (tools/make_certs.py)"
        )
    return PodAccess(_token_keys(settings, given or "auth", has_authority), {})


def _token_keys(settings: Settings, directory: str, has_tls: bool) -> Dict[str, Any]:
    silos = [f"silo_{index}" for index in range(settings.participants_count or 0)]
    auth = {"mode": "token", "dir": os.path.abspath(directory)}
    return {"silos": silos, "auth": auth, "enable_ssl": has_tls}
