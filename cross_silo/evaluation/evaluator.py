"""The evaluator process: measures the global model of each round on held-out data, beside the server."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Set, Tuple

import redis

from cross_silo import runtime
from cross_silo.checkpoint import UnreadableCheckpointError, list_checkpoints
from cross_silo.config.federated import FederatedConfig, load_federated
from cross_silo.config.model import load_model
from cross_silo.coordination import JobStore, connect
from cross_silo.coordination.store import ENDED
from cross_silo.data.coco import read_coco, write_json
from cross_silo.errors import UserError, run_main
from cross_silo.evaluation.beat import Beat
from cross_silo.evaluation.checkpoint_evaluation import Measured
from cross_silo.launch import logs
from cross_silo.launch.ready import write_ready
from cross_silo.report.summary import write_summary

log = logging.getLogger(__name__)

ROLE = "evaluator"
POLL_SECONDS = 1.0
START_PATIENCE = 15.0
"""Seconds in which a server that was started at the same time replaces the record of a job that had ended."""
GONE_PATIENCE = 120.0
"""Seconds without any record of the job (a server renews it) after which nothing more is expected."""


def parse(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m cross_silo.evaluation.evaluator", description=__doc__)
    parser.add_argument("--yaml_config", required=True, help="federated YAML with an evaluation section")
    parser.add_argument("--config", required=True, help="model YAML")
    parser.add_argument("--checkpoint_dir", required=True, type=Path, help="the server's")
    parser.add_argument("--run_dir", required=True, type=Path, help="the job's run directory")
    return parser.parse_args(argv)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Evaluate until the job has ended and nothing is left, or SIGTERM."""
    arguments = parse(argv)
    leaving = threading.Event()
    # Only noted, and obeyed between batches: MindSpore turns an exit inside its import or compilation into a crash.
    signal.signal(signal.SIGTERM, lambda *_: leaving.set())

    def leave_if_asked() -> None:
        if leaving.is_set():
            sys.exit(0)

    def pause(seconds: float) -> None:
        leaving.wait(seconds)
        leave_if_asked()

    os.nice(5)  # before any thread exists: all of them inherit it, and training is not held up
    logs.start(ROLE)
    federated = load_federated(arguments.yaml_config)
    settings = federated.evaluation
    if not settings.annotations:
        raise UserError(f"{arguments.yaml_config}: evaluation.annotations is missing, expected a COCO json")
    model = load_model(arguments.config)
    dataset = read_coco(settings.annotations)
    address = federated.distributed_cache.address
    store = JobStore(connect(federated.distributed_cache, start_embedded=False, user=ROLE), federated.fl_name)
    role_dir = arguments.run_dir / ROLE
    role_dir.mkdir(parents=True, exist_ok=True)
    with Beat(store, ROLE) as beat:  # from now on: the server keeps for a live evaluator what it has not seen
        runtime.prepare(threads=1)
        runtime.start(model.config.seed, model.config.device_target)
        from cross_silo.evaluation.checkpoint_evaluation import CheckpointEvaluation

        measure = CheckpointEvaluation(model, dataset, settings.image_dir, leave_if_asked).measure
        evaluator = Evaluator(store, federated, arguments.checkpoint_dir, arguments.run_dir, measure, pause)
        beat.status = evaluator.status
        write_ready(role_dir, address)
        log.info("evaluating job %s on %s (%d images)", federated.fl_name, settings.annotations, len(dataset.images))
        return evaluator.run()


