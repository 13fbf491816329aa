"""Counts of refused updates."""

import logging

from cross_silo.aggregation import refusals
from cross_silo.aggregation.refusals import NON_FINITE, NORM, Refusals


def test_counts_by_silo_and_reason(caplog):
    counted = Refusals()
    with caplog.at_level(logging.WARNING):
        counted.add("south", NORM, "its norm is 9, expected at most 3")
        counted.add("north", NON_FINITE, "tensor 'w' has 1 non-finite values")
        counted.add("south", NORM, "its norm is 8, expected at most 3")
        counted.add("", "message", "no message")
    assert counted.counts() == {"north": {"non-finite": 1}, "south": {"norm": 2}, "unknown": {"message": 1}}
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "an update of silo south is refused (norm): its norm is 9, expected at most 3"
    assert len(lines) == 4


def test_goes_on_from_an_earlier_servers_counts():
    counted = Refusals()
    earlier = {"south": {"norm": 2}}
    counted.begin_with(earlier)
    counted.add("south", NORM, "again")
    assert (counted.counts(), earlier) == ({"south": {"norm": 3}}, {"south": {"norm": 2}})
    counted.begin_with({})
    assert counted.counts() == {}


def test_memory_and_log_are_bounded(caplog, monkeypatch):
    monkeypatch.setattr(refusals, "MAX_SILOS", 5)
    counted = Refusals()
    for i in range(1000):
        counted.add(f"silo_{i}", NORM, "too far")
    assert len(counted.counts()) == 6
    assert counted.counts()["unknown"] == {"norm": 995}
    assert 20 <= len(caplog.records) < 100
