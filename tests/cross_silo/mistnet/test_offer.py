"""A manifest from a silo is trusted in nothing."""

from __future__ import annotations

import copy

import pytest

from cross_silo.mistnet.offer import OfferError, place_name, read_offer
from tests.support.fake_features import TERMS, write_features


@pytest.fixture
def manifest(tmp_path):
    return write_features(tmp_path)


def test_what_it_lists(manifest):
    offer = read_offer(manifest, TERMS)
    assert [file.name for file in offer.files] == ["features_0.mindrecord", "features_1.mindrecord"]
    assert (offer.bytes, offer.count) == (120_001, 7)


def test_a_term_that_differs_is_named_with_both_values(manifest):
    with pytest.raises(OfferError, match="cut is 3, the job's is 4"):
        read_offer({**manifest, "cut": 3}, TERMS)
    del manifest["epsilon"]
    with pytest.raises(OfferError, match="epsilon"):
        read_offer(manifest, TERMS)


@pytest.mark.parametrize(
    "name", ["../manifest", "a/b", "", ".hidden", "manifest.json", "offer.json", "x.part", "a" * 200, "a\n", 7, None]
)
def test_names_that_would_leave_the_directory(manifest, name):
    manifest["files"][0]["name"] = name
    with pytest.raises(OfferError, match="file name"):
        read_offer(manifest, TERMS)


@pytest.mark.parametrize(
    "entry, key, value",
    [(True, "bytes", 0), (True, "bytes", 1.5), (True, "bytes", True), (True, "sha256", "0" * 63), (False, "count", 0)]
    + [(False, "files", []), (False, "files", "x"), (False, "files", [1]), (False, "count", "7")],
)
def test_values_that_cannot_be(manifest, entry, key, value):
    changed = copy.deepcopy(manifest)
    (changed["files"][0] if entry else changed)[key] = value
    with pytest.raises(OfferError):
        read_offer(changed, TERMS)


def test_a_file_listed_twice(manifest):
    manifest["files"][1]["name"] = "FEATURES_0.mindrecord"
    with pytest.raises(OfferError, match="twice"):
        read_offer(manifest, TERMS)


def test_places_of_silos_are_plain_names_and_differ():
    names = ["silo_0", "silo 0", "..", "a/b", "ünï", "s" * 300, ""]
    places = [place_name(name) for name in names]
    assert places[0] == "silo_0"
    assert len(set(places)) == len(names)
    assert all(place.replace("_", "").isalnum() and len(place) <= 64 for place in places)
