"""The feature trainer: waits for the pooled features, trains the rest of the detector on them, measures it."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import resource
import time
from pathlib import Path
from typing import Callable, List, Optional, Tuple

from cross_silo.checkpoint import CheckpointInfo, newest_checkpoint, read_checkpoint
from cross_silo.config.federated import FederatedConfig, load_federated
from cross_silo.config.model import Model, load_model
from cross_silo.coordination.store import ENDED
from cross_silo.errors import UserError, run_main
from cross_silo.launch import logs
from cross_silo.launch.proc import start_time
from cross_silo.launch.ready import write_ready
from cross_silo.mistnet.epochs import EpochPlan, EpochTraining, Measure, train_epochs
from cross_silo.mistnet.trainer_files import ROLE, Orders, Progress, read_orders, read_progress
from cross_silo.training.leave import Leave, Leaving
from cross_silo.training.trainer import LocalTrainer, Weights

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
LOOK_SECONDS = 1.0
Built = Tuple[LocalTrainer, Optional[Measure]]
Build = Callable[["Setting"], Built]
"""Makes the trainer over the pooled features, and what measures its weights."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """What the training begins with."""

    federated: FederatedConfig
    model: Model
    orders: Orders
    weights: Weights
    info: CheckpointInfo
    """Of the checkpoint that the weights are from."""
    run_dir: Path


def parse(argv: Optional[List[str]] = None) -> argparse.Namespace:
    """Parse the process's arguments."""
    parser = argparse.ArgumentParser(prog="python -m cross_silo.mistnet.feature_trainer", description=__doc__)
    parser.add_argument("--yaml_config", required=True, help="federated YAML")
    parser.add_argument("--config", required=True, help="model YAML")
    parser.add_argument("--checkpoint_dir", required=True, type=Path, help="the server's")
    parser.add_argument("--run_dir", required=True, type=Path, help="the job's run directory")
    return parser.parse_args(argv)


def main(argv: Optional[List[str]] = None, build: Optional[Build] = None) -> int:
    """Train to the last epoch, or to the job's end: 0, and 1 where the training fails.

    Args:
        build: makes the trainer; None: MindSpore's.
    """
    arguments = parse(argv)
    logs.start(ROLE)
    leave = Leave().on_sigterm()
    federated = load_federated(arguments.yaml_config)
    model = load_model(arguments.config)
    try:
        write_ready(arguments.run_dir / ROLE, "")
        with leave.at_once():
            orders, progress = await_features(arguments.run_dir)
        return train(arguments, federated, model, orders, progress, leave, build or build_trainer)
    except Leaving:
        log.info("leaving before the training's end")
        return 0


def await_features(run_dir: Path) -> Tuple[Orders, Progress]:
    """Return what the server orders once training may begin. Raises Leaving where the job ends before."""
    progress = Progress()
    while True:
        orders = read_orders(run_dir)
        if orders is not None and orders.instance != progress.instance:
            earlier = read_progress(run_dir)
            same = earlier is not None and earlier.instance == orders.instance
            progress = earlier if same and earlier is not None else Progress(instance=orders.instance)
            progress.pid, progress.start_time = os.getpid(), start_time(os.getpid()) or 0
            progress.phase, progress.outcome, progress.reason = "waiting", "", ""
            progress.write(run_dir)
        if orders is not None and orders.state in ENDED:
            raise Leaving
        if orders is not None and orders.features:
            return orders, progress
        time.sleep(POLL_SECONDS)


def train(
    arguments: argparse.Namespace,
    federated: FederatedConfig,
    model: Model,
    orders: Orders,
    progress: Progress,
    leave: Leave,
    build: Build,
) -> int:
    """Train from the newest checkpoint. Returns the exit status."""
    run_dir: Path = arguments.run_dir
    progress.phase = "starting"
    progress.write(run_dir)
    looked = [0.0]

    def check() -> None:
        leave.check()
        if time.monotonic() - looked[0] >= LOOK_SECONDS:
            looked[0] = time.monotonic()
            now = read_orders(run_dir)
            if now is not None and (now.state in ENDED or now.instance != orders.instance):
                raise Leaving

    try:
        path = newest_checkpoint(arguments.checkpoint_dir, federated.fl_name)
        if path is None:
            raise UserError(f"--checkpoint_dir {arguments.checkpoint_dir} has no checkpoint of {federated.fl_name!r}")
        weights, info = read_checkpoint(path)
        setting = Setting(federated, model, orders, weights, info, run_dir)
        trainer, measure = build(setting)
    except Exception as error:  # whatever it is, nobody waits for a training that cannot begin
        progress.outcome, progress.reason = "failed", f"feature trainer: {error}"
        progress.write(run_dir)
        raise
    plan = EpochPlan(
        federated.fl_name,
        federated.fl_iteration_num,
        federated.evaluation.every,
        federated.stop_condition.accuracy,
        arguments.checkpoint_dir,
        run_dir,
        federated.mistnet.batch_size or model.config.batch_size,
    )
    said = dataclasses.replace(info, instance=orders.instance, mistnet=orders.bits)
    log.info("%d images, %d steps an epoch, %d epochs", trainer.num_samples, trainer.steps_per_epoch, plan.epochs)
    training = EpochTraining(trainer, measure, plan, said, progress, check)
    status = train_epochs(training, weights, info.round, progress, run_dir)
    log.info("peak memory %.0f MB", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return status


def build_trainer(setting: Setting) -> Built:
    """Import MindSpore and build network, loader and training step."""
    from cross_silo.mistnet.feature_training import build_training

    return build_training(setting)


if __name__ == "__main__":
    run_main(main)
