"""The process of a server beside the first one: how long it waits for that one."""

from __future__ import annotations

import signal
import threading

import pytest

from cross_silo.aggregation import shard_server
from cross_silo.protocol.connection import TransportError, exchange


@pytest.fixture
def run(tmp_path, monkeypatch, free_port):
    """Run the process's main in this one; signals stay those of the tests."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(shard_server.logs, "start", lambda name: None)
    monkeypatch.setattr(shard_server, "LEAST_PATIENCE", 0.5)
    monkeypatch.setattr(shard_server, "POLL_SECONDS", 0.05)

    def main(window):
        yaml = tmp_path / "job.yaml"
        yaml.write_text(f"fl_name: job\nsilos: 2\nround: {{start_fl_job_time_window: {window}}}\n")
        address = f"127.0.0.1:{free_port}"
        arguments = ["--yaml_config", str(yaml), "--index", "1", "--http_server_address", address]
        arguments += ["--first_server_address", "127.0.0.1:1", "--run_dir", str(tmp_path)]
        return shard_server.main(arguments)

    return main


def test_a_first_server_that_never_comes_is_not_waited_for_without_end(run, caplog):
    assert run(500) == 1
    assert (
        "the first server, at 127.0.0.1:1, asked for nothing for 0.5 s (round.start_fl_job_time_window" in caplog.text
    )


def test_one_that_asks_is_waited_for_to_the_jobs_end(run, free_port):
    statuses = []
    process = threading.Thread(target=lambda: statuses.append(run(1500)), daemon=True)
    process.start()

    def ask(step, body=b'{"term": ""}'):
        return exchange("127.0.0.1", free_port, f"/shard/{step}", body, {}, 10).status

    for _ in range(40):
        threading.Event().wait(0.1)
        try:
            assert ask("ping") == 200
        except TransportError as error:  # not there yet
            assert "refused" in str(error)
    assert process.is_alive()
    assert ask("end") == 200
    process.join(timeout=20)
    assert statuses == [0]
