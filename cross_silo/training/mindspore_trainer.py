"""Local training with MindSpore in graph mode: one compiled step, one data pipeline, state that outlives rounds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Callable, Dict, List, Mapping, Optional, Tuple

import numpy as np
from mindspore import Tensor, nn, ops

from cross_silo.checkpoint.network import federated_tensors, tensor_kinds, tensor_shapes
from cross_silo.config.model import ModelConfig
from cross_silo.errors import UserError
from cross_silo.training.average import MovingAverage
from cross_silo.training.optimizer import Optimizer, make_optimizer
from cross_silo.training.trainer import NonFiniteLossError, StepRecord, Weights

if TYPE_CHECKING:
    from cross_silo.data.loader import Batch, TrainingLoader
    from cross_silo.detector import Detector
    from cross_silo.training.compile_cache import CompileCache


class TrainStep(nn.Cell):
    """Forward, gradients, clipping and update as one graph."""

    def __init__(self, losses: nn.Cell, optimizer: Optimizer, loss_scale: float, gradient_clip: float) -> None:
        super().__init__(auto_prefix=False)
        self.optimizer = optimizer
        self.gradient_clip = gradient_clip
        self.loss_scale = loss_scale
        self.scaled = _ScaledLoss(losses, loss_scale)
        self.forward_and_gradients = ops.value_and_grad(self.scaled, None, optimizer.parameters, has_aux=True)

    def construct(self, image, boxes, labels, valid, noise):
        (_, losses), gradients = self.forward_and_gradients(image, boxes, labels, valid, noise)
        if self.loss_scale != 1.0:
            gradients = ops.HyperMap()(ops.partial(_times, 1 / self.loss_scale), gradients)
        if self.gradient_clip > 0:
            gradients = clip_global_norm(gradients, self.gradient_clip)
        return ops.depend(losses, self.optimizer(gradients))


def clip_global_norm(gradients: Tuple[Tensor, ...], most: float) -> Tuple[Tensor, ...]:
    """Return ``gradients`` scaled down together so that their L2 norm is ``most``, if it is more.

    On CPU, L2Loss is several times faster than a sum of squares, and a product by a scalar holds no memory where
    a quotient holds 16 bytes a value.
    """
    half_squares = ops.HyperMap()(ops.L2Loss(), gradients)
    norm = ops.sqrt(2 * ops.addn(half_squares))
    factor = most / ops.maximum(norm, Tensor(np.float32(most)))
    return ops.HyperMap()(ops.partial(_times, factor), gradients)


_times = ops.MultitypeFuncGraph("times")


@_times.register("Number", "Tensor")
def _times_number(factor, gradient):
    return gradient * factor


@_times.register("Tensor", "Tensor")
def _times_scalar(factor, gradient):
    return gradient * factor


class _ScaledLoss(nn.Cell):
    """(loss * scale, all the losses as one vector)."""

    def __init__(self, losses: nn.Cell, scale: float) -> None:
        super().__init__(auto_prefix=False)
        self.losses = losses
        self.scale = scale

    def construct(self, image, boxes, labels, valid, noise):
        losses = self.losses(image, boxes, labels, valid, noise)
        return losses[0] * self.scale, ops.stack(losses)


class MindSporeTrainer:
    """A :class:`~cross_silo.training.trainer.LocalTrainer` for a detector's network."""

    def __init__(
        self,
        detector: "Detector",
        network: nn.Cell,
        loader: "TrainingLoader",
        config: ModelConfig,
        stream: int,
        compile_cache: "Optional[CompileCache]" = None,
    ) -> None:
        """Build the training step; it compiles at the first use, or before it by :meth:`compile`.

        Args:
            stream: number of the random stream, another for each silo.
            compile_cache: where :meth:`compile` may find the compiled step.
        """
        self.num_samples = loader.num_images
        self.steps_per_epoch = loader.steps_per_epoch
        self.step = 0
        self._loader = loader
        self._config = config
        self._stream = stream
        self._compile_cache = compile_cache
        self._loss_names = detector.loss_names
        self._noise_size = max(detector.noise_size, 1)
        self._tensors = federated_tensors(network)
        self._optimizer = make_optimizer(config, network)
        self._optimizer_tensors = self._optimizer.state_tensors()
        self._average = MovingAverage(self._tensors, config) if config.ema_decay else None
        self._train_step = TrainStep(
            detector.training_cell(network), self._optimizer, config.loss_scale, config.gradient_clip
        )
        self._train_step.set_train()

    @property
    def wait_seconds(self) -> float:
        """Seconds spent waiting for data so far."""
        return self._loader.wait_seconds

    def shapes(self) -> Dict[str, Tuple[int, ...]]:
        """Shape of each float32 tensor of the network."""
        return tensor_shapes(self._tensors)

    def kinds(self) -> Dict[str, str]:
        """Trainable for what the optimizer changes, statistic for the rest (batch-norm means and variances)."""
        return tensor_kinds(self._tensors)

    def get_weights(self) -> Dict[str, np.ndarray]:
        """The network's tensors now."""
        return {name: tensor.asnumpy() for name, tensor in self._tensors.items()}

    def final_weights(self) -> Dict[str, np.ndarray]:
        """The moving average of the network's tensors where ema_decay asks for one; else the tensors."""
        return self.get_weights() if self._average is None else self._average.values()

    def set_weights(self, weights: Weights, missed_steps: int = 0) -> None:
        """Copy the network's tensors from ``weights``. Before the first step the moving average begins there."""
        for name, tensor in self._tensors.items():
            tensor.set_data(Tensor(np.asarray(weights[name], np.float32).reshape(tensor.shape)))
        if self._average is not None and self.step == 0:
            self._average.begin()
        elif self._average is not None and missed_steps:
            self._average.update(self.step, missed_steps)

    def state(self) -> Dict[str, np.ndarray]:
        """The optimizer's moments and the moving average."""
        moments = {name: tensor.asnumpy() for name, tensor in self._optimizer_tensors.items()}
        return moments if self._average is None else {**moments, **self._average.state()}

    def load_state(self, state: Mapping[str, np.ndarray], step: int) -> None:
        """Go on from ``state`` after ``step`` steps. Raises UserError where it is another optimizer's."""
        try:
            for name, tensor in self._optimizer_tensors.items():
                tensor.set_data(Tensor(np.asarray(state[name]).reshape(tensor.shape), dtype=tensor.dtype))
            if self._average is not None:
                self._average.load_state(state)
        except KeyError as error:
            raise UserError(
                f"the worker's state has no tensor {error}; expected the optimizer and ema_decay that it trained with"
            ) from None
        self.step = step

    def compile(self) -> None:
        """Compile the training step, so that the first step takes no longer than the others.

        To be called while nobody waits for this process: MindSpore lets no other thread run for seconds meanwhile.
        """
        c, images = self._config, self._config.batch_size
        inputs = [
            Tensor(np.zeros(shape, dtype))
            for shape, dtype in (
                ((images, c.img_height, c.img_width, 3), np.uint8),
                ((images, c.num_gts, 4), np.float32),
                ((images, c.num_gts), np.int32),
                ((images, c.num_gts), np.int32),
                ((images, self._noise_size), np.float32),
            )
        ]
        if self._compile_cache is None:
            self._train_step.compile(*inputs)
        else:
            self._compile_cache.compile(self._train_step, inputs)

    def train(self, steps: int, on_step: Callable[[StepRecord], None]) -> None:
        """Take ``steps`` steps from where the last call ended."""
        end = self.step + steps
        while self.step < end:
            epoch, first = divmod(self.step, self.steps_per_epoch)
            for batch in self._loader.epoch(epoch, first_step=first):
                on_step(self._take_step(batch))
                if self.step == end:
                    return

    def _take_step(self, batch: "Batch") -> StepRecord:
        self._optimizer.set_step(self.step)
        random = np.random.Generator(np.random.Philox(key=[self._config.seed << 32 | self._stream, self.step]))
        noise = random.random((len(batch.image), self._noise_size), np.float32)
        arrays: List[np.ndarray] = [batch.image, batch.boxes, batch.labels, batch.valid, noise]
        losses = self._train_step(*(Tensor(array) for array in arrays)).asnumpy().tolist()
        self.step += 1
        record = StepRecord(self.step, losses[0], dict(zip(self._loss_names, losses[1:])))
        if not all(map(math.isfinite, losses)):
            raise NonFiniteLossError(record)
        if self._average is not None:
            self._average.update(self.step)
        return record
