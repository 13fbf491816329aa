"""Each check on a machine and files that are as they should be, and as they should not."""

import dataclasses
import datetime
import os
import socket
import ssl
import time

import numpy as np
import pytest

from cross_silo.checkpoint import CheckpointInfo, checkpoint_path, write_checkpoint
from cross_silo.config.aggregation import Aggregation
from cross_silo.config.auth import Auth
from cross_silo.config.federated import DistributedCache, FederatedConfig, Round
from cross_silo.errors import UserError
from cross_silo.preflight import network, room, versions
from cross_silo.preflight.certificates import check_access
from cross_silo.preflight.check import ERROR, OK, SKIPPED, WARNING, size
from cross_silo.preflight.files import check_checkpoint, check_data, check_evaluation, check_model, check_silos
from cross_silo.preflight.network import check_clock, check_port, check_redis, clock
from cross_silo.preflight.plan import Plan
from cross_silo.preflight.room import available_memory, check_room
from cross_silo.preflight.run import check_launch
from cross_silo.preflight.versions import check_versions, fits
from tests.support.auth_files import SILOS, expired, make_auth
from tests.support.federation import Federation


@pytest.fixture
def plan(tmp_path, free_port):
    """From a role and changed fields to a plan."""

    def make(role, config=FederatedConfig(fl_name="job"), **more):  # noqa: B008
        return Plan(role, config, more.pop("address", f"127.0.0.1:{free_port}"), tmp_path / "run", **more)

    return make


def results(checks):
    return {check.what: check.result for check in checks}


def found(checks, what):
    return next(check.found for check in checks if check.what == what)


# versions


@pytest.mark.parametrize(
    ("version", "bounds", "fit"),
    [
        ("2.10.0", ">=2.9,<2.11", True),
        ("2.11.0", ">=2.9,<2.11", False),
        ("2.10", ">=2.10.0", True),
        ("5", "<9,>=5", True),
        ("8.0.0rc1", ">=8", True),
        ("1.0", "", True),
    ],
)
def test_versions_are_numbers(version, bounds, fit):
    assert fits(version, bounds) is fit


def test_this_environment_is_fine(plan):
    for role in ("scheduler", "server", "worker"):
        assert results(check_versions(plan(role))) == {"Python": OK, "packages": OK}


def test_what_is_missing_and_what_is_too_old(plan, monkeypatch):
    monkeypatch.setattr(versions, "requirements", lambda: {"numpy": ">=99", "redis": ">=5"})
    checks = check_versions(plan("scheduler"))
    assert results(checks)["packages"] == WARNING
    assert "expected >=99" in found(checks, "packages")
    monkeypatch.setitem(versions.NEEDED, "server", ("no-such-package",))
    checks = check_versions(plan("server"))
    assert results(checks)["packages"] == ERROR
    assert "not installed: no-such-package" in found(checks, "packages")
    monkeypatch.setattr(versions, "PYTHON", ((3, 98), (3, 99)))
    assert results(check_versions(plan("scheduler")))["Python"] == ERROR


# files


def test_checkpoints(plan, tmp_path):
    assert results(check_checkpoint(plan("server"))) == {"checkpoint": ERROR}
    directory = tmp_path / "ckpt"
    (check,) = check_checkpoint(plan("server", checkpoint_dir=directory))
    assert (check.result, "none of job 'job'" in check.found) == (ERROR, True)
    (check,) = check_checkpoint(plan("server", checkpoint_dir=directory, model_yaml="m.yaml"))
    assert (check.result, "makes round 0's" in check.found) == (OK, True)
    directory.mkdir()
    path = checkpoint_path(directory, "job", 4, datetime.datetime.now())
    write_checkpoint(path, {"w": np.zeros(8, np.float32)}, CheckpointInfo(fl_name="job", round=4))
    (check,) = check_checkpoint(plan("server", checkpoint_dir=directory))
    assert (check.result, check.found) == (OK, f"{path.name}: the job goes on after round 4")
    path.write_bytes(b"damaged")
    assert results(check_checkpoint(plan("server", checkpoint_dir=directory)))["checkpoint"] == ERROR
    assert results(check_checkpoint(plan("worker", pre_trained="nowhere.ckpt"))) == {"pre-trained": ERROR}


def test_model_and_evaluation(plan, tmp_path):
    (tmp_path / "m.yaml").write_text("detector: faster_rcnn\n")
    assert results(check_model(plan("worker", model_yaml=str(tmp_path / "m.yaml")))) == {"model": OK}
    assert results(check_model(plan("worker", model_yaml="nowhere.yaml"))) == {"model": ERROR}
    evaluation = dataclasses.replace(
        FederatedConfig().evaluation, annotations=str(tmp_path / "val.json"), image_dir=str(tmp_path)
    )
    config = FederatedConfig(evaluation=evaluation)
    assert "evaluation.annotations" in found(check_evaluation(plan("server", config)), "evaluation")
    (tmp_path / "val.json").write_text("{}")
    assert "expected --config" in found(check_evaluation(plan("server", config)), "evaluation")
    assert results(check_evaluation(plan("server", config, model_yaml="m.yaml"))) == {"evaluation": OK}


