"""Show a job's rounds: good or failed and why, mean losses, AP, seconds, megabytes moved."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence

from rich.console import Console

from cross_silo.errors import run_main
from cross_silo.report.follow import follow
from cross_silo.report.show import number, show_summary
from cross_silo.report.summary import read_summary


def parse(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run_dir", required=True, type=Path, help="the job's run directory, such as runs/NAME")
    parser.add_argument("--json", action="store_true", help="print the summary as one JSON object instead of a table")
    parser.add_argument(
        "--follow",
        action="store_true",
        help="first tell of each round as it ends, until server and evaluator have ended; fail unless the job finished",
    )
    parser.add_argument(
        "--expect_ap50",
        type=float,
        metavar="VALUE",
        help="fail unless the last round's AP50 is at least this, and above that of round 1",
    )
    return parser.parse_args(argv)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command."""
    arguments = parse(argv)
    if arguments.follow:
        target = sys.stderr if arguments.json else sys.stdout
        follow(arguments.run_dir, lambda line: print(line, file=target, flush=True))
    summary = read_summary(arguments.run_dir)
    if arguments.json:
        print(json.dumps(summary))
    else:
        show_summary(summary, arguments.run_dir, Console())
    problem = None
    if arguments.follow and summary.get("state") != "finished":
        problem = f"the job's state is {summary.get('state')}, expected finished"
    elif arguments.expect_ap50 is not None:
        problem = shortfall(summary, arguments.expect_ap50)
    if problem is not None:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    return 0


def shortfall(summary: Mapping[str, Any], expected: float) -> Optional[str]:
    """Return how the job's AP50 falls short of ``expected``; None if it does not."""
    final = summary["final_AP50"]
    if final is None or final < expected:
        return f"the AP50 after the last round is {number(final)}, expected at least {expected:g}"
    good = [record for record in summary["rounds"] if record["good"]]
    first = good[0]
    if len(good) > 1 and first["AP50"] is not None and final <= first["AP50"]:
        return f"the AP50 after the last round is {final:.3f}, expected more than after round 1 ({first['AP50']:.3f})"
    return None


if __name__ == "__main__":
    run_main(main)
