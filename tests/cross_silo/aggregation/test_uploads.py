"""Receiving and checking updates."""

import threading
import time

import numpy as np
import pytest

from cross_silo.aggregation.uploads import InvalidUpdateError, UploadPool, check_update, receive
from cross_silo.protocol.http_service import PIECE_BYTES, HttpError
from cross_silo.protocol.messages import decode, encode

SIZES = {"a": 5, "b": 2}


class Body:
    """A request whose body is at hand."""

    def __init__(self, content):
        self.content, self.done = content, 0

    def read_into(self, view):
        view[:] = self.content[self.done : self.done + len(view)]
        self.done += len(view)


def message(features, **more):
    listed = [{"weight_fullname": name, "data": np.float32(values)} for name, values in features]
    return decode(encode("RequestUpdateModel", {"feature_map": listed, **more}), "RequestUpdateModel")


GOOD = [("b", [1, 2]), ("a", [1, 2, 3, 4, 5])]


def test_a_sound_update_in_any_order():
    tensors = check_update(message(GOOD, upload_loss=0.5), SIZES, finite=False)
    np.testing.assert_array_equal(tensors["a"], [1, 2, 3, 4, 5])
    np.testing.assert_array_equal(tensors["b"], [1, 2])


@pytest.mark.parametrize(
    ("features", "problem"),
    [
        ([*GOOD, ("c", [1])], "tensor 'c' is not in the model"),
        ([("a", [1, 2, 3, 4, 5])], "tensor 'b' is missing"),
        ([], "tensor 'a' is missing"),
        ([*GOOD, ("b", [1, 2])], "tensor 'b' is there twice"),
        ([GOOD[1], ("b", [1, 2, 3])], "tensor 'b' has 3 values, expected 2"),
        ([GOOD[1], ("b", [])], "tensor 'b' has 0 values, expected 2"),
        ([GOOD[1], ("b", [1, np.nan])], "tensor 'b' has 1 non-finite values, the first is nan at 1"),
        ([GOOD[0], ("a", [1, 2, np.inf, 4, -np.inf])], "tensor 'a' has 2 non-finite values, the first is inf at 2"),
    ],
)
def test_what_cannot_be_averaged_is_named(features, problem):
    with pytest.raises(InvalidUpdateError) as error:
        check_update(message(features), SIZES, finite=False)
    assert str(error.value) == problem


@pytest.mark.parametrize("extra", [{"upload_compress_type": 1}, {"sign": 1}, {"index_array": [1]}])
def test_compressed_updates_are_refused(extra):
    with pytest.raises(InvalidUpdateError, match="compressed"):
        check_update(message(GOOD, **extra), SIZES, finite=False)


def test_non_finite_loss_is_refused():
    with pytest.raises(InvalidUpdateError, match="upload_loss is nan"):
        check_update(message(GOOD, upload_loss=float("nan")), SIZES, finite=False)


@pytest.mark.parametrize("position", [0, 1, PIECE_BYTES // 4 - 1, PIECE_BYTES // 4, 2 * PIECE_BYTES // 4 + 4])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_receive_sees_any_non_finite_number(position, value):
    values = np.ones(2 * PIECE_BYTES // 4 + 5, np.float32)
    values[position] = value
    content = values.tobytes() + b"xyz"
    view = memoryview(bytearray(len(content)))
    assert not receive(Body(content), view, 60)
    assert bytes(view) == content


@pytest.mark.parametrize("length", [0, 3, 4, PIECE_BYTES, PIECE_BYTES + 7])
def test_receive_of_finite_numbers(length):
    view = memoryview(bytearray(length))
    assert receive(Body(bytes([0, 1] * length)[:length]), view, 60)


def test_receive_is_bounded_in_time():
    with pytest.raises(TimeoutError, match="more than 0 s"):
        receive(Body(bytes(10)), memoryview(bytearray(10)), 0)


def test_the_pool_bounds_the_buffers_and_reuses_them():
    pool = UploadPool(2, 100)
    seen, most, held, lock = set(), [0], [0], threading.Lock()

    def upload():
        with pool.buffer(10) as view:
            with lock:
                held[0] += 1
                most[0] = max(most[0], held[0])
                seen.add(np.frombuffer(view, np.uint8).ctypes.data)
            time.sleep(0.01)
            with lock:
                held[0] -= 1

    threads = [threading.Thread(target=upload) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] == 2
    assert len(seen) <= 2


def test_a_full_pool_tells_who_waits_too_long():
    pool = UploadPool(1, 10)
    with pool.buffer(1), pytest.raises(HttpError) as error, pool.buffer(0.01):
        pass
    assert error.value.status == 503


def test_a_failed_upload_gives_its_buffer_back():
    pool = UploadPool(1, 10)
    for _ in range(3):
        with pytest.raises(ConnectionError), pool.buffer(0.01):
            raise ConnectionError
