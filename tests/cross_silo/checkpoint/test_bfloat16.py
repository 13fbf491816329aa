"""bfloat16 numbers."""

import numpy as np

from cross_silo.checkpoint.bfloat16 import to_float32


def test_each_number_is_exact():
    found = to_float32(np.uint16([0x0000, 0x8000, 0x3F80, 0xC049, 0x7F80, 0x0001]))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.float32([0, -0.0, 1, -3.140625, np.inf, 2.0**-133]))
    assert np.isnan(to_float32(np.uint16([0x7FC0])))[0]
