"""A worker process: one silo's training, from its MindRecord shard to the job's end."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import logging
import os
import resource
import secrets
import socket
import time
import zlib
from pathlib import Path
from typing import Callable, List, Optional, Tuple

from cross_silo import runtime
from cross_silo.checkpoint import CheckpointInfo, content_sha256, model_fingerprint, read_checkpoint
from cross_silo.config import timeouts
from cross_silo.config.federated import Client, load_federated
from cross_silo.config.model import Model, load_model, make_detector
from cross_silo.data.coco import CocoDataset
from cross_silo.data.manifest import Manifest, read_manifest
from cross_silo.engines import find_engine
from cross_silo.errors import UserError, run_main
from cross_silo.launch import logs
from cross_silo.launch.proc import is_alive, start_time
from cross_silo.launch.ready import write_ready
from cross_silo.launch.record import read_json, write_json
from cross_silo.protocol.access import Credentials, credentials
from cross_silo.protocol.client import AggregationClient, JobInfo
from cross_silo.training.leave import Leave
from cross_silo.training.progress import Progress
from cross_silo.training.session import ENDED, RoundPlan, WorkerSession
from cross_silo.training.silo_evaluation import Measure, make_measure, read_validation
from cross_silo.training.trainer import LocalTrainer

log = logging.getLogger(__name__)

Built = Tuple[LocalTrainer, Optional[Measure]]
"""The trainer, and what measures its weights on the silo's validation set, if the silo has one."""
Build = Callable[[Model, Manifest, argparse.Namespace, Optional[CocoDataset]], Built]


def parse(argv: Optional[List[str]] = None) -> argparse.Namespace:
    """Parse the worker process's arguments."""
    parser = argparse.ArgumentParser(prog="python -m cross_silo.training.worker", description=__doc__)
    parser.add_argument("--yaml_config", required=True, help="federated YAML")
    parser.add_argument("--config", required=True, help="model YAML")
    parser.add_argument("--worker_index", type=int, required=True, help="number of the worker's role directory")
    parser.add_argument("--silo", required=True, help="the silo's name")
    parser.add_argument("--dataset_dir", required=True, type=Path, help="the silo's mindrecord_{i} directory")
    parser.add_argument("--http_server_address", required=True, help="host:port of the server")
    parser.add_argument("--run_dir", required=True, type=Path, help="the job's run directory")
    parser.add_argument("--pre_trained", default="", help="checkpoint that the job's round 0 must have come from")
    parser.add_argument("--val_annotations", default="", help="COCO json of the silo's own validation set")
    parser.add_argument("--val_image_dir", default="", help="directory that its file names are relative to")
    parser.add_argument("--wait_for_server", type=float, default=30.0, help="seconds to wait for the server's start")
    return parser.parse_args(argv)


