"""What a job's silos agree on: told whole, compared key by key, refused where it is damaged."""

import json
from dataclasses import replace

import pytest

from cross_silo.errors import UserError
from cross_silo.mistnet.spec import FeatureSpec, check_same

SPEC = FeatureSpec(
    cut=4,
    shape=(8, 4, 6),
    bits=192,
    p=0.75,
    q=0.25,
    epsilon=1.5,
    convention="half",
    thresholds_sha256="a" * 64,
    extractor_sha256="b" * 64,
    detector="yolov5",
    height=32,
    width=48,
    categories=("cell", "plate"),
    label_epsilon=None,
    box_jitter=0.1,
)


def test_survives_json():
    assert FeatureSpec.from_terms(json.loads(json.dumps(SPEC.terms())), "the manifest") == SPEC


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("cut", None),
        ("shape", [8, 4]),
        ("shape", [8, 4, 0]),
        ("bits", 191),
        ("bits", "192"),
        ("p", float("nan")),
        ("q", 0.75),
        ("q", -0.1),
        ("epsilon", "1.5"),
        ("extractor_sha256", 7),
        ("categories", []),
        ("categories", "cell"),
    ],
)
def test_what_is_damaged_is_refused_by_name(entry, value):
    with pytest.raises(UserError, match=f"the manifest: .*{entry}"):
        FeatureSpec.from_terms({**SPEC.terms(), entry: value}, "the manifest")


def test_what_is_missing_is_refused_by_name():
    terms = SPEC.terms()
    del terms["height"]
    with pytest.raises(UserError, match="the manifest: height: found nothing"):
        FeatureSpec.from_terms(terms, "the manifest")


def test_differences_are_named_with_both_values():
    check_same(SPEC, replace(SPEC), "here", "there")
    with pytest.raises(UserError) as error:
        check_same(SPEC, replace(SPEC, cut=3, epsilon=None), "job.yaml", "the server")
    assert str(error.value) == (
        "cut is 4 in job.yaml, 3 in the server; epsilon is 1.5 in job.yaml, None in the server; expected the same"
    )


def test_digest_differs_with_every_entry():
    others = [replace(SPEC, epsilon=2.0), replace(SPEC, extractor_sha256="c" * 64), replace(SPEC, cut="4")]
    assert len({spec.digest for spec in (SPEC, *others)}) == 4


def test_bytes_of_an_image():
    assert SPEC.packed_bytes == 24
    assert replace(SPEC, bits=193).packed_bytes == 25
