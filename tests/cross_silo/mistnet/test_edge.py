"""Workers of a MistNet job as real processes: their own images, drawn once, on the terms of the server alone."""

from __future__ import annotations

import json
import stat
from argparse import Namespace
from dataclasses import replace

import numpy as np
import pytest
import yaml

from cross_silo.config.federated import Client, load_federated
from cross_silo.config.model import load_model, make_detector
from cross_silo.data.mindrecord_writer import write_shards
from cross_silo.errors import UserError
from cross_silo.mistnet.cut_detector import CutDetector
from cross_silo.mistnet.edge import agreed_spec, unread
from cross_silo.mistnet.extractor_file import thresholds_sha256
from cross_silo.mistnet.features import FeatureShards
from cross_silo.mistnet.privacy import Mechanism
from cross_silo.mistnet.spec import FeatureSpec
from tests.support.coco_silo import write_silo
from tests.support.mistnet_job import MODEL, MistNetJob

IMAGES = (3, 5)


@pytest.fixture(scope="module")
def silos(tmp_path_factory):
    """The images of two silos, none of one in the other."""
    directories = []
    for index, count in enumerate(IMAGES):
        root = tmp_path_factory.mktemp(f"silo_{index}")
        dataset, image_dir = write_silo(root, count, seed=index, categories=((1, "cell"),))
        directories.append(root / "mindrecord_0")
        write_shards(dataset, image_dir, str(directories[-1]))
    return directories


class Job(MistNetJob):
    """With edges that make their features themselves."""

    def edge(self, index, data, fault="", config="", yaml_config="", more=()):
        arguments = ["--yaml_config", yaml_config or str(self.yaml), "--config", config or str(self.model_yaml)]
        arguments += ["--worker_index", str(index), "--silo", f"silo_{index}", "--dataset_dir", str(data)]
        arguments += ["--http_server_address", self.address, "--run_dir", str(self.run_dir), *more]
        name = f"worker_{index}"
        return self.start("tests.support.numpy_edge", f"{name}.log", *arguments, env=self.fault(name, fault))

    def wait(self, happened, what, seconds=600.0):
        """The edges import MindSpore, to write MindRecord: on a busy machine that alone takes minutes."""
        super().wait(happened, what, seconds)

    def stored(self, index):
        """The records that the server has of a silo."""
        shards = FeatureShards(self.checkpoints / "features" / f"silo_{index}")
        return shards.spec, list(shards.records(range(len(shards))))


@pytest.fixture
def job_of(tmp_path, redis_address, free_port):
    made = []

    def make(epsilon=2.0, **mistnet):
        settings = {"mistnet": {"epsilon": epsilon, **mistnet}, "lease": 20.0, "client": {}}
        made.append(Job(tmp_path, redis_address, free_port, epochs=1, **settings))
        return made[-1]

    yield make
    for job in made:
        job.close()


def test_silos_send_their_own_images_and_leave_with_the_job(job_of, silos):
    job = job_of()
    server, trainer = job.server(), job.trainer()
    edges = [job.edge(index, data) for index, data in enumerate(silos)]
    assert [job.status(process) for process in (*edges, server, trainer)] == [0, 0, 0, 0]
    records = []
    for index, count in enumerate(IMAGES):
        spec, own = job.stored(index)
        assert len(own) == count
        assert (spec.cut, spec.shape, spec.epsilon) == ("stem", (64, 16, 16), 2.0)
        records += own
        secret = job.run_dir / f"worker_{index}" / "secret.key"
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert len({record.id for record in records}) == sum(IMAGES)
    log = job.log("worker_0.log")
    assert "ln(p/q) = 1 a bit, 16,384 an image" in log
    assert "labels: the classes of all objects are sent in the clear" in log
    assert "WARNING epsilon 2 is that of one bit" in log
    assert f"features: {IMAGES[0]} of {IMAGES[0]} images" in log


@pytest.mark.parametrize(
    "fault", ["add:2", pytest.param("made:1", marks=pytest.mark.long), pytest.param("chunk:1", marks=pytest.mark.long)]
)
def test_a_killed_edge_sends_the_bits_that_it_would_have_sent(job_of, silos, fault):
    job = job_of()
    server, trainer = job.server(), job.trainer()
    killed, other = job.edge(0, silos[0], fault), job.edge(1, silos[1])
    assert job.status(killed) == -9
    again = job.edge(0, silos[0])
    assert [job.status(process) for process in (again, other, server, trainer)] == [0, 0, 0, 0]
    made = FeatureShards(job.run_dir / "worker_0" / "features")
    for sent, stored in zip(made.records(range(3)), job.stored(0)[1]):
        assert sent.bits.tobytes() == stored.bits.tobytes() and sent.id == stored.id
    assert ("drawn once" in job.log("worker_0.log")) == (fault != "add:2")