def main(argv: Optional[List[str]] = None, build: Optional[Build] = None) -> int:
    """Take part in the job to its end.

    Args:
        build: makes the trainer and what measures; None: MindSpore's.
    """
    arguments = parse(argv)
    role_dir = arguments.run_dir / f"worker_{arguments.worker_index}"
    role_dir.mkdir(parents=True, exist_ok=True)
    logs.start(f"worker_{arguments.worker_index}")
    federated = load_federated(arguments.yaml_config)
    manifest = read_manifest(arguments.dataset_dir)
    model = with_client_settings(load_model(arguments.config), federated.client)
    classes = tuple(category.name for category in manifest.categories)
    validation = read_validation(arguments.val_annotations, arguments.val_image_dir, classes)
    leave = Leave().on_sigterm()

    worker = secrets.token_hex(8)
    node = f"{socket.gethostname()}:{os.getpid()}"
    shown = credentials(federated, arguments.silo)
    client = find_engine(federated, arguments.yaml_config).client_class(
        arguments.http_server_address,
        arguments.silo,
        worker,
        node,
        wait_for_server=arguments.wait_for_server,
        shown=shown,
    )
    job = client.job()
    check_job(job, federated.fl_name, classes, arguments)
    release_dead_predecessor(role_dir / "lease.json", arguments, shown)
    trainer, measure = (build or build_trainer)(model, manifest, arguments, validation)
    lease = client.acquire_lease(trainer.num_samples, model_fingerprint(trainer.shapes(), trainer.kinds()))
    record = {"silo": arguments.silo, "worker": worker, "pid": os.getpid(), "start_time": start_time(os.getpid())}
    write_json(role_dir / "lease.json", record)

    shard = arguments.dataset_dir.resolve().name
    checkpoints = role_dir / "ckpt" / shard
    checkpoints.mkdir(parents=True, exist_ok=True)
    client_settings = federated.client
    progress = Progress(
        trainer, role_dir / "loss_0.log", model.config.batch_size, every_step=not model.config.dataset_sink_mode
    )
    session = WorkerSession(
        client,
        trainer,
        progress,
        RoundPlan(
            steps=client_settings.sync_frequency or client_settings.client_epoch_num * trainer.steps_per_epoch,
            instance=job.instance,
            measure_every=federated.evaluation.every,
            join_deadline=2 * federated.round.start_fl_job_time_window / 1000,
            verdict_deadline=2 * federated.round.global_iteration_time_window / 1000,
        ),
        state_file=checkpoints / "worker_state.npz",
        checkpoint_prefix=checkpoints / f"{shard}-{model.detector_class.tag}",
        info=CheckpointInfo(
            fl_name=federated.fl_name,
            instance=job.instance,
            fingerprint=job.fingerprint,
            pre_trained_sha256=job.pre_trained_sha256,
            initial_sha256=job.initial_sha256,
            classes=classes,
            kinds=trainer.kinds(),
        ),
        lease=lease,
        leave=leave,
        measure=measure,
    )
    write_ready(role_dir, arguments.http_server_address)
    log.info("%s", timeouts.shown(federated))
    log.info("silo %s (%d images) takes part in job %s", arguments.silo, trainer.num_samples, federated.fl_name)
    status = session.run()
    log.info("peak memory %.0f MB", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return status


def with_client_settings(model: Model, client: Client) -> Model:
    """Return ``model`` with what the federated YAML's client section overrides."""
    changes = {}
    if client.client_batch_size:
        changes["batch_size"] = client.client_batch_size
    if client.client_learning_rate:
        changes["base_lr"] = client.client_learning_rate
    return dataclasses.replace(model, config=dataclasses.replace(model.config, **changes))


def check_job(job: JobInfo, fl_name: str, classes: Tuple[str, ...], arguments: argparse.Namespace) -> None:
    """Refuse to take part in a job that is not the one meant. Raises UserError."""
    if job.fl_name != fl_name:
        raise UserError(f"the server runs job {job.fl_name!r}, expected fl_name {fl_name!r} of --yaml_config")
    if job.state in ENDED:
        raise UserError(f"job {fl_name!r} is {job.state}" + (f": {job.reason}" if job.reason else ""))
    if job.classes and tuple(job.classes) != classes:
        raise UserError(
            f"{arguments.dataset_dir}: its classes are {', '.join(classes)}, the job's are {', '.join(job.classes)}"
        )
    if arguments.pre_trained:
        check_pre_trained(job, Path(arguments.pre_trained))


def check_pre_trained(job: JobInfo, path: Path) -> None:
    """Refuse a pre-trained checkpoint that round 0 neither is nor came from. Raises UserError."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"--pre_trained {path}: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest() == job.pre_trained_sha256:
        return
    if content_sha256(read_checkpoint(path)[0]) != job.initial_sha256:
        raise UserError(f"--pre_trained {path} is not what the job's round 0 was made from; expected the server's file")


def release_dead_predecessor(lease_file: Path, arguments: argparse.Namespace, shown: Credentials) -> None:
    """Give back the lease of an earlier process of this role directory that no longer lives."""
    record = read_json(lease_file)
    if (
        record is not None
        and record.get("silo") == arguments.silo
        and not is_alive(record["pid"], record["start_time"])
    ):
        AggregationClient(arguments.http_server_address, arguments.silo, record["worker"], "", shown=shown).release()


def build_trainer(
    model: Model, manifest: Manifest, arguments: argparse.Namespace, validation: Optional[CocoDataset]
) -> Built:
    """Import MindSpore, build the detector's network and loader, and compile the training step."""
    detector = make_detector(model, manifest.num_classes)
    config = model.config
    runtime.prepare()
    runtime.start(config.seed, config.device_target)

    from cross_silo.data.loader import TrainingLoader
    from cross_silo.training.compile_cache import open_compile_cache
    from cross_silo.training.mindspore_trainer import MindSporeTrainer

    stream = zlib.crc32(arguments.silo.encode())
    loader = TrainingLoader(
        arguments.dataset_dir,
        detector.train_transforms(),
        config.batch_size,
        config.num_gts,
        seed=config.seed + stream,
        cache_mb=config.image_cache_mb,
    )
    if loader.most_boxes > config.num_gts:
        log.warning(
            "num_gts is %d, but an image of %s has %d boxes: those beyond are left out of the training",
            config.num_gts,
            arguments.dataset_dir,
            loader.most_boxes,
        )
    network = detector.build_network()
    cache = open_compile_cache(model, manifest.num_classes)
    trainer = MindSporeTrainer(detector, network, loader, config, stream, cache)
    began = time.monotonic()
    trainer.compile()
    if cache is None:
        log.info("training step compiled in %.1f s", time.monotonic() - began)
    if validation is None:
        return trainer, None
    from cross_silo.evaluation.network_evaluation import NetworkEvaluation

    return trainer, make_measure(NetworkEvaluation(detector, network, config, validation, arguments.val_image_dir))


if __name__ == "__main__":
    run_main(main)
