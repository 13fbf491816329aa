"""run_sedna.py as a command: the public example's manifests checked, planned, refused, and trained with FedAvg."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cross_silo.checkpoint import CheckpointInfo
from cross_silo.checkpoint.tensor_file import read_tensors, write_tensors
from cross_silo.launch.ending import end_roles
from cross_silo.launch.free_ports import free_ports
from cross_silo.launch.record import read_json
from cross_silo.launch.role import running_roles
from cross_silo.sedna.plan import JobPlan
from tests.support.yolo_silo import write_coco128

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "cross_silo" / "sedna" / "data"
EXAMPLE, DRAFT = DATA / "yolov5_mistnet.txt", DATA / "yolov5_mistnet_draft.txt"
TINY = ROOT / "configs" / "yolov5_tiny.yaml"
NODES = ["--set", "CLOUD_NODE=cloud", "--set", "EDGE1_NODE=edge1", "--set", "EDGE2_NODE=edge2"]


def run(directory, *arguments, timeout=120):
    """Run the command in ``directory``; returns (status, output, errors)."""
    (directory / "nodes.txt").write_text("cloud\nedge1\nedge2\nedge-node\nsedna-control-plane\n")
    command = [sys.executable, str(ROOT / "scripts" / "run_sedna.py"), "--nodes", "nodes.txt", *map(str, arguments)]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False, timeout=timeout)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def test_the_example_passes_every_check_and_both_workers_are_planned(tmp_path):
    status, out, errors = run(tmp_path, "--manifests", EXAMPLE, *NODES, "--dry_run", "--json")
    assert (status, errors) == (0, "")
    plan = JobPlan.from_document(json.loads(out), "plan")
    assert (plan.aggregator.algorithm, plan.aggregator.node) == ("mistnet", "cloud")
    mistnet = {"cut_layer": 4, "epsilon": 100.0, "epochs": 100, "batch_size": 32}
    assert plan.aggregator.federated["mistnet"] == mistnet
    assert [trainer.node for trainer in plan.trainers] == ["edge1", "edge2"]
    pre_trained = plan.aggregator.commands[1].index("--pre_trained")
    assert plan.aggregator.commands[1][pre_trained + 1] == "/pretrained/yolov5.pth"
    assert [trainer.dataset.url for trainer in plan.trainers] == ["/data/1/COCO", "/data/2/COCO"]
    status, out, errors = run(tmp_path, "--manifests", EXAMPLE, *NODES, "--dry_run")
    assert (status, errors, out.count("run_worker.py")) == (0, "", 2)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["nodes.txt"]


def test_the_draft_fails_with_exactly_the_missing_pretrained_model(tmp_path):
    status, out, errors = run(tmp_path, "--manifests", DRAFT, "--set", "EDGE1_NODE=edge-node", "--dry_run")
    assert (status, out) == (2, "")
    assert errors.splitlines() == [
        "error: the manifests cannot be used:",
        "FederatedLearningJob/yolo-v5: spec.pretrainedModel.name: failed to get the model yolo-v5-pretrained-model: "
        'models.sedna.io "yolo-v5-pretrained-model" not found',
    ]


def test_placeholders_without_a_value_and_unknown_nodes_are_all_named(tmp_path):
    status, _, errors = run(tmp_path, "--manifests", EXAMPLE, "--set", "CLOUD_NODE=moon", "--dry_run")
    lines = errors.splitlines()[1:]
    assert (status, len(lines)) == (2, 5)
    assert sum("$EDGE1_NODE is not filled" in line for line in lines) == 2
    assert any('node "moon" not found' in line for line in lines)


def test_the_manifests_may_come_from_standard_input(tmp_path):
    command = [sys.executable, str(ROOT / "scripts" / "run_sedna.py"), "--manifests", "-", *NODES, "--dry_run"]
    done = subprocess.run(command, input=EXAMPLE.read_text(), capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0
    assert "# note: nodes are not checked" in done.stdout


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "--manifests is missing"),
        (["--manifests", EXAMPLE, "--set", "A"], "--set is 'A', expected NAME=value"),
        (
            ["--manifests", EXAMPLE, "--http_server_address", "here"],
            "--http_server_address is 'here', expected host:port",
        ),
        (["--manifests", EXAMPLE, "--json"], "--json prints a plan and starts nothing; expected --dry_run with it"),
        (["--manifests", EXAMPLE, "--set_env", "epoch=3"], "--set_env epoch: nothing here reads it; expected one of"),
        (["--manifests", EXAMPLE, "--path_map", "data=/mnt"], "--path_map is 'data=/mnt', expected /PATH=/PATH"),
        (["--status", "--job", "yolo-v5"], "has no sedna/plan.json"),
        (["--delete"], "--manifests is missing"),
    ],
)
def test_mistakes_are_one_line(tmp_path, arguments, message):
    status, _, errors = run(tmp_path, *arguments)
    assert (status, errors.count("\n")) == (2, 1)
    assert message in errors


def test_deleting_what_does_not_run_says_so(tmp_path):
    status, out, errors = run(tmp_path, "--manifests", EXAMPLE, "--delete")
    assert (status, errors) == (0, "")
    assert out == f"nothing runs in {tmp_path}/runs/yolo-v5\n"


def tools(directory, script, *arguments):
    command = [sys.executable, str(ROOT / "tools" / script), *map(str, arguments)]
    subprocess.run(command, cwd=directory, check=True, capture_output=True, timeout=900)


class Machine:
    """The public example's directories on this machine, with tiny data and a tiny pre-trained model."""

    def __init__(self, directory):
        self.directory, self.run_dir = directory, directory / "run"
        self.delivered = directory / "model" / "yolov5.pth"
        self.pre_trained = directory / "pretrained" / "yolov5.pth"
        for number in (1, 2):
            write_coco128(directory / "data" / str(number) / "COCO", images=4 + 2 * number, seed=number)
        (directory / "pretrained").mkdir()
        (directory / "tiny.yaml").write_text(f"base: {TINY}\nnum_classes: 80\n")
        tools(
            directory, "init_model.py", "--config", "tiny.yaml", "--checkpoint_dir", "initial", "--fl_name", "initial"
        )
        (checkpoint,) = (directory / "initial").glob("*.ckpt")
        tools(directory, "convert_checkpoint.py", "--in", checkpoint, "--out", self.pre_trained)

    def arguments(self, manifests, **set_env):
        """The flags of a run of ``manifests``."""
        redis, rest, port = free_ports(3)
        found = ["--manifests", manifests, *NODES, "--run_dir", self.run_dir]
        for name, value in {"model_config": TINY, **set_env}.items():
            found += ["--set_env", f"{name}={value}"]
        for name in ("data", "model", "pretrained"):
            found += ["--path_map", f"/{name}={self.directory / name}"]
        found += ["--http_server_address", f"127.0.0.1:{port}", "--redis_address", f"127.0.0.1:{redis}"]
        return [*found, "--scheduler_manage_address", f"127.0.0.1:{rest}"]

    def run(self, *arguments):
        """Run the job to its end; its summary, and the tensors before and after it, by their public names."""
        try:
            status, out, errors = run(self.directory, *arguments, "--foreground", timeout=1800)
            assert status == 0, out + errors
        finally:
            end_roles([role for role in running_roles() if role.role_dir.parent == self.run_dir])
        result = {"delivered": True, "model_url": str(self.delivered)}
        assert read_json(self.run_dir / "sedna" / "result.json") == result
        before, after = (read_tensors(str(path)).tensors for path in (self.pre_trained, self.delivered))
        assert set(before) <= set(after)
        assert "model.24.anchors" in after
        status, out, _ = run(self.directory, "--status", "--run_dir", self.run_dir)
        assert status == 0 and "Succeeded" in out
        summary = read_json(self.run_dir / "summary.json")
        assert summary["state"] == "finished"
        return summary, before, after


