"""A worker process of a MistNet job: its images go once through the first layers, their noisy bits to the server."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import resource
import secrets
import socket
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

import numpy as np

from cross_silo import runtime
from cross_silo.checkpoint.replace import written_beside
from cross_silo.config.federated import Client, FederatedConfig, load_federated
from cross_silo.config.mistnet import MISTNET, ZERO, MistNet
from cross_silo.config.model import Model, load_model, make_detector
from cross_silo.data.manifest import Manifest, read_manifest
from cross_silo.errors import UserError, run_main
from cross_silo.launch import logs
from cross_silo.launch.proc import start_time
from cross_silo.launch.ready import write_ready
from cross_silo.launch.record import write_json
from cross_silo.mistnet.client import FeatureClient
from cross_silo.mistnet.cut_detector import CutDetector
from cross_silo.mistnet.extractor_file import read_extractor, thresholds_sha256
from cross_silo.mistnet.feature_pass import Drawing, Extract, make_features
from cross_silo.mistnet.features import FeatureManifest
from cross_silo.mistnet.features import read_manifest as read_feature_manifest
from cross_silo.mistnet.pass_progress import PassProgress
from cross_silo.mistnet.prepared import configured, terms_fingerprint
from cross_silo.mistnet.privacy import facts, warnings
from cross_silo.mistnet.secret import open_secret
from cross_silo.mistnet.spec import FeatureSpec, check_same
from cross_silo.mistnet.transmitter import make_transmitter
from cross_silo.mistnet.waiting import await_end
from cross_silo.mistnet.writer import is_whole
from cross_silo.protocol.access import credentials
from cross_silo.training.heartbeat import Heartbeat
from cross_silo.training.leave import Leave, Leaving
from cross_silo.training.worker import check_job, parse, release_dead_predecessor

log = logging.getLogger(__name__)

FEATURES, SECRET, EXTRACTOR = "features", "secret.key", "extractor.ckpt"
"""In the worker's role directory."""

Build = Callable[[CutDetector, Mapping[str, np.ndarray], Model], Extract]
"""Makes the extractor from the tensors before the cut."""


