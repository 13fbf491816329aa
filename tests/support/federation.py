"""A job of real processes on one machine: Redis, a server, and workers whose trainers are numpy's."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import yaml

from cross_silo.checkpoint import (
    CheckpointInfo,
    checkpoint_path,
    content_sha256,
    list_checkpoints,
    model_fingerprint,
    read_checkpoint,
    write_checkpoint,
)
from cross_silo.data.coco import Category
from cross_silo.data.manifest import Manifest, write_manifest
from tests.support.numpy_trainer import SHAPES, NumpyTrainer

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 120.0
"""Bound of every wait."""


class Federation:
    """Writes what a job needs into ``directory``, starts its processes, and ends what is left of them."""

    def __init__(
        self, directory: Path, redis_address: str, port: int, rounds: int = 3, servers: int = 1, **settings: Any
    ) -> None:
        self.directory = directory
        self.run_dir = directory / "run"
        self.checkpoints = directory / "fl_ckpt"
        self.address = f"127.0.0.1:{port}"
        self.port = port
        self.servers = servers
        self.name = f"job_{directory.name}"
        self.yaml = directory / "federated.yaml"
        self.processes: List[subprocess.Popen] = []
        content = {
            "fl_name": self.name,
            "fl_iteration_num": rounds,
            "lease": 2.0,
            "distributed_cache": {"address": redis_address},
            "client": {"sync_frequency": 5},
            **settings,
        }
        self.yaml.write_text(yaml.safe_dump(content))
        self.model_yaml = directory / "model.yaml"
        self.model_yaml.write_text("detector: faster_rcnn\n")  # names the checkpoints; nothing is built from it
        self.write_initial()

    def write_initial(self) -> None:
        """Write round 0: all ones."""
        trainer = NumpyTrainer("any")
        weights = {name: np.ones(shape, np.float32) for name, shape in SHAPES.items()}
        info = CheckpointInfo(
            fl_name=self.name,
            fingerprint=model_fingerprint(trainer.shapes(), trainer.kinds()),
            initial_sha256=content_sha256(weights),
            classes=("cell",),
            kinds=trainer.kinds(),
        )
        self.checkpoints.mkdir()
        write_checkpoint(checkpoint_path(self.checkpoints, self.name, 0, datetime.datetime.now()), weights, info)

    def start(
        self, module: str, log: str, *arguments: str, env: Optional[Mapping[str, str]] = None
    ) -> subprocess.Popen:
        """Start ``python -m module`` with its output appended to ``log``."""
        path = self.directory / log
        with open(path, "ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
            )
        self.processes.append(process)
        return process

    def server(self, fault: str = "") -> subprocess.Popen:
        """Start the server and wait until it serves; ``fault`` is a point where it is killed."""
        ready = self.run_dir / "server_0" / "ready.json"
        ready.unlink(missing_ok=True)
        process = self.start(
            "tests.support.faulty_server" if fault else "cross_silo.aggregation.server",
            "server.log",
            *("--yaml_config", str(self.yaml), "--http_server_address", self.address),
            *("--tcp_server_ip", "127.0.0.1", "--checkpoint_dir", str(self.checkpoints)),
            *("--run_dir", str(self.run_dir), "--servers", str(self.servers)),
            env=self.fault("server", fault),
        )
        self.wait(lambda: ready.exists() or process.poll() is not None, "the server to serve")
        assert process.poll() is None, self.log("server.log")
        return process

    def shard_server(self, index: int, fault: str = "") -> subprocess.Popen:
        """Start server ``index``, 1 or more, and wait until it serves."""
        ready = self.run_dir / f"server_{index}" / "ready.json"
        ready.unlink(missing_ok=True)
        process = self.start(
            "tests.support.faulty_shard_server" if fault else "cross_silo.aggregation.shard_server",
            f"server_{index}.log",
            *("--yaml_config", str(self.yaml), "--http_server_address", f"127.0.0.1:{self.port + index}"),
            *("--index", str(index), "--first_server_address", self.address, "--run_dir", str(self.run_dir)),
            env=self.fault(f"server_{index}", fault),
        )
        self.wait(lambda: ready.exists() or process.poll() is not None, f"server {index} to serve")
        assert process.poll() is None, self.log(f"server_{index}.log")
        return process

    def fault(self, name: str, point: str) -> Dict[str, str]:
        """The environment that has a process killed at a point of a round, once."""
        return {"FAULT": point, "FAULT_MARK": str(self.directory / f"{name}.killed")} if point else {}

    def worker(
        self, index: int, *more: str, classes: Tuple[str, ...] = ("cell",), fault: str = "", **trainer: Any
    ) -> subprocess.Popen:
        """Start worker ``index``; ``trainer`` goes to its NumpyTrainer, ``more`` to the command line."""
        data = self.directory / f"mindrecord_{index}"
        if not data.exists():
            data.mkdir()
            write_manifest(str(data), manifest(classes))
        arguments = ["--yaml_config", str(self.yaml), "--config", str(self.model_yaml)]
        arguments += ["--worker_index", str(index), "--silo", f"silo_{index}", "--dataset_dir", str(data)]
        arguments += ["--http_server_address", self.address, "--run_dir", str(self.run_dir), *more]
        env = {"NUMPY_TRAINER": json.dumps(trainer), **self.fault(f"worker_{index}", fault)}
        return self.start("tests.support.numpy_worker", f"worker_{index}.log", *arguments, env=env)

    def log(self, name: str) -> str:
        """The text of a process's output."""
        path = self.directory / name
        return path.read_text() if path.exists() else ""

    def summary(self) -> Dict[str, Any]:
        """The job's summary."""
        return json.loads((self.run_dir / "summary.json").read_text())

    def model(self) -> Tuple[int, Dict[str, np.ndarray]]:
        """Round and tensors of the newest checkpoint."""
        round_number, path = max(list_checkpoints(self.checkpoints, self.name))
        return round_number, read_checkpoint(path)[0]

    def wait(self, happened: Callable[[], bool], what: str, seconds: float = SECONDS) -> None:
        """Wait until ``happened()``."""
        deadline = time.monotonic() + seconds
        while not happened():
            logs = "\n".join(f"== {path.name}\n{path.read_text()}" for path in self.directory.glob("*.log"))
            assert time.monotonic() < deadline, f"waited {seconds} s for {what}\n{logs}"
            time.sleep(0.02)

    def wait_log(self, name: str, text: str) -> None:
        """Wait until the output ``name`` contains ``text``."""
        self.wait(lambda: text in self.log(name), f"{text!r} in {name}")

    def status(self, process: subprocess.Popen) -> int:
        """Wait for the process's end; its exit status."""
        self.wait(lambda: process.poll() is not None, f"the end of {process.args}")
        return process.returncode

    def close(self) -> None:
        """Kill what still runs."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()


def manifest(classes: Tuple[str, ...]) -> Manifest:
    """A manifest of no shards."""
    categories = tuple(Category(id=index + 1, name=name, index=index) for index, name in enumerate(classes))
    return Manifest(
        categories=categories,
        num_images=10,
        num_boxes=10,
        num_crowd=0,
        boxes_by_class=(10,) * len(classes),
        most_boxes=1,
        clipped_boxes=0,
        skipped_images={},
        skipped_boxes={},
        keep_empty=False,
        source="train.json",
        source_sha256="",
        shards=(),
    )


def reference(
    samples: Mapping[str, int], rounds: int, steps: int = 5, participants: Optional[Sequence[Sequence[str]]] = None
) -> Dict[str, np.ndarray]:
    """FedAvg by hand: the weighted mean, in float64, of what each silo's trainer makes of the round's model.

    Args:
        participants: the silos of each round; None: all of them. Whoever is not in a round did not train either.
    """
    model = {name: np.ones(shape, np.float64) for name, shape in SHAPES.items()}
    trainers = {silo: NumpyTrainer(silo) for silo in samples}
    for silos in participants if participants is not None else [list(samples)] * rounds:
        sums = {name: np.zeros(shape) for name, shape in SHAPES.items()}
        for silo in silos:
            trainer = trainers[silo]
            trainer.set_weights({name: array.astype(np.float32) for name, array in model.items()})
            trainer.train(steps, lambda record: None)
            for name, array in trainer.get_weights().items():
                sums[name] += array.astype(np.float64) * samples[silo]
        total = sum(samples[silo] for silo in silos)
        model = {name: array / total for name, array in sums.items()}
    return model
