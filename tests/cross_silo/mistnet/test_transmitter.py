"""Features from a silo's directory to the server's store, over HTTP and by way of an object storage."""

from __future__ import annotations

import socket
import threading

import pytest

from cross_silo.errors import UserError
from cross_silo.mistnet import wire
from cross_silo.mistnet.client import FeatureClient
from cross_silo.mistnet.objects import ObjectPlace
from cross_silo.mistnet.transmitter import HttpTransmitter, ObjectTransmitter
from cross_silo.protocol.client import LeaseLost
from tests.support.fake_features import TERMS, write_features
from tests.support.served_features import ServedFeatures


@pytest.fixture
def source(tmp_path):
    return tmp_path / "features"


@pytest.fixture
def served(store, tmp_path):
    job = ServedFeatures(store, tmp_path)
    yield job
    job.close()


def same(served, source, manifest, silo="silo_0"):
    directory = served.store.directory(silo)
    return all((directory / e["name"]).read_bytes() == (source / e["name"]).read_bytes() for e in manifest["files"])


def test_terms_and_extractor(served):
    client = served.client(leased=False)
    assert client.terms() == {**TERMS, "p": 1.0}
    assert client.extractor() == b"the extractor" * 9000
    served.service.stop()  # what was sent is counted when the request is over
    assert served.routes.bytes_down == len(b"the extractor") * 9000


def test_everything_arrives(served, source):
    manifest, sent = write_features(source), []
    transmitter = HttpTransmitter(served.client(), chunk_bytes=30_000)
    transmitter.deliver(source, manifest, sent.append)
    assert served.store.is_whole("silo_0") and same(served, source, manifest)
    assert sum(sent) == 120_001 and max(sent) == 30_000
    transmitter.deliver(source, manifest, sent.append)  # nothing is sent twice
    assert sum(sent) == 120_001


def test_an_interrupted_upload_goes_on(served, source):
    manifest, sent = write_features(source), []

    def leave(size):
        sent.append(size)
        if len(sent) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        HttpTransmitter(served.client(), 10_000).deliver(source, manifest, leave)
    HttpTransmitter(served.client(), 10_000).deliver(source, manifest, sent.append)
    assert sum(sent) == 120_001 and same(served, source, manifest)


def test_a_chunk_damaged_on_its_way_is_sent_again(served, source, monkeypatch):
    manifest = write_features(source)
    exchange, damaged = FeatureClient._exchange, []

    def damaging(client, path, body, *arguments, **options):
        if path == wire.CHUNK and len(damaged) < 3:
            damaged.append(path)
            body = bytes([body[0] ^ 1]) + body[1:]
        return exchange(client, path, body, *arguments, **options)

    monkeypatch.setattr(FeatureClient, "_exchange", damaging)
    HttpTransmitter(served.client()).deliver(source, manifest, lambda size: None)
    assert len(damaged) == 3 and same(served, source, manifest)


def test_a_file_that_is_not_that_of_the_manifest(served, source):
    manifest = write_features(source, sizes=(1000,))
    (source / "features_0.mindrecord").write_bytes(bytes(1000))
    with pytest.raises(UserError, match="found it damaged"):
        HttpTransmitter(served.client()).deliver(source, manifest, lambda size: None)
    (source / "features_0.mindrecord").write_bytes(bytes(10))
    with pytest.raises(UserError, match="expected 1000"):
        HttpTransmitter(served.client()).deliver(source, manifest, lambda size: None)


def test_who_may_send(served, source):
    manifest = write_features(source)
    with pytest.raises(LeaseLost, match="not leased"):
        served.client(leased=False).offer(manifest)
    client = served.client()
    client.offer(manifest)
    other = served.client("silo_1")
    with pytest.raises(UserError, match="offered no features"):
        other.chunk("features_0.mindrecord", 0, b"x")
    served.leases.release("silo_0", "worker of silo_0")
    with pytest.raises(LeaseLost):
        client.chunk("features_0.mindrecord", 0, b"x")
    with pytest.raises(UserError, match="cut is 3, the job's is 4"):
        other.offer({**manifest, "cut": 3})


