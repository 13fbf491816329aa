"""The good model stays as it is while it is read and while the next one is made."""

import numpy as np
import pytest

from cross_silo.aggregation.models import MAX_MESSAGES, ModelStore
from cross_silo.protocol.messages import decode

SIZES = {"a": 4, "b": 1}


@pytest.fixture
def models():
    store = ModelStore(SIZES)
    store.load({"a": np.full((2, 2), 1, np.float32), "b": np.float32([2])}, 7)
    return store


def values(reading):
    message = decode(reading.buffer, "ResponseGetModel")
    return {feature["weight_fullname"]: feature["data"].tolist() for feature in message["feature_map"]}


def test_the_loaded_model_is_served(models):
    reading = models.read()
    assert reading.round == models.round == 7
    assert decode(reading.buffer, "ResponseGetModel")["iteration"] == 8
    assert values(reading) == {"a": [1, 1, 1, 1], "b": [2]}


def test_a_draft_does_not_touch_the_good_model(models):
    draft = models.draft(1)
    for view in draft.tensors.values():
        view[:] = 9
    assert values(models.read()) == {"a": [1, 1, 1, 1], "b": [2]}
    models.stamp(draft, 8)
    models.publish(draft, 8)
    assert values(models.read()) == {"a": [9] * 4, "b": [9]}
    assert decode(models.read().buffer, "ResponseGetModel")["iteration"] == 9


def test_a_draft_that_is_read_is_no_draft_any_more(models):
    draft = models.draft(1)
    reading = models.read_draft(draft, 8)
    other = models.draft(1)
    assert other is not draft
    reading.close()
    assert models.draft(1) is draft


def test_a_model_that_is_read_is_not_overwritten(models):
    reading = models.read()
    for n in range(8, 12):
        draft = models.draft(1)
        for view in draft.tensors.values():
            view[:] = n
        models.publish(draft, n)
    assert values(reading) == {"a": [1, 1, 1, 1], "b": [2]}


def test_memory_is_bounded(models):
    """Readers of two models, one of them old: the third message is the last."""
    readings = [models.read()]
    for n in range(8, 8 + MAX_MESSAGES - 1):
        models.publish(models.draft(1), n)
        readings.append(models.read())
    with pytest.raises(TimeoutError, match="old models have been read"):
        models.draft(0.01)
    readings[0].close()
    assert models.draft(0.01) is not None


def test_renumbering(models):
    models.renumber(0)
    assert models.read().round == 0
    assert decode(models.read().buffer, "ResponseGetModel")["iteration"] == 1
