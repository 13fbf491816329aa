"""Make an authority and the certificates of server, scheduler, operator and silos, or replace some of them.

What is there stays, so that the same command adds a silo. Only ca.pem and a role's own {name}.pem and {name}.key go
to the machine of that role; ca.key stays where the certificates are made.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import List, Optional, Sequence

from cross_silo.config.auth import OPERATOR, SCHEDULER, SERVER, check_silos_flag
from cross_silo.errors import UserError, run_main
from cross_silo.launch.table import table
from cross_silo.security.authority import Authority, Issued, role_of

LOCAL = ("localhost", "127.0.0.1", "::1")
SERVICES = (SERVER, SCHEDULER, OPERATOR)
AUTHORITY = "ca"


def parse(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--out", type=Path, required=True, help="directory, auth.dir of the federated YAML")
    parser.add_argument("--silos", nargs="*", default=[], help="names of the silos, as in the federated YAML")
    parser.add_argument("--hosts", nargs="*", help="names and addresses of server and scheduler besides this machine's")
    parser.add_argument("--days", type=float, default=365, help="how long a certificate lasts")
    parser.add_argument("--ca_days", type=float, default=3650, help="how long a new authority lasts")
    parser.add_argument(
        "--rotate", nargs="*", default=[], help="names that get a new key and certificate; ca: a new authority first"
    )
    arguments = parser.parse_args(argv)
    check_silos_flag(arguments.silos)
    for flag in ("days", "ca_days"):
        if not 0 < getattr(arguments, flag) <= 36500:
            raise UserError(f"--{flag} is {getattr(arguments, flag):g}, expected more than 0, at most 36500")
    return arguments


def make(arguments: argparse.Namespace) -> List[List[str]]:
    """Make what is missing or to be replaced; return the rows of the table."""
    names = [*SERVICES, *arguments.silos]
    unknown = [name for name in arguments.rotate if name not in (AUTHORITY, *names)]
    if unknown:
        raise UserError(f"--rotate names {', '.join(unknown)}; expected {AUTHORITY}, {', '.join(SERVICES)} or --silos")
    authority = Authority(arguments.out, arguments.ca_days)
    if AUTHORITY in arguments.rotate:
        authority.renew(arguments.ca_days)
    rows = []
    for name in names:
        found = authority.find(name)
        if found is None or name in arguments.rotate:
            rows.append(row(authority.issue(name, hosts_of(name, found, arguments.hosts), arguments.days), "new"))
        else:
            rows.append(row(found, "as it was"))
    return rows


def hosts_of(name: str, found: Optional[Issued], hosts: Optional[Sequence[str]]) -> List[str]:
    """Return what a service's certificate is for: those of the command line, else those of the one before."""
    if role_of(name) != SERVER:
        return []
    if hosts is None and found is not None:
        return list(found.hosts)
    return list(dict.fromkeys([*LOCAL, *(hosts or ())]))


def row(issued: Issued, state: str) -> List[str]:
    """Return a certificate's row."""
    return [issued.name, issued.role, f"{issued.ends:%Y-%m-%d %H:%M} UTC", state, " ".join(issued.hosts)]


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command."""
    print(table(("name", "role", "ends", "", "hosts"), make(parse(argv))))
    return 0


if __name__ == "__main__":
    run_main(main)
