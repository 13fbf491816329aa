"""A server that gives the verdicts which a test lists, and a session that talks to it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Dict, List, Optional

import numpy as np

from cross_silo.checkpoint import CheckpointInfo
from cross_silo.training.progress import Progress
from cross_silo.training.session import RoundPlan, WorkerSession
from tests.support.numpy_trainer import SHAPES, NumpyTrainer

FOREVER = 1000.0


def model(value: float) -> Dict[str, np.ndarray]:
    return {name: np.full(int(np.prod(shape)), value, np.float32) for name, shape in SHAPES.items()}


class ScriptedServer:
    """A client whose server gives the verdicts that the test lists; a good round's model is its number."""

    def __init__(self, verdicts: List[str], rounds: int = 1000, good: int = 0) -> None:
        self.verdicts = list(verdicts)
        self.good = good
        self.rounds = rounds
        self.attempt = 1
        self.instance = "i1"
        self.pushed: List[Dict[str, np.ndarray]] = []
        self.calls: List[str] = []
        self.reports: List[tuple] = []
        self.refusals: List[str] = []
        self.told: List[tuple] = []

    @property
    def state(self) -> str:
        return "finished" if self.good >= self.rounds else "running"

    def job(self):
        return SimpleNamespace(reason="told so", fl_iteration_num=self.rounds)

    def heartbeat(self, **info):
        return SimpleNamespace(state=self.state, iteration=self.good + 1, instance=self.instance)

    def start_round(self, data_size, wait=0.0):
        self.calls.append("join")
        if self.refusals:
            return SimpleNamespace(
                iteration=self.good + 1,
                attempt=1,
                joined=False,
                waits=False,
                reason=self.refusals.pop(),
                state=self.state,
                instance=self.instance,
            )
        return SimpleNamespace(
            iteration=self.good + 1,
            attempt=self.attempt,
            joined=True,
            waits=False,
            reason="",
            state=self.state,
            instance=self.instance,
        )

    def push(self, ticket, weights, data_size, loss, stats):
        self.calls.append("push")
        self.pushed.append({name: np.array(array) for name, array in weights.items()})
        return SimpleNamespace(accepted=True, reason="", state="running")

    def get_model(self, iteration: Optional[int], wait: float = 0):
        self.calls.append("newest" if iteration is None else "verdict")
        if iteration is not None:
            verdict = self.verdicts.pop(0)
            if verdict != "good":
                self.attempt += verdict == "failed"
                state = verdict if verdict in ("stopped", "failed job") else "running"
                return SimpleNamespace(
                    verdict="pending" if state != "running" else verdict,
                    reason="silo_1 left",
                    round=self.good,
                    weights=None,
                    state=state.split()[0],
                )
            self.good += 1
            self.attempt = 1
        return SimpleNamespace(verdict="good", reason="", round=self.good, weights=model(self.good), state=self.state)

    def report(self, iteration, kind, detail):
        self.reports.append((iteration, kind, detail))

    def measured(self, instance, round, metrics):
        self.calls.append("measured")
        self.told.append((instance, round, metrics["AP50"]))

    def release(self):
        self.calls.append("release")


def session(server, tmp_path, trainer=None, measure=None, leave=None, **plan):
    trainer = trainer or NumpyTrainer("silo_0")
    (tmp_path / "ckpt").mkdir(exist_ok=True)
    return WorkerSession(
        server,
        trainer,
        Progress(trainer, tmp_path / "loss_0.log", batch_size=2),
        RoundPlan(steps=5, **{"instance": "i1", **plan}),
        state_file=tmp_path / "ckpt" / "state.npz",
        checkpoint_prefix=tmp_path / "ckpt" / "mindrecord_0-net",
        info=CheckpointInfo(fl_name="job", kinds=trainer.kinds()),
        lease=FOREVER,
        leave=leave,
        measure=measure,
    )
