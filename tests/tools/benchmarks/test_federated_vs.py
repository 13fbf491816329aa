"""The comparison of arms: what it reads, refuses and keeps; and whole, with an interrupted arm."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cross_silo.errors import UserError
from cross_silo.launch.role import running_roles
from tests.support.colour_squares import write_set

ROOT = Path(__file__).parents[3]
TOOLS = ROOT / "tools" / "benchmarks"


@pytest.fixture
def tool(monkeypatch):
    """The script as a module."""
    monkeypatch.syspath_prepend(str(TOOLS))
    spec = importlib.util.spec_from_file_location("federated_vs", TOOLS / "federated_vs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def site(tmp_path):
    """Arguments of a call on a small set."""
    train, val = write_set(tmp_path / "train", num_images=12), write_set(tmp_path / "val", num_images=3)
    (tmp_path / "model.yaml").write_text(f"base: {ROOT}/configs/faster_rcnn_tiny.yaml\nlr_schedule: cosine\n"
                                         "lr_total_steps: 99\n")  # fmt: skip
    arguments = ["--annotations", train, "--val_annotations", val, "--image_dir", tmp_path / "train" / "images"]
    arguments += ["--config", tmp_path / "model.yaml", "--out", tmp_path / "out.json"]
    return [*map(str, arguments), "--work_dir", str(tmp_path / "work")]


def an_arm(name, images):
    """A result as it is kept."""
    rounds = [{"AP50": value} for value in (0.25, None, 0.5)]
    memory = {"worker_0": 800.0, "worker_1": 901.0, "server_0": 99.0}
    return {"arm": name, "seed": 1, "images": images, "rounds": rounds, "AP50": 0.5, "AP": 0.125, "seconds": 61.4,
            "bytes_moved": 7_000_000, "peak_memory_mb": memory}  # fmt: skip


def test_what_is_done_is_shown_and_not_run_again(tool, site, capsys):
    args = tool.parse(site)
    arms = {"centralised_seed1": an_arm("centralised", {"silo_0": 12}),
            "federated_seed1": an_arm("federated", {"silo_0": 5, "silo_1": 7})}  # fmt: skip
    args.out.write_text(json.dumps({"settings": tool.settings_of(args), "arms": arms}))
    site += ["--arms", "centralised", "federated"]
    assert tool.main([*site, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["arms"] == arms
    assert tool.expected_seconds(args, tool.make_arms(["federated"], [2], 2), arms) == 61.4 + tool.START_SECONDS
    assert not args.work_dir.exists()
    assert tool.main(site) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.replace("│", "").split() for line in lines]
    assert ["federated", "1", "5+7", "0.500", "0.125", "61", "7", "901"] in rows
    assert "federated_seed1: AP50 by round 0.25 - 0.50" in lines


def test_means_over_seeds_and_the_best_silo_of_each_seed(tool, capsys):
    arms = {}
    for seed, scores in ((1, (0.5, 0.25, 0.375)), (2, (0.75, 0.5, 0.25))):
        for name, score in zip(("federated", "silo_0", "silo_1"), scores):
            arms[f"{name}_seed{seed}"] = {**an_arm(name, {"silo_0": 5}), "seed": seed, "AP50": score, "AP": 0.125}
            if name == "federated":
                arms[f"{name}_seed{seed}"]["images"] = {"silo_0": 5, "silo_1": 7}
    tool.show_means({"arms": arms}, tool.Console())
    rows = [line.replace("│", "").split() for line in capsys.readouterr().out.splitlines()]
    # The standard error of two values is half their distance.
    assert ["federated", "2", "0.625", "±", "0.125", "0.125", "±", "0.000"] in rows
    assert ["best", "silo", "alone", "2", "0.438", "±", "0.062"] in rows
    del arms["silo_1_seed2"]
    tool.show_means({"arms": arms}, tool.Console())
    rows = [line.replace("│", "").split() for line in capsys.readouterr().out.splitlines()]
    assert ["best", "silo", "alone", "1", "0.375"] in rows


@pytest.mark.parametrize(
    "more, message",
    [
        (["--steps", "1201"], "steps that divide by rounds times silos"),
        (["--num_silos", "1"], "expected at least 2 silos"),
        (["--seeds", "-1"], "--seeds: found -1; expected 0 or more"),
        (["--config", "nowhere.yaml"], "--config is nowhere.yaml: no such file"),
    ],
)
def test_a_wrong_argument_is_named(tool, site, more, message):
    with pytest.raises(UserError, match=message):
        tool.main([*site, *more])


def test_results_and_checkpoints_of_other_settings_are_refused(tool, site):
    args = tool.parse(site)
    args.out.write_text(json.dumps({"settings": tool.settings_of(args), "arms": {}}))
    with pytest.raises(UserError, match=r"--out .*out.json: is of another steps, alpha; expected another --out"):
        tool.main([*site, "--steps", "240", "--alpha", "2"])
    tool.claim(args.work_dir, tool.settings_of(args))
    args.out.unlink()
    with pytest.raises(UserError, match=r"--work_dir .*work: is of another rounds; expected another --work_dir"):
        tool.main([*site, "--rounds", "3"])


@pytest.mark.long
def test_an_interrupted_arm_goes_on_and_nothing_is_left_running(site, tmp_path):
    more = ["--steps", "120", "--rounds", "4", "--arms", "federated", "--json"]
    command = [sys.executable, str(TOOLS / "federated_vs.py"), *site, *more]
    settings = {"stdout": subprocess.PIPE, "text": True, "env": {**os.environ, "PYTHONPATH": str(ROOT)}}
    job = tmp_path / "work" / "federated_seed1"
    process = subprocess.Popen(command, **settings)
    deadline = time.monotonic() + 120
    while not list((job / "fl_ckpt").glob("*iteration_1_*.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert not (tmp_path / "out.json").exists()
    assert not [role for role in running_roles() if tmp_path in role.role_dir.parents]
    done = subprocess.run(command, check=True, timeout=200, **settings)
    arm = json.loads(done.stdout)["arms"]["federated_seed1"]
    assert json.loads((tmp_path / "out.json").read_text())["arms"]["federated_seed1"] == arm
    assert arm["steps"] == 120 and [row["round"] for row in arm["rounds"]] == [1, 2, 3, 4]
    assert sum(arm["images"].values()) == 12 and arm["val_images"] == 3
    assert min(arm["peak_memory_mb"][role] for role in ("worker_0", "worker_1", "server_0", "evaluator")) > 10
    log = (job / "run" / "server_0" / "server.log").read_text()
    assert log.count("from round 1 on") == 1 and log.count("round 1 good") == 1
    assert not [role for role in running_roles() if tmp_path in role.role_dir.parents]
