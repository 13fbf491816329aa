"""A process of the mindspore-federated wheel's own worker, for the environment that scripts/setup_interop.sh makes.

Imports nothing of this project: ``python wheel_worker.py YAML ADDRESS SAMPLES STEPS OUT.npz``. OUT gets what was pushed
and what was received in each round, ``pushed.N.name`` and ``received.N.name``.
"""

import sys

import mindspore as ms
import mindspore._c_expression as expression
import numpy as np

if not hasattr(expression, "Tensor"):
    expression.Tensor = expression.TensorPy  # MindSpore 2.7 and later renamed what the wheel imports
from mindspore import nn
from mindspore_federated import FederatedLearningManager

SYNC_FREQUENCY = 2


class Net(nn.Cell):
    """A dense layer and a batch norm, whose statistics the wheel's worker does not send."""

    def __init__(self):
        super().__init__()
        self.dense = nn.Dense(3, 4)
        self.norm = nn.BatchNorm1d(4)

    def construct(self, x):
        return self.norm(self.dense(x))


class Recording(FederatedLearningManager):
    """Notes what goes over the wire."""

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self.rounds = []

    def _update_model(self, weights, weight_infos):
        pushed = {name: np.array(values, np.float32) for name, values in weights.items()}
        super()._update_model(weights, weight_infos)
        received = {param.name: param.asnumpy().reshape(-1).copy() for param in self._model.trainable_params()}
        self.rounds.append((pushed, received))
        print(f"round {len(self.rounds)} received", flush=True)


def main(yaml, address, samples, steps, out):
    ms.set_context(mode=ms.GRAPH_MODE, device_target="CPU")
    net = Net()
    for param in net.trainable_params():
        param.set_data(ms.Tensor(np.ones(param.shape, np.float32)))
    random = np.random.default_rng(int(samples))
    rows = [(random.normal(size=3).astype("f4"), random.normal(size=4).astype("f4")) for _ in range(4 * int(steps))]
    data = ms.dataset.GeneratorDataset(rows, ["x", "y"], shuffle=False, python_multiprocessing=False).batch(4)
    manager = Recording(
        yaml_config=yaml,
        model=net,
        sync_frequency=SYNC_FREQUENCY,
        http_server_address=address,
        data_size=int(samples),
    )
    optimizer = nn.Momentum(net.trainable_params(), 0.05, 0.5)
    ms.Model(net, nn.MSELoss(), optimizer).train(1, data, callbacks=[manager], dataset_sink_mode=False)
    rounds = {
        f"{what}.{number}.{name}": values
        for number, told in enumerate(manager.rounds, 1)
        for what, tensors in zip(("pushed", "received"), told)
        for name, values in tensors.items()
    }
    np.savez(out, **rounds)
    print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
