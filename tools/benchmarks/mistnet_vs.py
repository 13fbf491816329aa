"""MistNet beside FedAvg from one pre-trained checkpoint, by equal steps: AP50 on held-out images and what was uploaded.

The checkpoint is trained on public images first (a job of one silo; its cost is a row of the table), or given. Each arm
is a job started with the commands that a user has; one whose result stands in --out is not run again.
"""

from __future__ import annotations

import argparse
import datetime
import json
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import yaml
from federated_arm import ROOT, Arm, call, good_rounds, prepare_data, run_job, versions
from rich.console import Console
from rich.table import Table

from cross_silo.checkpoint import newest_checkpoint
from cross_silo.config.federated import load_federated
from cross_silo.config.model import FALLING, load_model
from cross_silo.data import coco
from cross_silo.data.manifest import read_manifest
from cross_silo.errors import UserError, run_main
from cross_silo.launch.record import read_json

PUBLIC, FEDAVG, MISTNET = "public", "fedavg", "mistnet"


@dataclass(frozen=True)
class Way:
    """One arm."""

    name: str
    """Of its job and directory."""
    kind: str
    epsilon: Optional[float] = None

    @property
    def shown(self) -> str:
        """Its name in the table."""
        if self.kind == PUBLIC:
            return "pre-training on public images"
        said = "null" if self.epsilon is None else f"{self.epsilon:g}"
        return "FedAvg" if self.kind == FEDAVG else f"MistNet, epsilon {said}"


