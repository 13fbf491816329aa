"""The loss log: its lines, and reading it back after interruptions."""

import math

import pytest

from cross_silo.errors import UserError
from cross_silo.report.loss_log import LossLog, StepLoss, epoch_means, read_loss_log


def test_lines(tmp_path):
    log = LossLog(tmp_path / "loss_0.log")
    log.write(1, 1, 0.60603381, {})
    log.write(1, 2, 5.249325, {"rpn_cls": 0.25, "rcnn_reg": 1e-9})
    assert (tmp_path / "loss_0.log").read_text() == (
        "epoch: 1 step: 1 total_loss: 0.6060338\nepoch: 1 step: 2 total_loss: 5.249325 rpn_cls: 0.25 rcnn_reg: 1e-09\n"
    )
    assert read_loss_log(tmp_path / "loss_0.log") == [
        StepLoss(1, 1, 0.6060338),
        StepLoss(1, 2, 5.249325, {"rpn_cls": 0.25, "rcnn_reg": 1e-9}),
    ]


def test_a_later_process_appends(tmp_path):
    for epoch in (1, 2):
        log = LossLog(tmp_path / "loss_0.log")
        log.write(epoch, 1, epoch, {})
        log.close()
    assert [step.epoch for step in read_loss_log(tmp_path / "loss_0.log")] == [1, 2]


def test_an_unfinished_line_is_not_read_and_goes_away(tmp_path):
    path = tmp_path / "loss_0.log"
    path.write_text("epoch: 1 step: 1 total_loss: 0.5\nepoch: 1 step: 2 total_loss: 0.1")
    assert [step.step for step in read_loss_log(path)] == [1]
    LossLog(path).write(1, 2, 0.125, {})
    assert [step.total for step in read_loss_log(path)] == [0.5, 0.125]


def test_steps_trained_again_replace_the_former(tmp_path):
    log = LossLog(tmp_path / "loss_0.log")
    for epoch, step, total in [(1, 1, 9), (1, 2, 8), (2, 1, 7), (2, 2, 6), (2, 1, 5), (2, 2, 4), (3, 1, 3)]:
        log.write(epoch, step, total, {})
    assert [step.total for step in read_loss_log(tmp_path / "loss_0.log")] == [9, 8, 5, 4, 3]


def test_non_finite_losses_are_read(tmp_path):
    log = LossLog(tmp_path / "loss_0.log")
    log.write(1, 1, math.inf, {"rpn": -math.inf, "rcnn": math.nan})
    (step,) = read_loss_log(tmp_path / "loss_0.log")
    assert step.total == math.inf and step.parts["rpn"] == -math.inf and math.isnan(step.parts["rcnn"])


@pytest.mark.parametrize("line", ["", "hello", "epoch: 1 step: x total_loss: 1", "epoch: 1 step: 1 total_loss: 1.2.3"])
def test_another_file_is_refused_by_line(tmp_path, line):
    (tmp_path / "a.log").write_text("epoch: 1 step: 1 total_loss: 0.5\n" + line + "\n")
    with pytest.raises(UserError, match=r"a\.log:2: found"):
        read_loss_log(tmp_path / "a.log")


def test_a_missing_log_is_named(tmp_path):
    with pytest.raises(UserError, match=r"a\.log: No such file"):
        read_loss_log(tmp_path / "a.log")


def test_the_mean_of_an_epoch_is_the_sum_by_the_steps():
    steps = [StepLoss(1, 1, 4.0), StepLoss(1, 2, 2.0), StepLoss(2, 1, 1.0)]
    assert epoch_means(steps) == {1: 3.0, 2: 1.0}
