"""The loss and its gradients against plain loops in double precision, written from the formulas."""

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cross_silo.runtime
from yolo.settings import Settings

N, G, HEIGHT, WIDTH = 2, 3, 64, 96
STRIDES = (8, 16, 32)
BALANCE = (4.0, 1.0, 0.4)
CASES = {
    "three classes": (Settings(anchors=((6, 9, 16, 12), (20, 30, 30, 16), (50, 40, 40, 60))), 3),
    "smoothed": (Settings(label_smoothing=0.2, anchor_t=2.5, box=0.1, cls=0.3, obj=0.7), 2),
    "one class": (Settings(), 1),
}


@pytest.fixture(scope="module")
def compiled():
    """Return a function: losses and the gradients of their total, of a case and its arrays; compiled once a case."""
    cross_silo.runtime.start(seed=1)
    import mindspore
    from mindspore import Tensor, nn

    from yolo.loss import YOLOLoss

    class Step(nn.Cell):
        def __init__(self, loss):
            super().__init__()
            self.loss = loss

        def construct(self, p3, p4, p5, boxes, labels, valid):
            return self.loss((p3, p4, p5), boxes, labels, valid)

    class WithGradient(nn.Cell):
        def __init__(self, step):
            super().__init__()
            self.gradient = mindspore.value_and_grad(step, (0, 1, 2), has_aux=True)

        def construct(self, *arrays):
            return self.gradient(*arrays)

    cells = {}

    def run(case, outputs, boxes, labels, valid):
        if case not in cells:
            options, classes = CASES[case]
            cells[case] = WithGradient(Step(YOLOLoss(options, classes, HEIGHT, WIDTH, N, G)))
        arrays = [*outputs, boxes.astype(np.float32), labels.astype(np.int32), valid.astype(np.int32)]
        losses, gradients = cells[case](*map(Tensor, arrays))
        return [float(x) for x in losses], [x.asnumpy() for x in gradients]

    return run


