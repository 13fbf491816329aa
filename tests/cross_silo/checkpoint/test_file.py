"""Checkpoint files, both ways between this package and MindSpore."""

import os

import mindspore
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn

from cross_silo.checkpoint import CheckpointInfo, read_checkpoint, wire, write_checkpoint
from cross_silo.checkpoint import file as checkpoint_file
from cross_silo.errors import UserError

KINDS = {"conv.weight": "trainable", "bn.moving_mean": "statistic", "step": "statistic"}
INFO = CheckpointInfo("job", "instance", 7, "f" * 64, "", "c" * 64, ("cell", "细胞"), KINDS)


def some_weights():
    rng = np.random.default_rng(0)
    return {
        "conv.weight": rng.standard_normal((8, 3, 5, 5)).astype(np.float32),
        "bn.moving_mean": rng.standard_normal(8).astype(np.float32),
        "step": np.array(3.5, np.float32),
    }


def assert_same(found, expected):
    assert sorted(found) == sorted(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype and found[name].shape == tensor.shape, name
        np.testing.assert_array_equal(found[name], tensor)


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "a.ckpt"
    size = write_checkpoint(path, some_weights(), INFO)
    assert size == path.stat().st_size
    tensors, info = read_checkpoint(path)
    assert_same(tensors, some_weights())
    assert info == INFO
    assert [item.name for item in tmp_path.iterdir()] == ["a.ckpt"]


def test_flat_views_take_their_shapes(tmp_path):
    weights = some_weights()
    flat = {name: tensor.reshape(-1) for name, tensor in weights.items()}
    write_checkpoint(tmp_path / "a.ckpt", flat, INFO, {name: tensor.shape for name, tensor in weights.items()})
    assert_same(read_checkpoint(tmp_path / "a.ckpt")[0], weights)


def test_arrays_are_aligned_views_of_the_mapped_file(tmp_path):
    write_checkpoint(tmp_path / "a.ckpt", some_weights(), INFO)
    for tensor in read_checkpoint(tmp_path / "a.ckpt")[0].values():
        assert tensor.flags.aligned and not tensor.flags.writeable and not tensor.flags.owndata


@pytest.mark.parametrize("name", sorted(checkpoint_file.DTYPES))
def test_every_element_type_both_ways(tmp_path, name):
    expected = np.arange(6).reshape(2, 3).astype(checkpoint_file.DTYPES[name])
    write_checkpoint(tmp_path / "ours.ckpt", {"t": expected}, CheckpointInfo())
    loaded = mindspore.load_checkpoint(str(tmp_path / "ours.ckpt"))["t"].asnumpy()
    assert loaded.dtype == expected.dtype
    np.testing.assert_array_equal(loaded, expected)
    mindspore.save_checkpoint([{"name": "t", "data": Tensor(expected)}], str(tmp_path / "theirs.ckpt"))
    assert_same(read_checkpoint(tmp_path / "theirs.ckpt")[0], {"t": expected})


def test_bfloat16_becomes_float32(tmp_path):
    tensor = Tensor(np.array([1, -2.5, 3.140625], np.float32)).astype(mindspore.bfloat16)
    mindspore.save_checkpoint([{"name": "t", "data": tensor}], str(tmp_path / "a.ckpt"))
    assert_same(read_checkpoint(tmp_path / "a.ckpt")[0], {"t": np.array([1, -2.5, 3.140625], np.float32)})


class Net(nn.Cell):
    """A convolution and a statistic."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 5, has_bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.step = Parameter(Tensor(0.0, mindspore.float32), name="step", requires_grad=False)


@pytest.mark.parametrize("crc_check", [False, True])
def test_mindspore_loads_ours_into_a_network(tmp_path, crc_check):
    net = Net()
    weights = {p.name: np.full(p.shape, 0.25, np.float32) for p in net.get_parameters()}
    write_checkpoint(tmp_path / "a.ckpt", weights, info_of(weights))
    loaded = mindspore.load_checkpoint(str(tmp_path / "a.ckpt"), crc_check=crc_check)
    assert isinstance(loaded["cross_silo.info"], str)
    missing, left = mindspore.load_param_into_net(net, loaded, strict_load=True)
    assert missing == [] and left == ["cross_silo.info"]
    assert all((p.asnumpy() == 0.25).all() for p in net.get_parameters())


def info_of(weights):
    return CheckpointInfo("job", kinds=dict.fromkeys(weights, "trainable"))


@pytest.mark.parametrize("crc_check", [False, True])
def test_we_read_what_mindspore_saves_of_a_network(tmp_path, crc_check):
    net = Net()
    mindspore.save_checkpoint(
        net, str(tmp_path / "a.ckpt"), append_dict={"epoch": 3, "lr": 0.5, "note": "text"}, crc_check=crc_check
    )
    tensors, info = read_checkpoint(tmp_path / "a.ckpt")
    assert info == CheckpointInfo()
    assert tensors.pop("epoch") == 3 and tensors.pop("lr") == np.float32(0.5)
    assert_same(tensors, {p.name: p.asnumpy() for p in net.get_parameters()})


def test_large_tensors_are_spread_over_values_as_mindspore_does(tmp_path, monkeypatch):
    monkeypatch.setattr(wire, "SLICE_BYTES", 256)
    write_checkpoint(tmp_path / "a.ckpt", some_weights(), INFO)
    assert len(wire.entries(memoryview((tmp_path / "a.ckpt").read_bytes()))[0]) > len(KINDS) + 5
    tensors, info = read_checkpoint(tmp_path / "a.ckpt")
    assert info == INFO
    assert_same(tensors, some_weights())
    loaded = mindspore.load_checkpoint(str(tmp_path / "a.ckpt"))
    np.testing.assert_array_equal(loaded["conv.weight"].asnumpy(), some_weights()["conv.weight"])


def test_every_truncation_is_noticed(tmp_path):
    whole = tmp_path / "a.ckpt"
    write_checkpoint(whole, some_weights(), INFO)
    content = whole.read_bytes()
    last_tensor = len(content) - len(wire.CRC_MARK) - wire.CRC_BYTES
    for size in [*range(0, last_tensor, 97), *range(last_tensor - 80, last_tensor)]:
        (tmp_path / "b.ckpt").write_bytes(content[:size])
        with pytest.raises(UserError, match=r"b\.ckpt"):
            read_checkpoint(tmp_path / "b.ckpt")


def test_one_changed_bit_is_noticed(tmp_path):
    write_checkpoint(tmp_path / "a.ckpt", some_weights(), INFO)
    content = bytearray((tmp_path / "a.ckpt").read_bytes())
    for place in range(0, len(content), 61):
        content[place] ^= 0x10
        (tmp_path / "b.ckpt").write_bytes(content)
        content[place] ^= 0x10
        with pytest.raises(UserError):
            read_checkpoint(tmp_path / "b.ckpt")


def entry(tag, kind, dims, content):
    return wire.header(tag, kind, dims, len(content), 0) + content


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"", "empty"),
        (b"not a checkpoint at all", "damaged"),
        (entry("t", "Float32", [3], bytes(8)), "has 8 bytes, expected 12"),
        (entry("t", "Float31", [2], bytes(8)), "unknown type 'Float31'"),
        (entry("t", "Float32", [2**31 - 1] * 4, bytes(8)), "expected"),
        (
            entry("t", "Float32", [1], bytes(4))
            + entry("u", "Float32", [1], bytes(4))
            + entry("t", "Float32", [1], bytes(4)),
            "twice",
        ),
        (entry("t", "str", [0], "a".encode("utf-32-le")), "no tensor"),
        (entry("cross_silo.info", "str", [0], b"abc"), "cross_silo.info"),
    ],
)
def test_damage_is_named(tmp_path, content, reason):
    (tmp_path / "a.ckpt").write_bytes(content)
    with pytest.raises(UserError, match=reason):
        read_checkpoint(tmp_path / "a.ckpt")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nothing\.ckpt: No such file"):
        read_checkpoint(tmp_path / "nothing.ckpt")
    with pytest.raises(UserError, match="directory"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "tensor, shape, reason",
    [(np.zeros(3, np.complex64), (3,), "complex64"), (np.zeros(3, np.float32), (2, 2), "3 values")],
)
def test_what_cannot_be_written_is_refused_and_leaves_nothing(tmp_path, tensor, shape, reason):
    with pytest.raises(ValueError, match=reason):
        write_checkpoint(tmp_path / "a.ckpt", {"t": tensor}, CheckpointInfo(), {"t": shape})
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_the_old_file_whole(tmp_path, monkeypatch):
    write_checkpoint(tmp_path / "a.ckpt", some_weights(), INFO)

    def full(descriptor, buffers):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "writev", full)
    with pytest.raises(OSError, match="No space"):
        write_checkpoint(tmp_path / "a.ckpt", {"t": np.ones(3, np.float32)}, CheckpointInfo())
    assert_same(read_checkpoint(tmp_path / "a.ckpt")[0], some_weights())
    assert [item.name for item in tmp_path.iterdir()] == ["a.ckpt"]


def test_short_writes_are_gone_on_with(tmp_path, monkeypatch):
    def one_at_a_time(descriptor, buffers, writev=os.writev):
        return writev(descriptor, [memoryview(buffers[0])[:100]])

    monkeypatch.setattr(os, "writev", one_at_a_time)
    write_checkpoint(tmp_path / "a.ckpt", some_weights(), INFO)
    assert_same(read_checkpoint(tmp_path / "a.ckpt")[0], some_weights())


def test_many_tensors(tmp_path):
    weights = {f"layer{i}.weight": np.full(3, i, np.float32) for i in range(1500)}
    write_checkpoint(tmp_path / "a.ckpt", weights, CheckpointInfo(kinds=dict.fromkeys(weights, "trainable")))
    assert_same(read_checkpoint(tmp_path / "a.ckpt")[0], weights)


def test_writing_copies_no_tensor(tmp_path):
    weights = {"t": np.ones(2**20, np.float32)}
    assert any(
        np.shares_memory(np.frombuffer(buffer, np.uint8), weights["t"])
        for buffer in checkpoint_file._layout(weights, CheckpointInfo(), {})
    )
