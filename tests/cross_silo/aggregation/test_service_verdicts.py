"""When and how a round's end is heard: after its checkpoint, at once where it failed, later too."""

import errno
import threading
import time

import numpy as np
import pytest

from cross_silo.checkpoint import list_checkpoints
from tests.support.served_rounds import SAMPLES, start, updates, weighted_mean


@pytest.fixture
def slow_disk(served):
    """Both updates are in and both clients ask for the model while the disk takes its time; yields their replies."""
    served.disk.clear()
    clients = [served.client(0), served.client(1)]
    pushed = updates(served.models.tensors, 4)
    for client, ticket, weights, samples in zip(clients, start(clients), pushed, SAMPLES):
        assert client.push(ticket, weights, samples, 0.5, {}).accepted
    replies = []
    asking = [threading.Thread(target=lambda c=client: replies.append(c.get_model(1, wait=20))) for client in clients]
    for thread in asking:
        thread.start()
    time.sleep(0.3)
    assert replies == []
    yield pushed, replies, asking
    served.disk.set()


def test_no_model_is_complete_before_its_checkpoint(served, slow_disk, tmp_path):
    pushed, replies, asking = slow_disk
    assert served.client(0).get_model(None).round == 0
    assert served.client(0).get_model(1).verdict == "pending"
    assert list_checkpoints(tmp_path, "job") == []
    served.disk.set()
    for thread in asking:
        thread.join(timeout=10)
    assert [(reply.verdict, reply.round, reply.state) for reply in replies] == [("good", 1, "running")] * 2
    for name, values in weighted_mean(pushed).items():
        np.testing.assert_allclose(replies[0].weights[name], values, rtol=1e-6, atol=1e-6)


def test_a_model_whose_checkpoint_fails_is_withdrawn(served, slow_disk):
    _, replies, asking = slow_disk
    served.disk_error = OSError(errno.EROFS, "Read-only file system")
    served.disk.set()
    for thread in asking:
        thread.join(timeout=10)
    reason = "round 1 attempt 1 failed: its checkpoint cannot be written: Read-only file system"
    assert [(reply.verdict, reply.reason, reply.weights) for reply in replies] == [("failed", reason, None)] * 2
    assert served.client(0).get_model(None).round == 0


def test_a_waiter_hears_at_once_that_its_round_failed(served):
    clients = [served.client(0), served.client(1)]
    tickets = start(clients)
    replies = []
    waiting = threading.Thread(target=lambda: replies.append(clients[0].get_model(1, wait=30)))
    waiting.start()
    clients[1].report(tickets[1].iteration, "non-finite loss", "rpn_cls: nan")
    waiting.join(timeout=5)
    (reply,) = replies
    assert reply.verdict == "failed"
    assert reply.reason == "round 1 attempt 1 failed: silo_1 (host:1): non-finite loss: rpn_cls: nan"


def test_a_report_of_an_attempt_that_is_over_does_not_hurt_the_next(served):
    clients = [served.client(0), served.client(1)]
    start(clients)
    for _ in range(2):
        clients[1].report(1, "non-finite loss", "")
    assert served.rounds.key == (1, 2)


def test_a_failed_verdict_is_heard_later_too(served):
    clients = [served.client(0), served.client(1)]
    start(clients)
    clients[1].report(1, "non-finite loss", "")
    assert clients[0].get_model(1).verdict == "failed"
    assert clients[0].start_round(10).attempt == 2
    assert clients[0].get_model(1).verdict == "pending"


def test_a_wait_that_is_over_is_pending(served):
    client = served.client(0)
    client.start_round(10)
    began = time.monotonic()
    reply = client.get_model(1, wait=0.3)
    assert 0.3 <= time.monotonic() - began < 5
    assert (reply.verdict, reply.weights) == ("pending", None)


def test_a_worker_that_is_in_no_round_need_not_wait(served):
    """After a restart of the server nobody is in the round that everybody waits for."""
    reply = served.client(0).get_model(1, wait=30)
    assert (reply.verdict, reply.reason) == ("failed", "this worker is not in round 1 attempt 1")
    reply = served.client(0).get_model(2, wait=30)
    assert (reply.verdict, reply.reason) == ("failed", "round 2 has not begun: the server makes round 1")


def test_leaving_fails_the_round(served):
    clients = [served.client(0), served.client(1)]
    start(clients)
    clients[1].release()
    assert clients[0].get_model(1).reason == ("round 1 attempt 1 failed: silo_1 (host:1): left before it pushed")


def test_a_lease_that_runs_out_fails_the_round(serve):
    served = serve(lease=1.0)
    clients = [served.client(0), served.client(1)]
    start(clients)
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline:
        clients[0].heartbeat()
        served.aggregator.tick()
        time.sleep(0.05)
    assert clients[0].get_model(1).reason == "round 1 attempt 1 failed: silo_1 (host:1): no heartbeat for 1 s (lease)"
