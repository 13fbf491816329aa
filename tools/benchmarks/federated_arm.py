"""One arm of federated_vs.py: a job over some silos, from its data to its result, with the commands that a user has."""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple

import yaml

from cross_silo.checkpoint import newest_checkpoint, read_checkpoint
from cross_silo.config.model import load_model
from cross_silo.data.manifest import read_manifest
from cross_silo.errors import UserError
from cross_silo.launch.free_ports import free_ports
from cross_silo.launch.proc import peak_memory
from cross_silo.launch.record import read_json, write_json
from cross_silo.launch.role import running_roles
from cross_silo.report.loss_log import read_loss_log

ROOT = Path(__file__).resolve().parents[2]
PROBE_STEPS = 6
POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Arm:
    """One training: which silos take part."""

    name: str
    seed: int
    silos: Tuple[int, ...]
    """Workers' indices; each trains on mindrecord_{i}."""
    whole: bool
    """Whether the only silo has all images."""

    @property
    def key(self) -> str:
        """Its name among results and directories."""
        return f"{self.name}_seed{self.seed}"


def arm_names(num_silos: int) -> List[str]:
    """Return the names of all arms."""
    return ["centralised", "federated", *(f"silo_{index}" for index in range(num_silos))]


def make_arms(names: Sequence[str], seeds: Sequence[int], num_silos: int) -> List[Arm]:
    """Return the arms in the order in which they run. Raises UserError for a name that is none."""
    arms = []
    for seed in seeds:
        for name in names:
            alone = re.fullmatch(r"silo_(\d+)", name)
            if name == "federated":
                silos = tuple(range(num_silos))
            elif name == "centralised" or (alone and int(alone[1]) < num_silos):
                silos = (int(alone[1]) if alone else 0,)
            else:
                expected = ", ".join(arm_names(num_silos))
                raise UserError(f"--arms: found {name!r}; expected some of {expected}")
            arms.append(Arm(name, seed, silos, name == "centralised"))
    return arms


def command(script: str, *arguments: Any) -> List[str]:
    """Return a script's command line."""
    return [sys.executable, str(ROOT / script), *map(str, arguments)]


def call(script: str, *arguments: Any) -> None:
    """Run a script to its end, its output to stderr. Raises UserError where it fails."""
    done = subprocess.run(command(script, *arguments), stdout=sys.stderr, check=False, env=environment())
    if done.returncode:
        raise UserError(f"{script} ended with status {done.returncode}")


def environment() -> Dict[str, str]:
    """Return the environment of scripts: this checkout is found from wherever they start."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])}


# data and configuration


def prepare_data(args: argparse.Namespace, arm: Arm) -> Path:
    """Return the directory with the arm's mindrecord_{i}, made where it is not there."""
    if arm.whole:
        directory = args.work_dir / "data" / "whole"
        if not (directory / "mindrecord_0" / "manifest.json").exists():
            directory.mkdir(parents=True, exist_ok=True)
            source = ("--instance_set", args.annotations, "--mindrecord_dir", directory / "mindrecord_0", "--overwrite")
            call("tools/generate_mindrecord.py", *source, "--image_dir", args.image_dir)
        return directory
    directory = args.work_dir / "data" / f"split_{args.num_silos}_alpha{args.alpha:g}_seed{arm.seed}"
    if not (directory / "split.json").exists():
        scheme = ("--scheme", "dirichlet", "--alpha", args.alpha, "--num_silos", args.num_silos, "--seed", arm.seed)
        call("tools/split_coco.py", "--annotations", args.annotations, *scheme, "--out", directory, "--overwrite")
    call("tools/generate_mindrecord.py", "--split_dir", directory, "--image_dir", args.image_dir)
    return directory


