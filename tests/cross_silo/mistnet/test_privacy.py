"""p, q and what they come to, against the closed forms of the papers; what a user is told of them."""

import math

import pytest

from cross_silo.config.mistnet import MistNet
from cross_silo.mistnet.privacy import Mechanism, facts, keep_probability, warnings


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 2.0, 4.0, 8.0])
@pytest.mark.parametrize(("convention", "share"), [("half", 0.5), ("per_bit", 1.0)])
def test_p_and_q(epsilon, convention, share):
    mechanism = Mechanism(epsilon, convention)
    assert mechanism.p == pytest.approx(sigmoid(epsilon * share), abs=2**-31)
    assert mechanism.p + mechanism.q == 1
    assert mechanism.bit_epsilon == pytest.approx(epsilon * share, rel=1e-5)
    assert mechanism.bit_epsilon <= epsilon * share  # rounding adds noise
    assert mechanism.total_epsilon(819_200) == 819_200 * mechanism.bit_epsilon


def test_figures_of_the_paper():
    assert [round(Mechanism(epsilon, "per_bit").p, 2) for epsilon in (0.5, 1, 2)] == [0.62, 0.73, 0.88]


def test_without_noise():
    mechanism = Mechanism(None)
    assert (mechanism.p, mechanism.q, mechanism.flip_words) == (1, 0, 0)
    assert mechanism.total_epsilon(8) == math.inf


def test_the_largest_epsilon_still_flips_a_word():
    assert Mechanism(1e5).flip_words == 1
    assert Mechanism(100.0).bit_epsilon < 23


def test_the_least_epsilon_can_be_debiased():
    mechanism = Mechanism(1e-6)
    assert mechanism.flip_words < 2**31 and mechanism.p > mechanism.q


def test_classes():
    assert keep_probability(1.0, 3) == pytest.approx(math.e / (math.e + 2))
    assert keep_probability(1000.0, 3) == 1


def test_what_is_told():
    [features, labels, boxes] = facts(MistNet(cut_layer=4, epsilon=2.0), 819_200, 3)
    assert "819,200 bits an image (102,400 bytes)" in features and "epsilon 2 (half)" in features
    assert "p = 0.731059" in features and "ln(p/q) = 1 a bit, 819,200 an image" in features
    assert "in the clear" in labels and "in the clear" in boxes
    [features, labels, boxes] = facts(MistNet(cut_layer=4, label_epsilon=1.0, box_jitter=0.1), 9, 3)
    assert "9 bits an image (2 bytes)" in features and "inf an image" in features
    assert "stays with probability 0.5761; epsilon 1" in labels
    assert "up to 0.1 of the box" in boxes


@pytest.mark.parametrize(
    ("epsilon", "convention", "warning"),
    [
        (None, "half", "no effective privacy: epsilon is null"),
        (100.0, "half", "no effective privacy: epsilon 100 (half) keeps a bit with p = 1"),
        (9.2, "half", "no effective privacy"),
        (4.6, "per_bit", "no effective privacy"),
        (9.1, "half", "epsilon 9.1 is that of one bit: an image of 100 bits has 455"),
    ],
)
def test_what_is_warned_of(epsilon, convention, warning):
    [found] = warnings(MistNet(cut_layer=4, epsilon=epsilon, epsilon_convention=convention), 100)
    assert found.startswith(warning)
