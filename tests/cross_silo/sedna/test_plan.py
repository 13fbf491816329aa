"""Plans: each worker keeps its own, manifests and pods plan alike, and a plan survives YAML and JSON."""

import json
from pathlib import Path

import pytest
import yaml

from cross_silo.config.federated import load_federated
from cross_silo.config.model import load_model
from cross_silo.data.coco import read_coco
from cross_silo.errors import UserError
from cross_silo.sedna.environment import Settings
from cross_silo.sedna.plan import JobPlan, Place, aggregator_plan, find_config, local_path, trainer_plan
from cross_silo.sedna.roles import Trial
from cross_silo.sedna.show import as_json, as_shell
from cross_silo.sedna.writing import to_yaml, write_files
from tests.support.sedna_manifests import changed, planned, problems, sound_job, worker, write

COMMON = {"JOB_NAME": "yolo", "PARTICIPANTS_COUNT": "2", "aggregation_algorithm": "FedAvg", "exit_round": "2"}


def plan_of(directory, changes=None, **options):
    return planned(directory, changed(changes or {}), **options).plan


def flags(command):
    return dict(zip(command, command[1:]))


def test_each_worker_keeps_its_own_batch_size_rate_epochs_data_and_id(tmp_path):
    workers = [
        worker(2, batch_size="8", learning_rate="0.01", epochs="3"),
        worker(1, batch_size="4", learning_rate="0.02", epochs="1"),
    ]
    first, second = plan_of(tmp_path, {"job.spec.trainingWorkers": workers}).trainers
    assert [first.client_id, second.client_id] == [1, 2]
    assert [first.index, second.index] == [0, 1]
    assert [first.node, second.node] == ["edge1", "edge2"]
    assert [first.dataset.url, second.dataset.url] == ["/data/1/COCO", "/data/2/COCO"]
    for plan, batch_size, rate, epochs in ((first, 4, 0.02, 1), (second, 8, 0.01, 3)):
        write_files(plan)
        model = load_model(plan.model_file).config
        assert (model.batch_size, model.base_lr, model.num_classes) == (batch_size, rate, 80)
        federated = load_federated(plan.federated_file)
        assert federated.client.client_epoch_num == epochs
        assert (federated.fl_name, federated.fl_iteration_num, federated.num_silos) == ("yolo", 2, 2)
        given = flags(plan.commands[0])
        assert given["--first_worker_index"] == str(plan.index)
        assert given["--silo"] == f"silo_{plan.index}"
        assert (given["--config"], given["--yaml_config"]) == (plan.model_file, plan.federated_file)
        assert f"{given['--dataset_path']}/mindrecord_{plan.index}" == plan.dataset.mindrecord_dir


def test_the_aggregator_starts_a_scheduler_and_a_server(tmp_path):
    trial = Trial(host="127.0.0.1", port=9000)
    plan = plan_of(tmp_path, trial=trial, redis_address="127.0.0.1:9001", scheduler_manage_address="127.0.0.1:9002")
    scheduler, server = map(flags, plan.aggregator.commands)
    assert scheduler["--scheduler_manage_address"] == "127.0.0.1:9002"
    assert server["--http_server_address"] == "127.0.0.1:9000"
    assert server["--pre_trained"] == "/pretrained/yolov5.pth"
    assert plan.aggregator.federated["distributed_cache"] == {"address": "127.0.0.1:9001"}
    assert plan.aggregator.model_url == "/model/yolov5.pth"
    assert {trainer.address for trainer in plan.trainers} == {"127.0.0.1:9000"}


def test_pods_plan_themselves_as_the_manifests_do(tmp_path):
    plan = plan_of(tmp_path)
    place = Place(tmp_path / "run")
    alone = aggregator_plan(Settings.from_env(plan.aggregator.environment), place)
    assert (alone.federated, alone.model, alone.commands) == (
        plan.aggregator.federated,
        plan.aggregator.model,
        plan.aggregator.commands,
    )
    for trainer in plan.trainers:
        settings = Settings.from_env({**trainer.environment, "aggregation_algorithm": "fedavg", "exit_round": "2"})
        alone = trainer_plan(settings, place, trainer.index)
        assert (alone.federated, alone.model) == (trainer.federated, trainer.model)
        assert trainer.commands[0][: len(alone.commands[0])] == alone.commands[0]


