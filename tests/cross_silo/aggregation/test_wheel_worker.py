"""``compat: wheel_worker``: asked over loopback as the wheel's worker asks, on one connection that stays open."""

import http.client
import threading
import time

import numpy as np
import pytest

from cross_silo.aggregation import wheel_worker
from cross_silo.aggregation.permits import Permits
from cross_silo.aggregation.shard_uploads import ShardUploads
from cross_silo.aggregation.uploads import UploadPool
from cross_silo.aggregation.wheel_worker import WheelWorkerRoutes
from cross_silo.config.federated import WHEEL_WORKER, FederatedConfig, Round
from cross_silo.errors import UserError
from cross_silo.protocol import connections, http_service
from cross_silo.protocol.layout import largest_message
from cross_silo.protocol.messages import decode, encode
from cross_silo.protocol.schema import SAFEMODE

TRAINED = ("conv.weight", "scale")
SIZES = {"conv.weight": 12, "bn.moving_mean": 2, "scale": 1}


class WheelWorker:
    """Says what the wheel's worker says, in its order."""

    def __init__(self, served, name, samples):
        self._connection = http.client.HTTPConnection(served.address, timeout=60)
        self.name, self.samples, self.iteration = name, samples, 0

    @property
    def socket(self):
        """What it is connected by; another one where it had to connect again."""
        return self._connection.sock

    def ask(self, path, table, **values):
        self._connection.request("POST", path, encode(table, {"fl_name": "job", "timestamp": "1", **values}))
        body = self._connection.getresponse().read()
        if int.from_bytes(body[:4], "little") >= len(body):
            return body.decode()
        return decode(body, table.replace("Request", "Response"))

    def join(self):
        answer = self.ask("/startFLJob", "RequestFLJob", fl_id=self.name, data_size=self.samples)
        if not isinstance(answer, str):
            assert answer["retcode"] == 200, answer["reason"]  # any other one ends its process
            assert answer["feature_map"] == []  # and so does a missing one
            self.iteration = answer["iteration"]
        return answer

    def push(self, value, names=TRAINED):
        features = [
            {"weight_fullname": name, "data": np.full(SIZES[name], value * self.samples, np.float32)} for name in names
        ]
        values = {"fl_id": self.name, "iteration": self.iteration, "feature_map": features}
        answer = self.ask("/updateModel", "RequestUpdateModel", **values)
        assert not isinstance(answer, str)  # a text ends its process
        return answer["retcode"]

    def model(self):
        """Ask once; None: not yet."""
        answer = self.ask("/getModel", "RequestGetModel", iteration=self.iteration)
        if answer["retcode"] == 201:
            return None
        assert answer["retcode"] == 200
        return {feature["weight_fullname"]: feature["data"] for feature in answer["feature_map"]}


def with_wheel_workers(made):
    """Let the wheel's workers take part in a served job; one tensor of its model is not trained."""
    made.job.info.kinds["bn.moving_mean"] = "statistic"
    pool = UploadPool(2, largest_message(made.job.sizes))
    uploads = None
    if made.shards is not None:
        uploads = ShardUploads(made.shards, Permits(pool, made.shards), made.ports, made.job.config)
    made.wheel_workers = WheelWorkerRoutes(made.aggregator, made.job, pool, uploads)
    made.service._server.routes.update(made.wheel_workers.routes())
    return made


@pytest.fixture
def served(serve):
    return with_wheel_workers(serve(compat=WHEEL_WORKER))


@pytest.fixture
def workers(served):
    return [WheelWorker(served, f"worker_fl_{i}", samples) for i, samples in enumerate((10, 30))]


@pytest.fixture
def brief(monkeypatch):
    """Requests wait at the server for a moment only."""
    monkeypatch.setattr(wheel_worker, "HOLD_SECONDS", 0.2)


@pytest.mark.parametrize("servers", [1, 2])
def test_rounds_of_trained_tensors_only(serve, servers):
    """The mean of what is sent; what is not stays as it was. getModel is held until the round's end: no polling."""
    served = with_wheel_workers(serve(compat=WHEEL_WORKER, servers=servers))
    workers = [WheelWorker(served, f"worker_fl_{i}", samples) for i, samples in enumerate((10, 30))]
    for number in (1, 2):
        for worker in workers:
            worker.join()
        assert [worker.push(value) for worker, value in zip(workers, (number, 5.0))] == [200, 200]
        for worker in workers:
            model = worker.model()
            np.testing.assert_allclose(model["scale"], (10 * number + 30 * 5) / 40, rtol=1e-6)
            np.testing.assert_allclose(model["bn.moving_mean"], [0.5, -0.5], rtol=1e-6)
    assert served.rounds.good_rounds == 2


