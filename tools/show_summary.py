"""Show a job's rounds: good or failed and why, mean losses, AP, seconds, megabytes moved."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Optional, Sequence

from rich.console import Console

from cross_silo.errors import run_main
from cross_silo.report.show import show_summary
from cross_silo.report.summary import read_summary


def parse(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run_dir", required=True, type=Path, help="the job's run directory, such as runs/NAME")
    parser.add_argument("--json", action="store_true", help="print the summary as one JSON object instead of a table")
    return parser.parse_args(argv)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command."""
    arguments = parse(argv)
    summary = read_summary(arguments.run_dir)
    if arguments.json:
        print(json.dumps(summary))
    else:
        show_summary(summary, arguments.run_dir, Console())
    return 0


if __name__ == "__main__":
    run_main(main)