def test_sednas_variables_are_those_of_its_manager(tmp_path):
    plan = plan_of(tmp_path, trial=Trial(path_map={"/data": "/mnt/a", "/data/2": "/mnt/b", "/model": "/mnt/m"}))
    shared = {"NAMESPACE": "default", "JOB_NAME": "yolo", "PARTICIPANTS_COUNT": "2", "TRANSMITTER": "ws"}
    shared.update(MODEL_URL="/mnt/m/yolov5.pth", PRETRAINED_MODEL_URL="/pretrained/yolov5.pth")
    assert shared.items() <= plan.aggregator.environment.items()
    first, second = plan.trainers
    told = {**shared, "AGG_PORT": "7363", "MODEL_NAME": "yolo-model", "DATASET_NAME": "coco-dataset-2"}
    assert {**told, "TRAIN_DATASET_URL": "/mnt/b/COCO", "AGG_IP": "127.0.0.1"}.items() <= second.environment.items()
    assert first.environment["TRAIN_DATASET_URL"] == "/mnt/a/1/COCO"
    assert first.environment["WORKER_NAME"].startswith("trainworker-")
    assert first.environment["WORKER_NAME"] != second.environment["WORKER_NAME"]


def test_variables_for_a_trial_are_in_the_place_of_every_containers(tmp_path):
    trial = Trial(set_env={"BATCH_SIZE": "16", "exit_round": "7"})
    plan = plan_of(tmp_path, trial=trial)
    assert [trainer.model["batch_size"] for trainer in plan.trainers] == [16, 16]
    assert plan.aggregator.federated["fl_iteration_num"] == 7
    assert "batch_size" not in plan.trainers[0].environment


def test_a_containers_own_surroundings_are_not_this_machines(tmp_path):
    workers = [worker(1, PATH="/opt/bin", SECRET_ACCESS_KEY="hidden"), worker(2)]
    environment = plan_of(tmp_path, {"job.spec.trainingWorkers": workers}).trainers[0].environment
    assert "batch_size" in environment
    assert not {"PATH", "SECRET_ACCESS_KEY"} & set(environment)


ENVIRONMENT = "job.spec.aggregationWorker.template.spec.containers.0.env"
MISTNET = {"aggregation_algorithm": "MistNet", "cut_layer": "4"}


def env(**values):
    return [{"name": name, "value": value} for name, value in values.items()]


def test_mistnets_settings_are_in_the_plan(tmp_path):
    variables = env(**MISTNET, epsilon="100", epochs="100", batch_size="32")
    s3 = {"ws": {}, "s3": {"aggDataPath": "s3://sedna/fl", "credentialName": "mysecret"}}
    found = planned(tmp_path, changed({ENVIRONMENT: variables, "job.spec.transmitter": s3}))
    aggregator, (trainer, _) = found.plan.aggregator, found.plan.trainers
    assert aggregator.federated["mistnet"] == {"cut_layer": 4, "epsilon": 100.0, "epochs": 100, "batch_size": 32}
    assert trainer.federated["mistnet"] == {"cut_layer": 4, "epsilon": 100.0}
    assert aggregator.federated["transmitter"] == {"channel": "s3", "agg_data_path": "s3://sedna/fl"}
    for command in (aggregator.commands[1], *trainer.commands):
        assert flags(command)["--algorithm"] == "mistnet"
    assert found.access.transmitter.endpoint_url == "http://s3.test:9000"
    assert "hidden" not in json.dumps(found.plan.document())
    assert flags(aggregator.commands[1])["--pre_trained"] == "/pretrained/yolov5.pth"
    write_files(aggregator)
    federated = load_federated(aggregator.federated_file)
    assert (federated.fl_iteration_num, federated.mistnet.batch_size) == (100, 32)
    model = load_model(aggregator.model_file).config
    assert (model.batch_size, model.num_classes) == (32, 0)
    names = [category.name for category in read_coco(model.instance_set).categories]
    assert (len(names), names[0], names[-1]) == (80, "person", "toothbrush")
    assert "# of the transmitter's Secret, to be set before: S3_ENDPOINT_URL" in as_shell(found.plan)


def test_mistnets_workers_do_not_train_which_is_said(tmp_path):
    workers = [worker(number, batch_size="8", learning_rate="0.01", epochs="3") for number in (1, 2)]
    plan = plan_of(tmp_path, {ENVIRONMENT: env(**MISTNET), "job.spec.trainingWorkers": workers})
    for trainer in plan.trainers:
        assert {"batch_size", "base_lr"} & set(trainer.model) == set()
        assert "client" not in trainer.federated
    why = "epochs, batch_size, learning_rate not used: MistNet's aggregator trains, by its own"
    assert [note for note in plan.notes if why in note] == [f"spec.trainingWorkers[{index}]: {why}" for index in (0, 1)]
    assert "epochs is not set: 50" in plan.notes


@pytest.mark.parametrize(
    "url, lost", [("/model/a.pth", True), ("/model/a.ckpt", False), ("/model/a.safetensors", True)]
)
def test_what_a_mistnet_model_loses_in_its_file_is_said(tmp_path, url, lost):
    plan = plan_of(tmp_path, {ENVIRONMENT: env(**MISTNET), "model.spec.url": url})
    assert any("takes bits at the cut, which only a .ckpt says" in note for note in plan.notes) == lost


