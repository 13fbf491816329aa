"""Partitions: every image once, seeded, uneven as asked, labels against plain loops."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cross_silo.data import partition
from cross_silo.data.coco import read_coco
from cross_silo.errors import UserError


def make_dataset(tmp_path, boxes, categories=(5, 2, 8)):
    """``boxes``: for each image the category ids of its boxes."""
    annotations = [(image, category) for image, group in enumerate(boxes) for category in group]
    content = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "height": 9, "width": 9} for i in range(len(boxes))],
        "annotations": [
            {"id": k, "image_id": image, "category_id": category, "bbox": [0, 0, 1, 1]}
            for k, (image, category) in enumerate(annotations)
        ],
        "categories": [{"id": c, "name": f"c{c}"} for c in categories],
    }
    path = tmp_path / "all.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return read_coco(path)


def assert_whole(silos, num_images):
    assert sorted(np.concatenate(silos).tolist()) == list(range(num_images))
    assert all((np.diff(silo) > 0).all() for silo in silos)


def test_labels_of_a_small_case(tmp_path):
    # In all: category 2 three times, 5 six times, 8 once; indices by ascending id: 2 -> 0, 5 -> 1, 8 -> 2.
    boxes = [[5, 5, 2], [5], [], [8, 5, 5], [2, 2], [99]]
    dataset = make_dataset(tmp_path, boxes)
    assert partition.image_labels(dataset, "rarest").tolist() == [0, 1, -1, 2, 0, -1]
    assert partition.image_labels(dataset, "dominant").tolist() == [1, 1, -1, 1, 0, -1]


def test_labels_equal_plain_loops(tmp_path):
    rng = np.random.default_rng(3)
    categories = [7, 1, 4, 12]
    boxes = [rng.choice(categories, rng.integers(0, 6), p=[0.6, 0.25, 0.1, 0.05]).tolist() for _ in range(200)]
    dataset = make_dataset(tmp_path, boxes, categories)
    totals = {c: sum(group.count(c) for group in boxes) for c in categories}
    index = {c: k for k, c in enumerate(sorted(categories))}
    for label_by in ("rarest", "dominant"):
        expected = []
        for group in boxes:
            best = None
            for category in group:
                rank = (totals[category], index[category])
                key = rank if label_by == "rarest" else (-group.count(category), *rank)
                if best is None or key < best[0]:
                    best = (key, index[category])
            expected.append(best[1] if best else -1)
        assert partition.image_labels(dataset, label_by).tolist() == expected


def test_a_tie_goes_to_the_rarer_class(tmp_path):
    dataset = make_dataset(tmp_path, [[5, 2], [2], [2]])
    assert partition.image_labels(dataset, "dominant")[0] == 1


@given(st.integers(1, 60), st.integers(1, 12), st.integers(0, 5))
def test_iid_parts_are_equal_within_one(num_images, num_silos, seed):
    silos = partition.split_iid(num_images, num_silos, seed)
    assert_whole(silos, num_images)
    sizes = [len(silo) for silo in silos]
    assert max(sizes) - min(sizes) <= 1


@settings(max_examples=80)
@given(
    st.lists(st.integers(-1, 4), min_size=1, max_size=80),
    st.integers(1, 8),
    st.sampled_from([0.001, 0.1, 1.0, 1000.0]),
    st.integers(0, 99),
)
def test_uneven_parts_are_whole_and_none_is_empty(labels, num_silos, alpha, seed):
    least = len(labels) // num_silos
    if least == 0:
        return
    for silos in (
        partition.split_dirichlet(np.array(labels), num_silos, alpha, least, seed),
        partition.split_quantity(len(labels), num_silos, alpha, least, seed),
    ):
        assert_whole(silos, len(labels))
        assert min(len(silo) for silo in silos) >= least


def test_the_seed_decides():
    labels = np.random.default_rng(0).integers(0, 4, 300)

    def parts(seed):
        return [silo.tolist() for silo in partition.split_dirichlet(labels, 3, 0.5, 1, seed)]

    assert parts(1) == parts(1)
    assert parts(1) != parts(2)


def test_alpha_decides_how_even_labels_are():
    labels = np.random.default_rng(0).integers(0, 4, 4000)

    def skew(alpha):
        """Mean over seeds and labels of the largest silo's share."""
        shares = []
        for seed in range(10):
            for label in range(4):
                counts = [(labels[s] == label).sum() for s in partition.split_dirichlet(labels, 4, alpha, 1, seed)]
                shares.append(max(counts) / sum(counts))
        return np.mean(shares)

    assert skew(0.05) > 0.75
    assert skew(0.05) > skew(1.0) > skew(1000.0)
    assert skew(1000.0) == pytest.approx(0.25, abs=0.03)


def test_alpha_decides_how_even_sizes_are():
    def largest(alpha):
        return np.mean([max(map(len, partition.split_quantity(1000, 4, alpha, 1, seed))) for seed in range(20)])

    assert largest(0.1) > 600 > largest(100.0) > 249


def test_dominant_share():
    assert partition.dominant_share(np.array([0, 0, 0, 1, -1])) == pytest.approx(0.6)


def write_lists(tmp_path, lists):
    paths = []
    for place, names in enumerate(lists):
        path = tmp_path / f"list_{place}.txt"
        path.write_text("\n".join(names) + "\n\n", encoding="utf-8")
        paths.append(str(path))
    return paths


def test_lists_decide(tmp_path):
    dataset = make_dataset(tmp_path, [[]] * 4)
    silos = partition.split_by_lists(dataset, write_lists(tmp_path, [["3.jpg", "0.jpg"], ["2.jpg", "1.jpg"]]))
    assert [silo.tolist() for silo in silos] == [[0, 3], [1, 2]]


@pytest.mark.parametrize(
    ("lists", "expected"),
    [
        ([["0.jpg", "1.jpg"], ["2.jpg"]], "1 images are in no list, '3.jpg'"),
        ([["0.jpg", "1.jpg"], ["2.jpg", "3.jpg", "1.jpg"]], "'1.jpg' is listed twice"),
        ([["0.jpg", "1.jpg"], ["2.jpg", "3.jpg", "x.jpg"]], "'x.jpg' is no image's"),
        ([["0.jpg", "1.jpg", "2.jpg", "3.jpg"], []], "lists no image"),
    ],
)
def test_faults_of_lists_are_named(tmp_path, lists, expected):
    with pytest.raises(UserError, match=expected):
        partition.split_by_lists(make_dataset(tmp_path, [[]] * 4), write_lists(tmp_path, lists))


def test_a_missing_list_is_named(tmp_path):
    with pytest.raises(UserError, match=r"gone\.txt: cannot be read"):
        partition.split_by_lists(make_dataset(tmp_path, [[]]), [str(tmp_path / "gone.txt")])
