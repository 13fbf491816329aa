"""The example manifests pass every check and come to the job that they describe."""

from pathlib import Path

import pytest
import yaml

from cross_silo.config.auth import SILO
from cross_silo.protocol.access import TOKEN
from cross_silo.sedna.job import Options, plan_job
from cross_silo.sedna.problems import ManifestError

EXAMPLE = Path(__file__).resolve().parents[3] / "configs" / "sedna" / "yolov5_fedavg.yaml"
NODES = frozenset({"cloud", "edge1", "edge2"})


def test_plan(tmp_path):
    planned = plan_job([str(EXAMPLE)], Options(nodes=NODES, run_dir=tmp_path))
    plan = planned.plan
    assert (plan.name, plan.aggregator.algorithm, plan.aggregator.model_url) == (
        "yolov5-fedavg",
        "fedavg",
        "/model/yolov5n.pth",
    )
    assert plan.aggregator.federated["fl_iteration_num"] == 10
    assert plan.aggregator.model["base"].endswith("yolov5n.yaml")
    assert [(trainer.node, trainer.silo, trainer.dataset.url) for trainer in plan.trainers] == [
        ("edge1", "silo_0", "/data/1/COCO"),
        ("edge2", "silo_1", "/data/2/COCO"),
    ]
    assert all(trainer.model["batch_size"] == 8 for trainer in plan.trainers)


def test_unknown_node(tmp_path):
    with pytest.raises(ManifestError):
        plan_job([str(EXAMPLE)], Options(nodes=NODES - {"edge2"}, run_dir=tmp_path))


def test_tokens_come_from_the_secret():
    """Each container takes its token from the Secret's entry for it; none stands in the manifest."""
    documents = list(yaml.safe_load_all(EXAMPLE.read_text()))
    secret = next(document for document in documents if document["kind"] == "Secret")
    spec = documents[-1]["spec"]
    pods = [spec["aggregationWorker"], *spec["trainingWorkers"]]
    keys = []
    for pod in pods:
        (variable,) = [item for item in pod["template"]["spec"]["containers"][0]["env"] if item["name"] == TOKEN]
        reference = variable["valueFrom"]["secretKeyRef"]
        assert reference["name"] == secret["metadata"]["name"]
        keys.append(reference["key"])
    assert keys == ["tokens.json", f"{SILO}_0", f"{SILO}_1"]
    assert set(keys) == set(secret["stringData"])