def test_mistnets_server_knows_the_classes_from_the_start(tmp_path):
    named = env(**MISTNET, class_names="cell, plate")
    plan = plan_of(tmp_path, {ENVIRONMENT: named})
    assert plan.aggregator.classes == ("cell", "plate")
    assert [trainer.model["num_classes"] for trainer in plan.trainers] == [2, 2]
    assert plan.trainers[0].dataset.classes == ("cell", "plate")
    data = {f"data_{number}.spec.classes": ["cell"] for number in (1, 2)}
    plan = plan_of(tmp_path, {ENVIRONMENT: env(**MISTNET), **data}, extensions=True)
    assert plan.aggregator.classes == ("cell",)


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"job.spec.pretrainedModel": None}, "PRETRAINED_MODEL_URL is not set (spec.pretrainedModel), but with"),
        ({ENVIRONMENT: env(**MISTNET, num_classes="3")}, "num_classes is 3, but MistNet's server must know the names"),
        ({ENVIRONMENT: env(**MISTNET, num_classes="3", class_names="a,b")}, "class_names: 2 names, but num_classes"),
        (
            {ENVIRONMENT: env(**MISTNET, model_config="faster_rcnn_r50_fpn")},
            "mistnet.cut_layer: found 4; expected one of stem, layer1",
        ),
        (
            {"job.spec.aggregationTrigger": {"condition": {"metric": "a", "operator": ">=", "threshold": 2}}},
            "spec.aggregationTrigger: MistNet has no rounds of updates; expected none",
        ),
    ],
)
def test_what_mistnet_cannot_do_without_or_with_is_refused(tmp_path, changes, reason):
    lines = problems(tmp_path, changed({ENVIRONMENT: env(**MISTNET), **changes}), extensions=True)
    assert len(lines) == 1 and reason in lines[0]


def test_a_stop_condition_is_the_servers_of_mistnet(tmp_path):
    condition = {"metric": "rounds", "operator": ">=", "threshold": 70}
    changes = {ENVIRONMENT: env(**MISTNET, epochs="80"), "job.spec.stopCondition": condition}
    plan = plan_of(tmp_path, changes, extensions=True)
    write_files(plan.aggregator)
    assert load_federated(plan.aggregator.federated_file).fl_iteration_num == 70
    assert "stop_condition" not in plan.trainers[0].federated


def test_a_plan_is_the_same_after_yaml_and_json(tmp_path):
    plan = plan_of(tmp_path)
    assert JobPlan.from_document(yaml.safe_load(to_yaml(plan.document())), "plan") == plan
    assert JobPlan.from_document(json.loads(as_json(plan)), "plan") == plan


def test_manifests_written_again_come_to_the_same_plan(tmp_path):
    path = Path(write(tmp_path, sound_job()))
    plan = planned(tmp_path, sound_job()).plan
    again = list(yaml.safe_load_all(path.read_text()))
    shuffled = dict(enumerate(reversed(again)))
    assert planned(tmp_path, shuffled).plan == plan


def test_another_namespace_is_in_the_jobs_name_here(tmp_path):
    manifests = {key: dict(value) for key, value in sound_job().items()}
    for manifest in manifests.values():
        manifest["metadata"] = {**manifest["metadata"], "namespace": "plant-2"}
    plan = planned(tmp_path, manifests).plan
    assert (plan.fl_name, plan.aggregator.federated["fl_name"]) == ("plant-2.yolo", "plant-2.yolo")


@pytest.mark.parametrize(
    "missing, message",
    [
        ("PARTICIPANTS_COUNT", "PARTICIPANTS_COUNT is not set"),
        ("TRAIN_DATASET_URL", "TRAIN_DATASET_URL is not set"),
    ],
)
def test_what_a_role_cannot_do_without_is_named(tmp_path, missing, message):
    environment = {**COMMON, "TRAIN_DATASET_URL": "/data"}
    del environment[missing]
    with pytest.raises(UserError, match=message):
        trainer_plan(Settings.from_env(environment), Place(tmp_path), 0)


def test_a_model_yaml_is_a_path_or_a_name_of_configs():
    assert find_config("yolov5n") == find_config("configs/yolov5n.yaml")
    with pytest.raises(UserError, match="model_config is 'resnet9000': no such model YAML"):
        find_config("resnet9000")


@pytest.mark.parametrize(
    "url, local",
    [
        ("", ""),
        ("/data/1/COCO", "/data/1/COCO"),
        ("file:///data/1", "/data/1"),
        ("s3://bucket/prefix/coco/", "/run/fetched/coco"),
        ("https://host/yolov5.pth", "/run/fetched/yolov5.pth"),
    ],
)
def test_where_a_url_is_on_this_host(url, local):
    assert local_path(url, Path("/run/fetched")) == local
