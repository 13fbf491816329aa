"""The server process with real clients and a real Redis: a whole job, kills, restarts, requests, failures."""

import datetime
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import cross_silo
from cross_silo.checkpoint import CheckpointInfo, checkpoint_path, list_checkpoints, read_checkpoint, write_checkpoint
from cross_silo.coordination import JobStore, connect
from cross_silo.coordination.embedded import EmbeddedRedis
from cross_silo.launch.ready import read_ready
from cross_silo.protocol.client import AggregationClient
from cross_silo.protocol.retry import RetryPolicy
from cross_silo.report.summary import read_summary

ROOT = Path(cross_silo.__file__).parents[1]
WEIGHTS = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "mean": np.float32([1, 2])}
SAMPLES = (10, 30)


class Process:
    """A server process in a directory of its own."""

    def __init__(self, directory: Path, redis: str, port: int, **settings) -> None:
        self.directory, self.redis, self.address = directory, redis, f"127.0.0.1:{port}"
        self.checkpoints, self.run_dir = directory / "ckpt", directory / "run"
        self.checkpoints.mkdir()
        self.settings = {"fl_name": "job", "fl_iteration_num": 3, "lease": 60, **settings}
        self.process = None

    def write_model(self, **info) -> None:
        path = checkpoint_path(self.checkpoints, "job", 0, datetime.datetime.now())
        write_checkpoint(path, WEIGHTS, CheckpointInfo(fl_name="job", **info))

    def launch(self) -> None:
        settings = {"distributed_cache": {"address": self.redis}, **self.settings}
        (self.directory / "job.yaml").write_text(json.dumps(settings))
        command = [sys.executable, "-m", "cross_silo.aggregation.server"]
        command += ["--yaml_config", str(self.directory / "job.yaml"), "--http_server_address", self.address]
        command += ["--tcp_server_ip", "127.0.0.1"]
        command += ["--checkpoint_dir", str(self.checkpoints), "--run_dir", str(self.run_dir)]
        with open(self.directory / "server.log", "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT)

    def start(self) -> None:
        self.launch()
        deadline = time.monotonic() + 30
        while read_ready(self.run_dir / "server_0", self.process.pid) is None:
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)

    @property
    def log(self) -> str:
        return (self.directory / "server.log").read_text()

    def client(self, i: int) -> AggregationClient:
        policy = RetryPolicy(first=0.05, longest=0.2, deadline=30)
        client = AggregationClient(self.address, f"silo_{i}", f"w{i}", f"host:{i}", policy)
        client.acquire_lease(SAMPLES[i], client.job().fingerprint)
        return client

    def wait(self) -> int:
        return self.process.wait(timeout=30)

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def make(tmp_path, redis_address, store, free_port):
    made = []

    def server(**settings) -> Process:
        made.append(Process(tmp_path, settings.pop("redis", redis_address), free_port, **settings))
        return made[-1]

    yield server
    for process in made:
        process.end()


def work(client: AggregationClient, i: int, results: dict) -> None:
    """A worker that adds i + 1 to every weight, round by round, to the job's end."""
    reply = client.get_model(None)
    model = {name: view.copy() for name, view in reply.weights.items()}
    while reply.state == "running":
        ticket = client.start_round(SAMPLES[i])
        if not ticket.joined:
            if ticket.state != "running":
                break
            time.sleep(0.02)
            continue
        weights = {name: values + np.float32(i + 1) for name, values in model.items()}
        if client.push(ticket, weights, SAMPLES[i], 0.5, {}).accepted:
            reply = client.get_model(ticket.iteration, wait=20)
            if reply.verdict == "good":
                model = {name: view.copy() for name, view in reply.weights.items()}
                results.setdefault(reply.round, {})[i] = model
    client.release()


def run_workers(process: Process):
    results, threads = {}, []
    for i in range(2):
        threads.append(threading.Thread(target=work, args=(process.client(i), i, results), daemon=True))
    for thread in threads:
        thread.start()
    return results, threads


def expected(rounds: int):
    step = (10 * 1 + 30 * 2) / 40
    return {name: values.reshape(-1) + rounds * step for name, values in WEIGHTS.items()}


def assert_models(results, rounds):
    assert sorted(results) == list(range(1, rounds + 1))
    for n, models in results.items():
        for model in models.values():
            for name, values in expected(n).items():
                np.testing.assert_allclose(model[name], values, rtol=1e-6)