def write_config(args: argparse.Namespace, arm: Arm, directory: Path, redis_port: int) -> Tuple[Path, Path]:
    """Write the arm's federated and model YAML; return their paths."""
    steps = args.steps // (args.rounds * len(arm.silos))
    job = {
        "base": str(ROOT / "configs" / "federated.yaml"),
        "fl_name": arm.key,
        "fl_iteration_num": args.rounds,
        "silos": [f"silo_{index}" for index in arm.silos],
        "distributed_cache": {"address": f"127.0.0.1:{redis_port}"},
        "round": {"start_fl_job_threshold": len(arm.silos)},
        "client": {"sync_frequency": steps},
        "evaluation": {
            "annotations": str(Path(args.val_annotations).resolve()),
            "image_dir": str(Path(args.image_dir).resolve()),
        },
    }
    model: Dict[str, Any] = {"base": str(Path(args.config).resolve()), "seed": arm.seed}
    if load_model(args.config).config.lr_schedule in ("cosine", "linear"):
        model["lr_total_steps"] = steps * args.rounds
    paths = directory / "federated.yaml", directory / "model.yaml"
    for path, content in zip(paths, (job, model)):
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return paths


def run_arm(args: argparse.Namespace, arm: Arm) -> Dict[str, Any]:
    """Run a job to its end, going on from its checkpoints where it has some; return its result."""
    directory = args.work_dir.resolve() / arm.key
    run_dir, checkpoints = directory / "run", directory / "fl_ckpt"
    data = prepare_data(args, arm)
    directory.mkdir(parents=True, exist_ok=True)
    silos = ("--local_worker_num", len(arm.silos), "--first_worker_index", arm.silos[0], "--dataset_path", data)
    workers = () if good_rounds(checkpoints, arm.key) >= args.rounds else silos
    memory = run_job(directory, arm.key, lambda redis: write_config(args, arm, directory, redis), workers)
    return result(args, arm, data, run_dir, memory)


def run_job(
    directory: Path,
    fl_name: str,
    write: Callable[[int], Tuple[Path, Path]],
    workers: Sequence[Any],
    pre_trained: str = "",
) -> Dict[str, float]:
    """Run a job's scheduler, server and workers to its end; return their peak memory as :func:`watch` does.

    Args:
        directory: gets ``run`` and ``fl_ckpt``.
        write: writes federated and model YAML for a Redis port, and returns their paths.
        workers: their flags; empty: the job has ended, and only what is not measured yet is to be.
        pre_trained: checkpoint that round 0 starts from.
    """
    run_dir = directory / "run"
    if run_dir.exists():
        call("scripts/finish.py", "--run_dir", run_dir, "--fl_name", fl_name)
    redis, rest, http = free_ports(3)
    job, model = write(redis)
    shared = ("--yaml_config", job, "--run_dir", run_dir)
    address, detector = ("--http_server_address", f"127.0.0.1:{http}"), ("--config", model)
    filled = ("--pre_trained", pre_trained) if pre_trained else ()
    try:
        call("scripts/run_sched.py", *shared, "--scheduler_manage_address", f"127.0.0.1:{rest}")
        served = ("--checkpoint_dir", directory / "fl_ckpt", "--local_server_num", 1, *address)
        call("scripts/run_server.py", *shared, *detector, *filled, "--tcp_server_ip", "127.0.0.1", *served)
        if workers:
            call("scripts/run_worker.py", *shared, *detector, *workers, *address)
        return watch(run_dir)
    finally:
        call("scripts/finish.py", "--run_dir", run_dir, "--fl_name", fl_name)


def good_rounds(checkpoints: Path, fl_name: str) -> int:
    """Return how many rounds the arm has behind it."""
    path = newest_checkpoint(checkpoints, fl_name) if checkpoints.is_dir() else None
    return read_checkpoint(path)[1].round if path else 0


