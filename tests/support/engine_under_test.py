"""An engine's servers as real processes, asked by a worker's client or by the engine's bare messages."""

from __future__ import annotations

import http.client
import os
import secrets
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Union

import numpy as np

from cross_silo.checkpoint import list_checkpoints, newest_checkpoint
from cross_silo.config.federated import load_federated
from cross_silo.engines import ServerPlan, find_engine
from cross_silo.launch.role import Role
from cross_silo.protocol.client import AggregationClient
from cross_silo.protocol.messages import Message, decode, encode
from cross_silo.protocol.retry import RetryPolicy
from cross_silo.protocol.schema import NEWEST, SAFEMODE
from tests.support.federation import ROOT, Federation
from tests.support.numpy_trainer import SHAPES
from tests.support.wheel_federation import neighbouring_ports

SIZES = {name: int(np.prod(shape)) for name, shape in SHAPES.items()}
SAMPLES = (10, 30)
Weights = Mapping[str, np.ndarray]


class EngineUnderTest(Federation):
    """A job of two silos served by ``engine``."""

    def __init__(self, engine: str, directory: Path, redis: str, port: int, rounds: int = 100, **settings: Any) -> None:
        super().__init__(directory, redis, port, rounds, engine=engine, **{"lease": 600.0, **settings})
        self.engine = engine
        config = load_federated(self.yaml)
        package = find_engine(config, str(self.yaml))
        plan = ServerPlan(str(self.yaml), self.address, "127.0.0.1", self.checkpoints, self.run_dir)
        self.roles: Dict[str, Role] = {role.name: role for role in package.server_roles(plan, config)}
        self._client = getattr(package, "client_class", AggregationClient)
        self.running: Dict[str, subprocess.Popen] = {}
        try:
            for name in self.roles:
                self.start_role(name)
        except BaseException:
            self.close()
            raise

    @property
    def wire(self) -> str:
        """Address of the server that takes the engine's messages."""
        return self.roles["server_0"].address

    def start_role(self, name: str) -> None:
        """Start one of the engine's processes and wait until it serves."""
        role = self.roles[name]
        ready = self.run_dir / name / "ready.json"
        ready.unlink(missing_ok=True)
        ready.parent.mkdir(parents=True, exist_ok=True)
        with open(self.directory / f"{name}.log", "ab") as output:
            process = subprocess.Popen(
                list(role.command),
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": "1", **role.environment},
            )
        self.processes.append(process)
        self.running[name] = process
        self.wait(lambda: ready.exists() or process.poll() is not None, f"{name} to serve")
        assert process.poll() is None, self.log(f"{name}.log")

    def kill(self, name: str) -> None:
        """Kill one of them as a crash would."""
        self.running[name].send_signal(signal.SIGKILL)
        self.running[name].wait()

    def client(self, index: int) -> AggregationClient:
        """A worker's client with its silo's lease."""
        policy = RetryPolicy(first=0.05, longest=0.2, deadline=30)
        client = self._client(self.address, f"silo_{index}", secrets.token_hex(4), f"host:{index}", policy)
        client.acquire_lease(SAMPLES[index], client.job().fingerprint)
        return client

    @property
    def good_rounds(self) -> int:
        """The newest checkpoint's round."""
        return max(round for round, _ in list_checkpoints(self.checkpoints, self.name))

    def newest(self) -> Optional[Path]:
        """The newest checkpoint."""
        return newest_checkpoint(self.checkpoints, self.name)


