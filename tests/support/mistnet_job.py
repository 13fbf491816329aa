"""A MistNet job of real processes: server, a feature trainer of numpy, silos that send features made before."""

import datetime
import json
import socket

import numpy as np

from cross_silo.checkpoint import CheckpointInfo, checkpoint_path, model_fingerprint, write_checkpoint
from tests.support.federation import Federation

WEIGHTS = {
    "backbone.conv1.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 7,
    "backbone.layer1.weight": np.ones((3, 2), np.float32),
    "head.weight": np.full((2, 2), 0.5, np.float32),
}
MODEL = "detector: faster_rcnn\nimg_height: 64\nimg_width: 64\nbackbone: resnet18\n"


class MistNetJob(Federation):
    """Of two silos."""

    def __init__(self, directory, redis_address, port, epochs=3, transmitter=None, mistnet=None, **settings):
        shared = {"algorithm": "mistnet", "mistnet": {"cut_layer": "stem", "epochs": epochs, **(mistnet or {})}}
        if transmitter:
            shared["transmitter"] = transmitter
        super().__init__(directory, redis_address, port, **shared, **settings)
        self.model_yaml.write_text(MODEL)

    def write_initial(self):
        write_pre_trained(self.checkpoints, self.name, WEIGHTS)

    @property
    def _shared(self):
        return (
            *("--yaml_config", str(self.yaml), "--config", str(self.model_yaml)),
            *("--checkpoint_dir", str(self.checkpoints), "--run_dir", str(self.run_dir)),
        )

    def server(self, fault="", ready=True):
        marker = self.run_dir / "server_0" / "ready.json"
        marker.unlink(missing_ok=True)
        arguments = (*self._shared, "--http_server_address", self.address, "--tcp_server_ip", "127.0.0.1")
        process = self.start("tests.support.mistnet_server", "server.log", *arguments, env=self.fault("server", fault))
        self.wait(lambda: marker.exists() or process.poll() is not None, "the server to serve")
        assert not ready or process.poll() is None, self.log("server.log")
        return process

    def trainer(self, fault="", **trainer):
        env = {"NUMPY_TRAINER": json.dumps(trainer), **self.fault("trainer", fault)}
        return self.start("tests.support.numpy_feature_trainer", "trainer.log", *self._shared, env=env)

    def silo(self, index, fault="", **env):
        arguments = ["--yaml_config", str(self.yaml), "--address", self.address, "--silo", f"silo_{index}"]
        arguments += ["--directory", str(self.directory / f"features_{index}")]
        name = f"silo_{index}"
        return self.start("tests.support.uploader", f"{name}.log", *arguments, env={**self.fault(name, fault), **env})

    def whole(self):
        """The silos of which the server has features that are exactly what was sent."""
        found = []
        for index in range(2):
            sent = self.directory / f"features_{index}"
            stored = self.checkpoints / "features" / f"silo_{index}"
            if (stored / "manifest.json").exists():
                names = [entry["name"] for entry in json.loads((stored / "manifest.json").read_text())["files"]]
                assert all((stored / name).read_bytes() == (sent / name).read_bytes() for name in names)
                assert json.loads((stored / "manifest.json").read_text()) == json.loads(
                    (sent / "manifest.json").read_text()
                )
                found.append(index)
        return found


def write_pre_trained(directory, name, weights):
    """Write round 0 of the job ``name``, filled from a checkpoint, into a new directory."""
    kinds = dict.fromkeys(weights, "trainable")
    info = CheckpointInfo(
        fl_name=name,
        fingerprint=model_fingerprint({tensor: array.shape for tensor, array in weights.items()}, kinds),
        pre_trained_sha256="a" * 64,
        classes=("cell",),
        kinds=kinds,
    )
    directory.mkdir(parents=True)
    write_checkpoint(checkpoint_path(directory, name, 0, datetime.datetime.now()), weights, info)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