def test_silos_and_their_data(plan, tmp_path):
    config = FederatedConfig(silos=("silo_0", "b"))
    assert results(check_silos(plan("worker", config))) == {"silo": OK}
    assert "silos does not name silo_1" in found(check_silos(plan("worker", config, count=2)), "silo")
    assert results(check_data(plan("worker"))) == {"data": ERROR}
    (check,) = check_data(plan("worker", dataset_path=tmp_path))
    assert (check.result, "no such directory" in check.found) == (ERROR, True)


# network


def test_ports(plan, free_port):
    assert results([check_port(plan("server"))]) == {"port": OK}
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port))
        taken.listen()
        check = check_port(plan("scheduler"))
    assert check.result == ERROR
    assert f"--scheduler_manage_address is 127.0.0.1:{free_port}: Address already in use" in check.found


def test_redis(plan, redis_address, free_port):
    config = FederatedConfig(distributed_cache=DistributedCache(address=redis_address))
    assert results(check_redis(plan("server", config))) == {"Redis": OK, "clock": OK}
    config = FederatedConfig(distributed_cache=DistributedCache(address=f"127.0.0.1:{free_port}"))
    assert "will be started there" in found(check_redis(plan("server", config)), "Redis")
    config = FederatedConfig(distributed_cache=DistributedCache(address=f"0.0.0.0:{free_port}"))
    (check,) = check_redis(plan("server", config))
    assert (check.result, "no Redis answers at" in check.found) == (ERROR, True)


def test_clocks(plan, monkeypatch, redis_address):
    assert clock(0.4, "x").result == OK
    assert clock(-30, "x").found.startswith("30.0 s behind x; expected at most 5 s")
    assert [clock(skew, "x").result for skew in (-30, 30, 301, -301)] == [WARNING, WARNING, ERROR, ERROR]
    assert check_clock(plan("worker")).result == SKIPPED
    config = FederatedConfig(distributed_cache=DistributedCache(address=redis_address))
    now = time.time()
    monkeypatch.setattr(network.time, "time", lambda: now + 1000)
    assert results(check_redis(plan("server", config)))["clock"] == ERROR


def test_a_worker_asks_the_server(plan, tmp_path, redis_address, free_port):
    check = check_port(plan("worker"))
    assert (check.result, "a worker waits 30 s for the server" in check.found) == (WARNING, True)
    job = Federation(tmp_path, redis_address, free_port)
    try:
        job.server()
        config = FederatedConfig(fl_name=job.name)
        asking = plan("worker", config)
        assert check_port(asking).found == f"{job.address} serves job {job.name!r}: running, round 1"
        assert check_clock(asking).result == OK
        assert asking.model_bytes == (4 * (12 + 4 + 5), "the server's")
        assert results(check_room(asking)) == {"memory": OK, "disk": OK}
        check = check_port(plan("worker", FederatedConfig(fl_name="other")))
        assert (check.result, "expected fl_name 'other'" in check.found) == (ERROR, True)
    finally:
        job.close()


# certificates


@pytest.fixture(scope="module")
def auth_dir(tmp_path_factory):
    return make_auth(tmp_path_factory.mktemp("auth"))


def guarded(directory, mode="mtls", **more):
    return FederatedConfig(fl_name="job", silos=SILOS, auth=Auth(mode=mode, dir=str(directory)), **more)


def test_certificates_in_order(plan, auth_dir):
    config = guarded(auth_dir)
    assert set(results(check_access(plan("worker", config, count=2))).values()) == {OK}
    checks = check_access(plan("server", config))
    assert results(checks) == {"certificate": OK, "certificate's names": OK}
    assert "127.0.0.1" in found(checks, "certificate's names")
    tokens = guarded(auth_dir, mode="token", enable_ssl=True)
    assert results(check_access(plan("scheduler", tokens)))["tokens"] == OK
    assert results(check_access(plan("worker", tokens))) == {"access of silo_0": OK}


def test_several_servers_ask_each_other(plan, auth_dir, tmp_path):
    checks = check_access(plan("server", guarded(auth_dir), servers=3, address="0.0.0.0:6668"))
    assert results(checks) == {"access among servers": OK, "certificate": OK, "certificate's names": OK}
    checks = check_access(plan("server", guarded(auth_dir), servers=3, address="0.0.0.0:80", tcp_server_ip="10.1.2.3"))
    assert (checks[-1].result, "--tcp_server_ip is 10.1.2.3, but" in checks[-1].found) == (WARNING, True)
    tokens = guarded(make_auth(tmp_path), mode="token", enable_ssl=True)
    assert results(check_access(plan("server", tokens, servers=2)))["access among servers"] == OK
    (tmp_path / "server.token").unlink()
    assert results(check_access(plan("server", tokens, servers=2)))["access among servers"] == ERROR


