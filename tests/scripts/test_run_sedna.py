"""run_sedna.py as a command: the public example's manifests checked, planned, refused, and trained with FedAvg."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cross_silo.checkpoint.tensor_file import read_tensors
from cross_silo.launch.ending import end_roles
from cross_silo.launch.free_ports import free_ports
from cross_silo.launch.record import read_json
from cross_silo.launch.role import running_roles
from cross_silo.sedna.plan import JobPlan
from tests.support.yolo_silo import write_coco128

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "cross_silo" / "sedna" / "data"
EXAMPLE, DRAFT = DATA / "yolov5_mistnet.txt", DATA / "yolov5_mistnet_draft.txt"
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
    assert [trainer.model["base_lr"] for trainer in plan.trainers] == [0.001, 0.001]
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


@pytest.mark.long
def test_the_example_trains_with_fedavg_and_writes_the_model(tmp_path):
    for number in (1, 2):
        write_coco128(tmp_path / "data" / str(number) / "COCO", images=4 + 2 * number, seed=number)
    (tmp_path / "pretrained").mkdir()
    (tmp_path / "tiny.yaml").write_text(f"base: {ROOT}/configs/yolov5_tiny.yaml\nnum_classes: 80\n")
    tools(tmp_path, "init_model.py", "--config", "tiny.yaml", "--checkpoint_dir", "initial", "--fl_name", "initial")
    (checkpoint,) = (tmp_path / "initial").glob("*.ckpt")
    tools(tmp_path, "convert_checkpoint.py", "--in", checkpoint, "--out", "pretrained/yolov5.pth")
    redis, rest, port = free_ports(3)
    arguments = ["--manifests", EXAMPLE, *NODES, "--run_dir", tmp_path / "run", "--transmitter", "ws"]
    arguments += ["--set_env", "aggregation_algorithm=fedavg", "--set_env", "batch_size=2"]
    arguments += ["--set_env", f"model_config={ROOT}/configs/yolov5_tiny.yaml"]
    for name in ("data", "model", "pretrained"):
        arguments += ["--path_map", f"/{name}={tmp_path / name}"]
    arguments += ["--http_server_address", f"127.0.0.1:{port}", "--redis_address", f"127.0.0.1:{redis}"]
    arguments += ["--scheduler_manage_address", f"127.0.0.1:{rest}"]
    try:
        status, out, errors = run(tmp_path, *arguments, "--foreground", timeout=1800)
        assert status == 0, out + errors
    finally:
        end_roles([role for role in running_roles() if role.role_dir.parent == tmp_path / "run"])
    delivered = tmp_path / "model" / "yolov5.pth"
    assert read_json(tmp_path / "run" / "sedna" / "result.json") == {"delivered": True, "model_url": str(delivered)}
    before, after = (read_tensors(str(path)).tensors for path in (tmp_path / "pretrained" / "yolov5.pth", delivered))
    assert set(before) <= set(after)
    assert "model.24.anchors" in after
    assert any((before[name] != after[name]).any() for name in before)
    summary = read_json(tmp_path / "run" / "summary.json")
    samples = {entry["silo"]: entry["samples"] for entry in summary["rounds"][-1]["participants"]}
    assert (summary["state"], samples) == ("finished", {"silo_0": 6, "silo_1": 8})
    status, out, _ = run(tmp_path, "--status", "--run_dir", tmp_path / "run")
    assert status == 0
    assert "Succeeded" in out
    assert os.path.getsize(delivered) > 100_000


def test_running_it_stops_at_one_clear_line(tmp_path):
    status, out, errors = run(tmp_path, "--manifests", EXAMPLE, *NODES)
    assert (status, out) == (2, "")
    (line,) = [line for line in errors.splitlines() if not line.startswith("note: ")]
    assert line.startswith("error: aggregation_algorithm is mistnet, which can be planned (--dry_run) but is not there")
    assert not (tmp_path / "runs").exists()
