"""A job of pods on one machine: aggregator and trainers by Sedna's environment alone, with trainers of numpy."""

import dataclasses
import json
import signal
import time

import numpy as np
import pytest

from cross_silo.checkpoint import read_checkpoint
from cross_silo.data.manifest import write_manifest
from cross_silo.errors import UserError
from cross_silo.launch.free_ports import free_ports
from cross_silo.sedna import __main__ as entry
from tests.support.auth_files import make_auth
from tests.support.federation import Federation, manifest, reference
from tests.support.local_controller import LocalController
from tests.support.mistnet_job import write_pre_trained
from tests.support.sedna_site import YOLO


class Pods(Federation):
    """The containers of a job and what Sedna's global manager would tell them."""

    def __init__(self, directory, rounds=2):
        redis, port, self.rest = free_ports(3)
        super().__init__(directory, f"127.0.0.1:{redis}", port, rounds)
        self.redis = redis
        self.port = port
        self.model = directory / "host" / "model" / "final.ckpt"
        aggregator = directory / "aggregator"
        aggregator.mkdir()
        self.checkpoints = self.checkpoints.rename(aggregator / "checkpoints")  # round 0's model is there already
        common = {
            **{"NAMESPACE": "default", "JOB_NAME": self.name, "PARTICIPANTS_COUNT": "2", "TRANSMITTER": "ws"},
            **{"MODEL_URL": str(self.model), "exit_round": str(rounds), "aggregation_algorithm": "FedAvg"},
        }
        self.for_aggregator = {**common, "WORKER_NAME": "aggworker-abcde", "AGG_BIND_PORT": str(port)}
        self.for_aggregator["AGG_BIND_IP"] = "127.0.0.1"
        self.for_trainer = {**common, "AGG_IP": "127.0.0.1", "AGG_PORT": str(port), "MODEL_NAME": "m"}

    def aggregator(self, **environment):
        """Start the aggregation container."""
        return self.start(
            "tests.support.numpy_pod",
            "aggregator.log",
            "aggregator",
            *("--run_dir", str(self.directory / "aggregator"), "--redis_address", f"127.0.0.1:{self.redis}"),
            *("--scheduler_manage_address", f"127.0.0.1:{self.rest}"),
            env={**self.for_aggregator, **environment},
        )

    def trainer(self, number, trainer=None, **environment):
        """Start the container of training worker ``number``, from 1."""
        data = self.directory / f"data_{number}"
        if not data.exists():
            data.mkdir()
            write_manifest(str(data), manifest(("cell",)))
        told = {"TRAIN_DATASET_URL": str(data), "WORKER_NAME": f"trainworker-{number}", "DATASET_NAME": f"d{number}"}
        return self.start(
            "tests.support.numpy_pod",
            f"trainer_{number}.log",
            "trainer",
            *("-i", str(number), "--run_dir", str(self.directory / f"edge_{number}")),
            env={**self.for_trainer, **told, "NUMPY_TRAINER": json.dumps(trainer or {}), **environment},
        )


@pytest.fixture
def pods(tmp_path):
    pods = Pods(tmp_path)
    yield pods
    for process in pods.processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=120)
    pods.close()


@pytest.fixture
def controller():
    controller = LocalController()
    yield controller
    controller.close()


class MistNetPods(Pods):
    """Of a MistNet job of three epochs."""

    def __init__(self, directory):
        super().__init__(directory)
        start = directory / "yolov5.pth"
        start.write_bytes(b"what round 0's model was filled from")
        mistnet = {"aggregation_algorithm": "mistnet", "cut_layer": "4", "epsilon": "2", "exit_round": ""}
        self.for_trainer = {**self.for_trainer, **mistnet, "epochs": "1"}
        self.for_aggregator = {**self.for_aggregator, **mistnet, "epochs": "3", "PRETRAINED_MODEL_URL": str(start)}

    def write_initial(self):
        write_pre_trained(self.checkpoints, self.name, YOLO)


def end_well(pods, aggregator, trainers):
    """All containers end with status 0; the aggregator's end tells first what went wrong."""
    assert pods.status(aggregator) == 0, pods.log("aggregator.log")
    assert [pods.status(process) for process in trainers] == [0] * len(trainers)


def check_model(path, rounds):
    expected = reference({"silo_0": 10, "silo_1": 10}, rounds)
    tensors, info = read_checkpoint(path)
    assert info.round == rounds
    for name, array in expected.items():
        np.testing.assert_allclose(tensors[name], array, rtol=1e-5, atol=1e-6)


