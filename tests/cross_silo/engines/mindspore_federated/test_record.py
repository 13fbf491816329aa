"""Verdicts in Redis, and the engine's own keys."""

import socket

import pytest

from cross_silo.coordination import connect
from cross_silo.engines.mindspore_federated.record import EngineRecord, Verdict, refuses

GOOD = Verdict(3, True, "", 2, "/ckpt/job_recovery_iteration_2_x.ckpt", 0.25)
FAILED = Verdict(4, False, "Round updateModel timeout!", 2)


@pytest.fixture
def client(redis_address):
    client = connect(redis_address, start_embedded=False, user=None)
    client.flushall()
    return client


def test_verdicts_come_once_in_order(client):
    record = EngineRecord(client, "job")
    assert record.verdicts("0", 0.01) == []
    record.add_verdict(GOOD)
    record.add_verdict(FAILED)
    (first, good), (second, failed) = record.verdicts("0", 0.01)
    assert (good, failed) == (GOOD, FAILED)
    assert [verdict for _, verdict in record.verdicts(first, 0.01)] == [FAILED]
    assert record.verdicts(second, 0.01) == []
    assert EngineRecord(client, "other").verdicts("0", 0.01) == []
    record.forget_verdicts()
    assert record.verdicts("0", 0.01) == []


def test_only_this_jobs_engine_is_flushed(client):
    record = EngineRecord(client, "job")
    record.add_verdict(GOOD)
    client.mset({"ms_fl:job:ModelInfo:String": "{}", "ms_fl:job2:ModelInfo:String": "{}"})
    record.flush_engine()
    assert client.get("ms_fl:job:ModelInfo:String") is None
    assert client.get("ms_fl:job2:ModelInfo:String") == "{}"
    assert len(record.verdicts("0", 0.01)) == 1


def test_the_engine_is_told_to_leave(client):
    record = EngineRecord(client, "job")
    record.stop_engine()  # there is none
    assert client.keys("ms_fl:*") == []
    client.set("ms_fl:job:InstanceName:String", "i_1")
    record.stop_engine()
    assert client.hgetall("ms_fl:job:i_1:status:Hash") == {"runningState": "3"}


def test_dead_servers_are_forgotten_and_live_ones_are_not(client, free_port):
    with socket.create_server(("127.0.0.1", 0)) as live:
        address = f"127.0.0.1:{live.getsockname()[1]}"
        assert not refuses(address) and refuses(f"127.0.0.1:{free_port}")
        client.set("ms_fl:job:InstanceName:String", "i_1")
        servers = "ms_fl:job:i_1:server:Hash"
        client.hset(servers, mapping={"dead": f"127.0.0.1:{free_port}", "live": address})
        beats = [f"ms_fl:job:i_1:server:heartbeat:{node}:String" for node in ("dead", "live")]
        client.mset(dict.fromkeys(beats, "1"))
        assert EngineRecord(client, "job").bury_dead_servers() == ["dead"]
        assert client.hkeys(servers) == ["live"] and client.exists(*beats) == 1
        assert EngineRecord(client, "job").drop_lost_iteration() is None and client.exists(servers)


def test_an_iteration_without_any_server_is_lost(client):
    record = EngineRecord(client, "job")
    assert record.drop_lost_iteration() is None
    client.set("ms_fl:job:InstanceName:String", "i_1")
    client.hset("ms_fl:job:i_1:status:Hash", "iterationNum", 7)
    assert record.drop_lost_iteration() == 7
    assert client.keys("ms_fl:*") == [] and record.drop_lost_iteration() is None
