"""The sums that identify a model, and the text form of a checkpoint's info."""

import json

import numpy as np
import pytest

from cross_silo.checkpoint.info import CheckpointInfo, content_sha256, model_fingerprint

SHAPES = {"conv.weight": (4, 3, 3, 3), "bn.moving_mean": (4,)}
KINDS = {"conv.weight": "trainable", "bn.moving_mean": "statistic"}


def test_fingerprint_is_of_names_shapes_and_kinds_in_any_order():
    fingerprint = model_fingerprint(SHAPES, KINDS)
    assert len(fingerprint) == 64
    assert model_fingerprint(dict(reversed(list(SHAPES.items()))), KINDS) == fingerprint
    assert model_fingerprint({name: np.array(shape) for name, shape in SHAPES.items()}, KINDS) == fingerprint


@pytest.mark.parametrize(
    "shapes, kinds",
    [
        ({**SHAPES, "bn.moving_mean": (5,)}, KINDS),
        ({**SHAPES, "conv.weight": (4, 3, 9)}, KINDS),
        (SHAPES, {**KINDS, "bn.moving_mean": "trainable"}),
        ({"conv.weight": (4, 3, 3, 3)}, KINDS),
        ({"conv.weights": (4, 3, 3, 3), "bn.moving_mean": (4,)}, {**KINDS, "conv.weights": "trainable"}),
    ],
)
def test_fingerprint_tells_models_apart(shapes, kinds):
    assert model_fingerprint(shapes, kinds) != model_fingerprint(SHAPES, KINDS)


def test_content_sum_is_of_values_whatever_the_layout():
    weights = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.ones(2, np.float32)}
    assert content_sha256(weights) == content_sha256({"a": weights["a"], "b": weights["b"].reshape(-1)})
    assert content_sha256(weights) == content_sha256({"a": weights["a"], "b": np.asfortranarray(weights["b"])})


def test_content_sum_changes_with_one_value_and_with_its_place():
    weights = {"a": np.zeros(2, np.float32), "b": np.ones(2, np.float32)}
    changed = {"a": np.zeros(2, np.float32), "b": np.array([1, np.nextafter(np.float32(1), np.float32(2))], np.float32)}
    assert content_sha256(changed) != content_sha256(weights)
    assert content_sha256({"a": weights["b"], "b": weights["a"]}) != content_sha256(weights)


def test_info_survives_its_text_form():
    info = CheckpointInfo("job", "i1", 3, "f" * 64, "", "c" * 64, ("cell", "红细胞", "\U0001f9a0"), KINDS)
    assert CheckpointInfo.from_json(info.to_json()) == info


def test_fields_of_a_later_version_are_passed_over():
    text = json.dumps({**json.loads(CheckpointInfo("job", round=2).to_json()), "colour": "red"})
    assert CheckpointInfo.from_json(text) == CheckpointInfo("job", round=2)


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"round": "1"}', '{"round": true}', '{"fl_name": 3}', '{"classes": [1]}', '{"kinds": {"a": []}}'],
)
def test_wrong_info_is_refused(text):
    with pytest.raises(ValueError):
        CheckpointInfo.from_json(text)


def test_bits_at_a_cut():
    info = CheckpointInfo(mistnet={"cut": 4, "thresholds": [0.0, 0.5]})
    assert CheckpointInfo.from_json(info.to_json()) == info
    assert CheckpointInfo.from_json("{}").mistnet == {}


@pytest.mark.parametrize("said", [{"cut": 4}, {"cut": None, "thresholds": []}, {"cut": 4, "thresholds": ["x"]}, [4]])
def test_bits_at_a_cut_that_cannot_be(said):
    with pytest.raises(ValueError, match="mistnet"):
        CheckpointInfo.from_json(json.dumps({"mistnet": said}))
