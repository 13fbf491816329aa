"""scripts/preflight.py as a command."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "preflight.py"


@pytest.fixture
def check(tmp_path, free_port):
    (tmp_path / "job.yaml").write_text(f"fl_name: job\ndistributed_cache: {{address: '127.0.0.1:{free_port}'}}\n")

    def call(*flags):
        command = [sys.executable, str(SCRIPT), "--yaml_config", "job.yaml", *flags]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout, done.stderr

    return call


def test_a_role_that_can_start(check):
    status, out, _ = check("--role", "scheduler", "--scheduler_manage_address", "127.0.0.1:0", "--json")
    assert status == 2  # port 0 is no address that others could ask
    status, out, _ = check("--role", "scheduler", "--json")
    told = json.loads(out)
    port = next(found for found in told["checks"] if found["what"] == "port")
    assert status == (0 if port["result"] == "ok" else 1)
    by_name = {found["what"]: found["result"] for found in told["checks"] if found is not port}
    assert set(by_name.values()) == {"ok"}
    assert set(by_name) >= {"configuration", "Python", "packages", "access", "Redis", "memory", "disk"}
    assert "lease 15 s" in told["checks"][0]["found"]


def test_all_that_is_wrong_with_a_worker_is_told_at_once(check, tmp_path):
    status, out, errors = check("--role", "worker", "--config", "nowhere.yaml", "--dataset_path", "data")
    assert (status, errors) == (1, "")
    assert "nowhere.yaml" in out and "data/mindrecord_0" in out
    (tmp_path / "job.yaml").write_text("rounds: 3\n")
    status, out, _ = check("--role", "worker", "--json")
    assert (status, json.loads(out)["good"]) == (1, False)
    assert "unknown key 'rounds'" in json.loads(out)["checks"][0]["found"]


def test_a_wrong_command_line(check):
    assert check("--role", "operator")[0] == 2
    status, _, errors = check("--role", "server", "--http_server_address", "nowhere")
    assert (status, errors) == (2, "error: --http_server_address is 'nowhere', expected host:port\n")
    status, out, _ = check("--role", "server", "--http_server_address", "0.0.0.0:6668", "--json")
    address = next(found for found in json.loads(out)["checks"] if found["what"] == "address")
    assert (status, address["result"]) == (1, "error")
