"""The public YOLOv5's names, both ways."""

import numpy as np
import pytest

from yolo.anchors import in_strides
from yolo.names import PublicYOLOv5, map_pretrained, public_name
from yolo.settings import Settings


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("model.0.conv.weight", "model.0.conv.weight"),
        ("model.0.bn.weight", "model.0.bn.gamma"),
        ("model.2.m.0.cv1.bn.bias", "model.2.m.0.cv1.bn.beta"),
        ("model.9.cv2.bn.running_mean", "model.9.cv2.bn.moving_mean"),
        ("model.23.cv3.bn.running_var", "model.23.cv3.bn.moving_variance"),
        ("model.24.m.0.weight", "model.24.m.0.weight"),
        ("model.24.m.2.bias", "model.24.m.2.bias"),
        ("module.model.1.bn.weight", "model.1.bn.gamma"),
        ("model.model.model.1.bn.weight", "model.1.bn.gamma"),
        ("network.model.1.bn.gamma", "model.1.bn.gamma"),
        ("model.2.conv1.conv.weight", "model.2.cv1.conv.weight"),
        ("model.2.m.1.conv2.bn.moving_mean", "model.2.m.1.cv2.bn.moving_mean"),
        ("model.0.bn.num_batches_tracked", None),
        ("model.24.anchors", None),
        ("model.24.anchor_grid", None),
        ("model.0.conv.conv.weight", None),
        ("model.1.conv.bias", None),
        ("model.33.m.0.weight", None),
        ("moments.model.0.conv.weight", None),
        ("layer1.0.conv1.weight", None),
    ],
)
def test_map_pretrained(theirs, ours):
    assert map_pretrained(theirs) == ours


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("model.0.bn.gamma", "model.0.bn.weight"),
        ("model.2.m.0.cv1.bn.moving_variance", "model.2.m.0.cv1.bn.running_var"),
        ("model.24.m.1.bias", "model.24.m.1.bias"),
        ("model.5.conv.weight", "model.5.conv.weight"),
        ("moments.model.5.conv.weight", None),
        ("global_step", None),
    ],
)
def test_public_name(ours, theirs):
    assert public_name(ours) == theirs


@pytest.fixture(scope="module")
def network(graph_mode):
    from yolo.network import YOLOv5Network

    return YOLOv5Network(Settings(variant="n"), 3)


def test_every_tensor_of_the_network_goes_there_and_back(network):
    tensors = {parameter.name: parameter.asnumpy() for parameter in network.get_parameters()}
    naming = PublicYOLOv5(Settings(variant="n"))
    public = naming.from_ours(tensors)
    assert not public.left_out and set(public.tensors) - set(public.sources) == {"model.24.anchors"}
    back = naming.to_ours({**public.tensors, "model.0.bn.num_batches_tracked": np.zeros((), np.int64)})
    assert list(back.tensors) == list(tensors)
    assert all(back.tensors[name] is tensors[name] for name in tensors)
    assert list(back.left_out) == ["model.24.anchors", "model.0.bn.num_batches_tracked"]
    assert back.notes == ["model.24.anchors agrees with the model YAML's anchors"]
    assert naming.num_classes(back.tensors) == 3 and naming.num_classes({}) is None


def test_other_anchors_are_shown_as_the_yaml_wants_them():
    anchors = in_strides(np.float32([[[8, 16]]] * 3))
    found = PublicYOLOv5().to_ours({"model.24.anchors": anchors, "model.0.bn.bias": np.zeros(1)})
    assert "differs from the default anchors" in found.notes[0]
    assert found.notes[0].endswith("anchors: [[8.0, 16.0], [8.0, 16.0], [8.0, 16.0]]")
    without = PublicYOLOv5().from_ours({"model.0.bn.beta": np.zeros(1)})
    assert list(without.tensors) == ["model.0.bn.bias"] and "model YAML" in without.notes[0]


def test_what_has_no_place_is_left_out_with_the_reason():
    given = ("model.0.conv.conv.weight", "model.1.conv.bias", "model.24.anchor_grid", "fc.weight")
    found = PublicYOLOv5().to_ours({name: np.zeros(1) for name in given})
    assert [found.left_out[name].split()[0] for name in given] == ["release", "batch", "anchors", "name"]
    assert found.notes == [f"model.0.conv.conv.weight: {found.left_out['model.0.conv.conv.weight']}"]