def test_a_whole_job(make, store):
    process = make(fl_iteration_num=5)
    process.write_model()
    process.start()
    results, threads = run_workers(process)
    assert process.wait() == 0, process.log
    for thread in threads:
        thread.join(timeout=10)
    assert_models(results, 5)
    assert [n for n, _ in list_checkpoints(process.checkpoints, "job")] == [3, 4, 5]
    job = store.job()
    assert (job["state"], job["reason"], job["good_rounds"]) == ("finished", "", "5")
    assert [(record["round"], record["good"]) for record in store.rounds()] == [(n, True) for n in range(1, 6)]
    lines = (process.run_dir / "server_0" / "metrics.json").read_text().splitlines()
    assert [json.loads(line)["round"] for line in lines] == [1, 2, 3, 4, 5]
    summary = read_summary(process.run_dir)
    assert (summary["state"], summary["good_rounds"]) == ("finished", 5)
    assert store.members("server") == {}
    assert "round 5 good: 2 silos, 40 samples, mean loss 0.5000" in process.log


def test_a_finished_job_is_finished_again(make, store):
    process = make(fl_iteration_num=2)
    process.write_model()
    process.start()
    run_workers(process)
    assert process.wait() == 0
    instance = store.job()["instance"]
    process.start()
    assert process.wait() == 0
    assert (store.job()["state"], store.job()["instance"]) == ("finished", instance)
    assert len(store.rounds()) == 2


def test_a_killed_server_goes_on(make, store):
    """kill -9 with one update in the sum: the restarted server repeats the round, workers notice nothing but time."""
    process = make(fl_iteration_num=4)
    process.write_model()
    process.start()
    clients = [process.client(i) for i in range(2)]
    model = {name: view.copy() for name, view in clients[0].get_model(None).weights.items()}
    results = {}
    for n in (1, 2):
        tickets = [client.start_round(samples) for client, samples in zip(clients, SAMPLES)]
        for i, client in enumerate(clients):
            client.push(tickets[i], {k: v + np.float32(i + 1) for k, v in model.items()}, SAMPLES[i], 0.5, {})
        model = {name: view.copy() for name, view in clients[0].get_model(n, wait=20).weights.items()}
        results[n] = {0: model}
    instance = clients[0].job().instance
    tickets = [client.start_round(samples) for client, samples in zip(clients, SAMPLES)]
    update = {k: v + np.float32(1) for k, v in model.items()}
    assert clients[0].push(tickets[0], update, SAMPLES[0], 0.5, {}).accepted
    time.sleep(1.2)  # the server tells Redis of the round's phase
    process.process.send_signal(signal.SIGKILL)
    process.process.wait()
    waiting = []
    waiter = threading.Thread(target=lambda: waiting.append(clients[0].get_model(3, wait=20)))
    waiter.start()
    process.start()
    waiter.join(timeout=20)
    assert waiting[0].verdict == "failed"
    assert clients[1].heartbeat().state == "running"
    ticket = clients[0].start_round(SAMPLES[0])
    assert (ticket.iteration, ticket.attempt, ticket.instance) == (3, 2, instance)
    clients[0].release(), clients[1].release()
    results.update(run_workers(process)[0])
    assert process.wait() == 0, process.log
    assert (process.checkpoints / list_checkpoints(process.checkpoints, "job")[-1][1]).exists()
    tensors, info = read_checkpoint(list_checkpoints(process.checkpoints, "job")[-1][1])
    assert (info.round, info.instance) == (4, instance)
    for name, values in expected(4).items():
        np.testing.assert_allclose(tensors[name].reshape(-1), values, rtol=1e-6)
    failed = [record["reason"] for record in store.rounds() if not record["good"]]
    assert failed[0] == "round 3 attempt 1 failed: the server was restarted"
    assert [record["round"] for record in store.rounds() if record["good"]] == [1, 2, 3, 4]