def main(argv: Optional[List[str]] = None, build: Optional[Build] = None) -> int:
    """Take part in the job to its end: 0 if it finished or was stopped, 1 if it failed.

    Args:
        build: makes the extractor; None: MindSpore's.
    """
    arguments = parse(argv)
    role_dir = arguments.run_dir / f"worker_{arguments.worker_index}"
    role_dir.mkdir(parents=True, exist_ok=True)
    logs.start(f"worker_{arguments.worker_index}")
    federated = load_federated(arguments.yaml_config)
    silo = read_manifest(arguments.dataset_dir)
    model = load_model(arguments.config)
    cut = CutDetector(make_detector(model, silo.num_classes), federated.mistnet.cut_layer)  # type: ignore[arg-type]
    classes = tuple(category.name for category in silo.categories)
    leave = Leave().on_sigterm()

    shown = credentials(federated, arguments.silo)
    worker, node = secrets.token_hex(8), f"{socket.gethostname()}:{os.getpid()}"
    client = FeatureClient(
        arguments.http_server_address,
        arguments.silo,
        worker,
        node,
        wait_for_server=arguments.wait_for_server,
        shown=shown,
    )
    check_job(client.job(), federated.fl_name, classes, arguments)
    terms = client.terms()
    spec = agreed_spec(FeatureSpec.from_terms(terms, "the server's terms"), federated, model, cut, classes, arguments)
    for line in facts(federated.mistnet, spec.bits, len(classes)):
        log.info("%s", line)
    for line in (*warnings(federated.mistnet, spec.bits), *unread(federated.client)):
        log.warning("%s", line)
    edge = Edge(role_dir, arguments.dataset_dir, silo, cut, spec, model, leave)
    edge.prepare(client, build or build_extractor)

    release_dead_predecessor(role_dir / "lease.json", arguments, shown)
    lease = client.acquire_lease(silo.num_images, terms_fingerprint(terms))
    record = {"silo": arguments.silo, "worker": worker, "pid": os.getpid(), "start_time": start_time(os.getpid())}
    write_json(role_dir / "lease.json", record)
    write_ready(role_dir, arguments.http_server_address)
    log.info("silo %s (%d images) takes part in job %s", arguments.silo, silo.num_images, federated.fl_name)
    beats = Heartbeat(client, lease, edge.status)
    try:
        state = take_part(edge, client, beats, federated, arguments.silo, leave)
    except Leaving:
        log.info("leaving, as asked")
        return 0
    finally:
        beats.stop()
        client.release()
    log.info("the job is %s; peak memory %.0f MB", state, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return 1 if state == "failed" else 0


class Edge:
    """A silo's features: made once in its role directory, and how far that is."""

    def __init__(
        self,
        role_dir: Path,
        dataset_dir: Path,
        silo: Manifest,
        cut: CutDetector,
        spec: FeatureSpec,
        model: Model,
        leave: Leave,
    ) -> None:
        self.directory = role_dir / FEATURES
        self._role_dir, self._dataset_dir, self._silo = role_dir, dataset_dir, silo
        self._cut, self._spec, self._model, self._leave = cut, spec, model, leave
        self._phase, self._done = "starting", 0
        self._drawing: Optional[Drawing] = None
        self._extract: Optional[Extract] = None

    def prepare(self, client: FeatureClient, build: Build) -> None:
        """Get the extractor and build it, unless the features are there already.

        To be called before the lease is held: MindSpore lets no other thread run for seconds meanwhile.

        Raises:
            UserError: the features there are of another specification, or the extractor is not the job's.
        """
        if is_whole(self.directory):
            check_same(self._spec, read_feature_manifest(self.directory).spec, "this job", str(self.directory))
            return
        path = self._role_dir / EXTRACTOR
        with written_beside(path, durable=False) as descriptor:
            os.write(descriptor, client.extractor())
        tensors, thresholds = read_extractor(path, self._spec)
        self._drawing = Drawing(self._spec, thresholds, open_secret(self._role_dir / SECRET))
        self._extract = build(self._cut, tensors, self._model)

    def features(self) -> FeatureManifest:
        """Return the manifest of the features, made now where they are not there. Raises UserError, Leaving."""
        if self._drawing is None or self._extract is None:
            log.info("the features are there already: they are drawn once")
            return read_feature_manifest(self.directory)
        self._phase = "extracting"
        with PassProgress("features", self._silo.num_images) as progress:

            def advance(images: int) -> None:
                progress.advance(images)
                self._done = progress.done
                self._leave.check()

            return make_features(
                self.directory,
                self._dataset_dir,
                self._silo,
                self._cut.eval_transforms(),
                self._drawing,
                self._spec,
                self._extract,
                self._model.config.eval_batch_size,
                progress.begin,
                advance,
            )

    def enter(self, phase: str) -> None:
        """Note what is being done now."""
        self._phase = phase

    def status(self) -> Dict[str, Any]:
        """Return what a heartbeat tells: the images done are its step."""
        return {"phase": self._phase, "iteration": 0, "epoch": 0, "step": self._done, "loss": 0.0}


def take_part(
    edge: Edge, client: FeatureClient, beats: Heartbeat, federated: FederatedConfig, silo: str, leave: Leave
) -> str:
    """Make the features, bring them to the server, wait; return the state in which the job ended."""
    manifest = edge.features()
    total = sum(file.bytes for file in manifest.files)
    log.info("features of %d images: %.2f MB, %.0f bytes an image", manifest.count, total / 1e6, total / manifest.count)
    with leave.at_once():
        edge.enter("uploading")
        with PassProgress("upload", total, "bytes") as progress:
            make_transmitter(federated, client, silo).deliver(edge.directory, manifest.to_json(), progress.advance)
        edge.enter("waiting")
        log.info("the server has the features; waiting for the end of its training")
        return await_end(client, beats)


def agreed_spec(
    theirs: FeatureSpec,
    federated: FederatedConfig,
    model: Model,
    cut: CutDetector,
    classes: Sequence[str],
    arguments: argparse.Namespace,
) -> FeatureSpec:
    """Return the job's specification, if this silo's files say the same of all that they say anything of.

    Raises:
        UserError: they do not; names each key with both values.
    """
    if federated.algorithm != MISTNET:
        raise UserError(f"{arguments.yaml_config}: algorithm is {federated.algorithm}, expected {MISTNET}")
    mine = own_spec(theirs, federated.mistnet, model, cut, classes)
    check_same(mine, theirs, f"{arguments.yaml_config} and {arguments.config} of this silo", "the server's")
    return theirs


def unread(client: Client) -> List[str]:
    """Return what the job asks of silos that train, which these do not."""
    names = [item.name for item in dataclasses.fields(Client) if getattr(client, item.name) != item.default]
    return [f"client.{name} is set, but with algorithm mistnet a silo does not train" for name in names]


def own_spec(
    theirs: FeatureSpec, mistnet: MistNet, model: Model, cut: CutDetector, classes: Sequence[str]
) -> FeatureSpec:
    """Return what the silo's own files say; of the extractor and of calibrated thresholds they say nothing."""
    zero = mistnet.thresholds == ZERO
    return dataclasses.replace(
        theirs,
        thresholds_sha256=thresholds_sha256(cut.thresholds) if zero else theirs.thresholds_sha256,
        **configured(mistnet, model, cut, classes),
    )


def build_extractor(cut: CutDetector, tensors: Mapping[str, np.ndarray], model: Model) -> Extract:
    """Import MindSpore, build the layers before the cut and compile them."""
    config = model.config
    runtime.prepare()
    runtime.start(config.seed, config.device_target)
    import mindspore.dataset
    import mindspore.mindrecord  # noqa: F401 - with the dataset's, its seconds belong here and not to the lease's

    from cross_silo.mistnet.extractor import build_extract

    return build_extract(cut.detector, cut.cut, tensors, config.eval_batch_size, config.img_height, config.img_width)


if __name__ == "__main__":
    run_main(main)
