"""The command that draws a job."""

import importlib.util
import json
from pathlib import Path

import pytest

from cross_silo.errors import UserError
from cross_silo.report.loss_log import LossLog

TOOL = Path(__file__).parents[2] / "tools" / "plot_loss.py"


@pytest.fixture
def tool():
    spec = importlib.util.spec_from_file_location("plot_loss", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def worker(run_dir, index, totals):
    directory = run_dir / f"worker_{index}"
    directory.mkdir(parents=True)
    log = LossLog(directory / "loss_0.log")
    for step, total in enumerate(totals):
        log.write(step // 2 + 1, step % 2 + 1, total, {"part": total})


def evaluations(run_dir, content):
    (run_dir / "summary.json").write_text(json.dumps({"rounds": [], "evaluations": content}))


def test_all_three_pictures(tool, tmp_path, capsys):
    worker(tmp_path, 0, [4, 2, 1, 0])
    worker(tmp_path, 10, [5, 3])
    worker(tmp_path, 2, [6, 4])
    evaluations(tmp_path, {"1": {"AP": 0.1, "AP50": 0.2, "AP75": 0.1}})
    assert tool.main(["--run_dir", str(tmp_path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert list(report["workers"]) == ["worker_0", "worker_2", "worker_10"]
    assert report["workers"]["worker_0"] == {"steps": 4, "epochs": 2, "first_epoch": 3.0, "last_epoch": 0.5}
    assert report["missing"] == []
    assert sorted(report["pictures"]) == ["ap", "loss_epochs", "loss_steps"]
    for path in report["pictures"].values():
        assert Path(path).parent == tmp_path / "plots" and Path(path).stat().st_size > 10_000


def test_silos_own_ap_has_a_picture(tool, tmp_path, capsys):
    worker(tmp_path, 0, [4, 2])
    content = {"rounds": [], "evaluations": {}, "silo_evaluations": {"1": {"silo_0": {"AP50": 0.5}}}}
    (tmp_path / "summary.json").write_text(json.dumps(content))
    assert tool.main(["--run_dir", str(tmp_path), "--json"]) == 0
    assert sorted(json.loads(capsys.readouterr().out)["pictures"]) == ["ap_silos", "loss_epochs", "loss_steps"]


def test_what_is_missing_is_told_and_the_rest_drawn(tool, tmp_path, capsys):
    worker(tmp_path, 0, [4, 2])
    worker(tmp_path, 1, [])
    assert tool.main(["--run_dir", str(tmp_path), "--out", str(tmp_path / "elsewhere")]) == 0
    out = capsys.readouterr().out
    assert "worker_1 is not drawn" in out and "summary.json does not exist yet: no AP is drawn" in out
    assert sorted(path.name for path in (tmp_path / "elsewhere").iterdir()) == ["loss_epochs.png", "loss_steps.png"]


def test_a_job_that_does_not_evaluate(tool, tmp_path, capsys):
    worker(tmp_path, 0, [4, 2])
    evaluations(tmp_path, {})
    tool.main(["--run_dir", str(tmp_path)])
    assert "has no evaluation" in capsys.readouterr().out


def test_nothing_to_draw_is_an_error(tool, tmp_path):
    with pytest.raises(UserError, match=r"no such directory"):
        tool.main(["--run_dir", str(tmp_path / "nowhere")])
    with pytest.raises(UserError, match=r"nothing to draw: .*no worker_\* directory"):
        tool.main(["--run_dir", str(tmp_path)])
