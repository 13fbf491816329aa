"""Kills a job's processes at random for some minutes, starts them again, and then counts what was lost.

Server, scheduler, Redis and workers are real processes; each silo adds a number of its own to every weight, so that
the last model tells whether every good round's updates, and no other, are in it. Exit status 1: something was lost.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import os
import random
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Set

import numpy as np
from chaos_worker import SHAPES, STEPS, number_of, samples_of

from cross_silo.checkpoint import CheckpointInfo, checkpoint_path, list_checkpoints, read_checkpoint, write_checkpoint
from cross_silo.coordination import JobStore
from cross_silo.coordination.client import make_client
from cross_silo.coordination.embedded import EmbeddedRedis
from cross_silo.data.coco import Category
from cross_silo.data.manifest import Manifest, write_manifest
from cross_silo.errors import UserError, run_main
from cross_silo.launch.free_ports import free_ports

HOST = "127.0.0.1"
WORKER = str(Path(__file__).with_name("chaos_worker.py"))
PAUSE = (0.3, 3.0)
"""Seconds between two kills, and until what was killed is started again."""
END_SECONDS = 180.0


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="of kills")
    parser.add_argument("--silos", type=int, default=3)
    parser.add_argument("--min_clients", type=int, default=2, help="updates that a round needs")
    parser.add_argument("--seed", type=int, default=1, help="of the kills")
    parser.add_argument("--work_dir", help="where the job's files go for a while; default: TMPDIR")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    args = parser.parse_args(argv)
    if not 1 <= args.min_clients <= args.silos <= 6 or args.minutes <= 0:
        raise UserError("--minutes, --silos, --min_clients: expected more than 0, at most 6 and at most --silos")
    return args


class ChaosJob:
    """A job in a directory of its own, whose processes may be killed and started again."""

    def __init__(self, directory: Path, args: argparse.Namespace) -> None:
        self.directory, self.run_dir, self.checkpoints = directory, directory / "run", directory / "ckpt"
        self.name = f"chaos_{secrets.token_hex(3)}"
        self.silos = [f"silo_{index}" for index in range(args.silos)]
        redis, http = free_ports(2)
        self.redis = EmbeddedRedis(HOST, redis)
        self.redis.ensure("chaos")
        self.server_address = f"{HOST}:{http}"
        windows = {"start_fl_job_time_window": 5000, "update_model_time_window": 2000}
        settings = {
            "fl_name": self.name,
            "fl_iteration_num": 10**6,
            "silos": self.silos,
            "lease": 2.0,
            "distributed_cache": {"address": f"{HOST}:{self.redis.port}"},
            "client": {"sync_frequency": STEPS},
            "round": {
                "start_fl_job_threshold": args.silos,
                "min_clients": args.min_clients,
                "max_consecutive_failures": 10**6,
                **windows,
            },
        }
        self.yaml = directory / "job.yaml"
        self.yaml.write_text(json.dumps(settings))
        (directory / "model.yaml").write_text("detector: faster_rcnn\n")  # names checkpoints; nothing is built of it
        self.checkpoints.mkdir()
        kinds = dict.fromkeys(SHAPES, "trainable")
        weights = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}
        path = checkpoint_path(self.checkpoints, self.name, 0, datetime.datetime.now())
        write_checkpoint(path, weights, CheckpointInfo(fl_name=self.name, classes=("any",), kinds=kinds))
        for index in range(args.silos):
            (directory / f"mindrecord_{index}").mkdir()
            write_manifest(str(directory / f"mindrecord_{index}"), manifest())
        self.processes: Dict[str, subprocess.Popen] = {}
        self.exits: Counter = Counter()

    @property
    def roles(self) -> List[str]:
        """Names of all that may be killed."""
        return ["server", "scheduler", "redis", *self.silos]

    def start(self, role: str) -> None:
        """Start a process, again if need be."""
        if role == "redis":
            self.redis.ensure("chaos")
            return
        common = ["--yaml_config", str(self.yaml), "--run_dir", str(self.run_dir)]
        if role == "server":
            command = ["-m", "cross_silo.aggregation.server", "--tcp_server_ip", HOST]
            command += ["--http_server_address", self.server_address, "--checkpoint_dir", str(self.checkpoints)]
        elif role == "scheduler":
            command = ["-m", "cross_silo.engines.native.scheduler", "--scheduler_manage_address", f"{HOST}:0"]
        else:
            index = str(number_of(role))
            command = [WORKER, "--config", str(self.directory / "model.yaml")]
            command += ["--worker_index", index, "--silo", role, "--http_server_address", self.server_address]
            command += ["--dataset_dir", str(self.directory / f"mindrecord_{index}"), "--wait_for_server", "60"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with open(self.directory / f"{role}.log", "ab") as log:
            self.processes[role] = subprocess.Popen(
                [sys.executable, *command, *common], stdout=log, stderr=log, env=environment
            )

    def kill(self, role: str) -> bool:
        """kill -9; False where it does not run at the moment."""
        if role == "redis":
            pid = self.redis.pid()
            if pid is None:
                return False
            os.kill(pid, 9)
            return True
        process = self.processes[role]
        if process.poll() is not None:
            return False
        process.kill()
        process.wait()
        return True

    def mend(self) -> None:
        """Start what left without being killed: it could not go on without those that were."""
        for role, process in list(self.processes.items()):
            if process.poll() is not None:
                self.exits[role] += 1
                self.start(role)

    def store(self) -> JobStore:
        """Return the job's record in Redis."""
        return JobStore(make_client(HOST, self.redis.port), self.name)

    def summary(self) -> Dict[str, Any]:
        """Return the job's summary."""
        return json.loads((self.run_dir / "summary.json").read_text())

    def good_rounds(self) -> int:
        """Return the round of the newest checkpoint."""
        return max(round for round, _ in list_checkpoints(self.checkpoints, self.name))

    def close(self) -> None:
        """Leave no process."""
        for process in self.processes.values():
            process.kill()
            process.wait()
        self.redis.leave()


