"""The store of features: in order, checked, and the same after any interruption."""

from __future__ import annotations

import json

import pytest

from cross_silo.errors import UserError
from cross_silo.mistnet.store import DeliveryError, FeatureStore, OffsetError
from tests.support.fake_features import TERMS, write_features

CHUNK = 20_000


@pytest.fixture
def source(tmp_path):
    return tmp_path / "source"


def store_at(tmp_path):
    return FeatureStore(tmp_path / "store", TERMS)


def chunks(source, entry, start=0):
    content = (source / entry["name"]).read_bytes()
    for offset in range(start, len(content), CHUNK):
        yield offset, memoryview(content[offset : offset + CHUNK])


def deliver(store, source, manifest, silo="silo_0"):
    for entry in manifest["files"]:
        for offset, data in chunks(source, entry, store.offer(silo, manifest)[entry["name"]]):
            store.write(silo, entry["name"], offset, data)


def test_what_was_sent_is_there_and_whole_only_at_the_end(tmp_path, source):
    manifest, store = write_features(source), store_at(tmp_path)
    assert store.offer("silo_0", manifest) == {"features_0.mindrecord": 0, "features_1.mindrecord": 0}
    deliver(store, source, {**manifest, "files": manifest["files"]})
    directory = store.directory("silo_0")
    for entry in manifest["files"]:
        assert (directory / entry["name"]).read_bytes() == (source / entry["name"]).read_bytes()
    assert json.loads((directory / "manifest.json").read_text()) == manifest
    assert list(store.whole()) == ["silo_0"]
    assert store.received() == {"silo_0": 120_001}


def test_another_process_goes_on_at_any_byte(tmp_path, source):
    manifest, store = write_features(source), store_at(tmp_path)
    store.offer("silo_0", manifest)
    first = manifest["files"][0]
    for offset, data in chunks(source, first):
        store.write("silo_0", first["name"], offset, data)
        assert not store.is_whole("silo_0")
        store = store_at(tmp_path)
        assert store.offer("silo_0", manifest)[first["name"]] == offset + len(data)
    deliver(store, source, manifest)
    assert store.is_whole("silo_0")


def test_a_chunk_that_was_half_written_is_gone_on_with(tmp_path, source):
    manifest, store = write_features(source), store_at(tmp_path)
    store.offer("silo_0", manifest)
    first = manifest["files"][0]
    content = (source / first["name"]).read_bytes()
    store.part("silo_0", first["name"]).write_bytes(content[:1234])  # as a kill in the middle of a write leaves it
    store = store_at(tmp_path)
    with pytest.raises(OffsetError) as refused:
        store.write("silo_0", first["name"], 20_000, memoryview(content[20_000:40_000]))
    assert refused.value.have == 1234
    deliver(store, source, manifest)
    assert store.is_whole("silo_0")


@pytest.mark.parametrize("named", [0, 1, 2])
def test_killed_between_the_last_byte_and_the_manifest(tmp_path, source, named):
    manifest, store = write_features(source), store_at(tmp_path)
    store.offer("silo_0", manifest)
    for number, entry in enumerate(manifest["files"]):
        target = store.part("silo_0", entry["name"])
        target = target.with_name(entry["name"]) if number < named else target
        target.write_bytes((source / entry["name"]).read_bytes())
    assert store_at(tmp_path).is_whole("silo_0")


def test_a_chunk_sent_twice_changes_nothing(tmp_path, source):
    manifest, store = write_features(source), store_at(tmp_path)
    store.offer("silo_0", manifest)
    first = manifest["files"][0]
    offset, data = next(chunks(source, first))
    assert store.write("silo_0", first["name"], offset, data) == CHUNK
    assert store.write("silo_0", first["name"], offset, data) == CHUNK
    with pytest.raises(OffsetError) as refused:  # overlaps what is there
        store.write("silo_0", first["name"], 10_000, memoryview(bytes(20_000)))
    assert refused.value.have == CHUNK


def test_a_file_of_other_content_is_begun_anew(tmp_path, source):
    manifest, store = write_features(source, sizes=(1000,)), store_at(tmp_path)
    store.offer("silo_0", manifest)
    with pytest.raises(OffsetError) as refused:
        store.write("silo_0", "features_0.mindrecord", 0, memoryview(bytes(1000)))
    assert refused.value.have == 0
    assert not store.is_whole("silo_0")
    deliver(store, source, manifest)
    assert store.is_whole("silo_0")


def test_bytes_that_nobody_offered(tmp_path, source):
    manifest, store = write_features(source), store_at(tmp_path)
    with pytest.raises(DeliveryError, match="offered no features"):
        store.write("silo_0", "features_0.mindrecord", 0, memoryview(b"x"))
    store.offer("silo_0", manifest)
    for name, offset, data in (
        ("other", 0, b"x"),
        ("features_0.mindrecord", 50_000, b"x"),
        ("features_0.mindrecord", 0, b""),
    ):
        with pytest.raises(DeliveryError) as refused:
            store.write("silo_0", name, offset, memoryview(data))
        assert refused.value.status == 400


def test_other_features_replace_unfinished_ones_but_not_whole_ones(tmp_path, source):
    store, first = store_at(tmp_path), write_features(source)
    store.offer("silo_0", first)
    store.write("silo_0", "features_0.mindrecord", *next(chunks(source, first["files"][0])))
    second = write_features(source, seed=2)
    assert set(store.offer("silo_0", second).values()) == {0}
    deliver(store, source, second)
    assert set(store.offer("silo_0", second).values()) == {50_000, 70_001}
    with pytest.raises(DeliveryError, match="drawn once"):
        store.offer("silo_0", first)
    with pytest.raises(DeliveryError) as refused:
        store.offer("silo_1", {**first, "cut": 3})
    assert refused.value.status == 412


def test_no_room(tmp_path, source):
    manifest, store = write_features(source), store_at(tmp_path)
    manifest["files"][0]["bytes"] = 2**52
    with pytest.raises(DeliveryError) as refused:
        store.offer("silo_0", manifest)
    assert refused.value.status == 507
    assert store.received() == {}


def test_features_on_other_terms_are_not_taken_over(tmp_path, source):
    store_at(tmp_path).offer("silo_0", write_features(source))
    with pytest.raises(UserError, match="holds features for another job"):
        FeatureStore(tmp_path / "store", {**TERMS, "extractor": "f" * 64})
