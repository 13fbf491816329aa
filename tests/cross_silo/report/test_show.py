"""The table of a job's rounds."""

from rich.console import Console

from cross_silo.report.show import MOST_SILOS, last_line, show_summary
from cross_silo.report.summary import summarize

LATE = "round 2 attempt 1 failed: silo_1 [host:1] is late"


def record(round, silos=2, attempt=1, good=True, reason=""):
    participants = [{"silo": f"silo_{i}", "samples": 10, "loss": i + 0.25} for i in range(silos)]
    return {"round": round, "attempt": attempt, "good": good, "reason": reason, "participants": participants,
            "seconds": {"round": 12.34}, "bytes_up": 2_000_000, "bytes_down": 1_500_000,
            "ended": round + attempt / 10, "checkpoint": f"c{round}.ckpt" if good else ""}  # fmt: skip


def summary(records, evaluations=None, **job):
    fields = {"fl_name": "demo", "state": "finished", "reason": "", "fl_iteration_num": "2", **job}
    return summarize(fields, records, evaluations or {})


def shown(content, tmp_path, width=100):
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115 - ends with the console
    show_summary(content, tmp_path, console)
    return console.export_text()


def rows(text):
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in text.splitlines() if line.startswith("│")]


def test_a_row_an_attempt(tmp_path):
    evaluations = {0: {"AP": 0.001, "AP50": 0.002}, 1: {"AP": 0.3, "AP50": 0.5}}
    records = [record(1), record(2, good=False, reason=LATE), record(2, attempt=2)]
    text = shown(summary(records, evaluations), tmp_path)
    assert rows(text) == [
        ["0", "", "initial", "", "", "0.002", "0.001", "", ""],
        ["1", "1", "good", "0.250", "1.250", "0.500", "0.300", "12.3", "3.5"],
        ["2", "1", "failed", "0.250", "1.250", "", "", "12.3", "3.5"],
        ["2", "2", "good", "0.250", "1.250", "-", "-", "12.3", "3.5"],
    ]
    assert f"\n{LATE}\n" in text


def test_three_silos_fit_a_terminal(tmp_path):
    text = shown(summary([record(1, silos=3)], {0: {"AP": 0.001, "AP50": 0.002}}), tmp_path, width=80)
    assert rows(text)[0][:2] == ["0", "initial"]
    assert rows(text)[1] == ["1", "good", "0.250", "1.250", "2.250", "-", "-", "12.3", "3.5"]


def test_many_silos_share_a_column(tmp_path):
    text = shown(summary([record(1, silos=MOST_SILOS + 1)]), tmp_path)
    assert "all silos" in text and "silo_0" not in text
    assert rows(text)[0][2] == "2.250"


def own(*values):
    return {f"silo_{i}": {"AP": value / 2, "AP50": value, "AP75": 0.0} for i, value in enumerate(values)}


def test_silos_own_validation_sets(tmp_path):
    job = {"state": "running", "fl_iteration_num": "2"}
    assert "own AP50" not in shown(summarize(job, [record(1)], {}), tmp_path)
    few = summarize(job, [record(1)], {}, {0: own(0.0), 1: own(0.25, 0.5)})
    text = shown(few, tmp_path)
    assert rows(text[text.index("silos' own AP50") :]) == [["0", "0.000", "-"], ["1", "0.250", "0.500"]]
    many = summarize(job, [record(1)], {}, {1: own(0.1, 0.2, 0.3, 0.4, 0.75)})
    text = shown(many, tmp_path)
    assert rows(text[text.index("silos' own AP50") :]) == [["1", "5", "0.100", "0.350", "0.750"]]


def test_the_last_line_says_how_the_job_stands():
    line = last_line(summary([record(1), record(2)], {2: {"AP": 0.3, "AP50": 0.625, "AP75": 0.2}}))
    assert line == "finished: 2 of 2 rounds good, 25 s in rounds, 7.0 MB moved, AP50 0.625; model c2.ckpt"
    line = last_line(summary([record(1, good=False)], state="failed", reason="silo_1 is gone"))
    assert line == "failed (silo_1 is gone): 0 of 2 rounds good, 1 failed, 12 s in rounds, 3.5 MB moved"


def test_a_job_before_its_first_round(tmp_path):
    assert "no round of the job" in shown(summary([], state="running"), tmp_path)


def test_which_stop_condition_ended_the_job_and_the_best_model(tmp_path):
    stop = '{"condition": "map50 >= 0.5 (0.53)", "round": 2}'
    best = '{"instance": "i", "round": 1, "metric": "AP50", "value": 0.53, "checkpoint": "/c/job_best.ckpt"}'
    text = shown(summary([record(1), record(2)], stop=stop, best=best), tmp_path)
    assert "\nbest AP50 0.530 after round 1: /c/job_best.ckpt\n" in text
    assert "\nstop condition met after round 2: map50 >= 0.5 (0.53)\n" in text