def test_our_workers_and_the_wheels_in_one_job(served, workers):
    ours = served.client(0)
    workers[1].join()
    ticket = ours.start_round(10)
    pushed = {name: np.full(size, 1, np.float32) for name, size in SIZES.items()}
    assert ours.push(ticket, pushed, 10, 0.5, {}).accepted
    assert workers[1].push(5.0) == 200
    model = workers[1].model()
    np.testing.assert_allclose(model["scale"], 4)
    np.testing.assert_allclose(model["bn.moving_mean"], (10 * np.ones(2) + 30 * np.float32([0.5, -0.5])) / 40)
    assert ours.get_model(1, wait=10).verdict == "good"


def test_a_poll_waits_for_the_others_update(served, workers, brief):
    for worker in workers:
        worker.join()
    workers[0].push(1.0)
    assert workers[0].model() is None
    workers[1].push(1.0)
    assert workers[0].model() is not None


def test_a_failed_round_gives_back_the_model_of_before(served, workers):
    """Whoever waits gets it at once; who still trains pushes into the next attempt without another startFLJob."""
    for worker in workers:
        worker.join()
    assert workers[0].push(1.0) == 200
    held = []
    waiting = threading.Thread(target=lambda: held.append(workers[0].model()))
    waiting.start()
    served.aggregator.control(lambda rounds: rounds.fail("a disk is full"))
    waiting.join(15)
    np.testing.assert_array_equal(held[0]["scale"], 3)
    assert served.rounds.key == (1, 2)
    assert workers[1].push(5.0) == 200
    workers[0].join()
    assert workers[0].push(1.0) == 200
    for worker in workers:
        np.testing.assert_allclose(worker.model()["scale"], 4)
    assert served.rounds.good_rounds == 1


@pytest.mark.parametrize("names", [("conv.weight",), ()], ids=["a tensor is missing", "all are"])
def test_an_update_that_is_none_fails_the_round(served, workers, names):
    """Such a worker does not send another one: nobody waits for it."""
    for worker in workers:
        worker.join()
    workers[0].push(1.0)
    assert workers[1].push(1.0, names) == 400
    assert served.rounds.key == (1, 2)
    for worker in workers:
        np.testing.assert_array_equal(worker.model()["scale"], 3)


def test_its_connection_stays_open_while_it_trains(serve, monkeypatch):
    """Its HTTP client loses the request that it makes on a connection which the server has closed."""
    monkeypatch.setattr(connections, "IDLE_SECONDS", 0.2)
    monkeypatch.setattr(http_service, "STALL_SECONDS", 0.2)
    worker = WheelWorker(with_wheel_workers(serve(compat=WHEEL_WORKER)), "worker_fl_0", 10)
    worker.join()
    used = worker.socket
    time.sleep(1.5)
    assert worker.push(1.0) == 200
    assert worker.socket is used


def test_joining_twice_is_joining(served, workers):
    workers[0].join()
    workers[0].join()
    assert len(served.rounds.participants) == 1


def test_one_too_many_sits_a_round_out(served, workers, brief):
    """It hears that the cluster is in safemode, trains, and gets the newest model."""
    third = WheelWorker(served, "worker_fl_2", 5)
    for worker in workers:
        worker.join()
    assert third.join() == SAFEMODE
    assert third.push(9.0) == 300
    np.testing.assert_array_equal(third.model()["scale"], 3)
    assert [worker.push(1.0) for worker in workers] == [200, 200]
    np.testing.assert_allclose(workers[0].model()["scale"], 1)


def test_after_the_jobs_end_it_gets_the_last_model(served, workers):
    for number in (1, 2, 3):
        for worker in workers:
            worker.join()
        for worker in workers:
            worker.push(number)
        for worker in workers:
            worker.model()
    assert served.rounds.state == "finished"
    for worker in workers:
        assert isinstance(worker.join(), str)
        assert worker.push(9.0) == 300
        np.testing.assert_allclose(worker.model()["scale"], 3)


def test_the_server_stays_until_they_are_silent(served, workers):
    """A worker that finds its server gone asks for ever."""
    leave, quiet = threading.Event(), threading.Event()
    workers[0].join()
    waiting = threading.Thread(target=lambda: (served.wheel_workers.await_quiet(1.5, leave), quiet.set()))
    waiting.start()
    for _ in range(4):
        assert not quiet.wait(0.5)
        workers[0].model()
    assert quiet.wait(10)
    waiting.join(10)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"compat": "wheel"}, "compat is 'wheel', expected 'wheel_worker'"),
        ({"compat": WHEEL_WORKER, "silos": ("a", "b")}, "expected silos as a number"),
        ({"compat": WHEEL_WORKER, "engine": "mindspore_federated"}, "need no key with engine mindspore_federated"),
    ],
)
def test_settings_that_contradict_it(settings, message):
    with pytest.raises((ValueError, UserError), match=message):
        FederatedConfig(round=Round(start_fl_job_threshold=2), **settings)
