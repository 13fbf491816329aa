"""A machine on which a job of manifests is tried, with processes that import no MindSpore."""

import dataclasses
import sys
import time

import numpy as np

from cross_silo.data.manifest import write_manifest
from cross_silo.launch.free_ports import free_ports
from cross_silo.launch.role import running_roles
from cross_silo.sedna.roles import Trial
from tests.support.federation import Federation, manifest
from tests.support.mistnet_job import write_pre_trained
from tests.support.mistnet_launch import through
from tests.support.sedna_manifests import changed, planned, put

SECONDS = 180.0
YOLO = {
    "model.0.conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 7,
    "model.9.conv.weight": np.ones((3, 2), np.float32),
}
"""Of both sides of a cut."""
ENVIRONMENT = "job.spec.aggregationWorker.template.spec.containers.0.env"


class Site:
    """Of a FedAvg job whose workers have numpy's trainer."""

    shards = {f"data_{number}.spec.format": "mindrecord" for number in (1, 2)}

    def __init__(self, directory):
        self.directory, self.run_dir = directory, directory / "run"
        self.redis, self.rest, self.port = free_ports(3)
        self.write_initial()
        for number in (1, 2):
            (directory / "data" / str(number) / "COCO").mkdir(parents=True)
            write_manifest(str(directory / "data" / str(number) / "COCO"), manifest(("cell",)))

    def write_initial(self):
        """Write round 0's model."""
        (self.directory / "none").mkdir()
        federation = Federation(self.directory / "none", f"127.0.0.1:{self.redis}", self.port)
        federation.name, federation.checkpoints = "yolo", self.run_dir / "checkpoints"
        self.run_dir.mkdir()
        federation.write_initial()

    def plan_of(self, manifests):
        """Return what they come to on this machine."""
        paths = {f"/{name}": str(self.directory / name) for name in ("data", "model", "pretrained")}
        return planned(
            self.directory,
            manifests,
            trial=Trial(path_map=paths, port=self.port),
            redis_address=f"127.0.0.1:{self.redis}",
            scheduler_manage_address=f"127.0.0.1:{self.rest}",
        )

    def planned(self, changes=None):
        """The job's plan, whose server has round 0's model already and whose workers have numpy's trainer."""
        manifests = changed({"model.spec.url": "/model/final.ckpt", **self.shards, **(changes or {})})
        put(manifests, "job.spec.pretrainedModel", None)
        found = self.plan_of(manifests)
        plan = found.plan
        scheduler, server = plan.aggregator.commands
        place = server.index("--config")
        aggregator = dataclasses.replace(plan.aggregator, commands=(scheduler, server[:place] + server[place + 2 :]))
        launcher = (sys.executable, "-m", "tests.support.numpy_launch")
        trainers = tuple(
            dataclasses.replace(trainer, commands=tuple((*launcher, *command[2:]) for command in trainer.commands))
            for trainer in plan.trainers
        )
        return dataclasses.replace(found, plan=dataclasses.replace(plan, aggregator=aggregator, trainers=trainers))

    def running(self):
        """Names of the job's roles that run."""
        return [role.name for role in running_roles() if role.role_dir.parent == self.run_dir]


class MistNetSite(Site):
    """Of a MistNet job of three epochs with features by way of an object store."""

    ENV = {"aggregation_algorithm": "MistNet", "cut_layer": "4", "epsilon": "2", "epochs": "3", "batch_size": "5"}

    def __init__(self, directory, server):
        self.server = server
        super().__init__(directory)
        (directory / "pretrained").mkdir()
        (directory / "pretrained" / "yolov5.pth").write_bytes(b"what round 0's model was filled from")

    def write_initial(self):
        write_pre_trained(self.run_dir / "checkpoints", "yolo", YOLO)

    def planned(self, changes=None):
        keys = self.server.credentials
        s3 = {"ws": {}, "s3": {"aggDataPath": "s3://features/fl", "credentialName": "mysecret"}}
        manifests = changed(
            {
                **self.shards,
                "model.spec.url": "/model/final.ckpt",
                ENVIRONMENT: [{"name": name, "value": value} for name, value in self.ENV.items()],
                "job.spec.transmitter": s3,
                "secret.metadata.annotations.s3-endpoint": self.server.endpoint.partition("://")[2],
                "secret.stringData": {"ACCESS_KEY_ID": keys.access_key, "SECRET_ACCESS_KEY": keys.secret_key},
                **(changes or {}),
            }
        )
        found = self.plan_of(manifests)
        scheduler, server = found.plan.aggregator.commands
        aggregator = dataclasses.replace(found.plan.aggregator, commands=(scheduler, through(server)))
        trainers = tuple(
            dataclasses.replace(trainer, commands=tuple(map(through, trainer.commands)))
            for trainer in found.plan.trainers
        )
        return dataclasses.replace(
            found, plan=dataclasses.replace(found.plan, aggregator=aggregator, trainers=trainers)
        )


def wait(condition, what):
    """Wait until ``condition()``."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.2)
