"""COCO AP: against pycocotools on files, against hand-made cases, and with the ground truth fed back."""

import contextlib
import io
import json
import subprocess
import sys

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cross_silo.data.coco import read_coco
from cross_silo.data.transforms import ResizeAndPad, Sample
from cross_silo.errors import UserError
from cross_silo.evaluation.coco_ap import detections_to_coco, evaluate_detections


def make_truth(seed=0, images=12):
    rng = np.random.default_rng(seed)
    annotations = []
    for image in range(images):
        for _ in range(int(rng.integers(0, 6))):
            width, height = rng.uniform(4, 150, 2)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image + 100,
                    "category_id": int(rng.choice([3, 7, 11])),
                    "bbox": [*rng.uniform(0, 60, 2).tolist(), float(width), float(height)],
                    "area": float(width * height * rng.uniform(0.5, 1)),
                    "iscrowd": int(rng.random() < 0.1),
                }
            )
    return {
        "images": [{"id": i + 100, "file_name": f"{i}.jpg", "height": 210, "width": 210} for i in range(images)],
        "annotations": annotations,
        "categories": [{"id": i, "name": f"c{i}"} for i in (11, 3, 7)],
    }


def make_detections(truth, seed=1, noise=8.0):
    rng = np.random.default_rng(seed)
    found = []
    for annotation in truth["annotations"] * 2:
        x, y, w, h = (np.array(annotation["bbox"]) + rng.normal(0, noise, 4)).tolist()
        category = annotation["category_id"] if rng.random() < 0.9 else 3
        found.append(
            {
                "image_id": annotation["image_id"],
                "category_id": category,
                "bbox": [x, y, max(w, 1), max(h, 1)],
                "score": float(rng.random()),
            }
        )
    return found


def save(tmp_path, content, name="truth.json"):
    path = tmp_path / name
    path.write_text(json.dumps(content))
    return str(path)


def reference(truth_path, results_path):
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(truth_path)
        evaluation = COCOeval(truth, truth.loadRes(results_path), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


@pytest.mark.parametrize("noise", [1.0, 8.0, 25.0])
def test_equals_pycocotools_on_its_own_files(tmp_path, capsys, noise):
    truth = make_truth()
    detections = make_detections(truth, noise=noise)
    path = save(tmp_path, truth)
    expected = reference(path, save(tmp_path, detections, "results.json"))
    capsys.readouterr()
    result = evaluate_detections(path, detections)
    metrics = [result.AP, result.AP50, result.AP75, result.APs, result.APm, result.APl]
    assert metrics == pytest.approx(expected.stats[:6].tolist(), abs=1e-12)
    assert 0 < result.AP < 1
    assert capsys.readouterr().out == ""
    for place, by_class in enumerate(result.by_class):
        alone = COCOeval(expected.cocoGt, expected.cocoDt, "bbox")
        alone.params.catIds = [expected.params.catIds[place]]
        with contextlib.redirect_stdout(io.StringIO()):
            alone.evaluate()
            alone.accumulate()
            alone.summarize()
        assert pytest.approx(alone.stats[:2].tolist(), abs=1e-12) == [by_class.AP, by_class.AP50]
        means = [result.curves[iou][place].mean() for iou in (0.5, 0.75)]
        assert pytest.approx(alone.stats[1:3].tolist(), abs=1e-12) == means
    assert [entry.name for entry in result.by_class] == ["c3", "c7", "c11"]
    json.dumps(result.as_dict())


def test_ground_truth_fed_back_scores_one(tmp_path):
    truth = make_truth(seed=5)
    fed = [{**a, "score": 1.0} for a in truth["annotations"] if not a["iscrowd"]]
    result = evaluate_detections(read_coco(save(tmp_path, truth)), fed)
    assert pytest.approx([1.0] * 3) == [result.AP, result.AP50, result.AP75]
    assert all(pytest.approx(1.0) == entry.AP for entry in result.by_class)


def test_inputs_are_left_as_they_were(tmp_path):
    truth = make_truth()
    detections = make_detections(truth)
    before = json.dumps(detections)
    dataset = read_coco(save(tmp_path, truth))
    evaluate_detections(dataset, detections)
    assert json.dumps(detections) == before
    assert dataset.annotations == truth["annotations"]


def test_half_of_the_objects_found_gives_the_closed_form(tmp_path):
    """One class, two objects, one found exactly: precision is 1 up to recall 0.5, which is 51 of 101 points."""
    truth = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 100, "width": 100}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 20, 20]},
            {"id": 2, "image_id": 1, "category_id": 1, "bbox": [50, 50, 20, 20]},
        ],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    }
    found = [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 20, 20], "score": 0.5}]
    result = evaluate_detections(save(tmp_path, truth), found)
    assert pytest.approx(51 / 101) == result.AP
    assert result.APs == pytest.approx(51 / 101)
    assert result.APl is None
    assert (result.by_class[1].AP, result.by_class[1].num_objects) == (None, 0)
    assert json.loads(json.dumps(result.as_dict()))["by_class"][0]["AP50"] == pytest.approx(51 / 101)


def test_no_detections_give_zero_and_a_warning(tmp_path, capsys):
    result = evaluate_detections(save(tmp_path, make_truth()), [])
    assert (result.AP, result.AP50, result.num_detections) == (0.0, 0.0, 0)
    assert "no detections" in capsys.readouterr().err


def test_truth_without_objects_is_refused(tmp_path):
    truth = {**make_truth(), "annotations": []}
    with pytest.raises(UserError, match="no objects"):
        evaluate_detections(save(tmp_path, truth), [])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"image_id": 5}, "image 5"),
        ({"score": float("nan")}, "not finite"),
        ({"bbox": [0, 0, float("inf"), 1]}, "not finite"),
    ],
)
def test_impossible_detections_are_refused(tmp_path, change, expected):
    truth = make_truth()
    detections = make_detections(truth)
    detections[3].update(change)
    with pytest.raises(UserError, match=expected):
        evaluate_detections(save(tmp_path, truth), detections)


@pytest.mark.parametrize("keep_ratio", [True, False])
def test_boxes_come_back_to_original_pixels(keep_ratio):
    boxes = np.array([[10, 20, 200, 90], [0, 0, 300, 100]], np.float32)
    sample = Sample(np.zeros((100, 300, 3), np.uint8), boxes, np.array([1, 0]), np.zeros(2, bool))
    moved = ResizeAndPad(64, 96, keep_ratio)(sample, np.random.default_rng(0))
    results = detections_to_coco(
        (moved.boxes, np.array([0.75, 0.5]), moved.labels), moved.scale, moved.pad, (100, 300), 17, (5, 9)
    )
    assert [entry["category_id"] for entry in results] == [9, 5]
    assert results[0]["bbox"] == pytest.approx([10, 20, 190, 70], abs=1e-3)
    assert results[1]["bbox"] == pytest.approx([0, 0, 300, 100], abs=1e-3)
    assert {(entry["image_id"], type(entry["score"])) for entry in results} == {(17, float)}


def test_left_and_top_padding_is_taken_off_and_boxes_are_cut_at_the_border():
    boxes = np.array([[10, 6, 30, 26], [0, 0, 8, 4]], np.float32)
    found = (boxes, np.array([0.9, 0.8]), np.array([0, 0]))
    results = detections_to_coco(found, (2.0, 2.0), (8.0, 4.0), (10, 10), 1, (4,))
    assert [entry["bbox"] for entry in results] == [[1.0, 1.0, 9.0, 9.0]]


def test_needs_no_mindspore():
    code = "import sys, cross_silo.evaluation.coco_ap; sys.exit('mindspore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
