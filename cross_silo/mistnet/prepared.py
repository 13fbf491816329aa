"""What a MistNet server tells its silos before any feature comes: the terms, and the layers before the cut."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Sequence

import numpy as np

from cross_silo.checkpoint import CheckpointInfo, content_sha256
from cross_silo.config.federated import FederatedConfig
from cross_silo.config.mistnet import CALIBRATED, MistNet
from cross_silo.config.model import Model, load_model, make_detector
from cross_silo.errors import UserError
from cross_silo.mistnet.cut_detector import CutDetector
from cross_silo.mistnet.extractor import check_trained
from cross_silo.mistnet.extractor_file import extractor_bytes, thresholds_sha256
from cross_silo.mistnet.features import FORMAT, VERSION
from cross_silo.mistnet.inference import bits_at
from cross_silo.mistnet.privacy import Mechanism
from cross_silo.mistnet.spec import FeatureSpec
from cross_silo.mistnet.thresholds import calibrated_thresholds


@dataclass(frozen=True)
class Prepared:
    """A MistNet job's model and what silos are told of it."""

    weights: Mapping[str, np.ndarray]
    info: CheckpointInfo
    spec: FeatureSpec
    bits: Dict[str, Any]
    """What the checkpoints say of the bits at the cut."""
    extractor: bytes
    """The file that silos download."""

    @property
    def terms(self) -> Dict[str, Any]:
        """What a silo asks for first."""
        return self.spec.terms()

    @property
    def manifest_terms(self) -> Dict[str, Any]:
        """What every manifest of features must say."""
        return {"format": FORMAT, "version": VERSION, **self.spec.terms()}

    @property
    def fingerprint(self) -> str:
        """What a worker shows to get its silo's lease: a hash of the terms."""
        return terms_fingerprint(self.terms)


def terms_fingerprint(terms: Mapping[str, Any]) -> str:
    """Return the fingerprint of a job with these terms."""
    return hashlib.sha256(json.dumps(dict(terms), sort_keys=True).encode()).hexdigest()


def configured(mistnet: MistNet, model: Model, cut: CutDetector, classes: Sequence[str]) -> Dict[str, Any]:
    """Return the fields of a :class:`FeatureSpec` that configuration and classes say."""
    mechanism = Mechanism(mistnet.epsilon, mistnet.epsilon_convention)
    return {
        "cut": cut.cut,
        "shape": cut.shape,
        "bits": int(np.prod(cut.shape)),
        "p": mechanism.p,
        "q": mechanism.q,
        "epsilon": mistnet.epsilon,
        "convention": mistnet.epsilon_convention,
        "detector": cut.tag,
        "height": model.config.img_height,
        "width": model.config.img_width,
        "categories": tuple(classes),
        "label_epsilon": mistnet.label_epsilon,
        "box_jitter": mistnet.box_jitter,
    }


def prepare(
    model_yaml: str, config: FederatedConfig, weights: Mapping[str, np.ndarray], info: CheckpointInfo
) -> Prepared:
    """Return what the job's newest model and settings come to.

    Args:
        weights: of the whole detector; the layers before the cut are the same after any epoch.

    Raises:
        UserError: the model is not pre-trained, its classes are not known, or it cannot be cut there.
    """
    if not info.pre_trained_sha256:
        raise UserError(
            "algorithm mistnet needs a pre-trained extractor, as nothing before the cut is trained; "
            "expected --pre_trained, or pre_trained in the model YAML"
        )
    if not info.classes:
        raise UserError(
            "the classes are not known; expected evaluation.annotations, or instance_set in the model YAML with "
            "num_classes 0"
        )
    model = load_model(model_yaml)
    mistnet = config.mistnet
    detector = make_detector(model, len(info.classes))
    cut = CutDetector(detector, mistnet.cut_layer)  # type: ignore[arg-type]
    tensors = {name: weights[name] for name in sorted(weights) if cut.is_before(name, cut.cut)}
    check_trained(tensors, "--pre_trained")
    check_trained(tensors, "the model's checkpoint")
    thresholds = cut.thresholds
    if mistnet.thresholds == CALIBRATED:
        thresholds = calibrated_thresholds(model_yaml, cut.cut, tensors, mistnet.calibration_images)
    spec = FeatureSpec(
        thresholds_sha256=thresholds_sha256(thresholds),
        extractor_sha256=content_sha256(tensors),
        **configured(mistnet, model, cut, info.classes),
    )
    return Prepared(weights, info, spec, bits_at(cut.cut, thresholds.tolist()), extractor_bytes(tensors, thresholds))
