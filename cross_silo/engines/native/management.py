"""The scheduler's five routes, with the replies of the mindspore-federated engine's scheduler and its faults mended.

The engine's ``cluster_state`` knows three values. CLUSTER_READY: the job runs and a server is alive. CLUSTER_DISABLE:
it was disabled, or no server is alive. CLUSTER_FINISH: it is over, well or not. Ours beside it: ``state`` (running,
no_server, disabled, finished, failed, stopped) and ``reason``. Routes that change something answer to POST alone.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Callable, Dict, List, Mapping, Tuple

import redis

from cross_silo.config.federated import FederatedConfig
from cross_silo.config.schema import build, unknown_key
from cross_silo.coordination import JobStore
from cross_silo.coordination.store import ENDED
from cross_silo.errors import UserError
from cross_silo.protocol.http_service import HttpError, Request, Response, Route, json_response
from cross_silo.report.status import shown_state

ROUND_FIELDS = (
    "start_fl_job_threshold",
    "start_fl_job_time_window",
    "update_model_ratio",
    "update_model_time_window",
    "global_iteration_time_window",
)
CLIENT_FIELDS = ("client_epoch_num", "client_batch_size", "client_learning_rate")
FIELDS = ("fl_iteration_num", *ROUND_FIELDS, *CLIENT_FIELDS)
"""Hyper-parameters that a new instance may change."""
RATIO, LEARNING_RATE = "update_model_ratio", "client_learning_rate"
CLUSTER_STATES = {
    "running": "CLUSTER_READY",
    "no_server": "CLUSTER_DISABLE",
    "disabled": "CLUSTER_DISABLE",
    "finished": "CLUSTER_FINISH",
    "failed": "CLUSTER_FINISH",
    "stopped": "CLUSTER_FINISH",
}

Job = Dict[str, str]


class Refused(Exception):
    """Answered with status 400 and the message."""


class Management:
    """Answers for one job, from what its store says at that moment."""

    def __init__(self, store: JobStore, config: FederatedConfig) -> None:
        """Take the settings of the job's YAML for what the store does not say."""
        self._store = store
        self._config = config

    def routes(self) -> Dict[Tuple[str, str], Route]:
        """Return what the service is to serve."""
        return {
            ("GET", "/state"): self._route(self.state),
            ("POST", "/state"): self._route(self.state),
            ("GET", "/queryInstance"): self._route(self.query_instance),
            ("POST", "/queryInstance"): self._route(self.query_instance),
            ("POST", "/newInstance"): self._route(self.new_instance),
            ("POST", "/enableFLS"): self._route(lambda body: self._switch("enable")),
            ("POST", "/disableFLS"): self._route(lambda body: self._switch("disable")),
        }

    def _route(self, answer: Callable[[bytes], Dict[str, Any]]) -> Route:
        def route(request: Request) -> Response:
            try:
                return json_response({"code": "0", **answer(request.body())})
            except Refused as refused:
                return _failure(str(refused), 400)
            except HttpError as error:
                return _failure(str(error), error.status)
            except redis.RedisError:
                return _failure("Failed to access the cache server. Please retry later.", 400)

        return route

    def state(self, body: bytes = b"") -> Dict[str, Any]:
        """Return whether the job runs, and its live servers."""
        job, nodes = self._job(), self._nodes()
        state = shown_state(job, nodes)
        return {
            "message": "Get cluster state successful.",
            "cluster_state": CLUSTER_STATES[state],
            "nodes": nodes,
            "state": state,
            "reason": job.get("reason", "") or ("no server is alive" if state == "no_server" else ""),
        }

    def query_instance(self, body: bytes = b"") -> Dict[str, Any]:
        """Return the job's hyper-parameters, its instance and its live servers."""
        job = self._job()
        settings = self._settings(job)
        result = {"fl_name": settings.fl_name, "instance": job.get("instance", ""), **_hyper_parameters(settings)}
        return {"message": "Query Instance successful.", "nodes": self._nodes(), "result": result}

    def new_instance(self, body: bytes) -> Dict[str, Any]:
        """Ask the server to begin again at iteration 1 from the current model, with the settings of ``body``."""
        if not body:
            raise Refused("The post message size is invalid.")
        if self._config.engine != "native":
            raise Refused(f"Engine {self._config.engine} cannot begin a job anew: end it, begin one of another name.")
        changes = parse_changes(body)
        job = self._job()
        _require_server(self._nodes())
        check_changes(self._settings(job), changes)
        self._store.request("new_instance", changes)
        return {"message": "Start new instance successful."}

    def _switch(self, command: str) -> Dict[str, Any]:
        state = self._job()["state"]
        if state in ENDED:
            raise Refused(f"The instance is completed and cannot be {command}d.")
        if (state == "disabled") == (command == "disable"):
            raise Refused(f"The instance has already been {command}d.")
        _require_server(self._nodes())
        self._store.request(command)
        return {"message": f"start {'enabling' if command == 'enable' else 'disabling'} FL-Server successful."}

    def _job(self) -> Job:
        job = self._store.job()
        if job is None:
            raise Refused(f"Cannot find cluster info for {self._config.fl_name}")
        return job

    def _nodes(self) -> List[Dict[str, str]]:
        nodes = []
        for node, info in sorted(self._store.members("server").items()):
            others = {f"{node}/server_{one['server']}": one for one in info.get("servers", ()) if not one["lost"]}
            for name, told in ((node, info), *others.items()):
                nodes.append({"node_id": name, "role": "SERVER", "tcp_address": str(told.get("address", name))})
        return nodes

    def _settings(self, job: Job) -> FederatedConfig:
        """Return the settings that the server told of; the scheduler's own YAML where it told none."""
        try:
            return build(FederatedConfig, json.loads(job.get("settings", "")), "settings")
        except (ValueError, TypeError, AttributeError, UserError):
            return self._config


