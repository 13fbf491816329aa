"""Bits: thresholds by channel, noise with the promised frequencies, packing, and a mean that is the bit."""

import numpy as np
import pytest

from cross_silo.mistnet.bits import binarise, debias, pack, randomise, unpack
from cross_silo.mistnet.privacy import Mechanism
from cross_silo.mistnet.secret import Secret

SECRET = Secret(bytes(32))


def test_thresholds_are_by_channel():
    activations = np.float32([[[[0.0, 1e-9]], [[0.4, 0.6]]]])
    np.testing.assert_array_equal(binarise(activations, np.float32([0, 0.5])), [[[[False, True]], [[False, True]]]])


@pytest.mark.parametrize("epsilon", [0.5, 2.0, 8.0])
@pytest.mark.parametrize("convention", ["half", "per_bit"])
def test_frequencies_within_three_sigma(epsilon, convention):
    mechanism = Mechanism(epsilon, convention)
    count = 400_000
    for value, expected in ((True, mechanism.p), (False, mechanism.q)):
        words = SECRET.words(f"{epsilon} {convention}".encode(), bytes([value]), count)
        sent = randomise(np.full(count, value), words, mechanism.flip_words)
        sigma = np.sqrt(expected * (1 - expected) / count)
        assert abs(sent.mean() - expected) < 3 * sigma


def test_bits_are_turned_over_independently():
    """Neighbours agree about their flips as often as independent ones do."""
    mechanism = Mechanism(1.0, "per_bit")
    flips = randomise(np.zeros(400_000, bool), SECRET.words(b"", b"", 400_000), mechanism.flip_words)
    both = (flips[1:] & flips[:-1]).mean()
    assert abs(both - mechanism.q**2) < 4 * mechanism.q / np.sqrt(400_000)


def test_no_noise_leaves_the_bits():
    bits = SECRET.words(b"", b"", 1000) > 2**31
    np.testing.assert_array_equal(randomise(bits, np.zeros(1000, np.uint32), 0), bits)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 105])
def test_packing_is_undone(count):
    bits = SECRET.words(b"pack", b"", count) > 2**31
    packed = pack(bits)
    assert len(packed) == -(-count // 8)
    np.testing.assert_array_equal(unpack(np.frombuffer(packed, np.uint8), count), bits)


def test_the_first_bit_is_the_highest():
    assert pack(np.array([1, 0, 0, 0, 0, 0, 0, 0, 1], bool)) == b"\x80\x80"


def test_unpacks_a_batch():
    packed = np.uint8([[0x80, 0], [0, 0x80]])
    np.testing.assert_array_equal(unpack(packed, 9), [[1, *[0] * 8], [*[0] * 8, 1]])


@pytest.mark.parametrize("epsilon", [None, 0.5, 4.0])
def test_the_mean_over_the_noise_is_the_bit(epsilon):
    """p x(1) + q x(0) is 1, q x(1) + p x(0) is 0."""
    mechanism = Mechanism(epsilon)
    zero, one = debias(np.uint8([0, 1]), mechanism.p, mechanism.q).astype(np.float64)
    assert mechanism.p * one + mechanism.q * zero == pytest.approx(1, abs=1e-5)
    assert mechanism.q * one + mechanism.p * zero == pytest.approx(0, abs=1e-5)
    assert debias(np.zeros((2, 3), bool), mechanism.p, mechanism.q).dtype == np.float32
