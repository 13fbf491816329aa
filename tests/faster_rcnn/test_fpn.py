import numpy as np
import pytest

from faster_rcnn.fpn import FeaturePyramid, add_upsampled


def test_upsampling_repeats_each_value(in_graph):
    rng = np.random.default_rng(0)
    fine, coarse = rng.standard_normal((2, 3, 4, 6), np.float32), rng.standard_normal((2, 3, 2, 3), np.float32)
    expected = fine + coarse.repeat(2, 2).repeat(2, 3)
    np.testing.assert_allclose(in_graph(add_upsampled)(fine, coarse), expected, rtol=1e-6)


@pytest.mark.parametrize("extra", [True, False])
def test_levels(extra):
    from mindspore import Tensor

    rng = np.random.default_rng(1)
    pyramid = FeaturePyramid((2, 4), 8, extra)
    stages = (rng.standard_normal((1, 2, 8, 8), np.float32), rng.standard_normal((1, 4, 4, 4), np.float32))
    levels = [level.asnumpy() for level in pyramid(tuple(Tensor(stage) for stage in stages))]
    assert [level.shape for level in levels] == [(1, 8, 8, 8), (1, 8, 4, 4), (1, 8, 2, 2)][: 3 if extra else 2]
    if extra:
        np.testing.assert_array_equal(levels[2], levels[1][:, :, ::2, ::2])
    lateral = [np.einsum("nchw,oc->nohw", s, c.weight.asnumpy()[..., 0, 0]) for s, c in zip(stages, pyramid.lateral)]
    merged = lateral[0] + lateral[1].repeat(2, 2).repeat(2, 3)
    for level, source, conv in ((levels[0], merged, pyramid.output[0]), (levels[1], lateral[1], pyramid.output[1])):
        np.testing.assert_allclose(level, conv(Tensor(source.astype(np.float32))).asnumpy(), atol=1e-4)


def test_parameter_names():
    names = {parameter.name for parameter in FeaturePyramid((2, 4), 8, True).get_parameters()}
    assert {"lateral.0.weight", "lateral.1.bias", "output.0.weight", "output.1.bias"} <= names
    assert len(names) == 8
