"""A LocalTrainer of plain numpy that starts at once: momentum descent towards a target of the silo's own."""

import time
import zlib

import numpy as np

from cross_silo.training.trainer import NonFiniteLossError, StepRecord

SHAPES = {"head.weight": (4, 3), "head.bias": (4,), "norm.moving_mean": (5,)}


class NumpyTrainer:
    """Each step moves the weights towards the silo's target plus noise drawn from the step's number."""

    def __init__(self, silo, num_samples=10, shapes=None, steps_per_epoch=5, step_seconds=0.0, nan_at=0, ema_decay=0.0):
        self.num_samples = num_samples
        self.steps_per_epoch = steps_per_epoch
        self.step = 0
        self.wait_seconds = 0.0
        self._shapes = dict(shapes or SHAPES)
        self._step_seconds = step_seconds
        self._nan_at = nan_at
        self._seed = zlib.crc32(silo.encode())
        random = np.random.default_rng(self._seed)
        self._target = {name: random.normal(size=shape).astype(np.float32) for name, shape in self._shapes.items()}
        self._weights = {name: np.zeros(shape, np.float32) for name, shape in self._shapes.items()}
        self._momentum = {name: np.zeros(shape, np.float32) for name, shape in self._shapes.items()}
        self._decay = ema_decay
        self._average = self.get_weights()

    def shapes(self):
        return dict(self._shapes)

    def kinds(self):
        return {name: "statistic" if "moving" in name else "trainable" for name in self._shapes}

    def get_weights(self):
        return {name: array.copy() for name, array in self._weights.items()}

    def final_weights(self):
        return {name: array.copy() for name, array in (self._average if self._decay else self._weights).items()}

    def set_weights(self, weights, missed_steps=0):
        for name, shape in self._shapes.items():
            self._weights[name] = np.array(weights[name], np.float32).reshape(shape)
        self._follow(self._decay**missed_steps if self.step else 0.0)

    def _follow(self, decay):
        for name, weights in self._weights.items():
            self._average[name] = np.float32(decay) * self._average[name] + np.float32(1 - decay) * weights

    def state(self):
        averages = {f"average.{name}": array for name, array in self._average.items()}
        return {name: array.copy() for name, array in {**self._momentum, **averages}.items()}

    def load_state(self, state, step):
        self._momentum = {name: np.array(state[name]).reshape(shape) for name, shape in self._shapes.items()}
        self._average = {name: np.array(state[f"average.{name}"]) for name in self._shapes}
        self.step = step

    def train(self, steps, on_step):
        for _ in range(steps):
            time.sleep(self._step_seconds)
            random = np.random.default_rng([self._seed, self.step])
            for name, weights in self._weights.items():
                noise = random.normal(scale=0.01, size=weights.shape).astype(np.float32)
                self._momentum[name] = 0.5 * self._momentum[name] + weights - self._target[name] + noise
                self._weights[name] = weights - np.float32(0.1) * self._momentum[name]
            self.step += 1
            self._follow(self._decay)
            loss = sum(float(np.square(w - self._target[n]).sum()) for n, w in self._weights.items())
            record = StepRecord(self.step, float("nan") if self.step == self._nan_at else loss, {"squares": loss})
            if not np.isfinite(record.loss):
                raise NonFiniteLossError(record)
            on_step(record)
