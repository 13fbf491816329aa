"""Running transforms: boxes end inside the image, and randomness comes from the generator alone."""

import numpy as np

from cross_silo.data.transforms import ColorJitter, HorizontalFlip, MixTransform, ResizeAndPad, apply
from tests.support.painted import bare


def rng(seed=0):
    return np.random.default_rng(seed)


def test_apply_cuts_boxes_and_drops_empty_ones_with_their_labels():
    sample = bare(20, 30, [[-5, -5, 10, 10], [30, 0, 40, 10], [3, 3, 3, 9], [1, 2, 3, 4]])
    sample.crowd[3] = True
    result = apply([], sample, rng())
    np.testing.assert_allclose(result.boxes, [[0, 0, 10, 10], [1, 2, 3, 4]])
    assert result.labels.tolist() == [0, 3]
    assert result.crowd.tolist() == [False, True]


def test_apply_without_boxes():
    result = apply([HorizontalFlip(1), ResizeAndPad(8, 8)], bare(20, 30, []), rng())
    assert result.boxes.shape == (0, 4)


def test_the_same_generator_state_gives_the_same_sample():
    transforms = [HorizontalFlip(0.5), ResizeAndPad(24, 24), ColorJitter(0.4, 0.4, 0.4, 0.1)]
    image = rng().integers(0, 256, (30, 40, 3), dtype=np.uint8)
    results = [apply(transforms, bare(30, 40, [[1, 2, 9, 9]], image.copy()), rng(s)) for s in (5, 5, 6)]
    np.testing.assert_array_equal(results[0].image, results[1].image)
    assert not np.array_equal(results[0].image, results[2].image)


def test_a_mixing_transform_gets_the_others():
    class Sum(MixTransform):
        num_others = 2

        def __call__(self, sample, rng, others):
            sample.boxes = np.concatenate([each.boxes for each in (sample, *others)])
            sample.labels = np.zeros(3, np.int32)
            sample.crowd = np.array([False, True, False])
            return sample

    samples = [bare(20, 30, [[k, k, k + 2, k + 2]]) for k in range(3)]
    result = apply([Sum(), HorizontalFlip(1)], samples[0], rng(), samples[1:])
    np.testing.assert_allclose(result.boxes, [[28, 0, 30, 2], [27, 1, 29, 3], [26, 2, 28, 4]])
    assert result.crowd.tolist() == [False, True, False]
