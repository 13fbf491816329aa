"""A job's summary as a table: one row an attempt at a round."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any, List, Mapping, Optional

from rich.console import Console
from rich.table import Table
from rich.text import Text

MOST_SILOS = 4
"""Silos with a column of their own; with more, one column holds their mean (of losses: weighted by samples)."""


def summary_table(summary: Mapping[str, Any]) -> Table:
    """Return the rounds of a job: result, mean loss of each silo, AP, seconds and megabytes moved.

    Where silos measured on validation sets of their own, their AP50 follows the global one.
    """
    rounds = summary["rounds"]
    silos = sorted({silo for record in rounds for silo in record["losses"]})
    shown = silos if len(silos) <= MOST_SILOS else []
    by_silo = summary.get("silo_evaluations", {})
    own = sorted({silo for of_round in by_silo.values() for silo in of_round})
    own_shown = own if len(own) <= MOST_SILOS else []
    table = Table(title=f"job {summary.get('fl_name', '')}".strip())
    table.add_column("round", justify="right")
    table.add_column("result")
    for silo in shown or ["all silos"]:
        table.add_column(f"mean loss\n{silo}", justify="right")
    for name in ("AP50", "AP"):
        table.add_column(name, justify="right")
    if own:
        for silo in own_shown or [f"{len(own)} silos"]:
            table.add_column(f"own AP50\n{silo}", justify="right")
    for name in ("seconds", "MB moved"):
        table.add_column(name, justify="right")

    def own_cells(measured: Mapping[str, float]) -> List[str]:
        if not own:
            return []
        values = [measured.get(silo) for silo in own]
        known = [value for value in values if value is not None]
        return [number(value) for value in (values if own_shown else [fmean(known) if known else None])]

    initial = summary["evaluations"].get("0", {})
    if initial or "0" in by_silo:
        of_silos = {silo: metrics["AP50"] for silo, metrics in by_silo.get("0", {}).items()}
        overall = (number(initial[name]) if initial else "" for name in ("AP50", "AP"))
        table.add_row("0", "initial", *[""] * (len(shown) or 1), *overall, *own_cells(of_silos))
    for record in rounds:
        losses = [record["losses"].get(silo) for silo in shown] or [record["mean_loss"]]
        moved = (record["bytes_up"] + record["bytes_down"]) / 1e6
        attempt = f" (attempt {record['attempt']})" if record["attempt"] > 1 else ""
        good = record["good"]
        table.add_row(
            str(record["round"]),
            Text(f"good{attempt}", "green") if good else Text(f"failed{attempt}", "red"),
            *(number(loss) for loss in losses),
            *(number(record[name]) if good else "" for name in ("AP50", "AP")),
            *(own_cells(record.get("silo_AP50", {})) if good else [""] * len(own_cells({}))),
            f"{record['seconds']['round']:.1f}",
            f"{moved:.1f}",
        )
    return table


def number(value: Optional[float]) -> str:
    """Return three decimals; a dash for what is not known."""
    return "-" if value is None else f"{value:.3f}"


def last_line(summary: Mapping[str, Any]) -> str:
    """Return how the job stands, in one line."""
    rounds: List[Mapping[str, Any]] = summary["rounds"]
    parts = [f"{summary['good_rounds']} of {summary.get('fl_iteration_num', '?')} rounds good"]
    if summary["failed_attempts"]:
        parts.append(f"{summary['failed_attempts']} failed")
    parts.append(f"{sum(record['seconds']['round'] for record in rounds):.0f} s in rounds")
    parts.append(f"{(summary['bytes_up'] + summary['bytes_down']) / 1e6:.1f} MB moved")
    if summary["final_AP50"] is not None:
        parts.append(f"AP50 {summary['final_AP50']:.3f}")
    models = [record["checkpoint"] for record in rounds if record["good"] and record["checkpoint"]]
    state = summary.get("state", "unknown") + (f" ({summary['reason']})" if summary.get("reason") else "")
    return f"{state}: {', '.join(parts)}" + (f"; model {models[-1]}" if models else "")


def show_summary(summary: Mapping[str, Any], run_dir: Path, console: Console) -> None:
    """Print the table, why rounds failed, and how the job stands."""
    console.print(summary_table(summary))
    lines = [
        f"round {record['round']}, attempt {record['attempt']} failed: {record['reason']}"
        for record in summary["rounds"]
        if not record["good"]
    ]
    if not summary["rounds"]:
        lines.append(f"no round of the job in {run_dir} has ended yet")
    for line in (*lines, last_line(summary)):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