def watch(run_dir: Path) -> Dict[str, float]:
    """Wait for the job's end; return the peak memory of each role in MB, over all its processes so far."""
    file = run_dir / "memory.json"
    peaks: Dict[str, float] = read_json(file) or {}
    shown = command("tools/show_summary.py", "--run_dir", run_dir, "--follow")
    show_process = subprocess.Popen(shown, stdout=sys.stderr, env=environment())
    try:
        while show_process.poll() is None:
            for role in running_roles():
                if role.role_dir.parent == run_dir.resolve() and role.main:
                    peaks[role.name] = max(peaks.get(role.name, 0.0), peak_memory(role.main[0]))
            write_json(file, peaks)
            time.sleep(POLL_SECONDS)
    finally:
        if show_process.poll() is None:
            show_process.terminate()
        show_process.wait()
    if show_process.returncode:
        raise UserError(f"the job in {run_dir} did not finish; its logs say why, and the same command goes on with it")
    return peaks


def result(
    args: argparse.Namespace, arm: Arm, data: Path, run_dir: Path, memory: Mapping[str, float]
) -> Dict[str, Any]:
    """Return what is kept of an arm that is done. Raises UserError where it took other steps than it should."""
    summary = read_json(run_dir / "summary.json") or {}
    rounds = [record for record in summary["rounds"] if record["good"]]
    steps = sum(len(read_loss_log(run_dir / f"worker_{index}" / "loss_0.log")) for index in arm.silos)
    if steps != args.steps or len(rounds) != args.rounds or summary["final_AP50"] is None:
        raise UserError(
            f"{run_dir}: {steps} steps in {len(rounds)} good rounds, final AP50 {summary['final_AP50']}; "
            f"expected {args.steps} in {args.rounds}, and an AP50"
        )
    final = summary["evaluations"][str(args.rounds)]
    return {
        "arm": arm.name,
        "seed": arm.seed,
        "images": {f"silo_{index}": read_manifest(data / f"mindrecord_{index}").num_images for index in arm.silos},
        "steps": steps,
        "AP50": final["AP50"],
        "AP": final["AP"],
        "classes": final["classes"],
        "val_images": final["num_images"],
        "seconds": round(sum(record["seconds"]["round"] for record in rounds), 1),
        "failed_attempts": summary["failed_attempts"],
        "bytes_moved": summary["bytes_up"] + summary["bytes_down"],
        "peak_memory_mb": {role: round(peak, 1) for role, peak in sorted(memory.items())},
        "rounds": [
            {
                "round": record["round"],
                "losses": record["losses"],
                "mean_loss": record["mean_loss"],
                "AP50": record["AP50"],
                "AP": record["AP"],
                "seconds": record["seconds"]["round"],
            }
            for record in rounds
        ],
        "versions": versions(),
        "ended": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


def versions() -> Dict[str, str]:
    """Return the versions that a result depends on."""
    found = {name: importlib.metadata.version(name) for name in ("mindspore", "numpy")}
    return {"python": sys.version.split()[0], **found, "cores": str(len(os.sched_getaffinity(0)))}


def probe(args: argparse.Namespace, arm: Arm) -> float:
    """Return the seconds of a training step, taken in a process of its own."""
    silo = arm.silos[0]
    data = prepare_data(args, arm) / f"mindrecord_{silo}"
    code = (
        "import argparse, sys, time; from pathlib import Path\n"
        "from cross_silo.config.model import load_model\n"
        "from cross_silo.data.manifest import read_manifest\n"
        "from cross_silo.training.worker import build_trainer\n"
        "model, data, times = load_model(sys.argv[1]), Path(sys.argv[2]), []\n"
        "worker = argparse.Namespace(dataset_dir=data, silo=sys.argv[3])\n"
        "trainer, _ = build_trainer(model, read_manifest(data), worker, None)\n"
        f"trainer.train({PROBE_STEPS}, lambda record: times.append(time.monotonic()))\n"
        "print((times[-1] - times[0]) / (len(times) - 1))\n"
    )
    arguments = [sys.executable, "-c", code, args.config, str(data), f"silo_{silo}"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, env=environment())
    if done.returncode:
        raise UserError(f"--config {args.config}: no step could be taken: {(done.stderr.splitlines() or ['?'])[-1]}")
    return float(done.stdout.split()[-1])
