"""Federated training beside others with as many steps in all: AP50 on held-out images, one job an arm and seed.

Each arm is a job started with the commands that a user has. An arm whose result stands in --out is not run again,
and one that was interrupted goes on from its checkpoints in --work_dir. Several calls may run at once, for other arms
or seeds and with a --work_dir of their own, and share --out.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import statistics
import sys
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

from federated_arm import Arm, arm_names, good_rounds, make_arms, probe, run_arm
from rich.console import Console
from rich.table import Table

from cross_silo.config.schema import read_yaml
from cross_silo.data import coco
from cross_silo.errors import UserError, run_main
from cross_silo.launch.record import read_json, write_json

START_SECONDS = 40.0
"""Of an arm: processes start, the graph compiles, the last model is evaluated."""


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotations", required=True, help="COCO json of the training images")
    parser.add_argument("--val_annotations", required=True, help="COCO json of the held-out images")
    parser.add_argument("--image_dir", required=True, help="directory that both files' names are relative to")
    parser.add_argument("--config", required=True, help="model YAML; its seed and lr_total_steps are set for each arm")
    parser.add_argument("--out", required=True, type=Path, help="json of the results; what it has is not run again")
    parser.add_argument("--work_dir", type=Path, default=Path("runs/federated_vs"), help="data, jobs and checkpoints")
    parser.add_argument("--steps", type=int, default=1200, help="optimizer steps of an arm, summed over its silos")
    parser.add_argument("--rounds", type=int, default=6, help="rounds of an arm; each is evaluated")
    parser.add_argument("--num_silos", type=int, default=2)
    parser.add_argument("--alpha", type=float, default=0.5, help="evenness of the Dirichlet split")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="of weights, order, sampling and split")
    parser.add_argument("--arms", nargs="+", help="some of centralised, federated, silo_{i} (alone); default: all")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    args = parser.parse_args(argv)
    if args.num_silos < 2 or args.rounds < 1 or args.steps < 1 or args.steps % (args.rounds * args.num_silos):
        raise UserError(
            f"--steps is {args.steps}, --rounds {args.rounds}, --num_silos {args.num_silos}: expected at least 2 "
            "silos, and steps that divide by rounds times silos"
        )
    args.arms = args.arms or arm_names(args.num_silos)
    if min(args.seeds) < 0:
        raise UserError(f"--seeds: found {min(args.seeds)}; expected 0 or more")
    for name in ("annotations", "val_annotations", "config"):
        if not Path(getattr(args, name)).is_file():
            raise UserError(f"--{name} is {getattr(args, name)}: no such file")
    return args


def settings_of(args: argparse.Namespace) -> Dict[str, Any]:
    """Return what makes results comparable; it holds no path of this machine."""
    files = {name: Path(getattr(args, name)) for name in ("annotations", "val_annotations")}
    return {
        **{name: {"file": path.name, "sha256": coco.read_coco(path).sha256} for name, path in files.items()},
        "steps": args.steps,
        "rounds": args.rounds,
        "num_silos": args.num_silos,
        "alpha": args.alpha,
        "config": Path(args.config).name,
        "model": json.loads(json.dumps({**read_yaml(args.config)})),
    }


def check_settings(found: Mapping[str, Any], wanted: Mapping[str, Any], flag: str, path: Path) -> None:
    """Refuse what was made with other settings. Raises UserError naming them."""
    different = [key for key in wanted if wanted[key] != found.get(key)]
    if different:
        raise UserError(f"{flag} {path}: is of another {', '.join(different)}; expected another {flag}")


def claim(work_dir: Path, settings: Mapping[str, Any]) -> None:
    """Make ``work_dir`` that of these settings: data and checkpoints of others are not gone on with."""
    work_dir.mkdir(parents=True, exist_ok=True)
    file = work_dir / "settings.json"
    check_settings(read_json(file) or settings, settings, "--work_dir", work_dir)
    write_json(file, settings)


# how long it will take


def expected_seconds(args: argparse.Namespace, arms: Sequence[Arm], done: Mapping[str, Any]) -> float:
    """Return the seconds that the arms still need: by those that are done, otherwise by a few steps taken now."""
    needed = sum(1 - good_rounds(args.work_dir / arm.key / "fl_ckpt", arm.key) / args.rounds for arm in arms)
    if done:
        steps_seconds = sum(item["seconds"] for item in done.values()) / len(done)
    else:
        steps_seconds = probe(args, arms[0]) * args.steps
    return needed * steps_seconds + len(arms) * START_SECONDS


# results


def read_results(path: Path, settings: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the results that stand in --out. Raises UserError where they are of other settings."""
    if not path.exists():
        return {"settings": settings, "arms": {}}
    results = read_json(path)
    if results is None or not isinstance(results.get("arms"), dict):
        raise UserError(f"--out {path}: has no results; expected those of an earlier call, or no such file")
    check_settings(results.get("settings", {}), settings, "--out", path)
    return results


