"""What the launching scripts start for this engine."""

import sys
from pathlib import Path

import pytest

from cross_silo.config.federated import FederatedConfig
from cross_silo.engines import SchedulerPlan, ServerPlan, find_engine
from cross_silo.engines.mindspore_federated import roles
from cross_silo.engines.mindspore_federated.client import WheelClient
from cross_silo.errors import UserError

CONFIG = FederatedConfig(fl_name="job", engine="mindspore_federated")


@pytest.fixture
def engine(monkeypatch):
    """The engine, with an environment of its own pretended."""
    monkeypatch.setattr(roles, "find_python", lambda: "/engine/python")
    return find_engine(CONFIG, "job.yaml", "mindspore_federated")


def plan(tmp_path, **changes):
    given = {"http_server_address": "127.0.0.1:6668", "tcp_server_ip": "127.0.0.1", "count": 1, **changes}
    return ServerPlan("job.yaml", checkpoint_dir=tmp_path / "fl_ckpt", run_dir=Path("/r"), **given)


def test_workers_speak_with_front_and_servers(engine):
    assert engine.client_class is WheelClient


def test_the_scheduler_is_ours_with_the_wheels_beside_it(engine):
    (role,) = engine.scheduler_roles(SchedulerPlan("job.yaml", "127.0.0.1:18019", Path("/r")), CONFIG)
    assert (role.name, role.address, role.command[0]) == ("scheduler", "127.0.0.1:18019", sys.executable)
    assert role.command[role.command.index("--wheel_address") + 1] == "127.0.0.1:18020"


def test_the_front_starts_first_and_the_servers_follow_with_the_next_ports(engine, tmp_path, capsys):
    front, *servers = engine.server_roles(plan(tmp_path, count=4), CONFIG)
    assert (front.name, front.address, front.command[0]) == ("server_front", "127.0.0.1:6668", sys.executable)
    addresses = [f"127.0.0.1:{6669 + i}" for i in range(4)]
    assert [(role.name, role.address) for role in servers] == [(f"server_{i}", addresses[i]) for i in range(4)]
    told = [front.command[i + 1] for i, word in enumerate(front.command) if word == "--server_address"]
    assert told == addresses
    assert {role.command[0] for role in servers} == {"/engine/python"}
    assert all("PYTHONPATH" in role.environment for role in servers) and not front.environment
    assert "no authentication" in capsys.readouterr().err


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"http_server_address": "localhost:6668"}, "--http_server_address is 'localhost:6668', expected a literal"),
        ({"http_server_address": "0.0.0.0:6668"}, "--http_server_address is '0.0.0.0:6668'"),
        ({"tcp_server_ip": "myhost"}, "--tcp_server_ip"),
        ({"http_server_address": "10.0.0.1:6668"}, "--i_understand_no_auth"),
        ({"http_server_address": "127.0.0.1:65533", "count": 4}, "the 4 ports after it"),
    ],
)
def test_what_cannot_work_is_refused(engine, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        engine.server_roles(plan(tmp_path, **changes), CONFIG)


def test_settings_that_the_engine_breaks_on_are_refused_by_both(engine, tmp_path):
    config = FederatedConfig(fl_name="job", engine="mindspore_federated", silos=3)
    with pytest.raises(UserError, match="silos is 3"):
        engine.server_roles(plan(tmp_path), config)
    with pytest.raises(UserError, match="silos is 3"):
        engine.scheduler_roles(SchedulerPlan("job.yaml", "127.0.0.1:18019", Path("/r")), config)
