"""The command that shows a job's rounds."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


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
