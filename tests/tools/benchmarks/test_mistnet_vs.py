"""The comparison of MistNet and FedAvg: its arms, what their jobs are configured to do, its table."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from rich.console import Console

from cross_silo.config.federated import load_federated
from cross_silo.config.model import load_model
from cross_silo.errors import UserError
from tests.support.coco_silo import write_silo

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tools" / "benchmarks"))

import mistnet_vs  # noqa: E402


@pytest.fixture
def site(tmp_path):
    """The flags of a call on a small silo."""
    _, image_dir = write_silo(tmp_path, 4)
    annotations = str(tmp_path / "train_0.json")
    flags = ["--annotations", annotations, "--val_annotations", annotations, "--image_dir", image_dir]
    flags += ["--public_annotations", annotations, "--public_image_dir", image_dir, "--out", str(tmp_path / "out.json")]
    flags += ["--yaml_config", str(ROOT / "configs" / "demo_mistnet.yaml"), "--work_dir", str(tmp_path / "work")]
    return [*flags, "--config", str(ROOT / "configs" / "yolov5n_demo.yaml")]


def test_arms(site):
    found = mistnet_vs.ways(mistnet_vs.parse([*site, "--epsilons", "null", "2.5"]))
    assert [way.name for way in found] == ["public", "demo_mistnet", "demo_mistnet_epsilon_2.5", "fedavg"]
    assert [way.shown for way in found[1:]] == ["MistNet, epsilon null", "MistNet, epsilon 2.5", "FedAvg"]


def test_jobs_of_equal_steps(site, tmp_path):
    args = mistnet_vs.parse([*site, "--epsilons", "null", "2.5"])
    jobs = {}
    for way in mistnet_vs.ways(args):
        job, model = mistnet_vs.write_configs(args, way, tmp_path, 2, 75, 2345)
        jobs[way.name] = load_federated(job)
        assert load_model(model).config.lr_total_steps == 6 * 75
    null, noisy, fedavg = jobs["demo_mistnet"], jobs["demo_mistnet_epsilon_2.5"], jobs["fedavg"]
    assert (null.algorithm, null.mistnet.epsilon, null.mistnet.cut_layer, null.mistnet.epochs) == (
        "mistnet",
        None,
        4,
        6,
    )
    assert (noisy.mistnet.epsilon, noisy.mistnet.evaluate_on) == (2.5, "both")
    assert (fedavg.algorithm, fedavg.fl_iteration_num, fedavg.client.sync_frequency) == ("fedavg", 6, 75)
    assert null.fl_iteration_num == 6 and {config.num_silos for config in jobs.values()} == {2}


def test_what_cannot_be_compared(site, tmp_path):
    with pytest.raises(UserError, match="either --pre_trained or --public_annotations"):
        mistnet_vs.parse([*site, "--pre_trained", str(tmp_path / "train_0.json")])
    with pytest.raises(UserError, match="expected null or numbers"):
        mistnet_vs.parse([*site, "--epsilons", "none"])
    with pytest.raises(UserError, match="algorithm is fedavg"):
        mistnet_vs.parse([*site, "--yaml_config", str(ROOT / "configs" / "demo_yolov5.yaml")])
    args = mistnet_vs.parse(site)
    results = {"settings": {**mistnet_vs.settings_of(args), "seed": 2}, "arms": {}}
    args.out.write_text(json.dumps(results))
    with pytest.raises(UserError, match="of other settings"):
        mistnet_vs.read_results(args.out, mistnet_vs.settings_of(args))


def test_the_table():
    arm = {"images": [720, 480], "steps": 900, "AP50": 0.5, "AP": 0.3, "AP50_noisy": 0.25, "first_AP50": 0.1}
    arm.update(bytes_up=4_400_000, bytes_down=200_000, seconds=100.4, AP50_by_round=[0.4, None, 0.5])
    results = {"settings": {"config": "x.yaml", "epochs": 3}, "arms": {"a": {"arm": "MistNet, epsilon 4", **arm}}}
    out = io.StringIO()
    mistnet_vs.show(results, Console(file=out, width=140))
    text = out.getvalue()
    for cell in ("MistNet, epsilon 4", "720+480", "900", "0.500", "0.250", "4.4", "0.1"):
        assert cell in text
    assert "AP50 0.10 before, by round 0.40 - 0.50" in text