def parse_changes(body: bytes) -> Dict[str, Any]:
    """Return the hyper-parameters in the JSON object ``body``. Raises Refused naming the field that is wrong."""
    try:
        content = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        raise Refused("The post message is not valid JSON.") from None
    if not isinstance(content, dict):
        raise Refused("The post message is not a JSON object.")
    for key, value in content.items():
        if key not in FIELDS:
            raise Refused(str(unknown_key(key, FIELDS, "newInstance")))
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if key == RATIO:
            if not (number and 0 < value <= 1):
                raise Refused(f"Field {key} should be a number in range (0,1.0]; found {value!r}")
        elif key == LEARNING_RATE:
            if not (number and 0 < value < float("inf")):
                raise Refused(f"Field {key} should be a number above 0; found {value!r}")
        elif not (number and isinstance(value, int) and value >= 0):
            raise Refused(f"Field {key} should be unsigned integer number; found {value!r}")
    return content


def apply_changes(config: FederatedConfig, changes: Mapping[str, Any]) -> FederatedConfig:
    """Return ``config`` with ``changes``. Raises ValueError where they contradict each other or the rest."""
    return dataclasses.replace(
        config,
        round=dataclasses.replace(config.round, **{key: changes[key] for key in ROUND_FIELDS if key in changes}),
        client=dataclasses.replace(config.client, **{key: changes[key] for key in CLIENT_FIELDS if key in changes}),
        fl_iteration_num=changes.get("fl_iteration_num", config.fl_iteration_num),
    )


def check_changes(config: FederatedConfig, changes: Mapping[str, Any]) -> None:
    """Refuse changes that the job's other settings contradict. Raises Refused."""
    try:
        rounds = apply_changes(config, changes).fl_iteration_num
    except (ValueError, UserError) as error:
        raise Refused(str(error)) from None
    if rounds != changes.get("fl_iteration_num", rounds):
        raise Refused(f"fl_iteration_num is {changes['fl_iteration_num']}, but stop_condition ends with round {rounds}")


def _hyper_parameters(config: FederatedConfig) -> Dict[str, Any]:
    values = {**dataclasses.asdict(config.round), **dataclasses.asdict(config.client)}
    return {"fl_iteration_num": config.fl_iteration_num, "server_mode": config.server_mode, **values}


def _require_server(nodes: List[Dict[str, str]]) -> None:
    if not nodes:
        raise Refused("No server is alive to do it.")


def _failure(message: str, status: int) -> Response:
    return json_response({"code": "1", "error_message": message}, status)
