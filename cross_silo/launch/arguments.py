"""What the launching scripts' command lines have in common."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any, Optional, Union

from cross_silo.config.federated import NO_AUTH, FederatedConfig, require_protected, split_address
from cross_silo.errors import UserError
from cross_silo.launch.role import Job


class _NoAuth(argparse.Action):
    """Lets this process, and the roles that it starts, listen without authentication."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Optional[str] = None) -> None:
        os.environ[NO_AUTH] = "1"


def make_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser that shows defaults and knows the flags of every launching script."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--run_dir", type=Path, help="where roles write; runs/{fl_name} if not given")
    parser.add_argument(
        "--auth_dir", default="", help="certificates, keys and tokens; the YAML's auth.dir if not given"
    )
    parser.add_argument(
        "--i_understand_no_auth",
        action=_NoAuth,
        nargs=0,
        help="engine mindspore_federated only: listen where other machines reach it, though it lets in whoever comes",
    )
    parser.add_argument("--foreground", action="store_true", help="stay until the roles end (containers, systemd)")
    return parser


def positive(text: str) -> int:
    """Parse a whole number of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is given, expected at least 1")
    return number


def not_negative(text: str) -> int:
    """Parse a whole number of at least 0."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is given, expected at least 0")
    return number


def yes_or_no(text: str) -> bool:
    """Parse True or False, as the tutorial's flags are written."""
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is given, expected True or False")
    return text.lower() == "true"


def make_job(config: FederatedConfig, arguments: argparse.Namespace) -> Job:
    """Return the job of ``config`` with the run directory of the command line."""
    run_dir = arguments.run_dir or Path("runs") / config.fl_name
    return Job(config.fl_name, config.distributed_cache.address, run_dir.resolve(), config.auth.dir)


def check_file(path: Union[str, Path], what: str) -> None:
    """Refuse a path that is no file. Raises UserError naming ``what``."""
    if not Path(path).is_file():
        raise UserError(f"{what} is {path}: {'not a file' if Path(path).exists() else 'no such file'}")


def check_address(address: str, what: str, config: FederatedConfig) -> None:
    """Refuse what is no host:port, or what ``config`` leaves unprotected. Raises UserError naming ``what``."""
    require_protected(split_address(address, what)[0], what, config)
