"""Small JSON files are never seen half-written, and a damaged one is as good as none."""

import os
import threading

from cross_silo.launch.ready import read_ready, write_ready
from cross_silo.launch.record import read_json, write_json


def test_a_reader_sees_one_whole_version_or_another(tmp_path):
    path = tmp_path / "process.json"
    versions = [{"pid": number, "text": "x" * 50_000} for number in range(2)]
    write_json(path, versions[0])
    stop = threading.Event()

    def write():
        while not stop.is_set():
            for version in versions:
                write_json(path, version)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert all(read_json(path) in versions for _ in range(200))
    finally:
        stop.set()
        writer.join()
    assert [file.name for file in tmp_path.iterdir()] == ["process.json"]


def test_what_is_no_mapping_is_none(tmp_path):
    assert read_json(tmp_path / "gone.json") is None
    for text in ("", "{", "[1]"):
        (tmp_path / "bad.json").write_text(text)
        assert read_json(tmp_path / "bad.json") is None


def test_ready_is_of_one_process(tmp_path):
    write_ready(tmp_path / "server_0", "127.0.0.1:1")
    assert read_ready(tmp_path / "server_0", os.getpid())["address"] == "127.0.0.1:1"
    assert read_ready(tmp_path / "server_0", os.getpid() + 1) is None
