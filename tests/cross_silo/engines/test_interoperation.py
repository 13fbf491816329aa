"""The wheel's own workers (FederatedLearningManager, MindSpore 2.9) in a job of the native engine: real processes."""

import datetime
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from cross_silo.checkpoint import (
    STATISTIC,
    TRAINABLE,
    CheckpointInfo,
    checkpoint_path,
    list_checkpoints,
    read_checkpoint,
    write_checkpoint,
)
from tests.support.federation import ROOT, Federation

PYTHON = Path(os.environ.get("INTEROP_PYTHON", ROOT / ".venv-interop" / "bin" / "python"))
SHAPES = {"dense.weight": (4, 3), "dense.bias": (4,), "norm.gamma": (4,), "norm.beta": (4,)}
STATISTICS = {"norm.moving_mean": (4,), "norm.moving_variance": (4,)}
SAMPLES = (10, 30)
ROUNDS = 3
OF_THE_WHEEL = {
    "server_mode": "CLOUD_TRAINING",
    "enable_ssl": False,
    "round": {
        "start_fl_job_threshold": 2,
        "start_fl_job_time_window": 300_000,
        "update_model_ratio": 1.0,
        "update_model_time_window": 300_000,
        "global_iteration_time_window": 600_000,
    },
    "summary": {"metrics_file": "metrics.json", "failure_event_file": "event.txt"},
    "encrypt": {"encrypt_type": "NOT_ENCRYPT"},
}
"""What the wheel's worker wants in a YAML; it reads the job's own."""


class WheelWorkers(Federation):
    """A job whose workers are the wheel's."""

    def write_initial(self) -> None:
        """Write round 0: all ones, as the workers begin, and statistics of fives."""
        weights = {name: np.ones(shape, np.float32) for name, shape in SHAPES.items()}
        weights.update({name: np.full(shape, 5, np.float32) for name, shape in STATISTICS.items()})
        kinds = {**dict.fromkeys(SHAPES, TRAINABLE), **dict.fromkeys(STATISTICS, STATISTIC)}
        self.checkpoints.mkdir()
        path = checkpoint_path(self.checkpoints, self.name, 0, datetime.datetime.now())
        write_checkpoint(path, weights, CheckpointInfo(fl_name=self.name, kinds=kinds))

    def wheel_worker(self, index: int, samples: int, steps: int) -> subprocess.Popen:
        """Start the wheel's worker."""
        with open(self.directory / f"worker_{index}.log", "ab") as output:
            process = subprocess.Popen(
                [PYTHON, ROOT / "tests" / "support" / "wheel_worker.py", self.yaml, self.address]
                + [str(samples), str(steps), self.directory / f"worker_{index}.npz"],
                cwd=self.directory,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        self.processes.append(process)
        return process


@pytest.fixture
def job(tmp_path, redis_address, free_port):
    made = WheelWorkers(tmp_path, redis_address, free_port, rounds=ROUNDS, compat="wheel_worker", **OF_THE_WHEEL)
    yield made
    made.close()


@pytest.mark.long
@pytest.mark.skipif(not PYTHON.exists(), reason="no .venv-interop: bash scripts/setup_interop.sh")
@pytest.mark.parametrize("more_steps", [0, 4], ids=["as many steps as rounds", "more steps than rounds"])
def test_two_workers_of_the_wheel(job, more_steps):
    """Three rounds from equal weights: each the weighted mean; with more steps workers end with the last model."""
    server = job.server()
    workers = [job.wheel_worker(i, samples, 2 * ROUNDS + more_steps) for i, samples in enumerate(SAMPLES)]
    for i, worker in enumerate(workers):
        assert job.status(worker) == 0, job.log(f"worker_{i}.log")
    assert job.status(server) == 0, job.log("server.log")
    told = [np.load(job.directory / f"worker_{i}.npz") for i in range(2)]
    checkpoints = dict(list_checkpoints(job.checkpoints, job.name))
    for number in range(1, ROUNDS + 1):
        model, _ = read_checkpoint(checkpoints[number])
        for name in SHAPES:
            pushed = [worker[f"pushed.{number}.{name}"].astype(np.float64) for worker in told]
            mean = np.average(pushed, axis=0, weights=SAMPLES)
            np.testing.assert_allclose(model[name].reshape(-1), mean, rtol=1e-6, atol=1e-6)
            for worker in told:
                np.testing.assert_array_equal(worker[f"received.{number}.{name}"], model[name].reshape(-1))
        assert np.any(told[0][f"pushed.{number}.norm.beta"] != told[1][f"pushed.{number}.norm.beta"])
        for name in STATISTICS:
            np.testing.assert_array_equal(model[name], 5)
    if more_steps:
        for name in SHAPES:
            np.testing.assert_array_equal(told[0][f"received.{ROUNDS + 2}.{name}"], model[name].reshape(-1))
    rounds = job.summary()["rounds"]
    assert [(r["round"], r["good"], r["samples"]) for r in rounds] == [(n, True, 40) for n in (1, 2, 3)]
