"""The wheel's own worker (FederatedLearningManager) without training, for the environment of scripts/setup_interop.sh.

``python wheel_worker.py YAML ADDRESS SAMPLES ROUNDS SIZES``, with SIZES as JSON from a tensor's name to its elements;
prints one JSON object. Imports nothing of this project.
"""

import json
import sys
import time
from types import SimpleNamespace

import mindspore as ms
import mindspore._c_expression as expression
import numpy as np

if not hasattr(expression, "Tensor"):
    expression.Tensor = expression.TensorPy  # MindSpore 2.7 and later renamed what the wheel imports
from mindspore_federated import FederatedLearningManager

PROGRESS = {"epoch_num": 1, "batch_num": 1, "cur_epoch_num": 1, "cur_step_num": 1}


def status(name):
    """Return a size in MB from this process's status."""
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def transferred():
    """Return (written, read): libevent moves a connection's bytes by writev and readv, which the kernel counts."""
    with open("/proc/self/io", encoding="ascii") as lines:
        counts = dict(line.split(": ") for line in lines)
    return int(counts["wchar"]), int(counts["rchar"])


def main(yaml, address, samples, rounds, sizes):
    net = ms.nn.Cell()
    own = status("VmHWM")
    random = np.random.default_rng(1)
    for name, size in json.loads(sizes).items():
        values = random.standard_normal(size, np.float32)
        net.insert_param_to_cell(name.replace(".", "_"), ms.Parameter(ms.Tensor(values), name=name))
    manager = FederatedLearningManager(yaml, net, 1, http_server_address=address, data_size=int(samples))
    context = SimpleNamespace(original_args=lambda: SimpleNamespace(**PROGRESS))
    seconds, before = [], transferred()
    for _ in range(int(rounds)):
        began = time.perf_counter()
        manager.on_train_step_begin(context)
        manager.on_train_step_end(context)
        seconds.append(time.perf_counter() - began)
    up, down = (after - first for after, first in zip(transferred(), before))
    told = {"seconds": seconds, "own": own, "peak": status("VmHWM"), "up": up, "down": down}
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
