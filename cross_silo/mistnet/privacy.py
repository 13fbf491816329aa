"""Randomised response on bits: what epsilon means for one bit and for an image, computed and told without gloss.

Warner 1965; Wang et al. 2017, Locally Differentially Private Protocols for Frequency Estimation, section 4.3 (symmetric
unary encoding, whose epsilon / 2 is the convention ``half``); MistNet (2020), theorem 4.1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import List, Optional

from cross_silo.config.mistnet import HALF, MistNet

WORDS = 2**32
"""Values of a random word, of which each bit gets one."""
NO_PRIVACY = 0.99
"""Probability that a bit stays above which the noise hides nothing."""


@dataclass(frozen=True)
class Mechanism:
    """Keeps a bit with probability p and turns it over with probability q = 1 - p, independently of all others."""

    epsilon: Optional[float]
    """None: bits stay as they are."""
    convention: str = HALF

    @property
    def flip_words(self) -> int:
        """How many of a word's 2^32 values turn a bit over: rounded up, so that there is never less noise than said."""
        if self.epsilon is None:
            return 0
        exponent = self.epsilon / 2 if self.convention == HALF else self.epsilon
        odds = math.exp(-exponent)
        return max(1, math.ceil(odds / (1 + odds) * WORDS))

    @property
    def q(self) -> float:
        """Probability that a bit which is 0 is sent as 1."""
        return self.flip_words / WORDS

    @property
    def p(self) -> float:
        """Probability that a bit which is 1 is sent as 1."""
        return 1 - self.q

    @property
    def bit_epsilon(self) -> float:
        """ln(p / q): the epsilon of local differential privacy of one bit; infinite without noise."""
        return math.log(self.p / self.q) if self.q else math.inf

    def total_epsilon(self, bits: int) -> float:
        """Return the epsilon of an image of ``bits`` bits: all of them change with the image."""
        return bits * self.bit_epsilon


def keep_probability(label_epsilon: float, classes: int) -> float:
    """Return with what probability randomised response over ``classes`` classes keeps the true one."""
    odds = math.exp(-label_epsilon)
    return 1 / (1 + (classes - 1) * odds)


def facts(settings: MistNet, bits: int, classes: int) -> List[str]:
    """Return the lines that every process of the job shows at its start: what is sent and how noisy it is.

    Args:
        bits: of an image.
        classes: object classes.
    """
    mechanism = Mechanism(settings.epsilon, settings.epsilon_convention)
    said = "null" if settings.epsilon is None else f"{settings.epsilon:g} ({settings.epsilon_convention})"
    lines = [
        f"features: {bits:,} bits an image ({-(-bits // 8):,} bytes), cut_layer {settings.cut_layer}, epsilon {said}: "
        f"a bit stays with p = {mechanism.p:.6g}, is turned over with q = {mechanism.q:.3g}; "
        f"ln(p/q) = {mechanism.bit_epsilon:.4g} a bit, {mechanism.total_epsilon(bits):,.6g} an image"
    ]
    if settings.label_epsilon is None:
        lines.append("labels: the classes of all objects are sent in the clear")
    else:
        kept = keep_probability(settings.label_epsilon, classes)
        lines.append(
            f"labels: a class stays with probability {kept:.4g}; epsilon {settings.label_epsilon:g} for each object's "
            "class, the number of objects in the clear"
        )
    if settings.box_jitter:
        lines.append(f"boxes: sides moved by up to {settings.box_jitter:g} of the box: blurred, not private")
    else:
        lines.append("boxes: sent in the clear")
    return lines


def warnings(settings: MistNet, bits: int) -> List[str]:
    """Return what a user must not overlook: noise that hides nothing, a total beyond meaning."""
    mechanism = Mechanism(settings.epsilon, settings.epsilon_convention)
    if settings.epsilon is None:
        return ["no effective privacy: epsilon is null, the bits are those of the image, without noise"]
    if mechanism.p > NO_PRIVACY:
        return [
            f"no effective privacy: epsilon {settings.epsilon:g} ({settings.epsilon_convention}) keeps a bit with "
            f"p = {mechanism.p:.6g}"
        ]
    return [
        f"epsilon {settings.epsilon:g} is that of one bit: an image of {bits:,} bits has "
        f"{mechanism.total_epsilon(bits):,.0f}, which guarantees nothing by itself; see docs/privacy.md"
    ]
