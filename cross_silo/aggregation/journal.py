"""The record of a job's rounds: in Redis, in the metrics file, in the summary, and as a log line each."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence

from cross_silo.aggregation.guarded_store import GuardedStore
from cross_silo.aggregation.participant import Key, Outcome
from cross_silo.report.summary import finite, mean_loss

log = logging.getLogger(__name__)

Record = Dict[str, Any]
"""One attempt at a round, as Redis and the summary have it. Seconds and bytes."""


def round_record(
    outcome: Outcome, averaged_at: float, checkpoint: str, checkpoint_seconds: float, bytes_up: int, bytes_down: int
) -> Record:
    """Return the record of an ended attempt.

    Args:
        averaged_at: when the last update was in the sum, by the clock of ``outcome``.
        checkpoint: path of the round's checkpoint; empty for a failed one.
        bytes_up: bytes of the updates taken.
        bytes_down: bytes of models sent since the last record.
    """
    last_push = outcome.last_push or outcome.ended
    return {
        "round": outcome.key[0],
        "attempt": outcome.key[1],
        "good": outcome.good,
        "reason": outcome.reason,
        "participants": [
            {
                "silo": member.silo,
                "worker": member.worker,
                "node": member.node,
                "samples": member.samples,
                "loss": member.loss if member.pushed else None,
                "steps": int(member.stats.get("steps", 0)),
                "train_seconds": float(member.stats.get("train_seconds", 0.0)),
                "update_norm": member.stats.get("update_norm"),
            }
            for member in outcome.participants
        ],
        "left_out": dict(outcome.left_out),
        "samples": sum(member.samples for member in outcome.participants),
        "seconds": {
            "round": round(outcome.ended - outcome.began, 3),
            "training": round(last_push - outcome.began, 3),
            "aggregation": round(max(averaged_at - last_push, 0.0), 3) if outcome.good else 0.0,
            "checkpoint": round(checkpoint_seconds, 3),
        },
        "bytes_up": bytes_up,
        "bytes_down": bytes_down,
        "ended": time.time(),
        "checkpoint": checkpoint,
    }


def interrupted_record(key: Key) -> Record:
    """Return the record of an attempt that the server's predecessor left unfinished."""
    now = time.monotonic()
    reason = f"round {key[0]} attempt {key[1]} failed: the server was restarted"
    return round_record(Outcome(key, False, reason, (), now, 0.0, now), now, "", 0.0, 0, 0)


def recovered_record(round: int, checkpoint: str) -> Record:
    """Return the record of a good round whose server died between its checkpoint and the round's record."""
    now = time.monotonic()
    return round_record(Outcome((round, 1), True, "", (), now, 0.0, now), now, checkpoint, 0.0, 0, 0)


def log_round(record: Record) -> None:
    """Write a round's line to the log."""
    if not record["good"]:
        log.warning("%s", record["reason"])
        return
    seconds, loss = record["seconds"], mean_loss(record["participants"])
    if record["left_out"]:
        without = "; ".join(f"{silo}: {why}" for silo, why in record["left_out"].items())
        log.warning("round %d was made without %s", record["round"], without)
    log.info(
        "round %d good: %d silos, %d samples, mean loss %s, %.2f s (averaging %.2f, checkpoint %.2f), "
        "%.1f MB up, %.1f MB down",
        record["round"],
        len(record["participants"]),
        record["samples"],
        "unknown" if loss is None else f"{loss:.4f}",
        seconds["round"],
        seconds["aggregation"],
        seconds["checkpoint"],
        record["bytes_up"] / 1e6,
        record["bytes_down"] / 1e6,
    )


class Journal:
    """Writes records; those that Redis has not taken yet are kept for later."""

    def __init__(self, store: GuardedStore, metrics_file: Path, summarise: Callable[[], None]) -> None:
        """Args: ``summarise`` writes the run's summary from what Redis holds."""
        self._store = store
        self._metrics_file = metrics_file
        self._summarise = summarise
        self._all: List[Record] = []
        self._stored = 0

    def write(self, records: List[Record]) -> None:
        """Append ``records`` to the metrics file, log them, and give Redis all that it lacks.

        The log and the file wait for no Redis. Whatever is killed in between, :meth:`recover` tells nothing twice.
        """
        if records:
            self._append_metrics(records)
        for record in records:
            log_round(record)
        self._store_all(records)

    def recover(self, rounds: Sequence[int], newest: Record) -> None:
        """Record good rounds whose server died before Redis had them; what that one wrote of them is not told again.

        Args:
            rounds: those of the job's instance of which there is no record, in order.
            newest: what is known of the newest good round from its checkpoint alone.
        """
        written = self._written(newest)
        self._store_all([written[round] for round in rounds if round in written])
        if newest["round"] in rounds and newest["round"] not in written:
            self.write([newest])

    def _written(self, newest: Record) -> Dict[int, Record]:
        """Return the good rounds up to ``newest`` that the metrics file has of the same instance of the job."""
        try:
            lines = self._metrics_file.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return {}
        found: Dict[int, Record] = {}
        above = newest["round"] + 1
        for line in reversed(lines):
            try:
                record = json.loads(line)
                good, number = record["good"], record["round"]
                record.pop("loss")
            except (ValueError, KeyError, TypeError):  # cut by a kill
                continue
            if good and number >= above:
                break  # of an earlier instance of the job
            if good:
                above = number
                if number < newest["round"] or record["checkpoint"] == newest["checkpoint"]:
                    found[number] = record
        return found

    def _store_all(self, records: List[Record]) -> None:
        self._all += records
        added = False
        while self._stored < len(self._all):
            record = self._all[self._stored]
            if not self._store.call(lambda s, record=record: (s.add_round(record), True)[1], False):
                return
            self._stored += 1
            added = True
        if added:
            self.summarise()

    def _append_metrics(self, records: List[Record]) -> None:
        try:
            self._metrics_file.parent.mkdir(parents=True, exist_ok=True)
            with open(self._metrics_file, "a", encoding="utf-8") as file:
                for record in records:
                    file.write(json.dumps(finite({**record, "loss": mean_loss(record["participants"])})) + "\n")
        except OSError as error:
            log.error("metrics file %s cannot be written: %s", self._metrics_file, error.strerror)

    def summarise(self) -> None:
        """Write the summary; a failure is logged and ends nothing."""
        try:
            self._store.call(lambda _: self._summarise(), None)
        except Exception:
            log.exception("the summary cannot be written")

    def redis_was_emptied(self) -> None:
        """Give Redis all records again."""
        self._stored = 0

    def begin_anew(self) -> None:
        """Forget the records of an earlier instance of the job."""
        self._all, self._stored = [], 0
