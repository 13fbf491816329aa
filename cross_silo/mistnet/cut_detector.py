"""A detector that is cut in two with bits at the cut: trained from bits, detecting in images by way of bits."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, List, Optional, Sequence

import numpy as np

from cross_silo.errors import UserError
from cross_silo.mistnet.bits import binarise, debias, randomise
from cross_silo.mistnet.privacy import Mechanism
from cross_silo.mistnet.secret import Secret
from cross_silo.mistnet.spec import Cut

if TYPE_CHECKING:
    from mindspore import nn

    from cross_silo.detector import Cuttable, Detections, Detector, Predictor

PUBLIC_KEY = hashlib.sha256(b"noise on evaluation images, which are the server's own").digest()


def legal_cut(detector: "Detector", cut: Cut) -> Cut:
    """Return ``cut`` as the detector has it; a number may come as text.

    Raises:
        UserError: the detector cannot be cut there; names the places where it can.
    """
    legal: Sequence[Any] = getattr(detector, "legal_cuts", ())
    for known in legal:
        if str(known) == str(cut):
            return known
    if not legal:
        raise UserError(f"mistnet.cut_layer: detector {detector.tag} cannot be cut; it has no legal_cuts")
    raise UserError(
        f"mistnet.cut_layer: found {cut!r}; expected one of {', '.join(map(str, legal))} with {detector.tag}"
    )


class CutDetector:
    """A :class:`~cross_silo.detector.Detector` around another: what is not said here is the other's.

    Its network is the other's whole one, with the same tensors. To train it: build it, load the weights, then
    :meth:`freeze` it, before the optimizer is made.
    """

    def __init__(
        self,
        detector: "Cuttable",
        cut: Cut,
        thresholds: Optional[Sequence[float]] = None,
        noise: Optional[Mechanism] = None,
    ) -> None:
        """Cut ``detector``.

        Args:
            thresholds: of each channel at the cut; None: 0 for all.
            noise: on the bits of the images in which :meth:`predictor` detects; None: none.

        Raises:
            UserError: it cannot be cut there, or has another number of channels there.
        """
        self.detector = detector
        self.cut = legal_cut(detector, cut)
        self.shape = detector.feature_shape(self.cut)
        channels = self.shape[0]
        self.thresholds = np.zeros(channels, np.float32) if thresholds is None else np.float32(thresholds)
        if self.thresholds.shape != (channels,):
            raise UserError(f"{len(self.thresholds)} thresholds; expected {channels}, one a channel at cut {cut}")
        self.noise = noise

    def __getattr__(self, name: str) -> Any:
        if name == "detector":  # not made yet
            raise AttributeError(name)
        return getattr(self.detector, name)

    def freeze(self, network: "nn.Cell") -> None:
        """Keep the part before the cut from the optimizer, its weight decay too. The network's fingerprint changes."""
        for parameter in network.get_parameters():
            if self.detector.is_before(parameter.name, self.cut):
                parameter.requires_grad = False

    def training_cell(self, network: "nn.Cell") -> "nn.Cell":
        """Return the cell of the losses; in the place of the images it takes features, float32 (N, C, H, W).

        They are debiased bits, of mean 0 or 1 over the noise.
        """
        from cross_silo.mistnet.cells import FromFeatures

        return self.detector.training_cell(FromFeatures(network, self.cut))

    def predictor(self, network: "nn.Cell") -> "Predictor":
        """Return the function from images to detections; it leaves the network's training flag as it was.

        An image's noise is always the same one.
        """
        if self.noise is None:
            from cross_silo.mistnet.cells import ByBits

            return self.detector.predictor(ByBits(network, self.cut, self.thresholds))
        return self._noisy_predictor(network, self.noise)

    def feature_predictor(self, network: "nn.Cell") -> "Predictor":
        """Return the function from features as in training, float32 (N, C, H, W), to detections."""
        from cross_silo.mistnet.cells import FromFeatures

        return self.detector.predictor(FromFeatures(network, self.cut))

    def export_cell(self, network: "nn.Cell", images: int, file_format: str = "") -> "nn.Cell":
        """Return the cell from images to what the detector's export_cell gives, by way of bits."""
        from cross_silo.mistnet.cells import ByBits

        return self.detector.export_cell(ByBits(network, self.cut, self.thresholds), images, file_format)

    def _noisy_predictor(self, network: "nn.Cell", noise: Mechanism) -> "Predictor":
        from cross_silo.detection.predictor import make_predictor
        from cross_silo.mistnet.cells import ToFeatures

        to_features = make_predictor(ToFeatures(network, self.cut), network, lambda outputs: outputs[0])
        detect = self.feature_predictor(network)
        secret = Secret(PUBLIC_KEY)

        def predict(images: np.ndarray) -> "List[Detections]":
            bits = binarise(to_features(images), self.thresholds)
            for place, image in enumerate(images):
                words = secret.words(b"evaluation", image.tobytes(), bits[place].size)
                bits[place] = randomise(bits[place].reshape(-1), words, noise.flip_words).reshape(self.shape)
            return detect(debias(bits, noise.p, noise.q))

        return predict
