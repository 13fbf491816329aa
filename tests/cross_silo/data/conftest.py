"""A small silo on disk."""

import functools

import pytest

from tests.support.coco_silo import write_silo


@pytest.fixture
def make_silo(tmp_path):
    """Return a function that writes ``num_images`` images and gives their dataset and directory."""
    return functools.partial(write_silo, tmp_path)
