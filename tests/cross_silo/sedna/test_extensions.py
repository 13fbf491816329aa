"""Fields of Sedna's proposals: refused without --extensions, mapped or refused by name with it."""

import pytest

from cross_silo.sedna.extensions import rounds_bound
from tests.support.sedna_manifests import changed, dataset, planned, problems, put

STOP = {
    "operator": "or",
    "conditions": [
        {"operator": ">", "threshold": 100, "metric": "rounds"},
        {"operator": "<", "threshold": 0.03, "metric": "deltaLoss"},
    ],
}
TRIGGER = {"condition": {"operator": ">=", "threshold": 1, "metric": "num_of_ready_clients"}}
SIMPLE = {"transmitter_list": [{"name": "simple", "parameters": [{"name": "sync_frequency", "value": "10"}]}]}
EXIT_ROUND = "job.spec.aggregationWorker.template.spec.containers.0.env.1"


def refused(directory, manifests):
    (line,) = problems(directory, manifests, extensions=True)
    return line


def test_without_the_switch_they_are_unknown_and_the_switch_is_named(tmp_path):
    (line,) = problems(tmp_path, changed({"job.spec.stopCondition": STOP}))
    assert line.startswith(
        'FederatedLearningJob/yolo: strict decoding error: unknown field "spec.stopCondition"; a field that was only '
        "proposed; --extensions reads it: spec.stopCondition: {operator"
    )
    (line,) = problems(tmp_path, changed({"data_1.spec.num_classes": 3}))
    assert line.endswith('unknown field "spec.num_classes"; a field that was only proposed; --extensions reads it')


@pytest.mark.parametrize("extensions", [False, True])
def test_the_misspelt_field_is_answered_with_the_right_form(tmp_path, extensions):
    manifests = changed({"job.spec.transimitter": {"transimitter_list": []}})
    (line,) = problems(tmp_path, manifests, extensions=extensions)
    assert 'unknown field "spec.transimitter"; a misspelt field of a proposal, written so with --extensions: ' in line
    assert "spec.transmitter: {transmitter_list: [{name: simple" in line


def test_the_stop_condition_is_the_jobs_and_bounds_its_rounds_by_the_operator(tmp_path):
    plan = planned(tmp_path, changed({"job.spec.stopCondition": STOP, EXIT_ROUND: None}), extensions=True).plan
    for federated in (plan.aggregator.federated, plan.trainers[0].federated):
        assert federated["stop_condition"] == STOP
        assert federated["fl_iteration_num"] == 101


@pytest.mark.parametrize("operator, bound", [(">", 101), (">=", 100), ("==", 100)])
def test_more_than_100_rounds_is_101(operator, bound):
    assert rounds_bound({"operator": operator, "threshold": 100, "metric": "rounds"}) == bound


def test_a_job_without_a_bound_in_rounds_is_refused(tmp_path):
    stop = {"metric": "deltaLoss", "operator": "<", "threshold": 0.1}
    line = refused(tmp_path, changed({"job.spec.stopCondition": stop, EXIT_ROUND: None}))
    assert "spec.stopCondition: has no bound in rounds" in line


def test_a_target_accuracy_is_ap50_of_the_aggregators_dataset(tmp_path):
    stop = {"metric": "targetAccuracy", "operator": ">", "threshold": 0.95}
    assert "evaluation" in refused(tmp_path, changed({"job.spec.stopCondition": stop}))
    held_out = {"job.spec.aggregationWorker.dataset": {"name": "held-out"}, "held_out": dataset(3)}
    manifests = changed({"job.spec.stopCondition": stop, **held_out})
    put(manifests, "held_out.metadata.name", "held-out")
    put(manifests, "held_out.spec.nodeName", "cloud")
    plan = planned(tmp_path, manifests, extensions=True).plan
    assert plan.aggregator.federated["stop_condition"] == {**stop, "of": "map50"}
    annotations = f"{tmp_path}/run/dataset/evaluation.json"
    assert plan.aggregator.federated["evaluation"] == {"annotations": annotations, "image_dir": "/data/3/COCO"}
    assert plan.aggregator.evaluation.command[-4:] == ("--dataset", "/data/3/COCO", "--annotations", annotations)


def test_the_trigger_closes_a_round_and_cannot_ask_for_more_than_there_are(tmp_path):
    plan = planned(tmp_path, changed({"job.spec.aggregationTrigger": TRIGGER}), extensions=True).plan
    assert plan.aggregator.federated["aggregation_trigger"] == TRIGGER["condition"]
    more = {"condition": {"operator": ">", "threshold": 5, "metric": "num_of_ready_clients"}}
    line = refused(tmp_path, changed({"job.spec.aggregationTrigger": more}))
    assert "num_of_ready_clients > 5 can never be met: a round has 2 silos" in line


