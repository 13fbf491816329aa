"""Manifests of a sound FedAvg job over two nodes, to be changed in one place each, and what they come to."""

import copy

import yaml

from cross_silo.sedna.job import Options, plan_job
from cross_silo.sedna.problems import ManifestError

NODES = frozenset(("cloud", "edge1", "edge2"))


def dataset(number):
    """A Dataset on node edge{number}."""
    spec = {"url": f"/data/{number}/COCO", "format": "dir", "nodeName": f"edge{number}"}
    return resource("Dataset", f"coco-dataset-{number}", spec)


def model(name, url="/model/yolov5.pth"):
    """A Model."""
    return resource("Model", name, {"url": url, "format": "pth"})


def resource(kind, name, spec):
    """One of Sedna's."""
    return {"apiVersion": "sedna.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def secret():
    """A Secret with the keys of an object store."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "mysecret", "annotations": {"s3-endpoint": "s3.test:9000", "s3-usehttps": "0"}},
        "stringData": {"ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "hidden"},
    }


def pod(name, node, **env):
    """A pod template with one container."""
    variables = [{"name": key, "value": value} for key, value in env.items()]
    return {"spec": {"nodeName": node, "containers": [{"name": name, "image": "example", "env": variables}]}}


def worker(number, **env):
    """A training worker with client id ``number``."""
    template = pod("train-worker", f"edge{number}", **{"batch_size": "4", "epochs": "1", **env})
    template["spec"]["containers"][0]["args"] = ["-i", str(number)]
    return {"dataset": {"name": f"coco-dataset-{number}"}, "template": template}


def sound_job():
    """Return the manifests by a short name: job, data_1, data_2, model, start, secret."""
    spec = {
        "pretrainedModel": {"name": "start"},
        "transmitter": {"ws": {}},
        "aggregationWorker": {
            "model": {"name": "yolo-model"},
            "template": pod("agg-worker", "cloud", aggregation_algorithm="FedAvg", exit_round="2"),
        },
        "trainingWorkers": [worker(1), worker(2)],
    }
    return {
        "job": resource("FederatedLearningJob", "yolo", spec),
        "data_1": dataset(1),
        "data_2": dataset(2),
        "model": model("yolo-model"),
        "start": model("start", "/pretrained/yolov5.pth"),
        "secret": secret(),
    }


def put(manifests, path, value):
    """Set what is at a path such as ``job.spec.trainingWorkers.0.dataset.name``; ``None`` takes it out."""
    *way, last = path.split(".")
    place = manifests
    for part in way:
        place = place[int(part)] if isinstance(place, list) else place[part]
    if isinstance(place, list):
        place[int(last) : int(last) + 1] = [] if value is None else [value]
    elif value is None:
        del place[last]
    else:
        place[last] = copy.deepcopy(value)


def write(directory, manifests):
    """Write the manifests into one file and return its path."""
    path = directory / "manifests.yaml"
    path.write_text(yaml.safe_dump_all(manifests.values(), sort_keys=False))
    return str(path)


def planned(directory, manifests, **options):
    """Return what the manifests come to."""
    options = {"nodes": NODES, "run_dir": directory / "run", **options}
    return plan_job([write(directory, manifests)], Options(**options))


def problems(directory, manifests, **options):
    """Return the lines about what is wrong with the manifests."""
    try:
        planned(directory, manifests, **options)
    except ManifestError as error:
        return [str(problem) for problem in error.problems]
    return []


def changed(changes):
    """Return the sound job's manifests with what ``changes`` has by path."""
    manifests = sound_job()
    for path, value in changes.items():
        put(manifests, path, value)
    return manifests
