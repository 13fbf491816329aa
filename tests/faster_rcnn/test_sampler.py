import numpy as np
import pytest

from faster_rcnn.sampler import sample, take

N, K, MOST, TOTAL = 5, 40, 4, 12


@pytest.fixture(scope="module")
def masks():
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 4, (N, K))
    kind[1] = 3  # no positives
    kind[2] = 2  # neither
    kind[3] = 0  # no negatives
    kind[4] = 2
    kind[4, [3, 7]] = 0
    kind[4, [1, 2, 9]] = 3
    return kind == 0, kind == 3, rng.random((N, K), dtype=np.float32)


@pytest.fixture(scope="module")
def draw(in_graph):
    return in_graph(sample, MOST, TOTAL)


def test_takes_the_largest_noise_of_each_kind(masks, draw):
    positive, negative, noise = masks
    index, is_positive, is_used = draw(positive, negative, noise)
    assert index.dtype == np.int32 and index.shape == (N, TOTAL)
    for image in range(N):
        by_noise = sorted(range(K), key=lambda k: -noise[image, k])
        objects = [k for k in by_noise if positive[image, k]][:MOST]
        background = [k for k in by_noise if negative[image, k]][: TOTAL - len(objects)]
        used = len(objects) + len(background)
        assert index[image, :used].tolist() == objects + background
        assert is_positive[image].tolist() == [slot < len(objects) for slot in range(TOTAL)]
        assert is_used[image].tolist() == [slot < used for slot in range(TOTAL)]


def test_equal_noise_keeps_the_counts(masks, draw):
    positive, negative, noise = masks
    index, is_positive, is_used = draw(positive, negative, np.zeros_like(noise))
    for image in range(N):
        objects = index[image][is_positive[image]]
        background = index[image][is_used[image] & ~is_positive[image]]
        assert len(set(objects)) == min(MOST, positive[image].sum()) and positive[image, objects].all()
        assert negative[image, background].all() and len(set(background)) == len(background)


def test_every_candidate_is_drawn_alike(masks, draw):
    positive, negative, _ = masks
    rng = np.random.default_rng(1)
    counts = np.zeros(K)
    for _ in range(300):
        index, is_positive, _ = draw(positive, negative, rng.random((N, K), dtype=np.float32))
        counts[index[3][is_positive[3]]] += 1
    assert counts.sum() == 300 * MOST
    assert counts.min() > 10 and counts.max() < 55  # 30 expected, standard deviation 5.2


def test_take_reads_each_images_own_rows(in_graph):
    values = np.arange(2 * 3 * 2, dtype=np.float32).reshape(2, 3, 2)
    index = np.array([[2, 0, 0, 1], [1, 1, 2, 0]], np.int32)
    found = in_graph(take)(values, index)
    np.testing.assert_array_equal(found, np.take_along_axis(values, index[..., None], 1))
    np.testing.assert_array_equal(in_graph(take)(values[..., 0], index), np.take_along_axis(values[..., 0], index, 1))