@pytest.mark.long
def test_the_example_trains_with_fedavg_and_writes_the_model(tmp_path):
    machine = Machine(tmp_path)
    arguments = machine.arguments(EXAMPLE, aggregation_algorithm="fedavg", batch_size=2)
    summary, before, after = machine.run(*arguments, "--transmitter", "ws")
    assert any((before[name] != after[name]).any() for name in before)
    samples = {entry["silo"]: entry["samples"] for entry in summary["rounds"][-1]["participants"]}
    assert samples == {"silo_0": 6, "silo_1": 8}
    assert os.path.getsize(machine.delivered) > 100_000


@pytest.mark.long
def test_the_example_runs_as_mistnet_with_the_epochs_and_batch_size_of_its_env(tmp_path, s3_server):
    """As it is published, but for the store that its Secret names, and a tiny detector."""
    s3_server.bucket("sedna")
    machine = Machine(tmp_path)
    found = dict(read_tensors(str(machine.pre_trained)).tensors)
    drawn = np.random.default_rng(0)
    for name, values in found.items():  # as if it had been trained: a new extractor is refused
        if name.endswith(".running_mean"):
            found[name] = drawn.normal(0, 0.1, values.shape).astype(np.float32)
    write_tensors(machine.pre_trained, found, CheckpointInfo())
    keys = s3_server.credentials
    secret = {"s3.amazonaws.com": s3_server.endpoint.partition("://")[2], 's3-usehttps: "1"': 's3-usehttps: "0"'}
    secret.update({"SECRET_ACCESS_KEY: XXXXXXXX": f"SECRET_ACCESS_KEY: {keys.secret_key}"})
    secret.update({"ACCESS_KEY_ID: XXXX": f"ACCESS_KEY_ID: {keys.access_key}"})
    manifests = EXAMPLE.read_text()
    for old, new in secret.items():
        assert manifests.count(old) == 1
        manifests = manifests.replace(old, new)
    (tmp_path / "example.txt").write_text(manifests)
    summary, before, after = machine.run(*machine.arguments("example.txt"))
    assert summary["good_rounds"] == summary["fl_iteration_num"] == 100
    assert [record["samples"] for record in summary["rounds"]] == [14] * 100
    assert {silo: told["images"] for silo, told in summary["features"].items()} == {"silo_0": 6, "silo_1": 8}
    assert (
        "14 images, 1 steps an epoch, 100 epochs"
        in (machine.run_dir / "feature_trainer" / "feature_trainer.log").read_text()
    )
    for name in before:  # what is before the cut stays as it is
        assert (before[name] == after[name]).all() or int(name.split(".")[1]) >= 4, name
    assert any((before[name] != after[name]).any() for name in before)
    stored = [entry["Key"] for entry in s3_server.s3.list_objects_v2(Bucket="sedna")["Contents"]]
    assert {key.rpartition("/")[0] for key in stored} == {f"fl/aggregation_data/yolo-v5/silo_{i}" for i in (0, 1)}
    for path in machine.run_dir.rglob("*"):
        assert not path.is_file() or keys.secret_key.encode() not in path.read_bytes(), path


def test_as_published_it_needs_its_model_and_data_and_says_so_in_one_line(tmp_path):
    status, out, errors = run(tmp_path, "--manifests", EXAMPLE, *NODES, "--path_map", f"/pretrained={tmp_path}")
    assert (status, out) == (2, "")
    (line,) = [line for line in errors.splitlines() if not line.startswith("note: ")]
    assert line.startswith(f"error: PRETRAINED_MODEL_URL is {tmp_path}/yolov5.pth: no such file")
    assert not (tmp_path / "runs").exists()
