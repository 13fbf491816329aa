import numpy as np
import pytest

from faster_rcnn.resnet import ResNet, stage_channels

PUBLISHED = {  # parameters without the classifier: the published counts less 512 or 2048 x 1000 + 1000
    "resnet18": 11_689_512 - 513_000,
    "resnet34": 21_797_672 - 513_000,
    "resnet50": 25_557_032 - 2_049_000,
    "resnet101": 44_549_160 - 2_049_000,
    "resnet152": 60_192_808 - 2_049_000,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_count_is_the_published_one(name):
    assert sum(p.size for p in ResNet(name).trainable_params()) == PUBLISHED[name]


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@pytest.mark.parametrize("stride_in", ["1x1", "3x3"])
def test_stages_halve_the_size(name, stride_in):
    from mindspore import Tensor

    stages = ResNet(name, width=4, stride_in=stride_in)(Tensor(np.zeros((1, 3, 64, 96), np.float32)))
    expected = [(1, c, 64 // s, 96 // s) for c, s in zip(stage_channels(name, 4), (4, 8, 16, 32))]
    assert [stage.shape for stage in stages] == expected


@pytest.mark.parametrize("freeze_at", range(6))
def test_frozen_parts_do_not_train(freeze_at):
    net = ResNet("resnet18", width=4, freeze_at=freeze_at)
    frozen = ("conv1.", "layer1.", "layer2.", "layer3.", "layer4.")[:freeze_at]
    for parameter in net.get_parameters():
        statistic = "moving" in parameter.name
        assert parameter.requires_grad is not (statistic or parameter.name.startswith(frozen))


def test_frozen_batch_norm_freezes_norms_alone():
    names = {p.name for p in ResNet("resnet18", width=4, frozen_batch_norm=True).trainable_params()}
    assert "layer4.1.conv2.weight" in names and not any(".norm." in name for name in names)


def test_the_pool_takes_the_largest_of_nine():
    from mindspore import Tensor

    net = ResNet("resnet18", width=4)
    x = np.random.default_rng(0).random((1, 4, 8, 8), np.float32)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    expected = [[padded[:, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max((2, 3)) for j in range(4)] for i in range(4)]
    found = net.pool(net.pad(Tensor(x))).asnumpy()
    np.testing.assert_array_equal(found, np.moveaxis(np.array(expected), (0, 1), (2, 3)))
