"""A file is there whole or as it was before."""

import os

import pytest

from cross_silo.checkpoint.replace import written_beside


@pytest.mark.parametrize("durable", [True, False])
def test_what_is_written_takes_the_place(tmp_path, durable):
    path = tmp_path / "a"
    path.write_bytes(b"before")
    with written_beside(path, durable) as descriptor:
        os.write(descriptor, b"after")
        assert path.read_bytes() == b"before"
    assert path.read_bytes() == b"after" and list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"before")
    with pytest.raises(RuntimeError), written_beside(path) as descriptor:
        os.write(descriptor, b"half")
        raise RuntimeError
    assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]


def test_a_directory_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError), written_beside(tmp_path / "none" / "a"):
        pass
