"""What holds for every detector that can be cut in two."""

import numpy as np


def with_statistics(network, seed=1):
    """Give the network's batch norms values as if it were trained; return it in inference mode."""
    from mindspore import Tensor

    rng = np.random.default_rng(seed)
    for parameter in network.get_parameters():
        if parameter.name.rpartition(".")[2] in ("gamma", "beta", "moving_mean", "moving_variance"):
            parameter.set_data(Tensor(rng.uniform(0.5, 1.5, parameter.shape).astype(np.float32)))
    return network.set_train(False)


def flat(output):
    """Return the arrays of nested tuples of tensors."""
    return [array for part in output for array in flat(part)] if isinstance(output, tuple) else [output.asnumpy()]


def check_cut(detector, network, image, cut):
    """The part before ``cut`` alone and the rest are the whole network, bit for bit; return the tensor between them.

    Args:
        network: of ``detector``, in inference mode.
        image: uint8 (N, H, W, 3).
    """
    from mindspore import Tensor

    from cross_silo.mistnet.cells import FromFeatures, ToFeatures

    edge = detector.edge_network(cut)
    whole = {parameter.name: parameter for parameter in network.get_parameters()}
    names = {parameter.name for parameter in edge.get_parameters()}
    assert names == {name for name in whole if detector.is_before(name, cut)}
    assert 0 < len(names) < len(whole)
    for parameter in edge.get_parameters():
        parameter.set_data(whole[parameter.name])
    features = edge.set_train(False)(Tensor(image)).asnumpy()
    assert features.shape == (len(image), *detector.feature_shape(cut))
    [within] = ToFeatures(network, cut).set_train(False)(Tensor(image))
    np.testing.assert_array_equal(within.asnumpy(), features)
    rest = FromFeatures(network, cut).set_train(False)
    for composed, expected in zip(flat(rest(Tensor(features))), flat(network(Tensor(image)))):
        assert expected.std() > 0
        np.testing.assert_array_equal(composed, expected)
    return features
