"""What of a job's manifests is refused, in whose words, and that all of it is told at once."""

import copy
from pathlib import Path

import pytest
import yaml

from cross_silo.errors import UserError
from cross_silo.sedna.job import Options, plan_job
from cross_silo.sedna.manifests import named_job
from cross_silo.sedna.roles import Trial
from tests.support.sedna_manifests import planned, pod, problems, put, sound_job, write

WORKERS = "spec.trainingWorkers"
FIRST = f"{WORKERS}[0].template.spec.containers[0]"
CONTAINER = "job.spec.trainingWorkers.0.template.spec.containers.0"
S3_TRANSMITTER = {"s3": {"aggDataPath": "s3://sedna/fl", "credentialName": "mysecret"}}
CASES = yaml.safe_load((Path(__file__).parent / "data" / "refused.yaml").read_text())


def env(**values):
    return [{"name": name, "value": value} for name, value in values.items()]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_what_cannot_be_is_refused_by_name(tmp_path, case):
    manifests = sound_job()
    for path, value in case["changes"].items():
        put(manifests, path, value)
    assert sorted(problems(tmp_path, manifests)) == case["expected"]


def test_a_sound_job_has_no_problem(tmp_path):
    assert problems(tmp_path, sound_job()) == []


def test_names_of_jobs_are_dns_labels(tmp_path):
    manifests = sound_job()
    put(manifests, "job.metadata.name", "1_Yolo")
    (line,) = problems(tmp_path, manifests)
    assert line.startswith('FederatedLearningJob/1_Yolo: metadata.name: Invalid value: "1_Yolo": a DNS-1035 label must')


@pytest.mark.parametrize("kind, version", [("Dataset", "v1"), ("ConfigMap", "v1"), ("Secret", "sedna.io/v1alpha1")])
def test_a_kind_of_another_version_is_refused(tmp_path, kind, version):
    manifests = sound_job()
    manifests["other"] = {"apiVersion": version, "kind": kind, "metadata": {"name": "a"}}
    (line,) = problems(tmp_path, manifests)
    assert line.endswith(f'no matches for kind "{kind}" in version "{version}"')


@pytest.mark.parametrize(
    "field, value, reason",
    [
        ("kind", None, "Required value"),
        ("apiVersion", None, "Required value"),
        ("kind", ["Model"], 'Invalid value: "array": kind in body must be of type string: "array"'),
    ],
)
def test_a_manifest_that_does_not_say_what_it_is(tmp_path, field, value, reason):
    manifests = sound_job()
    manifests["other"] = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}}
    put(manifests, f"other.{field}", value)
    (line,) = problems(tmp_path, manifests)
    assert line.endswith(f": {field}: {reason}")


def test_jobs_of_one_name_in_two_namespaces_are_told_apart(tmp_path):
    manifests = sound_job()
    for name in ("job", "data_1", "data_2", "model", "start"):
        manifests[f"other_{name}"] = copy.deepcopy(manifests[name])
        put(manifests, f"other_{name}.metadata.namespace", "lab")
    put(manifests, "job.metadata.namespace", "")  # the default one
    with pytest.raises(UserError, match="has several jobs: lab.yolo, yolo; expected --job with one of them"):
        planned(tmp_path, manifests)
    assert planned(tmp_path, manifests, job="yolo").plan.fl_name == "yolo"
    assert planned(tmp_path, manifests, job="lab.yolo").plan.namespace == "lab"
    paths = [write(tmp_path, manifests)]
    assert [named_job(paths, name) for name in ("yolo", "lab.yolo")] == ["yolo", "lab.yolo"]


def test_a_jobs_directory_is_found_by_its_filled_name_and_never_elsewhere(tmp_path):
    manifests = sound_job()
    put(manifests, "job.metadata.name", "$JOB")
    paths = [write(tmp_path, manifests)]
    assert named_job(paths, values={"JOB": "yolo"}) == "yolo"
    for name in ("../yolo", "$JOB"):
        with pytest.raises(UserError, match="a DNS-1035 label must consist of"):
            named_job(paths, values={"JOB": name})


