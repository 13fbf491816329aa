"""Reports to Sedna's local controller: what is sent, what the controller makes of it, and what its absence does."""

import json
import logging
import math
import time

import pytest

from cross_silo.sedna.status_report import (
    COMPLETED,
    FAILED,
    RUNNING,
    WAITING,
    Report,
    Reporter,
    StatusReporter,
    message,
)
from tests.support.local_controller import LocalController

WHO = Reporter("trainworker-ab12c", "default", "yolo-v5")


@pytest.fixture
def controller():
    controller = LocalController()
    yield controller
    controller.close()


def test_message():
    report = Report(RUNNING, 3, 128, {"loss": 0.5, "AP50": None, "bad": math.nan}, "/model/yolov5.pth")
    body = message(WHO, report, started=0.0, now=60.0)
    assert body == {
        "name": "trainworker-ab12c",
        "namespace": "default",
        "ownerName": "yolo-v5",
        "ownerKind": "federatedlearningjob",
        "ownerInfo": {
            "currentRound": 3,
            "sampleCount": 128,
            "startTime": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(0.0)),
            "updateTime": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(60.0)),
        },
        "kind": "train",
        "status": "running",
        "results": [{"format": "pth", "url": "/model/yolov5.pth", "metrics": {"loss": 0.5}}],
    }
    assert type(body["ownerInfo"]["currentRound"]) is int


def test_conditions_and_metrics_of_the_model(controller):
    reporter = StatusReporter(controller.url, WHO)
    reporter.report(Report(RUNNING, 0, 128))
    for number, loss in ((1, 0.75), (2, 0.5)):
        reporter.report(Report(RUNNING, number, 128, {"loss": loss}, "/model/yolov5.pth"))
    reporter.report(Report(COMPLETED, 2, 128, {"loss": 0.5, "AP50": 0.25}, "/model/yolov5.pth"))
    reporter.close()
    job = controller.jobs["default", "yolo-v5"]
    assert [text[:7] for _, _, text in job.conditions] == ["Round 1", "Round 2", "Round 2"]
    assert {(kind, reason) for kind, reason, _ in job.conditions} == {("Training", "DoTraining")}
    assert job.metrics == [{"key": "loss", "value": "0.5"}, {"key": "AP50", "value": "0.25"}]
    assert [sent["status"] for sent in controller.messages] == ["running", "running", "running", "completed"]
    assert controller.dropped == []


def test_failure_is_told(controller):
    reporter = StatusReporter(controller.url, WHO)
    reporter.report(Report(FAILED, 1, 128))
    reporter.close()
    assert controller.messages[0]["status"] == "failed"


def test_address_without_a_scheme(controller):
    reporter = StatusReporter(controller.url[len("http://") :], WHO)
    reporter.report(Report(RUNNING, 1))
    reporter.close()
    assert len(controller.messages) == 1


def test_busy_controller_is_asked_again(controller):
    controller.replies = [500, 503]
    reporter = StatusReporter(controller.url, WHO, pause=0.01)
    reporter.report(Report(RUNNING, 1))
    reporter.close()
    assert len(controller.messages) == 1


def test_report_that_is_refused_does_not_hold_up_the_next(controller, caplog):
    controller.replies = [400, 400]
    reporter = StatusReporter(controller.url, WHO, tries=2, pause=0.01)
    with caplog.at_level(logging.WARNING):
        reporter.report(Report(RUNNING, 1))
        reporter.report(Report(RUNNING, 2))
        reporter.close()
    assert [sent["ownerInfo"]["currentRound"] for sent in controller.messages] == [2]
    assert 'does not take a report: 400 {"Status": 400' in caplog.text


def test_absent_controller_holds_up_nobody(free_port):
    reporter = StatusReporter(f"http://127.0.0.1:{free_port}", WHO, pause=60.0)
    began = time.monotonic()
    for number in range(3 * WAITING):
        reporter.report(Report(RUNNING, number))
    assert time.monotonic() - began < 5
    reporter.close(seconds=0.1)
    assert time.monotonic() - began < 20


def test_newest_reports_are_kept(controller):
    reporter = StatusReporter(controller.url, WHO, pause=0.5)
    controller.replies = [503]
    for number in range(1, 2 * WAITING + 1):
        reporter.report(Report(RUNNING, number))
    reporter.close()
    rounds = [sent["ownerInfo"]["currentRound"] for sent in controller.messages]
    assert rounds == sorted(rounds)
    assert rounds[-1] == 2 * WAITING
    assert len(rounds) >= WAITING - 1


def test_stock_library_kind_is_dropped_by_the_controller(controller):
    body = {**message(WHO, Report(RUNNING, 1), 0.0, 0.0), "ownerKind": "default"}
    assert controller.answer("/sedna/workers/trainworker-ab12c/info", json.dumps(body).encode()) == (200, "OK")
    assert controller.jobs == {} and len(controller.dropped) == 1