def manifest() -> Manifest:
    """Return the manifest of data that nobody reads."""
    counts = {"num_images": 1, "num_boxes": 1, "num_crowd": 0, "boxes_by_class": (1,), "most_boxes": 1}
    skipped: Dict[str, Any] = {"clipped_boxes": 0, "skipped_images": {}, "skipped_boxes": {}, "keep_empty": False}
    origin = {"source": "none.json", "source_sha256": "", "shards": ()}
    return Manifest(categories=(Category(id=1, name="any", index=0),), **counts, **skipped, **origin)


def wait(happened: Callable[[], bool], what: str) -> None:
    """Wait until ``happened()``. Raises UserError where it takes too long."""
    deadline = time.monotonic() + END_SECONDS
    while not happened():
        if time.monotonic() > deadline:
            raise UserError(f"{END_SECONDS:g} s after the last kill: no {what}")
        time.sleep(0.1)


def rage(job: ChaosJob, seconds: float, seed: int) -> Counter:
    """Kill at random for ``seconds``. Returns the kills by role."""
    luck = random.Random(seed)
    kills: Counter = Counter()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(luck.uniform(*PAUSE))
        job.mend()
        role = luck.choice(job.roles)
        if job.kill(role):
            kills["worker" if role in job.silos else role] += 1
            time.sleep(luck.choice([0.0, 0.0, luck.uniform(*PAUSE)]))
            job.start(role)
    return kills


def means(silos: Sequence[str], least: int) -> Set[float]:
    """Return what a round whose participants are not known may have added."""
    sets = (chosen for count in range(least, len(silos) + 1) for chosen in itertools.combinations(silos, count))
    return {mean(chosen) for chosen in sets}


def mean(silos: Sequence[str]) -> float:
    """Return what a round of ``silos`` adds to every weight."""
    samples = [samples_of(silo) for silo in silos]
    return sum(10.0 ** number_of(silo) * count for silo, count in zip(silos, samples)) / sum(samples)


def losses(job: ChaosJob, summary: Dict[str, Any], least: int) -> List[str]:
    """Return what is not as it must be."""
    found = []
    good = [record for record in summary["rounds"] if record["good"]]
    numbers = [record["round"] for record in good]
    newest, path = max(list_checkpoints(job.checkpoints, job.name))
    if numbers != list(range(1, newest + 1)):
        wrong = sorted(set(numbers) ^ set(range(1, newest + 1)))
        found.append(f"of {len(numbers)} records of good rounds not each of 1 to {newest} has one: {wrong[:10]}")
    if summary["good_rounds"] != newest:
        found.append(f"good_rounds is {summary['good_rounds']}, the newest checkpoint's {newest}")
    told = [int(n) for n in re.findall(r" round (\d+) good: ", (job.directory / "server.log").read_text())]
    if told != sorted(set(told)):
        found.append("the server told of a good round twice, or of an earlier one after a later one")
    silos = [[each["silo"] for each in record["participants"]] for record in good]
    expected = {sum(mean(each) for each in silos if each)}
    for _ in range(silos.count([])):  # recorded after a kill, from the checkpoint alone
        expected = {round(total + added, 6) for total in expected for added in means(job.silos, least)}
    for name, tensor in read_checkpoint(path)[0].items():
        value = float(tensor.flat[0])
        if not (tensor == tensor.flat[0]).all() or not any(np.isclose(value, total, rtol=1e-4) for total in expected):
            found.append(f"{name} is {value}, expected {sorted(expected)[:4]}: an update is missing or counted twice")
    return found


def run(directory: Path, args: argparse.Namespace) -> Dict[str, Any]:
    """Run the job, the kills and the counts."""
    job = ChaosJob(directory, args)
    try:
        for role in job.roles:
            job.start(role)
        wait(lambda: job.good_rounds() >= 2, "first rounds")
        kills = rage(job, 60 * args.minutes, args.seed)
        enough = job.good_rounds() + 3
        wait(lambda: job.mend() or job.good_rounds() >= enough, "three more rounds")
        job.store().request("stop", {"reason": "enough"})
        wait(lambda: all(process.poll() is not None for process in job.processes.values()), "end of all processes")
        summary = job.summary()
        good = [record for record in summary["rounds"] if record["good"]]
        return {
            "minutes": args.minutes,
            "kills": dict(kills),
            "exits": dict(job.exits),
            "good_rounds": summary["good_rounds"],
            "without_a_silo": sum(bool(record["left_out"]) for record in good),
            "repeats": len(summary["rounds"]) - len(good),
            "losses": losses(job, summary, args.min_clients),
        }
    finally:
        job.close()


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run and report; 1 if something was lost."""
    args = parse(argv)
    with tempfile.TemporaryDirectory(dir=args.work_dir, prefix="chaos_") as directory:
        found = run(Path(directory), args)
    if args.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            shown = ", ".join(f"{key} {count}" for key, count in value.items()) if isinstance(value, dict) else value
            print(f"{name.replace('_', ' ')}: {shown if shown != [] else 0}")
    return 1 if found["losses"] else 0


if __name__ == "__main__":
    run_main(main)