def parse(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotations", required=True, help="COCO json of the silos' images")
    parser.add_argument("--val_annotations", required=True, help="COCO json of the held-out images")
    parser.add_argument("--image_dir", required=True, help="directory that the training file's names are relative to")
    parser.add_argument("--val_image_dir", default="", help="that of the held-out images; default: --image_dir")
    parser.add_argument("--public_annotations", default="", help="COCO json of the images to pre-train on")
    parser.add_argument("--public_image_dir", default="", help="directory that its file names are relative to")
    parser.add_argument("--pre_trained", default="", help="checkpoint to start from, in place of public images")
    parser.add_argument("--public_steps", type=int, default=900, help="optimizer steps of the pre-training")
    parser.add_argument(
        "--yaml_config", required=True, help="federated YAML of MistNet: cut_layer, epochs, transmitter"
    )
    parser.add_argument("--config", required=True, help="model YAML; a falling rate falls over each arm's steps")
    parser.add_argument("--public_config", default="", help="model YAML of the pre-training; default: --config")
    parser.add_argument("--out", required=True, type=Path, help="json of the results; what it has is not run again")
    parser.add_argument("--work_dir", type=Path, default=Path("runs/mistnet_vs"), help="data, jobs and checkpoints")
    parser.add_argument("--num_silos", type=int, default=2)
    parser.add_argument("--alpha", type=float, default=1.0, help="evenness of the Dirichlet split")
    parser.add_argument("--seed", type=int, default=1, help="of weights, order and split")
    parser.add_argument("--epsilons", nargs="+", default=["null", "4"], help="null, or the noise; an arm each")
    parser.add_argument("--expect_ap50", type=float, default=0.0, help="fail where MistNet's best is below")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    args = parser.parse_args(argv)
    if bool(args.pre_trained) == bool(args.public_annotations):
        raise UserError("expected either --pre_trained or --public_annotations with --public_image_dir")
    if bool(args.public_annotations) != bool(args.public_image_dir):
        raise UserError("--public_annotations and --public_image_dir are given together or not at all")
    if args.public_steps < 1 or args.num_silos < 1:
        raise UserError("--public_steps, --num_silos: expected at least 1")
    for name in (
        "annotations",
        "val_annotations",
        "yaml_config",
        "config",
        "public_annotations",
        "public_config",
        "pre_trained",
    ):
        path = getattr(args, name)
        if path and not Path(path).is_file():
            raise UserError(f"--{name} is {path}: no such file")
    try:
        args.epsilons = [None if text == "null" else float(text) for text in args.epsilons]
    except ValueError:
        raise UserError(f"--epsilons is {' '.join(args.epsilons)}: expected null or numbers") from None
    args.val_image_dir = args.val_image_dir or args.image_dir
    job = load_federated(args.yaml_config)
    if job.algorithm != MISTNET:
        raise UserError(f"--yaml_config {args.yaml_config}: algorithm is {job.algorithm}, expected {MISTNET}")
    args.fl_name, args.epochs, args.cut_layer = job.fl_name, job.mistnet.epochs, job.mistnet.cut_layer
    return args


def ways(args: argparse.Namespace) -> List[Way]:
    """Return the arms in the order in which they run."""
    found = [Way("public", PUBLIC)] if args.public_annotations else []
    job = args.fl_name
    found += [Way(job if e is None else f"{job}_epsilon_{e:g}", MISTNET, e) for e in args.epsilons]
    return [*found, Way("fedavg", FEDAVG)]


def settings_of(args: argparse.Namespace) -> Dict[str, Any]:
    """Return what makes results comparable; it holds no path of this machine."""
    files = [name for name in ("annotations", "val_annotations", "public_annotations") if getattr(args, name)]
    numbers = ("public_steps", "epochs", "num_silos", "alpha", "seed", "cut_layer")
    return {
        **{name: {"sha256": coco.read_coco(getattr(args, name)).sha256} for name in files},
        **{name: getattr(args, name) for name in numbers},
        "config": Path(args.config).name,
        "pre_trained": Path(args.pre_trained).name,
    }


def read_results(path: Path, settings: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the results that stand in --out. Raises UserError where they are of other settings."""
    results = read_json(path) if path.exists() else {"settings": dict(settings), "arms": {}}
    if results is None or results.get("settings") != settings:
        raise UserError(f"--out {path}: is of other settings; expected another --out")
    return results


# one arm


def public_data(args: argparse.Namespace) -> Path:
    """Return the directory with the public images' mindrecord_0, made where it is not there."""
    directory = args.work_dir / "data" / "public"
    if not (directory / "mindrecord_0" / "manifest.json").exists():
        directory.mkdir(parents=True, exist_ok=True)
        source = ("--instance_set", args.public_annotations, "--image_dir", args.public_image_dir, "--overwrite")
        call("tools/generate_mindrecord.py", *source, "--mindrecord_dir", directory / "mindrecord_0")
    return directory


def write_configs(
    args: argparse.Namespace, way: Way, directory: Path, silos: int, steps: int, redis: int
) -> Tuple[Path, Path]:
    """Write the arm's federated and model YAML; return their paths.

    Args:
        steps: of each silo in a round.
    """
    evaluation = {"annotations": args.val_annotations, "image_dir": args.val_image_dir}
    base = args.yaml_config if way.kind == MISTNET else ROOT / "configs" / "federated.yaml"
    job: Dict[str, Any] = {
        "base": str(Path(base).resolve()),
        "fl_name": way.name,
        "silos": [f"silo_{index}" for index in range(silos)],
        "distributed_cache": {"address": f"127.0.0.1:{redis}"},
        "round": {"start_fl_job_threshold": silos},
        "evaluation": {key: str(Path(path).resolve()) for key, path in evaluation.items()},
    }
    if way.kind == MISTNET:
        job["mistnet"] = {"epsilon": way.epsilon, "evaluate_on": "clean" if way.epsilon is None else "both"}
    else:
        job["fl_iteration_num"] = args.epochs
        job["client"] = {"sync_frequency": steps}
    source = args.public_config if way.kind == PUBLIC and args.public_config else args.config
    model: Dict[str, Any] = {"base": str(Path(source).resolve()), "seed": args.seed}
    if load_model(source).config.lr_schedule in FALLING:
        model["lr_total_steps"] = steps * args.epochs
    paths = directory / "federated.yaml", directory / "model.yaml"
    for path, content in zip(paths, (job, model)):
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return paths


def run_way(args: argparse.Namespace, way: Way) -> Dict[str, Any]:
    """Run an arm's job to its end, going on from its checkpoints where it has some; return its result."""
    directory = args.work_dir.resolve() / way.name
    directory.mkdir(parents=True, exist_ok=True)
    data = public_data(args) if way.kind == PUBLIC else prepare_data(args, Arm(way.name, args.seed, (0,), False))
    silos = 1 if way.kind == PUBLIC else args.num_silos
    images = [read_manifest(data / f"mindrecord_{index}").num_images for index in range(silos)]
    batch = load_model(args.config).config.batch_size
    epoch = -(-args.public_steps // args.epochs) if way.kind == PUBLIC else -(-sum(images) // batch)
    steps = -(-epoch // silos)
    pre_trained = "" if way.kind == PUBLIC else starting_point(args)
    flags = ("--local_worker_num", silos, "--dataset_path", data)
    workers = () if good_rounds(directory / "fl_ckpt", way.name) >= args.epochs else flags

    def write(redis: int) -> Tuple[Path, Path]:
        return write_configs(args, way, directory, silos, steps, redis)

    memory = run_job(directory, way.name, write, workers, pre_trained)
    return result(args, way, directory / "run", images, epoch if way.kind == MISTNET else steps * silos, memory)


def starting_point(args: argparse.Namespace) -> str:
    """Return the checkpoint that all arms start from. Raises UserError where the pre-training is not done."""
    if args.pre_trained:
        return str(Path(args.pre_trained).resolve())
    directory = args.work_dir.resolve() / "public" / "fl_ckpt"
    path = newest_checkpoint(directory, "public")
    if path is None:
        raise UserError(f"{directory} has no checkpoint of the pre-training; expected the --work_dir of --out")
    return str(path)


def result(
    args: argparse.Namespace, way: Way, run_dir: Path, images: List[int], epoch: int, memory: Mapping[str, float]
) -> Dict[str, Any]:
    """Return what is kept of an arm that is done.

    Args:
        epoch: optimizer steps a round, over all silos.

    Raises:
        UserError: it is not done.
    """
    summary = read_json(run_dir / "summary.json") or {}
    rounds = [record for record in summary.get("rounds", ()) if record["good"]]
    if len(rounds) != args.epochs or summary["final_AP50"] is None:
        raise UserError(f"{run_dir}: {len(rounds)} good rounds, expected {args.epochs} and an AP50")
    final = summary["evaluations"][str(args.epochs)]
    return {
        "arm": way.shown,
        "images": images,
        "steps": epoch * args.epochs,
        "AP50": final["AP50"],
        "AP": final["AP"],
        "AP50_noisy": final.get("noisy", {}).get("AP50"),
        "first_AP50": summary["evaluations"].get("0", {}).get("AP50"),
        "classes": final["classes"],
        "bytes_up": 0 if way.kind == PUBLIC else summary["bytes_up"],
        "bytes_down": 0 if way.kind == PUBLIC else summary["bytes_down"],
        "seconds": round(sum(record["seconds"]["round"] for record in rounds), 1),
        "AP50_by_round": [record["AP50"] for record in rounds],
        "peak_memory_mb": {role: round(peak, 1) for role, peak in sorted(memory.items())},
        "versions": versions(),
        "ended": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


def show(results: Mapping[str, Any], console: Console) -> None:
    """Print the table."""
    settings = results["settings"]
    table = Table(title=f"{settings['config']}: from one pre-trained checkpoint, {settings['epochs']} passes")
    table.add_column("arm", no_wrap=True)
    for heading in (
        "images",
        "steps",
        "AP50",
        "AP",
        "AP50 on\nnoisy bits",
        "MB\nuploaded",
        "MB a silo\ndownloaded",
        "s",
    ):
        table.add_column(heading, justify="right")
    for arm in results["arms"].values():
        noisy = arm["AP50_noisy"]
        table.add_row(
            arm["arm"],
            "+".join(map(str, arm["images"])),
            str(arm["steps"]),
            f"{arm['AP50']:.3f}",
            f"{arm['AP']:.3f}",
            "" if noisy is None else f"{noisy:.3f}",
            f"{arm['bytes_up'] / 1e6:.1f}",
            f"{arm['bytes_down'] / 1e6 / len(arm['images']):.1f}",
            f"{arm['seconds']:.0f}",
        )
    console.print(table)
    for arm in results["arms"].values():
        values = " ".join("-" if value is None else f"{value:.2f}" for value in arm["AP50_by_round"])
        before = "" if arm["first_AP50"] is None else f"{arm['first_AP50']:.2f} before, "
        console.print(f"{arm['arm']}: AP50 {before}by round {values}", highlight=False)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command."""
    args = parse(argv)
    settings = settings_of(args)
    results = read_results(args.out, settings)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # the arm's job ends with it
    for way in ways(args):
        if way.name not in results["arms"]:
            results["arms"][way.name] = run_way(args, way)
            args.out.parent.mkdir(parents=True, exist_ok=True)
            coco.write_json(str(args.out), results, indent=1)
    if args.json:
        print(json.dumps(results))
    else:
        show(results, Console())
    best = max(results["arms"][way.name]["AP50"] for way in ways(args) if way.kind == MISTNET)
    if best < args.expect_ap50:
        print(f"MistNet's best AP50 is {best:.3f}, expected at least {args.expect_ap50:g}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    run_main(main)