def test_bounds_of_a_chunk(served, source):
    client = served.client()
    client.offer(write_features(source))
    with pytest.raises(UserError, match="expected 1 to"):
        client.chunk("features_0.mindrecord", 0, bytes(wire.CHUNK_BYTES + 1))
    with pytest.raises(UserError, match="of 50000"):
        client.chunk("features_0.mindrecord", 49_999, b"xx")


def test_one_upload_in_flight_for_each_silo(served, source):
    manifest = write_features(source)
    client = served.client()
    client.offer(manifest)
    host, port = served.service.address.split(":")
    told = {"Cross-Silo-Worker": "worker of silo_0", wire.SILO: "silo_0", wire.FILE: "features_0.mindrecord"}
    told.update({wire.OFFSET: "0", wire.SHA256: "0" * 64, "Content-Length": "1000"})
    head = "".join(f"{name}: {value}\r\n" for name, value in told.items())
    with socket.create_connection((host, int(port)), timeout=10) as slow:
        slow.sendall(f"POST {wire.CHUNK} HTTP/1.1\r\nHost: x\r\n{head}\r\n".encode() + bytes(500))
        data = (source / "features_0.mindrecord").read_bytes()[:1000]
        timer = threading.Timer(0.5, slow.shutdown, (socket.SHUT_RDWR,))
        timer.start()
        assert client.chunk("features_0.mindrecord", 0, data) == 1000  # once the other one is gone
        timer.join()
    served.client("silo_1").offer(manifest)  # another silo is not held up


def test_features_that_come_too_late(served, source):
    manifest = write_features(source)
    clock = [0.0]
    served.collection._clock, served.collection._began, served.collection._least = (lambda: clock[0]), 0.0, 1
    HttpTransmitter(served.client("silo_1")).deliver(source, manifest, lambda size: None)
    client = served.client()
    client.offer(manifest)
    clock[0] = 4000.0
    served.collection.tick()
    with pytest.raises(UserError, match="come too late"):
        client.chunk("features_0.mindrecord", 0, b"x")
    assert served.client("silo_1").offer(manifest).whole  # who has delivered hears it again


@pytest.fixture
def by_files(store, tmp_path):
    def place(silo):
        return ObjectPlace(f"file://{tmp_path}/objects", "job", silo)

    job = ServedFeatures(store, tmp_path, fetch=lambda silo, sha256, target: place(silo).fetch(sha256, target))
    job.place = place
    yield job
    job.close()


def test_by_way_of_an_object_storage(by_files, source, tmp_path):
    manifest, sent = write_features(source), []
    place = by_files.place("silo_0")
    ObjectTransmitter(by_files.client(), place, sleep=lambda s: threading.Event().wait(0.02)).deliver(
        source, manifest, sent.append
    )
    assert by_files.store.is_whole("silo_0") and same(by_files, source, manifest)
    assert sum(sent) == 120_001
    stored = sorted(path.name for path in (tmp_path / "objects" / "job" / "silo_0").iterdir())
    assert stored == sorted(f"shard-{entry['sha256']}" for entry in manifest["files"])
    assert place.remove() == 2
    assert not list((tmp_path / "objects" / "job" / "silo_0").iterdir())


def test_an_object_that_was_damaged_is_put_again(by_files, source, tmp_path):
    manifest = write_features(source, sizes=(3000,))
    place = by_files.place("silo_0")
    stored = tmp_path / "objects" / "job" / "silo_0" / f"shard-{manifest['files'][0]['sha256']}"
    stored.parent.mkdir(parents=True)
    stored.write_bytes(bytes(3000))
    ObjectTransmitter(by_files.client(), place, sleep=lambda s: threading.Event().wait(0.02)).deliver(
        source, manifest, lambda size: None
    )
    assert same(by_files, source, manifest)


def test_placed_is_refused_where_features_go_over_http(served, source):
    with pytest.raises(UserError, match="channel is http"):
        served.client().placed(write_features(source))