def test_flags_that_only_begin_like_the_client_id_are_none(tmp_path):
    manifests = sound_job()
    put(manifests, f"{CONTAINER}.args", ["--idle-timeout=5", "-image", "x", "-i2"])
    put(manifests, "job.spec.trainingWorkers.1.template.spec.containers.0.args", ["--id=1"])
    assert [trainer.node for trainer in planned(tmp_path, manifests).plan.trainers] == ["edge2", "edge1"]


def test_everything_is_told_at_once(tmp_path):
    manifests = sound_job()
    put(manifests, "data_1.spec.format", "parquet")
    put(manifests, "data_2.spec.nodeName", "edge9")
    put(manifests, "start", None)
    put(manifests, f"{CONTAINER}.env", env(epochs="0"))
    put(manifests, "model.spec.url", "")
    lines = problems(tmp_path, manifests)
    assert len(lines) == 6  # the node is unknown, and not the worker's
    assert all(line.count(": ") >= 2 for line in lines)


def test_without_a_list_of_nodes_they_are_not_checked_and_that_is_said(tmp_path):
    planned = plan_job([write(tmp_path, sound_job())], Options())
    assert "nodes are not checked: no --nodes was given" in planned.plan.notes


def test_which_job_is_meant_must_be_said(tmp_path):
    manifests = sound_job()
    manifests["second"] = {**manifests["job"], "metadata": {"name": "second"}}
    path = write(tmp_path, manifests)
    with pytest.raises(UserError, match="several jobs: second, yolo; expected --job"):
        plan_job([path], Options())
    with pytest.raises(UserError, match="--job is 'third', but --manifests has second, yolo"):
        plan_job([path], Options(job="third"))
    assert plan_job([path], Options(job="second")).plan.name == "second"
    del manifests["second"], manifests["job"]
    with pytest.raises(UserError, match="found no FederatedLearningJob"):
        plan_job([write(tmp_path, manifests)], Options())


def test_the_transmitter_of_the_command_line_is_in_the_place_of_the_jobs(tmp_path):
    manifests = sound_job()
    put(manifests, "job.spec.transmitter", S3_TRANSMITTER)
    assert problems(tmp_path, manifests, trial=Trial(transmitter="ws")) == []


def test_what_sedna_would_do_dangerously_or_for_nothing_is_noted(tmp_path):
    manifests = sound_job()
    put(manifests, "model.spec.url", "/model")
    put(manifests, f"{CONTAINER}.env", env(validation_split="0.2", PARTICIPANTS_COUNT="2", MODEL_NAME="mine"))
    put(manifests, "job.spec.trainingWorkers.0.template.spec.dnsPolicy", "ClusterFirstWithHostNet")
    put(manifests, f"{CONTAINER}.args", None)
    put(manifests, "job.spec.trainingWorkers.1.template", pod("train-worker", ""))
    put(manifests, "job.spec.trainingWorkers.1.template.spec.nodeName", None)
    notes = plan_job([write(tmp_path, manifests)], Options(nodes=frozenset(("cloud", "edge1", "edge2")))).plan.notes
    assert [note for note in notes if "-i" not in note] == [
        f"{WORKERS}[0].template.spec: no effect outside a cluster: dnsPolicy",
        "Model/yolo-model: spec.url: Sedna mounts the parent of /model, the host's root; a directory below is safer",
        f"{WORKERS}[1].template.spec.nodeName: is not set; the worker's node is that of Dataset coco-dataset-2",
        f"{FIRST}.env: MODEL_NAME is set by Sedna, whose value is used",
        f"{FIRST}.env: nothing here reads validation_split",
    ]
    assert sum("the worker's place in the list counts" in note for note in notes) == 2