class Wire:
    """Asks as the engine's own client does: its messages, no header of ours, a new connection each."""

    def __init__(self, address: str) -> None:
        self._address = address

    def ask(self, path: str, table: str, values: Mapping[str, Any]) -> Union[str, Message]:
        """Return the message, or the text, that ``values`` of ``table`` are answered with."""
        return self.send(path, encode(table, values), table.replace("Request", "Response"))

    def send(self, path: str, body: bytes, table: str) -> Union[str, Message]:
        """Return what ``body`` is answered with; while the server is between rounds, ask again."""
        for _ in range(300):
            connection = http.client.HTTPConnection(self._address, timeout=60)
            connection.request("POST", path, body)
            response = connection.getresponse()
            content = response.read()
            connection.close()
            assert response.status == 200, content
            if int.from_bytes(content[:4], "little") < len(content):  # a message begins with where its root is
                return decode(content, table)
            if content.decode() != SAFEMODE:
                return content.decode()
            time.sleep(0.05)
        raise AssertionError("in safemode for ever")

    def join(self, silo: str, samples: int) -> Union[str, Message]:
        """StartFLJob."""
        values = {"fl_name": "any", "fl_id": silo, "data_size": samples, "timestamp": "1"}
        return self.ask("/startFLJob", "RequestFLJob", values)

    def push(
        self,
        silo: str,
        iteration: int,
        weights: Weights,
        samples: int,
        names: Optional[Sequence[str]] = None,
        **more: Any,
    ) -> Union[str, Message]:
        """UpdateModel with ``weights`` times ``samples``; ``names`` chooses among them."""
        features = [
            {"weight_fullname": name, "data": weights[name].reshape(-1) * np.float32(samples)}
            for name in names or weights
        ]
        values = {"fl_id": silo, "iteration": iteration, "feature_map": features, "timestamp": "1", **more}
        return self.ask("/updateModel", "RequestUpdateModel", values)

    def model(self, iteration: int = NEWEST) -> Union[str, Message]:
        """GetModel, once."""
        return self.ask("/getModel", "RequestGetModel", {"iteration": iteration, "timestamp": "1"})

    def await_model(self, iteration: int) -> Dict[str, np.ndarray]:
        """GetModel until it is there, as its client polls."""
        for _ in range(1200):
            answer = self.model(iteration)
            if answer["retcode"] == 200:
                return tensors_of(answer)
            assert answer["retcode"] == 201, answer
            time.sleep(0.05)
        raise AssertionError(f"no model of iteration {iteration}")


def free_ports() -> int:
    """A TCP port of 127.0.0.1 that nothing listens at, nor at the next one: an engine may have a front."""
    return neighbouring_ports(2)


def tensors_of(answer: Message) -> Dict[str, np.ndarray]:
    """The tensors in a reply to getModel."""
    return {feature["weight_fullname"]: feature["data"].copy() for feature in answer["feature_map"]}


def together(*calls: Any) -> List[Any]:
    """Return what ``calls`` give, made at once: with one of the engines a silo's call waits for the others'."""
    results: List[Any] = [None] * len(calls)

    def run(index: int) -> None:
        results[index] = calls[index]()

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return results


def join_all(clients: Sequence[AggregationClient]) -> List[Any]:
    """Every silo joins the round in progress; its tickets."""
    deadline = time.monotonic() + 60
    while True:
        tickets = together(*(lambda c=c, n=n: c.start_round(n, wait=20) for c, n in zip(clients, SAMPLES)))
        if all(ticket.joined for ticket in tickets) and len({(t.iteration, t.attempt) for t in tickets}) == 1:
            return tickets
        assert time.monotonic() < deadline, tickets
        time.sleep(0.1)


def make_round(clients: Sequence[AggregationClient], pushed: Sequence[Weights]) -> Any:
    """Make a good round as workers do, repeating it with the same updates where it fails; its ticket."""
    deadline = time.monotonic() + 90
    while True:
        tickets = join_all(clients)
        calls = [
            lambda c=c, t=t, w=w, n=n: c.push(t, w, n, 0.5, {"steps": 1})
            for c, t, w, n in zip(clients, tickets, pushed, SAMPLES)
        ]
        together(*calls)  # one that is in already may be refused: the round is over by then
        replies = together(*(lambda c=c, t=t: c.get_model(t.iteration, wait=30) for c, t in zip(clients, tickets)))
        if all(reply.verdict == "good" for reply in replies):
            for reply in replies:
                assert reply.round == tickets[0].iteration
                assert_mean(reply.weights, pushed)
            return tickets[0]
        assert time.monotonic() < deadline, "no good round"


def random_weights(seed: int) -> Dict[str, np.ndarray]:
    """Weights of the model's shapes."""
    random = np.random.default_rng(seed)
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}


def assert_mean(model: Weights, pushed: Sequence[Weights]) -> None:
    """``model`` is the mean of ``pushed``, weighted by samples."""
    assert set(model) == set(SHAPES)
    for name in SHAPES:
        mean = np.average([weights[name].astype(np.float64) for weights in pushed], axis=0, weights=SAMPLES)
        np.testing.assert_allclose(np.reshape(model[name], mean.shape), mean, rtol=1e-5, atol=1e-6)
