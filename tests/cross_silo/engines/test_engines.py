"""Engines are found by name; the native one checks what the command line asks of it."""

from pathlib import Path

import pytest

from cross_silo.config.federated import Evaluation, FederatedConfig
from cross_silo.engines import SchedulerPlan, ServerPlan, find_engine
from cross_silo.errors import UserError

CONFIG = FederatedConfig()
MODEL = "detector: faster_rcnn\nnum_classes: 2\n"


@pytest.fixture
def engine():
    return find_engine(CONFIG, "job.yaml", "native")


@pytest.fixture
def plan(tmp_path):
    """From changed arguments to what the command line says of the server."""

    def make(**changes):
        settings = {
            "yaml_config": "job.yaml",
            "http_server_address": "127.0.0.1:6668",
            "tcp_server_ip": "127.0.0.1",
            "checkpoint_dir": tmp_path / "a" / "ckpt",
            "run_dir": tmp_path / "run",
        }
        return ServerPlan(**{**settings, **changes})

    return make


@pytest.fixture
def evaluation(tmp_path):
    (tmp_path / "val.json").write_text("{}")
    return FederatedConfig(evaluation=Evaluation(annotations=str(tmp_path / "val.json"), image_dir=str(tmp_path)))


def flags(role):
    """The role's arguments as a mapping."""
    arguments = list(role.command[3:])
    return dict(zip(arguments[::2], arguments[1::2]))


def test_a_command_line_that_contradicts_the_yaml_is_refused():
    with pytest.raises(UserError, match="--engine is 'other', but engine is 'native' in job.yaml"):
        find_engine(CONFIG, "job.yaml", "other")


def test_the_scheduler(engine):
    (role,) = engine.scheduler_roles(SchedulerPlan("job.yaml", "127.0.0.1:18019", Path("/r")), CONFIG)
    assert (role.name, role.log_path, role.listen_flag) == (
        "scheduler",
        "scheduler/scheduler.log",
        "--scheduler_manage_address",
    )
    assert role.command[1:3] == ["-m", "cross_silo.engines.native.scheduler"]
    assert flags(role) == {
        "--yaml_config": "job.yaml",
        "--scheduler_manage_address": "127.0.0.1:18019",
        "--run_dir": "/r",
    }


def test_a_server_alone(engine, plan, tmp_path):
    (server,) = engine.server_roles(plan(), CONFIG)
    assert (server.name, server.log_path) == ("server_0", "server_0/server.log")
    assert set(flags(server)) == {
        "--yaml_config",
        "--http_server_address",
        "--tcp_server_ip",
        "--checkpoint_dir",
        "--run_dir",
    }
    assert (tmp_path / "a" / "ckpt").is_dir()


def test_a_server_with_a_model_and_the_evaluator_beside_it(engine, plan, tmp_path, evaluation):
    (tmp_path / "m.yaml").write_text(MODEL)
    (tmp_path / "p.ckpt").write_bytes(b"x")
    asked = plan(config=str(tmp_path / "m.yaml"), pre_trained=str(tmp_path / "p.ckpt"))
    server, evaluator = engine.server_roles(asked, evaluation)
    assert flags(server)["--config"] == flags(evaluator)["--config"] == str(tmp_path / "m.yaml")
    assert flags(server)["--pre_trained"] == str(tmp_path / "p.ckpt")
    assert (evaluator.name, evaluator.listen_flag, evaluator.log_path) == ("evaluator", "", "evaluator/evaluator.log")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 37}, "--local_server_num is 37, expected at most 36"),
        (
            {"count": 4, "http_server_address": "127.0.0.1:65533"},
            "--http_server_address is 127.0.0.1:65533: there are no 4 ports from 65533 on",
        ),
        ({"http_server_address": "0.0.0.0:6668"}, "--http_server_address is '0.0.0.0', which other machines reach"),
        ({"http_server_address": "6668"}, "--http_server_address is '6668', expected host:port"),
        ({"tcp_server_ip": "10.0.0.1"}, "--tcp_server_ip is '10.0.0.1', which other machines reach"),
        ({"pre_trained": "p.ckpt"}, "--pre_trained is given without --config"),
        ({"config": "missing.yaml"}, "missing.yaml: No such file"),
        ({"checkpoint_dir": Path("/proc/nothing")}, "--checkpoint_dir is /proc/nothing"),
    ],
)
def test_what_cannot_work_is_refused_by_its_flag(engine, plan, changes, message):
    with pytest.raises(UserError, match=message):
        engine.server_roles(plan(**changes), CONFIG)


def test_files_that_are_not_there_are_refused_by_key(engine, plan, tmp_path, evaluation):
    (tmp_path / "m.yaml").write_text(MODEL)
    config = str(tmp_path / "m.yaml")
    with pytest.raises(UserError, match="--pre_trained is gone.ckpt: no such file"):
        engine.server_roles(plan(config=config, pre_trained="gone.ckpt"), CONFIG)
    with pytest.raises(UserError, match="job.yaml: evaluation is set; expected --config"):
        engine.server_roles(plan(), evaluation)
    (tmp_path / "val.json").unlink()
    with pytest.raises(UserError, match="evaluation.annotations is .*val.json: no such file"):
        engine.server_roles(plan(config=config), evaluation)