def mean_and_error(values: Sequence[float]) -> str:
    """Return the mean and, of more than one value, its standard error."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return f"{mean:.3f}"
    return f"{mean:.3f} ± {statistics.stdev(values) / math.sqrt(len(values)):.3f}"


def show_means(results: Mapping[str, Any], console: Console) -> None:
    """Print each arm's mean over its seeds."""
    table = Table(title="mean ± standard error over seeds")
    for heading in ("arm", "seeds", "AP50", "AP"):
        table.add_column(heading, justify="left" if heading == "arm" else "right")
    arms = list(results["arms"].values())
    for name in dict.fromkeys(arm["arm"] for arm in arms):
        own = [arm for arm in arms if arm["arm"] == name]
        scores = [mean_and_error([arm[metric] for arm in own]) for metric in ("AP50", "AP")]
        table.add_row(name, str(len(own)), *scores)
    best = [
        max(a["AP50"] for a in arms if a["seed"] == seed and a["arm"].startswith("silo_")) for seed in whole_seeds(arms)
    ]
    if best:
        table.add_row("best silo alone", str(len(best)), mean_and_error(best), "")
    console.print(table)


def whole_seeds(arms: Sequence[Mapping[str, Any]]) -> List[int]:
    """Return the seeds that have an arm of every silo alone."""
    silos = max((len(arm["images"]) for arm in arms), default=0)
    alone = {seed: {a["arm"] for a in arms if a["seed"] == seed} for seed in {arm["seed"] for arm in arms}}
    return [seed for seed, names in sorted(alone.items()) if {f"silo_{i}" for i in range(silos)} <= names]


def show(results: Mapping[str, Any], console: Console) -> None:
    """Print the table."""
    settings = results["settings"]
    table = Table(title=f"{settings['config']}: {settings['steps']} steps in all, {settings['rounds']} rounds")
    table.add_column("arm", no_wrap=True)
    for heading in ("seed", "images", "AP50", "AP", "seconds", "MB moved", "MB a worker"):
        table.add_column(heading, justify="right")
    for arm in results["arms"].values():
        workers = [peak for role, peak in arm["peak_memory_mb"].items() if role.startswith("worker")]
        table.add_row(
            arm["arm"],
            str(arm["seed"]),
            "+".join(map(str, arm["images"].values())),
            f"{arm['AP50']:.3f}",
            f"{arm['AP']:.3f}",
            f"{arm['seconds']:.0f}",
            f"{arm['bytes_moved'] / 1e6:.0f}",
            f"{max(workers, default=0):.0f}",
        )
    console.print(table)
    for key, arm in results["arms"].items():
        rounds = " ".join("-" if row["AP50"] is None else f"{row['AP50']:.2f}" for row in arm["rounds"])
        console.print(f"{key}: AP50 by round {rounds}", highlight=False)
    show_means(results, console)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command."""
    args = parse(argv)
    arms = make_arms(args.arms, args.seeds, args.num_silos)
    settings = settings_of(args)
    results = read_results(args.out, settings)
    missing = [arm for arm in arms if arm.key not in results["arms"]]
    if missing:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # the arm's job ends with it
        claim(args.work_dir, settings)
        minutes = expected_seconds(args, missing, results["arms"]) / 60
        names = ", ".join(arm.key for arm in missing)
        print(f"{names}: about {minutes:.0f} minutes, the machine as busy as now", file=sys.stderr, flush=True)
    for arm in missing:
        done = run_arm(args, arm)
        results = read_results(args.out, settings)  # another call may have added to it
        results["arms"][arm.key] = done
        args.out.parent.mkdir(parents=True, exist_ok=True)
        coco.write_json(str(args.out), results, indent=1)
    if args.json:
        print(json.dumps(results))
    else:
        show(results, Console())
    return 0


if __name__ == "__main__":
    run_main(main)
