"""The model's and data's settings: the model YAML. Keys that are not generic belong to the detector it names."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional, Union

from cross_silo.config.schema import build, read_yaml, require, unknown_key
from cross_silo.detector import InputSize, find_detector
from cross_silo.errors import UserError

if TYPE_CHECKING:
    from cross_silo.detector import Detector


FALLING = ("cosine", "linear")
"""Learning-rate schedules that end at lr_total_steps."""


@dataclass(frozen=True)
class ModelConfig:
    """The generic keys of the model YAML."""

    detector: str
    """A detector package's name, or package.module:Class."""
    img_height: int = 320
    """Pixels of the network's input."""
    img_width: int = 320
    """Pixels of the network's input."""
    num_classes: int = 0
    """Object classes, background not counted; 0: as many as the data's manifest has."""
    num_gts: int = 128
    """Ground-truth boxes an image is padded to."""
    batch_size: int = 2
    """Images a training step."""
    eval_batch_size: int = 2
    """Images a prediction."""
    seed: int = 1
    """Seed of the initial weights, the order of images, augmentation and sampling."""
    device_target: str = "CPU"
    """CPU, GPU or Ascend."""
    compile_cache: str = ""
    """Directory of this machine in which compiled training steps are kept and found again (CPU); empty: none."""
    image_cache_mb: int = 256
    """Most MiB of decoded images that a worker keeps in memory; changes the speed alone."""
    dataset_sink_mode: bool = False
    """Log an epoch's last loss only, as a data sink does, not every step's. The host feeds batches either way."""
    optimizer: str = "momentum"
    """momentum (SGD with momentum), sgd, adam, or adamw (adam with weight decay apart from the gradient)."""
    nesterov: bool = False
    """Whether momentum looks ahead (Nesterov), as torch's SGD computes it."""
    base_lr: float = 0.02
    """Learning rate after the warm-up."""
    lr_schedule: str = "constant"
    """constant, cosine or linear (down to lr_final_ratio at lr_total_steps), or step (times 0.1 at each of
    lr_steps)."""
    lr_steps: "tuple[int, ...]" = ()
    """Training steps, over all rounds, at which the step schedule lowers the rate."""
    lr_total_steps: int = 0
    """Training steps, over all rounds, of the cosine or linear schedule."""
    lr_final_ratio: float = 0.0
    """Share of base_lr that the cosine or linear schedule ends with."""
    warmup_step: int = 0
    """Training steps, over all rounds, of linear warm-up."""
    warmup_ratio: float = 0.0625
    """Share of base_lr that the warm-up begins with."""
    warmup_bias_lr: float = 0.0
    """Learning rate that the warm-up of biases (beta of normalisation included) begins with; 0: as the others'."""
    warmup_momentum: float = 0.0
    """Momentum that the warm-up begins with; 0: the momentum is constant."""
    momentum: float = 0.9
    """Momentum of SGD; beta1 of adam and adamw."""
    weight_decay: float = 1e-4
    """L2 penalty on convolution and dense weights; biases and normalisation are exempt."""
    ema_decay: float = 0.0
    """Decay a step of the moving average of the weights that the last round takes; 0: none."""
    ema_ramp_steps: int = 2000
    """Steps t0 over which that decay grows: times 1 - exp(-t / t0) at step t over all rounds; 0: at once."""
    loss_scale: float = 1.0
    """Factor of the loss before the gradients, which are divided by it again."""
    gradient_clip: float = 0.0
    """Largest global L2 norm of the gradients; 0: not clipped."""
    pre_trained: str = ""
    """Checkpoint that round 0 starts from, where the command line gives none."""
    mindrecord_dir: str = ""
    """The converter's output directory; its last part is mindrecord_{num}."""
    instance_set: str = ""
    """The converter's COCO json."""
    image_dir: str = ""
    """Directory that the json's file names are relative to."""

    def __post_init__(self) -> None:
        for name in ("img_height", "img_width", "num_gts", "batch_size", "eval_batch_size", "base_lr", "loss_scale"):
            require(getattr(self, name) > 0, f"{name} is {getattr(self, name)}, expected more than 0")
        for name in (
            "num_classes",
            "image_cache_mb",
            "warmup_step",
            "weight_decay",
            "gradient_clip",
            "lr_total_steps",
            "ema_ramp_steps",
        ):
            require(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}, expected 0 or more")
        require(0 <= self.seed < 2**31, f"seed is {self.seed}, expected 0 to 2^31-1")
        for name, choices in (
            ("device_target", ("CPU", "GPU", "Ascend")),
            ("optimizer", ("momentum", "sgd", "adam", "adamw")),
            ("lr_schedule", ("constant", *FALLING, "step")),
        ):
            found = getattr(self, name)
            require(found in choices, f"{name} is {found!r}, expected one of {', '.join(choices)}")
        require(
            not self.compile_cache or self.device_target == "CPU",
            f"compile_cache is {self.compile_cache!r} with device_target {self.device_target}, expected none: CPU only",
        )
        for name in ("momentum", "warmup_momentum", "ema_decay"):
            require(0 <= getattr(self, name) < 1, f"{name} is {getattr(self, name)}, expected 0 to below 1")
        self._check_schedule()
        require(
            not self.nesterov or (self.optimizer == "momentum" and self.momentum > 0),
            f"nesterov is true with optimizer {self.optimizer} and momentum {self.momentum}: "
            "it needs optimizer momentum and a momentum above 0",
        )

    def _check_schedule(self) -> None:
        schedule = self.lr_schedule
        require(
            schedule not in FALLING or self.lr_total_steps > self.warmup_step,
            f"lr_total_steps is {self.lr_total_steps}, expected more than warmup_step "
            f"({self.warmup_step}) with lr_schedule {schedule}",
        )
        require(
            (schedule == "step") == bool(self.lr_steps),
            f"lr_steps is {list(self.lr_steps)} with lr_schedule {schedule}: "
            "a step schedule needs them, no other reads them",
        )
        require(0 <= self.lr_final_ratio <= 1, f"lr_final_ratio is {self.lr_final_ratio}, expected 0 to 1")
        require(
            schedule in FALLING or not self.lr_final_ratio,
            f"lr_final_ratio is {self.lr_final_ratio} with lr_schedule {schedule}: only cosine and linear read it",
        )
        require(0 <= self.warmup_ratio <= 1, f"warmup_ratio is {self.warmup_ratio}, expected 0 to 1")
        require(self.warmup_bias_lr >= 0, f"warmup_bias_lr is {self.warmup_bias_lr}, expected 0 or more")
        for name in ("warmup_bias_lr", "warmup_momentum"):
            require(
                self.warmup_step > 0 or not getattr(self, name),
                f"{name} is {getattr(self, name)} with warmup_step 0: only a warm-up reads it",
            )
        require(
            self.optimizer == "momentum" or not self.warmup_momentum,
            f"warmup_momentum is {self.warmup_momentum} with optimizer {self.optimizer}: only momentum reads it",
        )


