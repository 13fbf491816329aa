"""The cut detector trained on pooled bits with MindSpore, and measured on images by way of bits."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, Tuple

from cross_silo import runtime
from cross_silo.checkpoint.network import load_weights
from cross_silo.config.federated import FederatedConfig
from cross_silo.config.mistnet import BOTH, CLEAN, NOISY
from cross_silo.config.model import FALLING, Model, ModelConfig, make_detector
from cross_silo.data.coco import CocoDataset, read_coco, write_json
from cross_silo.errors import UserError
from cross_silo.mistnet.cut_detector import CutDetector
from cross_silo.mistnet.epochs import Measure
from cross_silo.mistnet.feature_loader import FeatureLoader, Pool
from cross_silo.mistnet.feature_transforms import FeatureAugmentation
from cross_silo.mistnet.privacy import Mechanism
from cross_silo.mistnet.trainer_files import ROLE
from cross_silo.report.summary import METRICS

if TYPE_CHECKING:
    from mindspore import nn

    from cross_silo.evaluation.network_evaluation import Measured
    from cross_silo.mistnet.feature_trainer import Setting
    from cross_silo.training.mindspore_trainer import MindSporeTrainer

log = logging.getLogger(__name__)


def build_training(setting: "Setting") -> "Tuple[MindSporeTrainer, Optional[Measure]]":
    """Return the trainer over the pooled features, and what measures its weights. Raises UserError."""
    federated, mistnet = setting.federated, setting.federated.mistnet
    pool = Pool(Path(setting.orders.features), setting.orders.silos, setting.model.config.image_cache_mb)
    config = setting.model.config
    size = mistnet.batch_size or config.batch_size
    config = training_config(federated, config, federated.fl_iteration_num * -(-len(pool) // size))
    model = dataclasses.replace(setting.model, config=config)
    runtime.prepare()
    runtime.start(config.seed, config.device_target)
    from cross_silo.training.mindspore_trainer import MindSporeTrainer

    detector = make_detector(model, len(pool.spec.categories))
    bits = setting.orders.bits
    cut = CutDetector(detector, bits["cut"], bits["thresholds"])  # type: ignore[arg-type]
    network = detector.build_network()
    load_weights(network, setting.weights, setting.info, "the job's newest checkpoint")
    cut.freeze(network)
    augment = FeatureAugmentation(mistnet.flip, mistnet.crop, config.img_height, config.img_width)
    loader = FeatureLoader(pool, config.batch_size, config.num_gts, config.seed, augment)
    trainer = MindSporeTrainer(cut, network, loader, config, stream=0)  # type: ignore[arg-type]
    return trainer, make_measure(setting, model, cut, network)


def training_config(federated: FederatedConfig, config: ModelConfig, steps: int) -> ModelConfig:
    """Return the model YAML's settings for ``steps`` steps in all: a rate that falls does so over all of them."""
    changes: Dict[str, Any] = {}
    if federated.mistnet.batch_size:
        changes["batch_size"] = federated.mistnet.batch_size
    if config.lr_schedule in FALLING:
        changes["lr_total_steps"] = max(steps, config.warmup_step + 1)
        log.info("lr_total_steps is %d: the steps of all epochs", changes["lr_total_steps"])
    return dataclasses.replace(config, **changes)


def make_measure(setting: "Setting", model: Model, cut: CutDetector, network: "nn.Cell") -> Optional[Measure]:
    """Return what measures the network on the job's held-out images by way of bits; None: it has none."""
    from cross_silo.evaluation.network_evaluation import NetworkEvaluation

    settings, mistnet = setting.federated.evaluation, setting.federated.mistnet
    if not settings.annotations:
        return None
    dataset = read_coco(settings.annotations)
    check_classes(dataset, setting)
    noisy = CutDetector(
        cut.detector, cut.cut, cut.thresholds.tolist(), Mechanism(mistnet.epsilon, mistnet.epsilon_convention)
    )
    by_bits = {CLEAN: cut, NOISY: noisy}
    wanted = [CLEAN, NOISY] if mistnet.evaluate_on == BOTH else [mistnet.evaluate_on]
    evaluations = {
        name: NetworkEvaluation(by_bits[name], network, model.config, dataset, settings.image_dir)  # type: ignore
        for name in wanted
    }

    def measure(before_batch: Callable[[], None]) -> Dict[str, Any]:
        measured: "Dict[str, Measured]" = {name: one.measure(before_batch) for name, one in evaluations.items()}
        first = measured[wanted[0]]
        write_json(str(setting.run_dir / ROLE / "results.json"), first.detections)
        found = {name: one.metrics() for name, one in measured.items()}
        return {
            **found[wanted[0]],
            "bits": wanted[0],
            **{name: {metric: found[name][metric] for metric in METRICS} for name in wanted[1:]},
        }

    return measure


def check_classes(dataset: CocoDataset, setting: "Setting") -> None:
    """Refuse held-out images with other classes than the job's. Raises UserError."""
    names = tuple(category.name for category in dataset.categories)
    if setting.info.classes and setting.info.classes != names:
        raise UserError(
            f"evaluation.annotations: its classes are {', '.join(names)}, the job's {', '.join(setting.info.classes)}"
        )