def test_what_a_silo_understands_otherwise_is_refused_with_both_values(job_of, silos):
    job = job_of()
    job.server()
    content = yaml.safe_load(job.yaml.read_text())
    content["mistnet"]["epsilon"] = 4.0
    other = job.directory / "other.yaml"
    other.write_text(yaml.safe_dump(content))
    assert job.status(job.edge(0, silos[0], yaml_config=str(other))) == 2
    log = job.log("worker_0.log")
    assert "epsilon is 4.0 in" in log and "2.0 in the server's; expected the same" in log
    assert not (job.run_dir / "worker_0" / "extractor.ckpt").exists()


@pytest.fixture
def agree(tmp_path):
    """Return a function: agree with a server on what the silo's files say, but for ``theirs``, the server's changes."""

    def agree(theirs=None, mistnet=None, model=MODEL, classes=("cell",)):
        yaml_config, config = tmp_path / "job.yaml", tmp_path / "model.yaml"
        settings = {"cut_layer": "stem", "epsilon": 2.0, **(mistnet or {})}
        yaml_config.write_text(yaml.safe_dump({"algorithm": "mistnet", "mistnet": settings}))
        config.write_text(model)
        federated, loaded = load_federated(yaml_config), load_model(config)
        cut = CutDetector(make_detector(loaded, len(classes)), federated.mistnet.cut_layer)
        server = replace(SERVER, **(theirs or {}))
        arguments = Namespace(yaml_config="job.yaml", config="model.yaml")
        return agreed_spec(server, federated, loaded, cut, classes, arguments)

    return agree


SERVER = FeatureSpec(
    cut="stem",
    shape=(64, 16, 16),
    bits=64 * 16 * 16,
    p=Mechanism(2.0).p,
    q=Mechanism(2.0).q,
    epsilon=2.0,
    convention="half",
    thresholds_sha256=thresholds_sha256(np.zeros(64)),
    extractor_sha256="e" * 64,
    detector="fast-rcnn",
    height=64,
    width=64,
    categories=("cell",),
    label_epsilon=None,
    box_jitter=0.0,
)


def test_the_extractor_is_the_servers(agree):
    assert agree() == SERVER
    assert agree({"extractor_sha256": "f" * 64}).extractor_sha256 == "f" * 64


def test_calibrated_thresholds_are_the_servers(agree):
    calibrated = {"thresholds": "calibrated", "calibration_images": "public"}
    assert agree({"thresholds_sha256": "f" * 64}, calibrated).thresholds_sha256 == "f" * 64


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"mistnet": {"epsilon": None}}, "p is 1.0 in job.yaml and model.yaml of this silo, 0.73"),
        ({"mistnet": {"epsilon_convention": "per_bit"}}, "convention is 'per_bit' in"),
        ({"mistnet": {"cut_layer": "layer1"}}, "cut is 'layer1' in"),
        ({"mistnet": {"label_epsilon": 1.0}}, "label_epsilon is 1.0 in"),
        ({"mistnet": {"box_jitter": 0.1}}, "box_jitter is 0.1 in"),
        ({"model": MODEL.replace("img_width: 64", "img_width: 96")}, "width is 96 in"),
        ({"classes": ("plate",)}, r"categories is \['plate'\] in"),
        ({"theirs": {"thresholds_sha256": "f" * 64}}, "thresholds_sha256 is"),
        ({"theirs": {"q": 0.1, "p": 0.9}}, "q is 0.26"),
        ({"theirs": {"detector": "yolov5"}}, "detector is 'fast-rcnn' in"),
    ],
)
def test_a_silo_agrees_on_everything_that_it_knows(agree, options, problem):
    with pytest.raises(UserError, match=problem):
        agree(**options)


@pytest.mark.long
def test_features_of_another_job_are_not_sent(job_of, silos):
    """The bits that are there were drawn with another epsilon: nothing is drawn from the same images in silence."""
    job = job_of()
    server, trainer = job.server(), job.trainer()
    killed = job.edge(0, silos[0], "made:1")
    assert job.status(killed) == -9
    for process in (server, trainer):
        process.kill()
        process.wait()
    content = yaml.safe_load(job.yaml.read_text())
    content["mistnet"]["epsilon"] = 8.0
    job.yaml.write_text(yaml.safe_dump(content))
    job.server()
    assert job.status(job.edge(0, silos[0])) == 2
    assert "epsilon is 8.0 in this job, 2.0 in" in job.log("worker_0.log")


def test_only_the_layers_before_the_cut_come_down(job_of, silos):
    from cross_silo.checkpoint import read_checkpoint

    job = job_of()
    job.server()
    edge = job.edge(0, silos[0], "add:1")
    assert job.status(edge) == -9
    tensors, _ = read_checkpoint(job.run_dir / "worker_0" / "extractor.ckpt")
    assert sorted(tensors) == ["backbone.conv1.weight", "mistnet.thresholds"]
    assert json.loads((job.run_dir / "worker_0" / "features" / "progress.json").read_text())["files"] == []


def test_settings_of_training_are_named():
    assert unread(Client()) == []
    [line] = unread(Client(client_epoch_num=3))
    assert line.startswith("client.client_epoch_num is set")
