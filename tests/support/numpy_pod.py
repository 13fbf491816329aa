"""``python -m cross_silo.sedna`` with workers whose trainer is numpy's, and a server that makes no model.

With MistNet workers send random features, and numpy's trainer is the server's.
"""

import dataclasses
import functools
import sys

from cross_silo.errors import run_main
from cross_silo.sedna import __main__ as entry
from cross_silo.sedna import aggregator, plan, pod, trainer
from cross_silo.sedna.algorithms import MISTNET
from cross_silo.sedna.status_report import StatusReporter
from tests.support.mistnet_launch import through


def worker_command(found):
    """The command of the numpy worker with the plan's files and addresses."""
    if found.algorithm == MISTNET:
        return [*through(found.commands[-1]), "--foreground"]
    run_dir = found.commands[-1][found.commands[-1].index("--run_dir") + 1]
    command = [sys.executable, "-m", "tests.support.numpy_worker"]
    command += ["--yaml_config", found.federated_file, "--config", found.model_file]
    command += ["--worker_index", str(found.index), "--silo", found.silo, "--dataset_dir", found.dataset.mindrecord_dir]
    return [*command, "--http_server_address", found.address, "--run_dir", run_dir]


def aggregator_plan(*arguments, **options):
    """The plan, whose server finds round 0's model in its checkpoint directory."""
    found = plan.aggregator_plan(*arguments, **options)
    *others, server = found.commands
    if found.algorithm == MISTNET:
        return dataclasses.replace(found, commands=(*others, through(server)))
    place = server.index("--config")
    return dataclasses.replace(found, commands=(*others, server[:place] + server[place + 2 :]))


if __name__ == "__main__":
    pod.StatusReporter = functools.partial(StatusReporter, pause=0.1)  # an absent controller is soon given up
    trainer.worker_command = worker_command
    aggregator.aggregator_plan = aggregator_plan
    run_main(entry.main)
