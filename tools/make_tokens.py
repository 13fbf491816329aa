"""Make tokens of silos, operator and server, or replace some of them.

What is there stays. A silo gets its {name}.token (or its content as CROSS_SILO_TOKEN), the operator operator.token;
server and scheduler need tokens.json, which holds hashes, and several servers of a job server.token for each other.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Optional, Sequence

from cross_silo.config.auth import OPERATOR, SERVER, check_silos_flag
from cross_silo.errors import UserError, run_main
from cross_silo.security.tokens import make_tokens


def parse(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--out", type=Path, required=True, help="directory, auth.dir of the federated YAML")
    parser.add_argument("--silos", nargs="*", default=[], help="names of the silos, as in the federated YAML")
    parser.add_argument("--rotate", nargs="*", default=[], help="names that get a new token")
    arguments = parser.parse_args(argv)
    check_silos_flag(arguments.silos)
    unknown = set(arguments.rotate) - {OPERATOR, SERVER, *arguments.silos}
    if unknown:
        raise UserError(f"--rotate names {', '.join(sorted(unknown))}; expected {OPERATOR}, {SERVER} or --silos")
    return arguments


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command."""
    arguments = parse(argv)
    new = make_tokens(arguments.out, [OPERATOR, SERVER, *arguments.silos], arguments.rotate)
    print(f"new tokens in {arguments.out}: {', '.join(new) or 'none'}")
    return 0


if __name__ == "__main__":
    run_main(main)
