"""The arms of the comparison: their silos, data, steps and result."""

import argparse
import importlib
import json
import sys
from pathlib import Path

import pytest
import yaml

from cross_silo.data.manifest import read_manifest
from cross_silo.errors import UserError
from tests.support.colour_squares import write_set

ROOT = Path(__file__).parents[3]


@pytest.fixture
def tool(monkeypatch):
    """The module, found as the script beside it finds it."""
    monkeypatch.syspath_prepend(str(ROOT / "tools" / "benchmarks"))
    monkeypatch.delitem(sys.modules, "federated_arm", raising=False)
    return importlib.import_module("federated_arm")


@pytest.fixture
def args(tmp_path):
    """What a call is given, on a small set."""
    train, val = write_set(tmp_path / "train", num_images=12), write_set(tmp_path / "val", num_images=3)
    config = tmp_path / "model.yaml"
    config.write_text(f"base: {ROOT}/configs/faster_rcnn_tiny.yaml\nlr_schedule: cosine\nlr_total_steps: 99\n")
    (tmp_path / "work").mkdir()
    return argparse.Namespace(
        annotations=str(train),
        val_annotations=str(val),
        image_dir=str(tmp_path / "train" / "images"),
        config=str(config),
        work_dir=tmp_path / "work",
        steps=24,
        rounds=3,
        num_silos=2,
        alpha=0.5,
    )


def test_arms_run_seed_by_seed_and_are_named(tool):
    arms = tool.make_arms(["centralised", "federated", "silo_2"], [1, 7], 3)
    names = ("centralised", "federated", "silo_2")
    assert [arm.key for arm in arms] == [f"{name}_seed{seed}" for seed in (1, 7) for name in names]
    assert [(arm.silos, arm.whole) for arm in arms[:3]] == [((0,), True), ((0, 1, 2), False), ((2,), False)]
    with pytest.raises(UserError, match="found 'silo_3'; expected some of centralised, federated, silo_0,"):
        tool.make_arms(["silo_3"], [1], 3)


def test_each_arm_takes_as_many_steps_in_all_and_its_schedule_ends_with_them(tool, args):
    for arm in tool.make_arms(["centralised", "federated", "silo_1"], [5], 2):
        job, model = (yaml.safe_load(path.read_text()) for path in tool.write_config(args, arm, args.work_dir, 1))
        assert job["client"]["sync_frequency"] * job["fl_iteration_num"] * len(arm.silos) == 24
        assert job["round"]["start_fl_job_threshold"] == len(job["silos"]) == len(arm.silos)
        assert model["lr_total_steps"] == 24 // len(arm.silos) and model["seed"] == 5
    assert job["silos"] == ["silo_1"]


def test_data_is_made_once_and_every_image_is_in_one_silo(tool, args):
    whole, split, again = (
        tool.prepare_data(args, arm) for arm in tool.make_arms(["centralised", "federated", "silo_1"], [3], 2)
    )
    assert read_manifest(whole / "mindrecord_0").num_images == 12
    assert sum(read_manifest(split / f"mindrecord_{index}").num_images for index in range(2)) == 12
    assert again == split != whole
    made = {path: path.stat().st_mtime_ns for path in args.work_dir.rglob("*") if path.is_file()}
    for arm in tool.make_arms(["centralised", "federated"], [3], 2):
        tool.prepare_data(args, arm)
    assert made == {path: path.stat().st_mtime_ns for path in args.work_dir.rglob("*") if path.is_file()}


def test_an_arm_of_other_steps_is_no_result(tool, args):
    (arm,) = tool.make_arms(["silo_1"], [1], 2)
    run_dir = args.work_dir / "run"
    (run_dir / "worker_1").mkdir(parents=True)
    steps = [f"epoch: {step} step: 1 total_loss: 0.5\n" for step in range(1, 25)]
    record = {"good": True, "seconds": {"round": 2.0}, "losses": {}, "mean_loss": 0.5, "AP50": 0.25, "AP": 0.125}
    measured = {"AP50": 0.25, "AP": 0.125, "classes": {}, "num_images": 3}
    summary = {"rounds": [{**record, "round": number} for number in (1, 2, 3)], "final_AP50": 0.25, "bytes_up": 3,
               "evaluations": {"3": measured}, "failed_attempts": 0, "bytes_down": 4}  # fmt: skip
    (run_dir / "summary.json").write_text(json.dumps(summary))
    (run_dir / "worker_1" / "loss_0.log").write_text("".join(steps[:-1]))
    with pytest.raises(UserError, match="23 steps in 3 good rounds, final AP50 0.25; expected 24 in 3"):
        tool.result(args, arm, tool.prepare_data(args, arm), run_dir, {})
    (run_dir / "worker_1" / "loss_0.log").write_text("".join(steps))
    found = tool.result(args, arm, tool.prepare_data(args, arm), run_dir, {"worker_1": 812.34})
    assert (found["steps"], found["seconds"], found["bytes_moved"], found["AP50"]) == (24, 6.0, 7, 0.25)
    assert found["peak_memory_mb"] == {"worker_1": 812.3} and list(found["images"]) == ["silo_1"]
    assert set(found["versions"]) == {"python", "mindspore", "numpy", "cores"}
