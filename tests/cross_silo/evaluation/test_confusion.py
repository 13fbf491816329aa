"""The confusion table: cases counted by hand, and totals of random sets."""

import json

import numpy as np
import pytest

from cross_silo.data.coco import read_coco
from cross_silo.evaluation.confusion import confusion_table, pair

CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]  # indices 1 and 0


def dataset(directory, objects):
    """``objects``: (image id, category id, bbox, crowd)."""
    entries = [
        {"id": place, "image_id": image, "category_id": category, "bbox": list(box), "iscrowd": crowd}
        for place, (image, category, box, crowd) in enumerate(objects)
    ]
    images = [{"id": i, "file_name": f"{i}.png", "height": 100, "width": 100} for i in (1, 2)]
    path = directory / "set.json"
    path.write_text(json.dumps({"images": images, "annotations": entries, "categories": CATEGORIES}))
    return read_coco(path)


def found(image, category, box, score=0.9):
    return {"image_id": image, "category_id": category, "bbox": list(box), "score": score}


def test_a_case_by_hand(tmp_path):
    truth = dataset(
        tmp_path,
        [
            (1, 3, (0, 0, 10, 10), 0),  # found as a cat
            (1, 7, (20, 0, 10, 10), 0),  # found as a cat
            (1, 7, (40, 0, 10, 10), 0),  # found below the score: missed
            (2, 3, (0, 0, 10, 10), 0),  # overlapped too little: missed
            (2, 7, (50, 50, 40, 40), 1),  # a crowd
        ],
    )
    detections = [
        found(1, 3, (0, 0, 10, 9)),
        found(1, 7, (0, 0, 10, 10), 0.8),  # the object is taken by the better score: nothing there
        found(1, 3, (21, 0, 10, 10)),
        found(1, 7, (40, 0, 10, 10), 0.4),
        found(2, 3, (6, 0, 10, 10)),  # nothing there
        found(2, 3, (60, 60, 10, 10)),  # in the crowd: ignored
    ]
    table = confusion_table(truth, detections, 0.5)
    assert table.classes == ("cat", "dog")
    #                               as cat, dog, missed
    assert table.counts.tolist() == [[1, 0, 1], [1, 0, 1], [1, 1, 0]]
    assert table.as_dict()["labels"] == ["cat", "dog", "background"]
    json.dumps(table.as_dict())
    assert confusion_table(truth, detections, 0.3).counts.tolist() == [[1, 0, 1], [1, 1, 0], [1, 1, 0]]
    assert confusion_table(truth, [], 0.5).counts.tolist() == [[0, 0, 2], [0, 0, 2], [0, 0, 0]]


def test_the_most_overlapped_object_and_among_equals_the_own_class():
    objects = [found(1, 3, (0, 0, 10, 10)), found(1, 7, (0, 0, 10, 10)), found(1, 3, (0, 0, 10, 8))]
    pairs = pair(objects, [], [found(1, 7, (0, 0, 10, 10)), found(1, 7, (0, 0, 10, 8))])
    assert pairs.of_detection == [1, 2] and pairs.of_object == [None, 0, 1]


@pytest.mark.parametrize("box", [(5, 5, 0, 0), (5, 5, 0, 10)])
def test_boxes_without_area_pair_with_nothing(box):
    assert pair([found(1, 3, box)], [], [found(1, 3, box)]).of_detection == [None]


def test_every_object_and_detection_counts_once(tmp_path):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        boxes = np.concatenate([rng.integers(0, 40, (30, 2)), rng.integers(10, 40, (30, 2))], axis=1).tolist()
        objects = [(int(rng.integers(1, 3)), int(rng.choice([3, 7])), box, 0) for box in boxes[:15]]
        detections = [found(int(rng.integers(1, 3)), int(rng.choice([3, 7])), box, rng.random()) for box in boxes[15:]]
        counts = confusion_table(dataset(tmp_path, objects), detections, 0.25).counts
        expected = [sum(category == each for _, category, _, _ in objects) for each in (3, 7)]
        assert counts[:-1].sum(axis=1).tolist() == expected
        kept = [entry for entry in detections if entry["score"] >= 0.25]
        assert counts[:, :-1].sum(axis=0).tolist() == [sum(e["category_id"] == each for e in kept) for each in (3, 7)]
        assert counts[-1, -1] == 0
