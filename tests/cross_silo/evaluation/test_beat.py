"""A member is there while it beats, and gone when it leaves."""

import os
import time

from cross_silo.evaluation.beat import Beat


def test_a_member_while_inside(store):
    with Beat(store, "evaluator") as beat:
        deadline = time.monotonic() + 10
        while not store.members("evaluator"):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert list(store.members("evaluator").values()) == [{"pid": os.getpid(), "phase": "starting"}]
        assert beat.status() == {"phase": "starting"}
    assert store.members("evaluator") == {}
