"""The one pass over a silo: what is sent of each image, and that it is the same whenever it is made."""

from dataclasses import replace

import numpy as np
import pytest

from cross_silo.data.manifest import read_manifest
from cross_silo.data.mindrecord_writer import write_shards
from cross_silo.data.transforms import Letterbox
from cross_silo.mistnet.bits import unpack
from cross_silo.mistnet.feature_pass import Drawing, make_features
from cross_silo.mistnet.features import FeatureShards
from cross_silo.mistnet.privacy import Mechanism
from cross_silo.mistnet.secret import Secret
from cross_silo.mistnet.spec import FeatureSpec
from tests.support.coco_silo import write_silo

HEIGHT, WIDTH, CHANNELS = 32, 48, 6
SECRET = Secret(bytes(range(32)))
THRESHOLDS = np.linspace(0.2, 0.7, CHANNELS).astype(np.float32)


def make_spec(epsilon=None, **changes):
    mechanism = Mechanism(epsilon)
    spec = FeatureSpec(
        cut=2,
        shape=(CHANNELS, HEIGHT // 4, WIDTH // 4),
        bits=CHANNELS * HEIGHT * WIDTH // 16,
        p=mechanism.p,
        q=mechanism.q,
        epsilon=epsilon,
        convention="half",
        thresholds_sha256="a" * 64,
        extractor_sha256="b" * 64,
        detector="yolov5",
        height=HEIGHT,
        width=WIDTH,
        categories=("two", "five"),
        label_epsilon=None,
        box_jitter=0.0,
    )
    return replace(spec, **changes)


def extract(images):
    """Each 4 x 4 block's mean in red, green and blue, and 1 less those: float32 (N, 6, H / 4, W / 4)."""
    n, h, w, _ = images.shape
    means = images.reshape(n, h // 4, 4, w // 4, 4, 3).mean((2, 4)).transpose(0, 3, 1, 2) / 255
    return np.concatenate([means, 1 - means], 1).astype(np.float32)


@pytest.fixture(scope="module")
def silo(tmp_path_factory):
    """Seven images, of which the first has no object."""
    root = tmp_path_factory.mktemp("silo")
    dataset, image_dir = write_silo(root, num_images=7, boxes=lambda image: image % 4)
    write_shards(dataset, image_dir, str(root / "mindrecord_0"), shards=2, keep_empty=True)
    return root / "mindrecord_0"


class Pass:
    """Runs the pass over a silo with the numpy extractor, and sees what goes in and out of it."""

    def __init__(self, silo, target):
        self.silo, self.target = silo, target
        self.images, self.advanced, self.begun = [], [], []

    def run(self, spec, secret=SECRET, stop_after=None, batch_size=3):
        def seen(images):
            assert images.shape == (batch_size, HEIGHT, WIDTH, 3) and images.dtype == np.uint8
            self.images.append(images.copy())
            return extract(images)

        def advance(images):
            self.advanced.append(images)
            if len(self.advanced) == stop_after:
                raise KeyboardInterrupt

        make_features(
            self.target,
            self.silo,
            read_manifest(self.silo),
            [Letterbox(HEIGHT, WIDTH)],
            Drawing(spec, THRESHOLDS, secret),
            spec,
            seen,
            batch_size,
            self.begun.append,
            advance,
        )
        return list(FeatureShards(self.target).records(range(7)))


@pytest.fixture
def over(silo, tmp_path):
    return lambda name="features": Pass(silo, tmp_path / name)


def test_bits_and_labels_of_every_image(over):
    found = over()
    records = found.run(make_spec())
    assert (found.begun, found.advanced) == ([0], [3, 3, 1])
    images = np.concatenate(found.images)[:7]
    expected = extract(images) > THRESHOLDS.reshape(-1, 1, 1)
    for number, (record, bits) in enumerate(zip(records, expected)):
        np.testing.assert_array_equal(unpack(record.bits, bits.size).reshape(bits.shape), bits)
        assert record.labels.shape == (number % 4, 6)
        assert 0.2 < bits.mean() < 0.8
    # Images of 20 x 30 fill 32 x 48 pixels: boxes grow by 1.6.
    np.testing.assert_allclose(
        records[3].labels,
        np.float32([[0.25, 3, 4.75, 9, 1, 0], [1.25, 3, 5.75, 10, 0, 0], [2.25, 3, 6.75, 11, 1, 1]])
        * [1.6, 1.6, 1.6, 1.6, 1, 1],
        rtol=1e-5,
    )
    assert len({record.id for record in records}) == 7


def test_nothing_of_a_file_says_which_image_it_was(over):
    found = over()
    found.run(make_spec())
    for path in found.target.iterdir():
        content = path.read_bytes()
        assert b".jpg" not in content and b".png" not in content and b"1000000000" not in content


def test_noise_has_the_promised_share(over):
    spec = make_spec(1.0)
    clean, noisy = over("clean").run(make_spec()), over("noisy").run(spec)
    flips = np.array([unpack(a.bits ^ b.bits, spec.bits) for a, b in zip(clean, noisy)])
    sigma = np.sqrt(spec.p * spec.q / flips.size)
    assert abs(flips.mean() - spec.q) < 3 * sigma
    assert len(np.unique(flips, axis=0)) == 7  # each image has its own


def test_a_second_pass_gives_the_same_bits(over):
    first, second = over("first").run(make_spec(1.0)), over("second").run(make_spec(1.0), batch_size=2)
    for a, b in zip(first, second):
        np.testing.assert_array_equal(a.bits, b.bits)
        assert a.id == b.id


def test_another_secret_gives_other_bits_and_names(over):
    first = over("first").run(make_spec(1.0))
    second = over("second").run(make_spec(1.0), Secret(bytes(32)))
    assert all((a.bits != b.bits).any() and a.id != b.id for a, b in zip(first, second))


def test_another_specification_has_noise_of_its_own(over):
    """Were it the same noise, where two releases differ the one with less noise would be the truth."""
    clean = over("clean").run(make_spec())
    spec, other = make_spec(1.0), make_spec(1.0, extractor_sha256="c" * 64)
    flips = [
        np.array([unpack(a.bits ^ b.bits, spec.bits) for a, b in zip(clean, over(name).run(made))])
        for name, made in (("one", spec), ("other", other))
    ]
    both, sigma = (flips[0] & flips[1]).mean(), spec.q / np.sqrt(flips[0].size)
    assert abs(both - spec.q**2) < 4 * sigma


def test_an_interrupted_pass_goes_on_with_the_same_bits(over, monkeypatch):
    monkeypatch.setattr("cross_silo.mistnet.writer.FeatureWriter.__init__.__defaults__", (2 * 72,))
    broken = over("broken")
    with pytest.raises(KeyboardInterrupt):
        broken.run(make_spec(1.0), stop_after=2)
    records = broken.run(make_spec(1.0))
    assert broken.begun == [0, 6] and broken.advanced == [3, 3, 1]
    for a, b in zip(records, over("whole").run(make_spec(1.0))):
        np.testing.assert_array_equal(a.bits, b.bits)


def test_noise_does_not_depend_on_labels():
    drawing = Drawing(make_spec(1.0, label_epsilon=1.0, box_jitter=0.1), THRESHOLDS, SECRET)
    activations = np.random.default_rng(0).random((CHANNELS, HEIGHT // 4, WIDTH // 4), np.float32)
    rows = np.float32([[1, 2, 30, 20, 0, 0]] * 5)
    sent = [drawing.record(b"image", activations, rows[:count]) for count in (0, 1, 5)]
    assert sent[0].labels.shape == (0, 6)
    for record in sent[1:]:
        np.testing.assert_array_equal(record.bits, sent[0].bits)


def test_labels_are_noisy_where_asked_for():
    drawing = Drawing(make_spec(label_epsilon=0.5, box_jitter=0.2), THRESHOLDS, SECRET)
    activations = np.zeros((CHANNELS, HEIGHT // 4, WIDTH // 4), np.float32)
    rows = np.tile(np.float32([[10, 8, 30, 20, 0, 0]]), (100, 1))
    labels = drawing.record(b"image", activations, rows).labels
    assert set(labels[:, 4]) == {0, 1} and (labels[:, :4] != rows[:, :4]).any(0).all()
    np.testing.assert_array_equal(labels, drawing.record(b"image", activations, rows).labels)


def test_the_same_pixels_under_another_id_get_other_noise():
    drawing = Drawing(make_spec(1.0), THRESHOLDS, SECRET)
    activations = np.zeros((CHANNELS, HEIGHT // 4, WIDTH // 4), np.float32)
    rows = np.zeros((0, 6), np.float32)
    first, second = (drawing.record(item, activations, rows).bits for item in (b"1", b"2"))
    assert (first != second).any()
