"""Archives that are not as torch.save writes them: compressed, doubled, overlapping, cut, changed."""

import re
import struct
import zipfile

import numpy as np
import pytest

from cross_silo.checkpoint.file import UnreadableCheckpointError
from cross_silo.checkpoint.pytorch import read_torch, zip_file
from tests.support import torch_files

WEIGHT = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def content():
    return torch_files.pickled({"w": torch_files.tensor("0", WEIGHT)})


def refused(path, message):
    with pytest.raises(UnreadableCheckpointError, match=rf"^{re.escape(str(path))} is refused: .*{message}"):
        read_torch(path)


def test_reads_the_tensors_from_where_they_lie(tmp_path, content):
    path = torch_files.zipped(tmp_path / "a.pth", *content, byteorder=b"little")
    found = read_torch(path).tensors["w"]
    np.testing.assert_array_equal(found, WEIGHT)
    big = [torch_files.Storage("0", WEIGHT.astype(">f4"), "Float")]
    path = torch_files.zipped(tmp_path / "b.pth", content[0], big, byteorder=b"big")
    np.testing.assert_array_equal(read_torch(path).tensors["w"], WEIGHT)


def test_a_compressed_record_is_refused_and_not_unpacked(tmp_path, content):
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", content[0], zipfile.ZIP_STORED)
        archive.writestr("archive/data/0", bytes(2**26))
    refused(path, "record 'archive/data/0' is compressed")


def test_a_size_that_differs_from_the_stored_one_is_refused(tmp_path, content):
    path = tmp_path / "a.pth"
    torch_files.zipped(path, *content)
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"PK\x01\x02", 0, data.rindex(b"archive/data/0"))
    data[entry + 24 : entry + 28] = struct.pack("<I", 2**31)
    path.write_bytes(data)
    refused(path, "is compressed")


def test_records_that_share_bytes_are_refused(tmp_path, content):
    path = tmp_path / "a.pth"
    torch_files.zipped(path, *content, **{f"data/{i}": bytes(100) for i in range(1, 20)})
    data = bytearray(path.read_bytes())
    first = data.index(b"PK\x01\x02")
    for match in re.finditer(b"PK\x01\x02", bytes(data)):  # all of them as long as the file
        at = match.start()
        data[at + 20 : at + 28] = struct.pack("<II", first // 2, first // 2)
    path.write_bytes(data)
    refused(path, "its records share bytes")


def test_a_doubled_record_is_refused(tmp_path, content):
    path = tmp_path / "a.pth"
    torch_files.zipped(path, *content)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("archive/data/0", bytes(24))
    refused(path, "record 'archive/data/0' stands there twice")


def test_a_missing_record_is_refused(tmp_path, content):
    refused(torch_files.zipped(tmp_path / "a.pth", content[0], []), "record 'data/0' is missing")
    path = tmp_path / "b.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", b"hello")
    refused(path, "record 'data.pkl' is missing")


def test_a_changed_byte_is_refused(tmp_path, content):
    path = tmp_path / "a.pth"
    torch_files.zipped(path, *content)
    data = bytearray(path.read_bytes())
    data[data.index(WEIGHT.tobytes()) + 5] ^= 1
    path.write_bytes(data)
    refused(path, "CRC-32 of its record 'data/0'")


def test_a_storage_beyond_the_file_is_refused(tmp_path, content):
    path = tmp_path / "a.pth"
    torch_files.zipped(path, *content)
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"PK\x01\x02", 0, data.rindex(b"archive/data/0"))
    data[entry + 42 : entry + 46] = struct.pack("<I", len(data) - 10)
    path.write_bytes(data)
    refused(path, "record 'data/0' does not stand where the directory says")


def test_an_encrypted_record_is_refused(tmp_path, content):
    path = tmp_path / "a.pth"
    torch_files.zipped(path, *content)
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    refused(path, "'archive/data.pkl' is encrypted")


def test_a_long_directory_is_not_read(tmp_path, content, monkeypatch):
    path = torch_files.zipped(tmp_path / "a.pth", *content, **{f"x{i}": b"" for i in range(200)})
    monkeypatch.setattr(zip_file, "MAX_BYTES", 8000)
    refused(path, "its directory of records takes")


def test_a_long_pickle_is_not_read(tmp_path, content, monkeypatch):
    path = torch_files.zipped(tmp_path / "a.pth", content[0] + bytes(2000), content[1])
    monkeypatch.setattr(zip_file, "MAX_BYTES", 1500)
    refused(path, "its pickle has [0-9,]+ bytes, expected at most 1,500")


def test_a_program_and_a_strange_byte_order_are_refused(tmp_path, content):
    refused(torch_files.zipped(tmp_path / "a.pt", *content, **{"constants.pkl": b"."}), "TorchScript")
    refused(torch_files.zipped(tmp_path / "b.pt", *content, byteorder=b"middle"), "byteorder is b'middle'")


def test_a_record_before_the_file_is_refused(tmp_path, content):
    path = tmp_path / "a.pth"
    torch_files.zipped(path, *content)
    data = bytearray(path.read_bytes())
    end = data.rindex(b"PK\x05\x06")
    start = struct.unpack_from("<I", data, end + 16)[0]
    data[end + 16 : end + 20] = struct.pack("<I", start + 20)  # so that all offsets count from 20 bytes before
    path.write_bytes(data)
    refused(path, "")


def test_a_cut_file_is_refused(tmp_path, content):
    path = tmp_path / "a.pth"
    torch_files.zipped(path, *content)
    whole = path.read_bytes()
    for size in range(4, len(whole), 37):
        path.write_bytes(whole[:size])
        refused(path, "")