def test_certificates_out_of_order(plan, auth_dir, tmp_path):
    (check,) = check_access(plan("worker", guarded(tmp_path)))
    assert check.result == ERROR
    check = check_access(plan("server", guarded(auth_dir), address="10.1.2.3:6668"))[-1]
    assert (check.result, "the certificate is for" in check.found) == (WARNING, True)
    check = check_access(plan("server", guarded(auth_dir), address="fl.example.org:6668"))[-1]
    assert check.result == WARNING


def test_dates_of_certificates(plan, tmp_path, monkeypatch):
    config = guarded(make_auth(tmp_path))
    cert = ssl._ssl._test_decode_cert(str(tmp_path / "silo_0.pem"))
    ends = ssl.cert_time_to_seconds(cert["notAfter"])
    monkeypatch.setattr("cross_silo.preflight.certificates.time.time", lambda: ends - 3 * 86400)
    (check,) = check_access(plan("worker", config))
    assert (check.result, "3 days; renew it" in check.found) == (WARNING, True)
    monkeypatch.undo()
    expired(tmp_path, "silo_0")
    (check,) = check_access(plan("worker", config))
    assert (check.result, "expired" in check.found) == (ERROR, True)


# memory and disk


@pytest.fixture
def server(plan, tmp_path):
    def make(model, **settings):
        (tmp_path / "ckpt").mkdir(exist_ok=True)
        path = checkpoint_path(tmp_path / "ckpt", "job", 1, datetime.datetime(2026, 1, 31))
        with open(path, "wb") as file:
            os.truncate(file.fileno(), model)  # a hole: it takes no room
        return plan("server", FederatedConfig(fl_name="job", **settings), checkpoint_dir=tmp_path / "ckpt")

    return make


def test_a_servers_memory_is_some_models(server, monkeypatch):
    monkeypatch.setattr(room, "available_memory", lambda: 1150e6)
    assert results(check_room(server(200_000_000))) == {"memory": OK, "disk": OK}  # (2 + 3) models and 150 MB
    checks = check_room(server(201_000_000))
    assert results(checks)["memory"] == ERROR
    assert "1.1 GB available, at least 1.2 GB needed: 5 times a model of 201 MB" in found(checks, "memory")
    robust = {"round": Round(start_fl_job_threshold=3), "aggregation": Aggregation(rule="median")}
    assert "8 times" in found(check_room(server(1_000_000, **robust)), "memory")


def test_the_memory_of_several_servers(server, monkeypatch):
    monkeypatch.setattr(room, "available_memory", lambda: 1950e6)  # 5 models and 5 halves, twice 150 MB: 1.8 GB
    (check, _) = check_room(dataclasses.replace(server(200_000_000), servers=2))
    assert check.result == OK
    assert "1.8 GB needed: 5 times a model of 200 MB" in check.found
    assert "5 times 50% of it at the 1 other servers" in check.found


def test_room_on_disk(server, monkeypatch):
    monkeypatch.setattr(room, "available_memory", lambda: None)
    asked = server(100_000_000)
    for free, result in ((500e6, OK), (499e6, WARNING), (199e6, ERROR)):
        monkeypatch.setattr(room.shutil, "disk_usage", lambda path, free=free: Usage(free))
        assert results(check_room(asked)) == {"memory": SKIPPED, "disk": result}


@dataclasses.dataclass
class Usage:
    free: float


def test_a_worker_without_a_known_model_is_not_judged(plan):
    assert results(check_room(plan("worker"))) == {"memory": SKIPPED, "disk": OK}


def test_memory_of_the_machine_and_of_a_container(tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable: 4000 kB\nSwapFree: 1000 kB\n")
    machine = tmp_path / "meminfo"
    assert available_memory(machine, tmp_path / "none") == 5000 * 1024
    for name, text in (("max", "3000000"), ("current", "1000000"), ("stat", "anon 1\ninactive_file 500000\n")):
        (tmp_path / f"memory.{name}").write_text(text)
    assert available_memory(machine, tmp_path) == 2_500_000
    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory(machine, tmp_path) == 5000 * 1024
    assert available_memory(tmp_path / "nowhere") is None


def test_sizes_as_people_write_them():
    assert (size(164e6), size(3.66e9)) == ("164 MB", "3.7 GB")


# at a launch


def test_a_launch_stops_at_errors_and_names_all_of_them(plan, monkeypatch, free_port):
    config = FederatedConfig(distributed_cache=DistributedCache(address=f"0.0.0.0:{free_port}"))
    monkeypatch.setattr(room, "available_memory", lambda: 1e6)
    with pytest.raises(UserError) as caught:
        check_launch(plan("scheduler", config))
    assert "Redis: no Redis answers at 0.0.0.0" in str(caught.value)
    assert "; memory: 1 MB available, at least 100 MB needed" in str(caught.value)


def test_warnings_do_not_stop_a_launch(plan, monkeypatch, redis_address):
    monkeypatch.setattr(network, "clock", lambda skew, other: clock(30, other))
    config = FederatedConfig(distributed_cache=DistributedCache(address=redis_address))
    check_launch(plan("server", config))
