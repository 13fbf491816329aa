"""The worked example of docs/own_detector.md: a user's own detector in a real federation, with the real commands."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cross_silo.checkpoint import newest_checkpoint
from cross_silo.coordination.embedded import EmbeddedRedis
from cross_silo.launch.ending import end_roles
from cross_silo.launch.free_ports import free_ports
from cross_silo.launch.role import running_roles

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
MODEL = EXAMPLES / "own_detector" / "model.yaml"
STEPS = 40


class Site:
    """A directory in which the commands of the documentation run."""

    def __init__(self, directory):
        self.directory = directory
        self.redis, sched, server = free_ports(3)
        self.sched, self.server = f"127.0.0.1:{sched}", f"127.0.0.1:{server}"
        self.environment = {**os.environ, "PYTHONPATH": str(EXAMPLES)}

    def call(self, script, *arguments):
        command = [sys.executable, str(ROOT / script), *map(str, arguments)]
        settings = {"cwd": self.directory, "env": self.environment, "stdin": subprocess.DEVNULL}
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=150, **settings)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A site where a job of two rounds in two silos has run to its end."""
    directory = tmp_path_factory.mktemp("site")
    site = Site(directory)
    for name, count, seed in (("train", 120, 1), ("val", 24, 2)):
        size = ("--size", 64, 64, "--seed", seed)
        site.call("tools/make_synthetic_coco.py", "--out", name, "--num_images", count, *size)
    split = ("--num_silos", 2, "--scheme", "iid", "--out", "split")
    site.call("tools/split_coco.py", "--annotations", "train/annotations.json", *split)
    site.call("tools/generate_mindrecord.py", "--split_dir", "split", "--image_dir", "train/images")
    (directory / "job.yaml").write_text(
        f"fl_name: own\nfl_iteration_num: 2\ndistributed_cache: {{address: '127.0.0.1:{site.redis}'}}\n"
        f"client: {{sync_frequency: {STEPS}}}\n"
        "evaluation: {annotations: val/annotations.json, image_dir: val/images}\n"
    )
    both = ("--yaml_config", "job.yaml", "--config", MODEL, "--http_server_address", site.server)
    try:
        site.call("scripts/run_sched.py", *both[:2], "--scheduler_manage_address", site.sched)
        site.call("scripts/run_server.py", *both, "--tcp_server_ip", "127.0.0.1", "--checkpoint_dir", "ckpt")
        site.call("scripts/run_worker.py", *both, "--local_worker_num", 2, "--dataset_path", "split")
        site.call("tools/show_summary.py", "--run_dir", "runs/own", "--follow")  # to the job's end
        yield site
    finally:
        end_roles([role for role in running_roles() if directory in role.role_dir.parents], polite_seconds=5)
        EmbeddedRedis("127.0.0.1", site.redis).stop_if_unused()


def losses(site, worker):
    """Return the total loss of every step."""
    log = (site.directory / "runs" / "own" / f"worker_{worker}" / "loss_0.log").read_text()
    return [float(loss) for loss in re.findall(r"total_loss: (\S+) heat: \S+ box: \S+", log)]


def test_trains_in_the_federation(trained):
    summary = json.loads((trained.directory / "runs" / "own" / "summary.json").read_text())
    assert (summary["state"], summary["good_rounds"], summary["failed_attempts"]) == ("finished", 2, 0)
    first, second = summary["rounds"]
    for silo in ("silo_0", "silo_1"):
        assert second["losses"][silo] < first["losses"][silo]
    for worker in (0, 1):
        found = losses(trained, worker)
        assert len(found) == 2 * STEPS
        assert np.mean(found[-10:]) < 0.5 * np.mean(found[:10])
    assert summary["evaluations"]["0"]["AP50"] < 0.01 < second["AP50"]
    shard = trained.directory / "runs" / "own" / "worker_1" / "ckpt" / "mindrecord_1"
    assert (shard / "mindrecord_1-center-net-0epoch.ckpt").is_file()


def test_is_exported(trained):
    arguments = ("--config", MODEL, "--checkpoint", newest_checkpoint(trained.directory / "ckpt", "own"))
    image = next((trained.directory / "val" / "images").iterdir())
    report = json.loads(
        trained.call("tools/export.py", *arguments, "--format", "onnx", "--out", "own.onnx", "--image", image, "--json")
    )
    assert report["agreement"]["matched"] == report["agreement"]["expected"] == report["agreement"]["found"] > 0
    assert list(report["outputs"]) == ["scores", "labels", "boxes"]
    assert (trained.directory / "own.onnx").stat().st_size == report["bytes"]
