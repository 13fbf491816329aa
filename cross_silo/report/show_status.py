"""A job's status for people: a few lines and a table of the silos."""

from __future__ import annotations

import time
from typing import Any, List, Mapping, Optional

from rich.console import Group
from rich.table import Table
from rich.text import Text

from cross_silo.report.show import notes, number

SHOWN_EVALUATIONS = 8


def status_view(status: Mapping[str, Any]) -> Group:
    """Return what is printed of a status."""
    parts: List[Any] = [Text(line) for line in head(status)]
    if status["participants"]:
        parts.append(_silos(status["participants"]))
    parts += [Text(line) for line in tail(status)]
    return Group(*parts)


def head(status: Mapping[str, Any]) -> List[str]:
    """Return the lines above the table: what the job is and where it stands."""
    reason = f" ({status['reason']})" if status["reason"] else ""
    lines = [
        f"job {status['fl_name']} ({status['instance']}), engine {status['engine']}: {status['state']}{reason}",
        f"round {status['round']} of {status['rounds']}, attempt {status['attempt']}: {status['phase']}; "
        f"{status['good_rounds']} good, {status['failed_rounds']} failed, {status['aggregations']} aggregations "
        f"of {status['updates']} updates",
    ]
    members = [
        f"{role} {told.get('address') or told['node']}" + (f" {told['phase']}" if told.get("phase") else "")
        for role, found in status["members"].items()
        for told in found
    ]
    members += [
        f"server_{one['server']} {one['address']}" + (f" lost: {one['lost']}" if one["lost"] else "")
        for one in status["servers"][1:]
    ]
    lines.append("; ".join(members) or "no scheduler, server or evaluator is alive")
    if status["windows"]:
        left = ", ".join(f"{name} {max(seconds, 0):.0f} s" for name, seconds in status["windows"].items())
        lines.append(f"time windows left: {left}")
    return lines


def _silos(participants: List[Mapping[str, Any]]) -> Table:
    table = Table()
    for name in ("silo", "node", "samples", "phase", "round", "step", "last loss", "last seen", "this round"):
        table.add_column(name, justify="right" if name in ("samples", "round", "step", "last loss") else "left")
    for entry in participants:
        why = f": {entry['why']}" if entry["why"] else ""
        table.add_row(
            entry["silo"],
            entry["node"] or "-",
            *(_whole(entry[name]) if name != "phase" else _phase(entry) for name in ("samples", "phase", "iteration")),
            _whole(entry["step"]),
            number(entry["loss"]),
            "never" if entry["last_seen"] is None else f"{entry['last_seen']:.0f} s ago",
            f"{entry['in_round']}{why}" or "-",
        )
    return table


def _phase(entry: Mapping[str, Any]) -> str:
    return (entry["phase"] or "-") if entry["live"] else "missing"


def _whole(value: Optional[float]) -> str:
    return "-" if value is None else f"{value:.0f}"


def tail(status: Mapping[str, Any]) -> List[str]:
    """Return the lines below the table: who is missing, AP, failures, the end."""
    lines = []
    for entry in status["missing"]:
        since = time.strftime("%H:%M:%S", time.localtime(entry["since"]))
        who = f"silo {entry['silo']}" if entry["silo"] else "a silo of no known name"
        lines.append(f"missing: {who}, " + (f"last seen {since}" if entry["seen"] else f"not seen since {since}"))
    measured = status["evaluations"][-SHOWN_EVALUATIONS:]
    if measured:
        values = "; ".join(f"{m['round']}: {number(m['AP50'])}, {number(m['AP'])}" for m in measured)
        lines.append(f"AP50, AP by round: {values}")
    lines += [f"{time.strftime('%H:%M:%S', time.localtime(f['ended']))} {f['reason']}" for f in status["failures"]]
    if status["stop_condition"]:
        lines.append(f"ends with: {status['stop_condition']}")
    return lines + notes(status)