class Evaluator:
    """Decides what to measure next, and records it."""

    def __init__(
        self,
        store: JobStore,
        federated: FederatedConfig,
        checkpoint_dir: Path,
        run_dir: Path,
        measure: Callable[[Path], Measured],
        sleep: Callable[[float], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare.

        Args:
            measure: measures a checkpoint file; raises UserError for one of another model.
            sleep: waits so many seconds.
        """
        self._store = store
        self._federated = federated
        self._checkpoint_dir = checkpoint_dir
        self._run_dir = run_dir
        self._measure = measure
        self._clock = clock
        self._sleep = sleep
        self._began = self._record_seen = clock()
        self._seen_running = False
        self._ended: Optional[float] = None
        self._round: Optional[int] = None
        self._unusable: Set[Tuple[str, int]] = set()  # by job instance and round, as are the results
        self._results: Dict[Tuple[str, int], Dict[str, Any]] = {}

    def status(self) -> Dict[str, Any]:
        """What the process tells of itself."""
        return {"phase": "waiting" if self._round is None else "evaluating", "round": self._round}

    def run(self) -> int:
        """Work to the job's end. Returns the process's exit status."""
        answered = True
        while True:
            try:
                status = self._step()
                answered = True
            except redis.RedisError as error:
                if answered:
                    log.warning("Redis does not answer, trying on: %s", error)
                answered, status = False, None
                self._sleep(POLL_SECONDS)
            if status is not None:
                return status

    def _step(self) -> Optional[int]:
        """Evaluate one round or wait a little; return the exit status once nothing is left."""
        job, now = self._store.job(), self._clock()
        if job is None:
            if now - self._record_seen > GONE_PATIENCE:
                log.error("no record of job %s for %.0f s: its server is gone", self._federated.fl_name, GONE_PATIENCE)
                return 1
            self._sleep(POLL_SECONDS)
            return None
        self._record_seen = now
        if job["state"] not in ENDED:
            self._seen_running, self._ended = True, None
        elif not self._seen_running and now - self._began < START_PATIENCE:
            self._sleep(POLL_SECONDS)
            return None
        else:
            self._ended = now if self._ended is None else self._ended
            self._store.touch()  # its server may be gone, and what it left is needed to the end
        instance = job.get("instance", "")
        late = self._ended is not None and now - self._ended > self._federated.evaluation.deadline
        waiting = self.outstanding(instance, self._ended is not None)
        if waiting and not late:
            self._evaluate(instance, *waiting[0])
            return None
        if self._ended is not None:
            if waiting:
                log.warning(
                    "out of time (evaluation.deadline): rounds %s are not evaluated",
                    ", ".join(str(n) for n, _ in waiting),
                )
            write_summary(self._run_dir, self._store)
            log.info("the job is %s; the evaluator ends", job["state"])
            return 0
        self._sleep(POLL_SECONDS)
        return None

    def outstanding(self, instance: str, ended: bool) -> List[Tuple[int, Path]]:
        """Return (round, checkpoint) of what is to be evaluated, most urgent first: the newest round."""
        stored = self._store.evaluations()
        for (of, round), metrics in self._results.items():
            if of == instance and round not in stored:  # Redis was away, or lost it
                self._store.add_evaluation(round, metrics)
        files = list_checkpoints(self._checkpoint_dir, self._federated.fl_name)
        wanted = {round: path for round, path in files if round == 0}
        by_name = {path.name: path for _, path in files}
        good = {record["round"]: record for record in self._store.rounds() if record["good"]}
        last = max(good, default=0) if ended else self._federated.fl_iteration_num
        for round, record in good.items():
            if round % self._federated.evaluation.every == 0 or round == last:
                wanted[round] = by_name.get(Path(record["checkpoint"]).name)
        done = {*stored, *(round for of, round in {*self._results, *self._unusable} if of == instance)}
        found = []
        for round in sorted(set(wanted) - done, reverse=True):
            if wanted[round] is None:
                self._give_up(instance, round, f"no checkpoint {good[round]['checkpoint']!r} in {self._checkpoint_dir}")
            else:
                found.append((round, wanted[round]))
        return found

    def _evaluate(self, instance: str, round: int, path: Path) -> None:
        self._round = round
        try:
            measured = self._measure(path)
        except UnreadableCheckpointError as error:
            self._give_up(instance, round, str(error))
            return
        finally:
            self._round = None
        write_json(str(self._run_dir / ROLE / f"results_{round}.json"), measured.detections)
        metrics = measured.metrics()
        log.info(
            "round %d: AP %.3f, AP50 %.3f, AP75 %.3f (%d images, %d detections, %.1f s)",
            round,
            metrics["AP"],
            metrics["AP50"],
            metrics["AP75"],
            metrics["num_images"],
            metrics["num_detections"],
            metrics["seconds"],
        )
        self._results[instance, round] = metrics
        job = self._store.job()
        if job is not None and job.get("instance", "") == instance:  # else the job was begun anew meanwhile
            self._store.add_evaluation(round, metrics)
            write_summary(self._run_dir, self._store)

    def _give_up(self, instance: str, round: int, reason: str) -> None:
        if (instance, round) not in self._unusable:
            self._unusable.add((instance, round))
            log.warning("round %d is not evaluated: %s", round, reason)


if __name__ == "__main__":
    run_main(main)
