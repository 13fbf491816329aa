"""The command that shows a job's rounds."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tool():
    spec = importlib.util.spec_from_file_location("show_summary", ROOT / "tools" / "show_summary.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(*arguments):
    command = [sys.executable, ROOT / "tools" / "show_summary.py", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


def test_table_json_and_error(tmp_path):
    missing = run("--run_dir", tmp_path)
    assert missing.returncode == 2 and missing.stderr.startswith(f"error: {tmp_path / 'summary.json'}: No such file")
    summary = {
        "fl_name": "demo", "state": "running", "reason": "", "fl_iteration_num": 3, "rounds": [], "evaluations": {},
        "good_rounds": 0, "failed_attempts": 0, "bytes_up": 0, "bytes_down": 0, "final_AP50": None,
    }  # fmt: skip
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    table = run("--run_dir", tmp_path)
    assert table.returncode == 0 and "job demo" in table.stdout
    assert table.stdout.endswith("running: 0 of 3 rounds good, 0 s in rounds, 0.0 MB moved\n")
    assert json.loads(run("--run_dir", tmp_path, "--json").stdout) == summary


def finished(run_dir, values, state="finished"):
    rounds = [
        {"round": n, "attempt": 1, "good": True, "reason": "", "losses": {"silo_0": 1.0}, "mean_loss": 1.0,
         "AP50": value, "AP": value, "seconds": {"round": 1.0}, "bytes_up": 1, "bytes_down": 1, "ended": n,
         "checkpoint": "c"}
        for n, value in enumerate(values, 1)
    ]  # fmt: skip
    summary = {
        "fl_name": "demo", "state": state, "reason": "", "rounds": rounds, "evaluations": {}, "bytes_up": 1,
        "good_rounds": len(rounds), "failed_attempts": 0, "bytes_down": 0, "final_AP50": values[-1],
    }  # fmt: skip
    (run_dir / "summary.json").write_text(json.dumps(summary))


@pytest.mark.parametrize(
    "values, problem",
    [
        ([0.1, 0.6], None),
        ([0.6], None),
        ([None, 0.6], None),
        ([0.1, 0.4], "the AP50 after the last round is 0.400, expected at least 0.5"),
        ([0.1, None], "the AP50 after the last round is -, expected at least 0.5"),
        ([0.7, 0.6], "expected more than after round 1 (0.700)"),
    ],
)
def test_an_expected_ap50(tool, tmp_path, capsys, values, problem):
    finished(tmp_path, values)
    status = tool.main(["--run_dir", str(tmp_path), "--expect_ap50", "0.5"])
    errors = capsys.readouterr().err
    assert (status, errors == "") == ((0, True) if problem is None else (1, False))
    assert problem is None or problem in errors


@pytest.mark.parametrize("state, status", [("finished", 0), ("failed", 1), ("running", 1)])
def test_following_fails_unless_the_job_finished(tool, tmp_path, capsys, state, status):
    finished(tmp_path, [0.1, 0.2], state)
    assert tool.main(["--run_dir", str(tmp_path), "--follow"]) == status
    output = capsys.readouterr()
    assert output.out.startswith("round 1 good") and (output.err == "") == (status == 0)
