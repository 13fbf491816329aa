"""Two images with a square each, one class a colour, and a detector that overfits them."""

import numpy as np


def learn_squares(detector, make_optimizer, steps, noise=None):
    """Train ``detector`` (3 classes, 64 x 64 pixels, 2 images, 8 boxes) and check that its loss at least halves.

    Args:
        make_optimizer: from the trainable parameters to an optimizer.
        noise: called for each step's random numbers; zeros if not given.

    Returns:
        The detections of both images, their boxes (2, 8, 4) and labels (2, 8), of which the first of each counts.
    """
    import mindspore
    from mindspore import Tensor, nn, ops

    mindspore.set_seed(1)
    images = np.full((2, 64, 64, 3), 40, np.uint8)
    boxes, labels, valid = np.zeros((2, 8, 4), np.float32), np.zeros((2, 8), np.int32), np.zeros((2, 8), np.int32)
    for i, (x, y, side, label) in enumerate(((8, 10, 24, 0), (30, 24, 28, 2))):
        images[i, y : y + side, x : x + side, label] = 250
        boxes[i, 0], labels[i, 0], valid[i, 0] = (x, y, x + side, y + side), label, 1
    network = detector.build_network()
    cell = detector.training_cell(network)
    assert len(cell.trainable_params()) == len(network.trainable_params())
    optimizer = make_optimizer(network.trainable_params())
    gradient = ops.value_and_grad(cell, None, optimizer.parameters, has_aux=True)

    class Step(nn.Cell):
        def __init__(self):
            super().__init__(auto_prefix=False)
            self.cell = cell

        def construct(self, *inputs):
            losses, gradients = gradient(*inputs)
            optimizer(gradients)
            return losses

    step = Step().set_train()
    totals = []
    for _ in range(steps):
        numbers = np.zeros((2, 1), np.float32) if noise is None else noise()
        losses = step(*(Tensor(array) for array in (images, boxes, labels, valid, numbers)))
        assert len(losses) == 1 + len(detector.loss_names)
        totals.append(float(losses[0]))
    assert np.mean(totals[-5:]) < 0.5 * totals[0]

    network.set_train()
    found = detector.predictor(network)(images)
    assert network.training
    return found, boxes, labels