@dataclass(frozen=True)
class Model:
    """A model YAML: the generic keys and those of its detector."""

    config: ModelConfig
    detector_class: type
    detector_settings: Any
    """An instance of the detector class's ``settings_type``."""
    path: str
    """The file, for error messages."""


def load_model(path: Union[str, os.PathLike]) -> Model:
    """Read and check the model YAML. Raises UserError naming file and key."""
    values = read_yaml(path)
    generic = {field.name for field in dataclasses.fields(ModelConfig)}
    config = build(ModelConfig, {key: value for key, value in values.items() if key in generic}, str(path))
    detector_class = find_detector(config.detector)
    own = {field.name for field in dataclasses.fields(detector_class.settings_type)}
    for key in values:
        if key not in generic | own:
            raise unknown_key(key, sorted(generic | own), str(path))
    settings = build(
        detector_class.settings_type, {key: value for key, value in values.items() if key in own}, str(path)
    )
    return Model(config, detector_class, settings, str(path))


def make_detector(model: Model, num_classes: Optional[int] = None) -> "Detector":
    """Return the model's detector for ``num_classes`` object classes.

    Args:
        num_classes: what the data has; None where the YAML alone decides.

    Raises:
        UserError: the YAML's num_classes contradicts the data's, or neither gives it, or the detector refuses.
    """
    config = model.config
    if num_classes is None and not config.num_classes:
        raise UserError(f"{model.path}: num_classes is 0 and there is no data to take it from; expected a number")
    if num_classes is not None and config.num_classes not in (0, num_classes):
        raise UserError(f"{model.path}: num_classes is {config.num_classes}, but the data has {num_classes} classes")
    size = InputSize(
        num_classes=num_classes or config.num_classes,
        height=config.img_height,
        width=config.img_width,
        batch_size=config.batch_size,
        eval_batch_size=config.eval_batch_size,
        max_boxes=config.num_gts,
    )
    try:
        return model.detector_class(model.detector_settings, size)
    except (UserError, ValueError) as error:
        raise UserError(f"{model.path}: {error}") from None