def test_too_many_failed_rounds_end_the_job(make, store):
    window = {"start_fl_job_time_window": 300, "max_consecutive_failures": 2}
    process = make(round={"start_fl_job_threshold": 2, **window})
    process.write_model()
    process.start()
    client = process.client(0)
    deadline = time.monotonic() + 20
    while client.start_round(10).state == "running" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert client.job().reason.startswith("2 failed rounds in a row; the last: round 1 attempt 2 failed: startFLJob")
    client.release()
    assert process.wait() == 1
    assert "1 missing silo did not join" in store.job()["reason"]
    assert store.job()["state"] == "failed"
    assert [n for n, _ in list_checkpoints(process.checkpoints, "job")] == [0]


def test_redis_may_die_and_come_back_empty(make, own_user_dir):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    embedded = EmbeddedRedis("127.0.0.1", port)
    embedded.ensure("tests")
    process = make(redis=f"127.0.0.1:{port}", fl_iteration_num=1000)
    try:
        process.write_model()
        process.start()
        results, threads = run_workers(process)

        def wait_for(condition):
            deadline = time.monotonic() + 30
            while not condition():
                assert time.monotonic() < deadline, process.log
                time.sleep(0.02)

        wait_for(lambda: len(results) >= 3)
        os.kill(embedded.pid(), signal.SIGKILL)
        wait_for(lambda: "Redis does not answer" in process.log)
        lost_at = len(results)
        wait_for(lambda: len(results) >= lost_at + 3)
        embedded.ensure("tests")
        wait_for(lambda: "Redis lost the job's record: writing it again" in process.log)
        store = JobStore(connect(f"127.0.0.1:{port}", start_embedded=False), "job")
        wait_for(lambda: len(store.rounds()) > lost_at + 3)
        store.request("stop")
        assert process.wait() == 0, process.log
        for thread in threads:
            thread.join(timeout=10)
        assert_models(results, len(results))
        rounds = [(record["round"], record["good"], record["reason"]) for record in store.rounds()]
        assert [n for n, good, _ in rounds if good] == list(range(1, len(results) + 1)), rounds[-3:]
        assert store.job()["state"] == "stopped"
        assert process.log.count("Redis does not answer") == 1
    finally:
        process.end()
        embedded.leave()


def test_requests_of_the_operator(make, store):
    process = make(fl_iteration_num=100_000, silos=2)
    process.write_model()
    process.start()
    client = process.client(0)
    instance = client.job().instance

    def wait_for(condition):
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline, process.log
            time.sleep(0.05)

    store.request("disable")
    wait_for(lambda: client.job().state == "disabled")
    wait_for(lambda: store.job()["state"] == "disabled")
    store.request("enable")
    wait_for(lambda: client.job().state == "running")
    client.release()
    results, _ = run_workers(process)
    wait_for(lambda: len(results) >= 2)
    store.request("new_instance", {"fl_iteration_num": 90_000})
    wait_for(lambda: store.job() and store.job()["instance"] != instance)
    wait_for(lambda: client.job().fl_iteration_num == 90_000)
    assert (process.checkpoints / f"instance_{instance}").is_dir()
    store.request("new_instance", {"start_fl_job_threshold": 7})
    wait_for(lambda: "no new instance: round.start_fl_job_threshold is 7" in process.log)
    store.request("stop", {"reason": "enough"})
    assert process.wait() == 0
    assert (store.job()["state"], store.job()["reason"]) == ("stopped", "enough")


def test_sigterm_leaves_the_job_as_it_is(make, store):
    process = make()
    process.write_model()
    process.start()
    client = process.client(0)
    client.start_round(10)
    waiting = threading.Thread(target=lambda: client.get_model(1, wait=60), daemon=True)
    waiting.start()
    time.sleep(0.3)
    began = time.monotonic()
    process.process.send_signal(signal.SIGTERM)
    assert process.wait() == 0
    assert time.monotonic() - began < 4  # whoever waits for a model does not hold it up
    assert store.job()["state"] == "running"
    assert store.members("server") == {}


def test_no_model_names_the_command(make):
    process = make()
    process.launch()
    assert process.wait() == 2
    (line,) = [line for line in process.log.splitlines() if line.startswith("error: ")]
    assert "python tools/init_model.py --config MODEL.yaml --checkpoint_dir" in line
    assert "Traceback" not in process.log


def test_a_second_server_is_refused(make, tmp_path):
    process = make()
    process.write_model()
    process.start()
    first = process.process
    process.launch()
    try:
        assert process.wait() == 2
        assert f"error: job 'job' has a live server at {process.address}" in process.log
    finally:
        first.kill()
        first.wait()