def test_strategies_of_the_transmitter(tmp_path):
    plan = planned(tmp_path, changed({"job.spec.transmitter": {**SIMPLE, "ws": {}}}), extensions=True).plan
    assert plan.trainers[0].federated["client"] == {"client_epoch_num": 1, "sync_frequency": 10}
    for name, reason in (("adaptive_freezing", "is not there yet"), ("magic", "no such strategy")):
        line = refused(tmp_path, changed({"job.spec.transmitter": {"transmitter_list": [{"name": name}]}}))
        assert f"spec.transmitter.transmitter_list[0].name: found '{name}': " in line
        assert reason in line
    two = {"transmitter_list": [{"name": "simple"}, {"name": "adaptive_sync"}]}
    assert "a job has one strategy" in refused(tmp_path, changed({"job.spec.transmitter": two}))


def test_a_configuration_of_plato_is_refused_with_the_reason(tmp_path):
    line = refused(tmp_path, changed({"job.spec.aggregationWorker.platoConfig": {"url": "/plato.yml"}}))
    assert "it was proposed and turned down" in line


def test_a_workers_model_is_the_jobs(tmp_path):
    own = changed({"job.spec.trainingWorkers.0.model": {"name": "yolo-model"}})
    assert problems(tmp_path, own, extensions=True) == []
    line = refused(tmp_path, changed({"job.spec.trainingWorkers.1.model": {"name": "start"}}))
    assert "spec.trainingWorkers[1].model.name: found start, but the job trains yolo-model" in line


def test_what_a_dataset_says_of_its_images_is_in_the_model_yaml(tmp_path):
    said = {"num_classes": 2, "classes": ["cat", "dog"], "image_size": 320, "name": "coco-dataset-1"}
    said["data_path"] = {"train_path": "coco128/images/train2017"}
    manifests = changed({f"data_1.spec.{name}": value for name, value in said.items()})
    plan = planned(tmp_path, manifests, extensions=True).plan
    for model in (plan.aggregator.model, plan.trainers[1].model):
        assert [model[name] for name in ("num_classes", "img_height", "img_width")] == [2, 320, 320]
    first, second = plan.trainers
    assert first.dataset.local == "/data/1/COCO/coco128"
    assert first.dataset.classes == ("cat", "dog")
    assert first.dataset.command[-2:] == ("--classes", first.dataset.classes_file)
    assert second.dataset.local == "/data/2/COCO"


@pytest.mark.parametrize(
    "field, value, reason",
    [
        ("name", "other", "but metadata.name is 'coco-dataset-1'"),
        ("data_params", {"a": 1}, "parameters of a script that is not run here"),
        ("download_url", "https://host/coco128.zip", "silos' data is not downloaded"),
        ("data_path", {"test_path": "val"}, "a silo's held-out images are no part of a job"),
        ("data_path", {"train_path": "/elsewhere"}, "is not below spec.url /data/1/COCO"),
        ("num_classes", 0, "expected at least 1"),
        ("num_classes", "80", 'Invalid value: "string"'),
        ("classes", ["cat", "cat"], "names a class twice"),
        ("image_size", 100, "expected a multiple of 32"),
    ],
)
def test_what_of_a_dataset_is_refused(tmp_path, field, value, reason):
    line = refused(tmp_path, changed({f"data_1.spec.{field}": value}))
    assert line.startswith(f"Dataset/coco-dataset-1: spec.{field}")
    assert reason in line


def test_datasets_of_a_job_agree(tmp_path):
    line = refused(tmp_path, changed({"data_1.spec.num_classes": 2, "data_2.spec.num_classes": 3}))
    assert line == "Dataset/coco-dataset-2: spec: num_classes is 3, but another dataset of the job has 2"


def test_a_model_names_its_configuration_and_may_be_what_the_job_starts_from(tmp_path):
    said = {"model_name": "yolov5n", "framework": "MindSpore", "pretrained": True}
    manifests = changed({f"model.spec.{name}": value for name, value in said.items()})
    put(manifests, "job.spec.pretrainedModel", None)
    plan = planned(tmp_path, manifests, extensions=True).plan
    assert plan.aggregator.model["base"].endswith("configs/yolov5n.yaml")
    assert plan.trainers[0].model["base"] == plan.aggregator.model["base"]
    assert plan.aggregator.pre_trained == "/model/yolov5.pth"
    assert "expected MindSpore" in refused(tmp_path, changed({"model.spec.framework": "PyTorch"}))
    line = refused(tmp_path, changed({"model.spec.model_config": "packages/models/vgg_16.yaml"}))
    assert "spec.model_config: model_config is 'packages/models/vgg_16.yaml': no such model YAML" in line