def make_outputs(case, seed=0, spread=1.5):
    options, classes = CASES[case]
    rng = np.random.default_rng(seed)
    channels = options.anchors_per_position * (5 + classes)
    shapes = [(N, channels, HEIGHT // stride, WIDTH // stride) for stride in STRIDES]
    return [(rng.standard_normal(shape) * spread).astype(np.float32) for shape in shapes]


def no_boxes():
    return np.zeros((N, G, 4)), np.zeros((N, G), int), np.zeros((N, G), int)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def cross_entropy(logit, target):
    p = sigmoid(logit)
    return -target * np.log(p) - (1 - target) * np.log(1 - p)


def ciou(a, b, alpha=None):
    """CIoU and alpha of boxes (centre x, y, width, height); alpha given is a constant."""
    corners = [(x - w / 2, y - h / 2, x + w / 2, y + h / 2) for x, y, w, h in (a, b)]
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = corners
    shared = max(0, min(ax2, bx2) - max(ax1, bx1)) * max(0, min(ay2, by2) - max(ay1, by1))
    iou = shared / (a[2] * a[3] + b[2] * b[3] - shared)
    diagonal = (max(ax2, bx2) - min(ax1, bx1)) ** 2 + (max(ay2, by2) - min(ay1, by1)) ** 2
    distance = (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2
    v = 4 / math.pi**2 * (math.atan(b[2] / b[3]) - math.atan(a[2] / a[3])) ** 2
    if alpha is None:
        alpha = v / (1 - iou + v) if v else 0.0
    return iou - distance / diagonal - alpha * v, alpha


def decoded(t, anchor):
    s = [2 * sigmoid(float(x)) for x in t]
    return s[0] - 0.5, s[1] - 0.5, s[2] ** 2 * anchor[0], s[3] ** 2 * anchor[1]


def answers(dx, dy):
    """Whether a cell answers for a centre that lies (dx, dy) cells right of and below its corner."""
    own_x, own_y = 0 <= dx < 1, 0 <= dy < 1
    beside, above = -0.5 < dx < 0 or 1 <= dx < 1.5, -0.5 < dy < 0 or 1 <= dy < 1.5
    return (own_x and own_y) or (own_y and beside) or (own_x and above)


def matches(options, level, boxes, labels, valid):
    """All (image, anchor index, row, column, box relative to the cell, label) of a level, in cells."""
    stride = STRIDES[level]
    rows, columns = HEIGHT // stride, WIDTH // stride
    found = []
    for n, g in np.argwhere(valid == 1):
        x1, y1, x2, y2 = boxes[n, g] / stride
        x, y, w, h = (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
        if w <= 0 or h <= 0 or not (0 <= x < columns and 0 <= y < rows):
            continue
        for a, (aw, ah) in enumerate(np.reshape(options.anchors[level], (-1, 2)) / stride):
            if max(w / aw, aw / w, h / ah, ah / h) >= options.anchor_t:
                continue
            for i in range(rows):
                for j in range(columns):
                    on_border = (j == 0 and x == 1) or (i == 0 and y == 1)  # v6 asks for strictly more than 1
                    if answers(x - j, y - i) and not on_border:
                        found.append((n, a, i, j, (x - j, y - i, w, h), labels[n, g]))
    return found


def reference(case, outputs, boxes, labels, valid):
    """Losses total, box, obj, cls and the gradients of the total."""
    options, classes = CASES[case]
    box_loss = obj_loss = cls_loss = 0.0
    gains = N * options.box, N * options.obj * (max(HEIGHT, WIDTH) / 640) ** 2, N * options.cls * classes / 80
    gradients = []
    for level, output in enumerate(outputs):
        n, _, rows, columns = output.shape
        p = output.astype(np.float64).reshape(n, -1, 5 + classes, rows, columns)
        gradient = np.zeros_like(p)
        target = np.zeros_like(p[:, :, 4])
        anchors = np.reshape(options.anchors[level], (-1, 2)) / STRIDES[level]
        found = matches(options, level, boxes, labels, valid)
        for image, a, i, j, box, label in found:
            t = p[image, a, :, i, j]
            value, alpha = ciou(decoded(t[:4], anchors[a]), box)
            box_loss += gains[0] * (1 - value) / len(found)
            for k in range(4):
                step = np.eye(4)[k] * 1e-6
                ends = [ciou(decoded(t[:4] + s, anchors[a]), box, alpha)[0] for s in (step, -step)]
                gradient[image, a, k, i, j] -= gains[0] * (ends[0] - ends[1]) / 2e-6 / len(found)
            target[image, a, i, j] = max(target[image, a, i, j], value)
            if classes > 1:
                wanted = np.full(classes, options.label_smoothing / 2)
                wanted[label] = 1 - options.label_smoothing / 2
                cls_loss += gains[2] * cross_entropy(t[5:], wanted).mean() / len(found)
                slope = (sigmoid(t[5:]) - wanted) / classes / len(found)
                gradient[image, a, 5:, i, j] += gains[2] * slope
        factor = gains[1] * BALANCE[level]
        obj_loss += factor * cross_entropy(p[:, :, 4], target).mean()
        gradient[:, :, 4] = factor * (sigmoid(p[:, :, 4]) - target) / target.size
        gradients.append(gradient.reshape(output.shape))
    return [box_loss + obj_loss + cls_loss, box_loss, obj_loss, cls_loss], gradients


def check(compiled, case, outputs, boxes, labels, valid):
    losses, gradients = compiled(case, outputs, boxes, labels, valid)
    expected, slopes = reference(case, outputs, boxes, labels, valid)
    np.testing.assert_allclose(losses, expected, rtol=1e-4, atol=1e-6)
    for found, slope in zip(gradients, slopes):
        np.testing.assert_allclose(found, slope, rtol=1e-4, atol=1e-6)
    return losses, gradients


def some_boxes(classes):
    boxes = np.array(
        [
            [[3, 5, 17, 25], [40.5, 20.25, 90, 60], [1, 1, 95, 63]],  # of each level's size
            [[0, 0, 10, 14], [84, 48, 96, 64], [30, 30, 47, 51]],  # two in the image's corners
        ]
    )
    return boxes, np.arange(N * G).reshape(N, G) % classes, np.ones((N, G), int)


@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_are_those_of_the_loops(compiled, case):
    losses, _ = check(compiled, case, make_outputs(case), *some_boxes(CASES[case][1]))
    assert min(losses[:3]) > 0
    assert (losses[3] > 0) == (case != "one class")


def test_two_boxes_in_one_cell(compiled):
    boxes, labels, valid = some_boxes(3)
    boxes[0, 1] = boxes[0, 0] + [0, 0, 1, 1]
    labels[0, :2] = 0, 2
    outputs = make_outputs("three classes", seed=3)
    first, slopes = check(compiled, "three classes", outputs, boxes, labels, valid)
    boxes[0, :2], labels[0, :2] = boxes[0, 1::-1].copy(), labels[0, 1::-1].copy()
    second, others = compiled("three classes", outputs, boxes, labels, valid)
    np.testing.assert_allclose(second, first, rtol=1e-6)
    np.testing.assert_array_equal(
        others[0].reshape(N, 2, 8, 8, 12)[:, :, 4], slopes[0].reshape(N, 2, 8, 8, 12)[:, :, 4]
    )


def test_crowd_regions_and_padding_have_no_target(compiled):
    boxes, labels, valid = some_boxes(3)
    outputs = make_outputs("three classes")
    valid[0, 1], valid[1, 2] = -1, 0
    losses, _ = check(compiled, "three classes", outputs, boxes, labels, valid)
    boxes[0, 1] = boxes[1, 2] = 0
    assert compiled("three classes", outputs, boxes, labels, valid)[0] == losses


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("spread", [1.5, 60.0])
def test_a_batch_without_boxes_trains_objectness_alone(compiled, case, spread):
    losses, gradients = compiled(case, make_outputs(case, spread=spread), *no_boxes())
    assert losses[1] == losses[3] == 0 and losses[0] == losses[2] > 0
    for gradient in gradients:
        by_channel = np.abs(gradient).reshape(N, -1, 5 + CASES[case][1], *gradient.shape[2:]).max((0, 1, 3, 4))
        assert np.isfinite(by_channel).all()
        assert by_channel[4] > 0 and by_channel.sum() == by_channel[4]


def test_extreme_outputs_have_finite_losses_and_gradients(compiled):
    losses, gradients = compiled("three classes", make_outputs("three classes", spread=100.0), *some_boxes(3))
    assert np.isfinite(losses).all() and all(np.isfinite(gradient).all() for gradient in gradients)


quarter_pixels = st.integers(-8, 4 * WIDTH + 8).map(lambda x: x / 4)
box = st.tuples(quarter_pixels, quarter_pixels, quarter_pixels, quarter_pixels)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    boxes=st.lists(box, min_size=N * G, max_size=N * G),
    labels=st.lists(st.integers(0, 1), min_size=N * G, max_size=N * G),
    valid=st.lists(st.sampled_from([1, 1, 1, 0, -1]), min_size=N * G, max_size=N * G),
    seed=st.integers(0, 1000),
)
def test_any_boxes(compiled, boxes, labels, valid, seed):
    """Without area, inside out, beyond the border, on cells' corners: no case differs from the loops."""
    arrays = np.reshape(boxes, (N, G, 4)), np.reshape(labels, (N, G)), np.reshape(valid, (N, G))
    check(compiled, "smoothed", make_outputs("smoothed", seed), *arrays)