def test_trainers_first_and_reports(pods, controller):
    """Trainers wait for the aggregator; the model is where it is wanted; the controller hears of every round."""
    trainers = [pods.trainer(number, LC_SERVER=controller.url) for number in (1, 2)]
    for number in (1, 2):
        pods.wait_log(f"trainer_{number}.log", "waiting for the aggregator")
    aggregator = pods.aggregator(LC_SERVER=controller.url)
    end_well(pods, aggregator, trainers)
    check_model(pods.model, rounds=2)
    assert sorted(path.name for path in pods.model.parent.iterdir()) == ["final.ckpt"]
    job = controller.jobs["default", pods.name]
    assert controller.dropped == []
    assert {kind for kind, _, _ in job.conditions} == {"Training"}
    assert any(text.startswith("Round 2 reaches at") for _, _, text in job.conditions)
    assert [entry["key"] for entry in job.metrics] == ["loss"]
    last = {message["name"]: message for message in controller.messages}
    assert set(last) == {"aggworker-abcde", "trainworker-1", "trainworker-2"}
    assert {message["status"] for message in last.values()} == {"completed"}
    assert [last[name]["ownerInfo"]["sampleCount"] for name in sorted(last)] == [20, 10, 10]
    assert last["trainworker-1"]["results"][0]["url"] == str(pods.model)


def test_mistnets_pods(tmp_path, controller):
    """The controller hears of the server's epochs, and of one round of each silo: its features."""
    pods = MistNetPods(tmp_path)
    try:
        aggregator = pods.aggregator(LC_SERVER=controller.url)
        trainers = [pods.trainer(number, LC_SERVER=controller.url) for number in (1, 2)]
        end_well(pods, aggregator, trainers)
        info = read_checkpoint(pods.model)[1]
        assert (info.round, info.mistnet["cut"]) == (3, 4)
        assert controller.dropped == []
        last = {message["name"]: message for message in controller.messages}
        assert {message["status"] for message in last.values()} == {"completed"}
        told = {name: message["ownerInfo"] for name, message in last.items()}
        assert (told["aggworker-abcde"]["currentRound"], told["aggworker-abcde"]["sampleCount"]) == (3, 14)
        assert [told[f"trainworker-{number}"]["currentRound"] for number in (1, 2)] == [1, 1]
        pods.model.unlink()
        assert pods.status(pods.aggregator()) == 0  # the last epoch is made: the model is delivered again
        assert read_checkpoint(pods.model)[1].round == 3
    finally:
        pods.close()


def test_absent_controller_and_tokens_over_tls(pods, free_port, tmp_path):
    """Nobody listens at LC_SERVER; silos show tokens over TLS, and one with another's token is not let in."""
    auth = make_auth(tmp_path / "auth")
    for name in ("scheduler.pem", "scheduler.key"):  # a pod is not given them
        (auth / name).unlink()
    hashes = (auth / "tokens.json").read_text()
    absent = {"LC_SERVER": f"http://127.0.0.1:{free_port}", "CROSS_SILO_AUTH_DIR": str(auth)}
    aggregator = pods.aggregator(CROSS_SILO_TOKEN=hashes, AGG_BIND_IP="", **absent)  # every address of the pod
    tokens = [(auth / f"silo_{index}.token").read_text().strip() for index in range(2)]
    pods.wait_log("aggregator.log", "serves job")
    thief = pods.trainer(1, CROSS_SILO_TOKEN=tokens[1], **absent)
    assert pods.status(thief) != 0
    trainers = [pods.trainer(index + 1, CROSS_SILO_TOKEN=tokens[index], **absent) for index in range(2)]
    end_well(pods, aggregator, trainers)
    check_model(pods.model, rounds=2)
    for log in tmp_path.rglob("*.log"):
        assert not any(token in log.read_text() for token in tokens), log


def test_restart_of_the_aggregator_goes_on(tmp_path):
    pods = Pods(tmp_path, rounds=6)
    try:
        aggregator = pods.aggregator()
        trainers = [pods.trainer(number, {"step_seconds": 0.1}) for number in (1, 2)]
        pods.wait_log("aggregator.log", "round 1 good")
        aggregator.send_signal(signal.SIGTERM)
        assert pods.status(aggregator) == 2
        assert "ended before the job was, as asked" in pods.log("aggregator.log")
        assert not pods.model.exists()
        aggregator = pods.aggregator()
        end_well(pods, aggregator, trainers)
        check_model(pods.model, rounds=6)
        pods.model.unlink()
        assert pods.status(pods.aggregator()) == 0  # nothing is left to train: the model is delivered again
        check_model(pods.model, rounds=6)
    finally:
        pods.close()


def test_failed_worker_is_told(pods, controller):
    aggregator = pods.aggregator(LC_SERVER=controller.url)
    trainer = pods.trainer(1, {"nan_at": 1}, LC_SERVER=controller.url)
    other = pods.trainer(2, LC_SERVER=controller.url)
    assert pods.status(trainer) == 1
    statuses = [message["status"] for message in controller.messages if message["name"] == "trainworker-1"]
    assert statuses[-1] == "failed"
    for process in (other, aggregator):
        process.send_signal(signal.SIGTERM)
    assert pods.status(aggregator) == 2
    assert not pods.model.exists()


