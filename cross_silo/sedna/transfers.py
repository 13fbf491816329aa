"""Brings what a plan names on other hosts to this one before a role starts, and takes its final model there."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Optional

from cross_silo.checkpoint import newest_checkpoint
from cross_silo.errors import UserError
from cross_silo.launch.arguments import check_file
from cross_silo.launch.record import read_json, write_json
from cross_silo.objects import Credentials, fetch, fetch_all, is_remote, put, remove, shown
from cross_silo.objects.download import file_digest
from cross_silo.sedna.dataset_dir import CONVERTIBLE
from cross_silo.sedna.environment import S3
from cross_silo.sedna.plan import ROOT, AggregatorPlan, DatasetPlan, JobPlan, is_archive, without_query

ENDINGS = (".ckpt", ".safetensors", ".pth", ".pt")
"""Formats in which a model can be written; .pth and .pt hold tensors under the public names."""
PROBE_SECONDS = 30.0
"""Patience with an object store that is tried before a job starts."""


def check_inputs(plan: JobPlan) -> None:
    """Refuse a job whose model or data should be on this host and are not, all at once. Raises UserError."""
    start, missing = plan.aggregator, []
    if start.pre_trained and not is_remote(start.pre_trained_url) and not Path(start.pre_trained).is_file():
        missing.append(f"PRETRAINED_MODEL_URL is {start.pre_trained}: no such file")
    for dataset in (*(trainer.dataset for trainer in plan.trainers), start.evaluation):
        if dataset is None or dataset.format not in CONVERTIBLE or is_remote(dataset.url):
            continue
        if not Path(dataset.local).is_dir():
            missing.append(f"Dataset/{dataset.name}: {dataset.local}: no such directory")
    if missing:
        raise UserError("; ".join(missing) + " (--path_map says where a node's directory is on this machine)")


def bring_pre_trained(plan: AggregatorPlan, credentials: Optional[Credentials] = None) -> None:
    """Fetch the model that round 0 starts from, where it is not of this host. Raises UserError if it is nowhere."""
    if plan.pre_trained and is_remote(plan.pre_trained_url):
        fetch(plan.pre_trained_url, plan.pre_trained, credentials)
    elif plan.pre_trained:
        check_file(plan.pre_trained, "PRETRAINED_MODEL_URL")


def bring_dataset(plan: DatasetPlan, credentials: Optional[Credentials] = None) -> None:
    """Fetch a silo's images to ``plan.local``, where they are not of this host; a .zip is unpacked.

    Raises:
        UserError: there is nothing at the url, or nothing that can be fetched whole.
    """
    if not is_remote(plan.url):
        return
    target = Path(plan.local)
    if is_archive(plan.url):
        archive, note = target.with_name(f"{target.name}.zip"), target.with_name(f".{target.name}.unpacked.json")
        fetch(plan.url, archive, credentials)
        unpacked = {"sha256": file_digest(archive, "sha256")}
        if not target.is_dir() or read_json(note) != unpacked:
            unpack(archive, target)
            write_json(note, unpacked)
    elif plan.url.startswith("s3://"):
        fetch_all(plan.url, target, credentials)
    else:
        raise UserError(f"{shown(plan.url)}: a directory cannot be fetched so; expected s3://bucket/prefix or a .zip")


def prepare_dataset(plan: DatasetPlan, credentials: Optional[Credentials] = None) -> str:
    """Fetch a silo's images where need be, make its shard of them, and say what was done.

    The conversion, which imports MindSpore, is a process of its own. Raises UserError as :func:`bring_dataset`, and
    where the images cannot be converted.
    """
    what = f"Dataset/{plan.name}" if plan.name else shown(plan.url)
    bring_dataset(plan, credentials)
    done = subprocess.run(plan.command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no output"]
        raise UserError(f"{what}: {lines[-1].replace('error: ', '', 1)}")
    return f"{what}: {done.stdout.strip()}"


def unpack(archive: Path, target: Path) -> None:
    """Unpack a .zip beside ``target`` and put it in its place. Raises UserError where it is none or leads elsewhere."""
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as content:
            outside = [name for name in content.namelist() if name.startswith("/") or ".." in name.split("/")]
            if outside:
                raise UserError(f"{archive}: {outside[0]} would be outside of {target}; expected no '..'")
            content.extractall(partial)
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{archive}: cannot be unpacked ({error})") from None
    shutil.rmtree(target, ignore_errors=True)
    os.replace(partial, target)


def model_target(plan: AggregatorPlan, format: str = "") -> str:
    """Return the url of the final model's file: MODEL_URL, or below it where it is a directory.

    Args:
        format: the Model's; it says the ending of a file in a directory.

    Raises:
        UserError: the ending is of no format that can be written.
    """
    ending = Path(without_query(plan.model_url).rpartition("/")[2]).suffix.lower()
    expected = ", ".join(item[1:] for item in ENDINGS)
    if ending in ENDINGS:
        return plan.model_url
    if ending:
        raise UserError(
            f"MODEL_URL is {shown(plan.model_url)}: a model is not written as {ending[1:]}; expected {expected}"
        )
    chosen = f".{format.lower()}" if format else ENDINGS[0]
    if chosen not in ENDINGS:
        raise UserError(f"the Model's format is {format!r}; expected {expected}")
    return f"{plan.model_url.rstrip('/')}/{plan.fl_name}{chosen}"


def check_target(plan: AggregatorPlan, format: str = "", credentials: Optional[Credentials] = None) -> str:
    """Return :func:`model_target`, refusing early what cannot be written there. Raises UserError."""
    target = model_target(plan, format)
    if is_remote(target):
        if not target.startswith("s3://"):
            raise UserError(f"MODEL_URL is {shown(target)}: cannot be written; expected a path or s3://")
        _probe_store(target, credentials)
        return target
    directory = Path(target).parent
    probe = directory / f".{secrets.token_hex(4)}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"MODEL_URL is {target}: {directory}: {error.strerror}; expected a directory that this user may write "
            "(Sedna mounts a Model at s3:// or http:// read-only)"
        ) from None
    return target


def check_transmitter(plan: AggregatorPlan, credentials: Optional[Credentials] = None) -> None:
    """Refuse early an object store by way of which features cannot go. Raises UserError.

    Args:
        credentials: None: those of the environment.
    """
    if plan.transmitter == S3:
        _probe_store(f"{plan.agg_data_path.rstrip('/')}/{plan.fl_name}/probe", credentials)


def _probe_store(target: str, credentials: Optional[Credentials]) -> None:
    """Put a small object beside ``target`` and remove it again. Raises UserError where that cannot be done."""
    url = f"{target}.{secrets.token_hex(4)}"
    with tempfile.NamedTemporaryFile() as empty:
        put(empty.name, url, credentials, PROBE_SECONDS)
    remove(url, credentials, PROBE_SECONDS)


def deliver(plan: AggregatorPlan, format: str = "", credentials: Optional[Credentials] = None) -> str:
    """Write the newest global model of ``plan``'s job to where it wants it, whole or not at all, and return its url.

    Raises:
        UserError: there is no checkpoint, or it cannot be written there.
    """
    target = model_target(plan, format)
    source = newest_checkpoint(plan.checkpoint_dir, plan.fl_name)
    if source is None:
        raise UserError(f"{plan.checkpoint_dir} has no usable checkpoint of job {plan.fl_name!r}")
    ending = Path(target).suffix.lower()
    if ending == source.suffix:
        put(source, target, credentials)
        return target
    converted = Path(plan.checkpoint_dir).parent / f"{plan.fl_name}{ending}"
    command = [sys.executable, str(ROOT / "tools" / "convert_checkpoint.py"), "--in", str(source)]
    command += ["--config", plan.model_file]  # a .pth has the anchors, which stand there
    done = subprocess.run([*command, "--out", str(converted), "--json"], capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no output"]
        raise UserError(f"{converted}: {lines[-1].replace('error: ', '', 1)}")
    put(converted, target, credentials)
    return target
