"""A job's summary as a table: one row an attempt at a round."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any, List, Mapping, Optional

from rich.console import Console
from rich.table import Table
from rich.text import Text

MOST_SILOS = 4
"""Silos with a column of their own; with more, one column holds their weighted mean."""


def summary_table(summary: Mapping[str, Any]) -> Table:
    """Return the rounds of a job: result, mean loss of each silo, AP, seconds and megabytes moved."""
    rounds = summary["rounds"]
    silos = sorted({silo for record in rounds for silo in record["losses"]})
    shown = silos if len(silos) <= MOST_SILOS else []
    table = Table(title=f"job {summary.get('fl_name', '')}".strip())
    repeated = any(record["attempt"] > 1 for record in rounds)
    for name in ("round", "try") if repeated else ("round",):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("result", no_wrap=True)
    for silo in shown or ["all silos"]:
        table.add_column(f"mean\nloss\n{silo}", justify="right")
    for name in ("AP50", "AP", "seconds", "MB\nmoved"):
        table.add_column(name, justify="right", no_wrap=True)
    initial = summary["evaluations"].get("0")
    if initial:
        empty = [""] * (len(shown) or 1)
        table.add_row("0", *[""] * repeated, "initial", *empty, number(initial["AP50"]), number(initial["AP"]))
    for record in rounds:
        losses = [record["losses"].get(silo) for silo in shown] or [record["mean_loss"]]
        moved = (record["bytes_up"] + record["bytes_down"]) / 1e6
        table.add_row(
            str(record["round"]),
            *[str(record["attempt"])] * repeated,
            Text("good", "green") if record["good"] else Text("failed", "red"),
            *(number(loss) for loss in losses),
            number(record["AP50"]) if record["good"] else "",
            number(record["AP"]) if record["good"] else "",
            f"{record['seconds']['round']:.1f}",
            f"{moved:.1f}",
        )
    return table


def silo_table(summary: Mapping[str, Any]) -> Optional[Table]:
    """Return the global model's AP50 on the silos' own validation sets; None where no silo has one."""
    by_round = summary.get("silo_evaluations", {})
    silos = sorted({silo for measured in by_round.values() for silo in measured})
    if not silos:
        return None
    few = len(silos) <= MOST_SILOS
    table = Table(title="silos' own AP50")
    for name in ("round", *(silos if few else ("silos", "lowest", "mean", "highest"))):
        table.add_column(name, justify="right")
    for round, measured in by_round.items():
        values = [metrics["AP50"] for metrics in measured.values()]
        if few:
            cells = [number(measured[silo]["AP50"]) if silo in measured else number(None) for silo in silos]
        else:
            cells = [str(len(values)), *map(number, (min(values), fmean(values), max(values)))]
        table.add_row(round, *cells)
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


def notes(summary: Mapping[str, Any]) -> List[str]:
    """Return whose updates were refused, which model was the best, and which stop condition ended the job."""
    found = []
    for silo, reasons in summary.get("refused_updates", {}).items():
        counts = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
        found.append(f"refused updates of silo {silo}: {counts}")
    best, stop = summary.get("best"), summary.get("stop")
    if best:
        found.append(f"best {best['metric']} {best['value']:.3f} after round {best['round']}: {best['checkpoint']}")
    if stop:
        found.append(f"stop condition met after round {stop['round']}: {stop['condition']}")
    return found


def show_summary(summary: Mapping[str, Any], run_dir: Path, console: Console) -> None:
    """Print the tables, why rounds failed, and how the job stands."""
    console.print(summary_table(summary))
    of_silos = silo_table(summary)
    if of_silos is not None:
        console.print(of_silos)
    lines = [record["reason"] for record in summary["rounds"] if not record["good"]]
    if not summary["rounds"]:
        lines.append(f"no round of the job in {run_dir} has ended yet")
    lines += notes(summary)
    for line in (*lines, last_line(summary)):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
