"""Reading rows in any order, and rows more than once."""

import pytest

from cross_silo.data.manifest import read_manifest
from cross_silo.data.mindrecord_reader import read_records
from cross_silo.data.mindrecord_writer import write_shards


@pytest.fixture
def silo(tmp_path, make_silo):
    directory = str(tmp_path / "mindrecord_0")
    write_shards(*make_silo(9), directory, shards=3)
    return directory, read_manifest(directory)


@pytest.mark.parametrize("rows", [[8, 0, 4], [3], [], [5, 5, 5], [1, 2, 1, 7, 2, 1, 0], list(range(9)) * 3])
def test_rows_come_in_the_order_asked_for(silo, rows):
    directory, manifest = silo
    found = [int(record["image_id"]) - 10**10 for record in read_records(directory, manifest, rows)]
    assert found == rows
