"""Draw a job: loss at each step and mean loss an epoch of each worker, AP of the global model by round."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from cross_silo.errors import UserError, run_main
from cross_silo.report import plots
from cross_silo.report.loss_log import StepLoss, epoch_means, read_loss_log
from cross_silo.report.summary import FILE, read_summary

LOSS_LOG = "loss_0.log"
FEATURE_TRAINER = "feature_trainer"
"""Trains in the workers' place in a MistNet job."""


def parse(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run_dir", required=True, type=Path, help="the job's run directory, such as runs/NAME")
    parser.add_argument("--out", type=Path, help="directory for the pictures; default: plots in the run directory")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    return parser.parse_args(argv)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command."""
    arguments = parse(argv)
    run_dir: Path = arguments.run_dir
    if not run_dir.is_dir():
        raise UserError(f"--run_dir {run_dir}: no such directory")
    missing: List[str] = []
    workers = read_workers(run_dir, missing)
    figures: Dict[str, Figure] = {}
    if workers:
        figures["loss_steps"] = plots.step_losses(workers)
        figures["loss_epochs"] = plots.epoch_losses(workers)
    summary = read_summary(run_dir) if (run_dir / FILE).exists() else None
    evaluations = by_round(summary, "evaluations")
    if evaluations:
        figures["ap"] = plots.precision_by_round(evaluations)
    elif summary is None:
        missing.append(f"{run_dir / FILE} does not exist yet: no AP is drawn")
    else:
        missing.append(f"{run_dir / FILE} has no evaluation (evaluation in the federated YAML): no AP is drawn")
    by_silo = by_round(summary, "silo_evaluations")
    if by_silo:
        figures["ap_silos"] = plots.precision_by_silo(by_silo)
    if not figures:
        raise UserError(f"--run_dir {run_dir}: nothing to draw: " + "; ".join(missing))
    try:
        pictures = plots.save(figures, arguments.out or run_dir / "plots")
    except OSError as error:
        raise UserError(f"--out {error.filename}: {error.strerror}") from None
    report = {
        "pictures": {name: str(path) for name, path in pictures.items()},
        "workers": {name: describe(steps) for name, steps in workers.items()},
        "missing": missing,
    }
    if arguments.json:
        print(json.dumps(report))
    else:
        show(report)
    return 0


def read_workers(run_dir: Path, missing: List[str]) -> Dict[str, List[StepLoss]]:
    """Return the logged steps of each worker in the run directory; tell ``missing`` of those without any."""
    names = plots.in_order([path.name for path in run_dir.glob("worker_*") if path.is_dir()])
    if (run_dir / FEATURE_TRAINER).is_dir():  # then no worker trains
        names = [FEATURE_TRAINER]
    workers = {}
    for name in names:
        path = run_dir / name / LOSS_LOG
        steps = read_loss_log(path) if path.exists() else []
        if steps:
            workers[name] = steps
        else:
            missing.append(f"{path} has no step yet: {name} is not drawn")
    if not names:
        missing.append(f"{run_dir} has no worker_* directory: no loss is drawn")
    return workers


def by_round(summary: Optional[Dict[str, Any]], name: str) -> Dict[int, Any]:
    """Return what the job's summary, if there is one, says of each round under ``name``."""
    found = summary.get(name, {}) if summary is not None else {}
    return {int(round): metrics for round, metrics in found.items()}


def describe(steps: List[StepLoss]) -> Dict[str, object]:
    """Return a worker's figures: steps, epochs and the mean loss of the first and the last epoch."""
    means = list(epoch_means(steps).values())
    return {"steps": len(steps), "epochs": len(means), "first_epoch": means[0], "last_epoch": means[-1]}


def show(report: Dict[str, Dict]) -> None:
    """Print a report as a table, what is missing, and the paths."""
    console = Console()
    if report["workers"]:
        table = Table("worker")
        for column in ("steps", "epochs", "mean loss\nfirst epoch", "mean loss\nlast epoch"):
            table.add_column(column, justify="right")
        for name, values in report["workers"].items():
            losses = (f"{values[key]:.4f}" for key in ("first_epoch", "last_epoch"))
            table.add_row(name, str(values["steps"]), str(values["epochs"]), *losses)
        console.print(table)
    for line in (*report["missing"], *report["pictures"].values()):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


if __name__ == "__main__":
    run_main(main)