def test_trainer_gives_up(pods):
    began = time.monotonic()
    trainer = pods.trainer(1, CONNECT_TIMEOUT="1")
    assert pods.status(trainer) == 2
    assert "error: the aggregator did not come for 1 s (CONNECT_TIMEOUT)" in pods.log("trainer_1.log")
    assert time.monotonic() - began < 100


@pytest.mark.parametrize(
    "role, changes, reason",
    [
        (
            ["aggregator"],
            {"AGG_BIND_IP": ""},
            "CROSS_SILO_TOKEN is not set, and the aggregator would listen at 0.0.0.0",
        ),
        (["aggregator"], {"AGG_BIND_IP": "", "CROSS_SILO_TOKEN": "[]"}, "CROSS_SILO_TOKEN: expected the content of"),
        (["aggregator"], {"MODEL_URL": ""}, "MODEL_URL is not set"),
        (
            ["aggregator"],
            {"MODEL_URL": "/proc/x/m.ckpt"},
            "MODEL_URL is /proc/x/m.ckpt.*expected a directory that this",
        ),
        (["aggregator"], {"MODEL_URL": "https://h/m.ckpt"}, "cannot be written; expected a path or s3://"),
        (["aggregator"], {"MODEL_URL": "/model/m.pb"}, "not written as pb"),
        (["aggregator"], {"PARTICIPANTS_COUNT": ""}, "PARTICIPANTS_COUNT is not set"),
        (
            ["aggregator"],
            {"aggregation_algorithm": "mistnet", "cut_layer": "4", "PRETRAINED_MODEL_URL": ""},
            "PRETRAINED_MODEL_URL is not set",
        ),
        (["trainer", "-i", "1"], {"AGG_IP": "job-aggregation.default"}, "CROSS_SILO_TOKEN is not set, and the aggreg"),
        (
            ["trainer", "-i", "1"],
            {"AGG_IP": "job-aggregation.default", "CROSS_SILO_TOKEN": "x" * 43},
            "CROSS_SILO_AUTH_DIR is not set: ca.pem not found there",
        ),
        (["trainer", "-i", "3"], {}, r"-i is 3, expected 1 to 2 \(PARTICIPANTS_COUNT\)"),
        (["trainer", "-i", "1"], {"TRAIN_DATASET_URL": ""}, "TRAIN_DATASET_URL is not set"),
        (["trainer", "-i", "1"], {"epochs": "many"}, "environment variable epochs: found 'many'"),
        (["server"], {}, "the role is 'server'; expected aggregator or trainer"),
        ([], {}, "the role is 'not given'"),
    ],
)
def test_refused_before_anything_starts(tmp_path, monkeypatch, role, changes, reason):
    told = {
        "JOB_NAME": "job",
        "PARTICIPANTS_COUNT": "2",
        "MODEL_URL": str(tmp_path / "m.ckpt"),
        "AGG_BIND_IP": "127.0.0.1",
    }
    told["TRAIN_DATASET_URL"] = str(tmp_path)
    for name in ("CROSS_SILO_TOKEN", "CROSS_SILO_AUTH_DIR", "LC_SERVER"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**told, **changes}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=reason):
        entry.main([*role, *(["--run_dir", str(tmp_path / "run")] if len(role) else [])])


def test_tokens_need_a_certificate_off_loopback(tmp_path):
    from cross_silo.sedna.environment import Settings
    from cross_silo.sedna.pod_access import aggregator_access

    auth = make_auth(tmp_path / "auth")
    environ = {"CROSS_SILO_TOKEN": (auth / "tokens.json").read_text()}
    settings = Settings(participants_count=2)
    with pytest.raises(UserError, match="server.pem, server.key, ca.pem not found there, but tokens must not travel"):
        aggregator_access(settings, tmp_path / "run", environ)
    found, access = aggregator_access(settings, tmp_path / "run", {**environ, "CROSS_SILO_AUTH_DIR": str(auth)})
    assert found == dataclasses.replace(settings, agg_bind_ip="0.0.0.0")
    assert access.federated["silos"] == ["silo_0", "silo_1"]
    assert access.federated["enable_ssl"] is True
    assert access.environment["CROSS_SILO_TOKEN"] == ""  # processes read the hashes from their file
    written = tmp_path / "run" / "sedna" / "auth"
    assert (written / "tokens.json").stat().st_mode & 0o777 == 0o600
    for name in ("server.key", "scheduler.key"):  # the scheduler serves the container alone
        assert (written / name).resolve() == (auth / "server.key").resolve()
