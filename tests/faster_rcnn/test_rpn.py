import numpy as np

from faster_rcnn.rpn import RPNHead


def test_rows_go_by_level_y_x_and_anchor():
    from mindspore import Tensor

    rng = np.random.default_rng(0)
    head = RPNHead(6, 3)
    for part in (head.cls, head.bbox):
        part.bias.set_data(Tensor(rng.standard_normal(part.bias.shape).astype(np.float32)))
    levels = [rng.standard_normal((2, 6, h, w), np.float32) for h, w in ((4, 3), (2, 2))]
    logits, deltas = (x.asnumpy() for x in head(tuple(Tensor(level) for level in levels)))
    expected_logits, expected_deltas = [], []
    for level in levels:
        hidden = np.maximum(head.conv(Tensor(level)).asnumpy(), 0)
        for part, rows, values in ((head.cls, expected_logits, 1), (head.bbox, expected_deltas, 4)):
            weight, bias = part.weight.asnumpy()[..., 0, 0], part.bias.asnumpy()
            out = np.einsum("nchw,oc->nhwo", hidden, weight) + bias
            rows.append(out.reshape(2, -1, values))
    np.testing.assert_allclose(logits, np.concatenate(expected_logits, 1)[..., 0], atol=1e-5)
    np.testing.assert_allclose(deltas, np.concatenate(expected_deltas, 1), atol=1e-5)


def test_parameter_names():
    names = {parameter.name for parameter in RPNHead(6, 3).get_parameters()}
    assert names == {"conv.weight", "conv.bias", "cls.weight", "cls.bias", "bbox.weight", "bbox.bias"}
