"""Parts of a job in processes: results in order, progress, and failures that surface and leave no process."""

import functools
import os
import signal
import time

import pytest

from cross_silo.data.parts import available_processes, run_parts


def square(value, report):
    report(value)
    report(1)
    return {"square": value * value, "pid": os.getpid()}


@pytest.mark.parametrize("processes", [1, 2, 5])
def test_results_stand_in_order_and_progress_adds_up(processes):
    seen = []
    results = run_parts([functools.partial(square, value) for value in range(5)], processes, seen.append)
    assert [result["square"] for result in results] == [0, 1, 4, 9, 16]
    assert seen[-1] == sum(range(5)) + 5
    assert seen == sorted(seen)
    pids = {result["pid"] for result in results}
    assert len(pids) == processes
    assert (os.getpid() in pids) == (processes == 1)


def fail(report):
    raise ValueError("no room")


def die(report):
    os.kill(os.getpid(), signal.SIGKILL)


def wait(path, report):
    path.write_text(str(os.getpid()))
    time.sleep(60)


@pytest.mark.parametrize(("part", "expected"), [(fail, "ValueError: no room"), (die, "status -9")])
def test_a_failure_ends_the_other_processes(tmp_path, part, expected):
    def begin(report):
        while not (tmp_path / "pid").exists():
            time.sleep(0.01)
        return part(report)

    started = time.monotonic()
    with pytest.raises(RuntimeError, match=expected):
        run_parts([functools.partial(wait, tmp_path / "pid"), begin], 2, lambda items: None)
    assert time.monotonic() - started < 30
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_failure_in_this_process_keeps_its_type():
    with pytest.raises(ValueError, match="no room"):
        run_parts([fail], 2, lambda items: None)


def test_there_is_a_process_to_use():
    assert available_processes() >= 1
