"""Objects in a bucket, of a store that is a process of its own and knows one key."""

import dataclasses
import hashlib
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from cross_silo.errors import UserError
from cross_silo.objects import Credentials, Entry, Stored, fetch, fetch_all, listing, put, remove
from cross_silo.objects.s3 import PART_BYTES
from tests.support.breaking_proxy import BreakingProxy

CONTENT = random.Random(1).randbytes(3 * 2**20 + 17)


@pytest.fixture
def bucket(s3_server, request):
    return s3_server.bucket(f"b-{hashlib.sha256(request.node.name.encode()).hexdigest()[:16]}")


@pytest.fixture
def proxy(s3_server):
    proxy = BreakingProxy(int(s3_server.endpoint.rpartition(":")[2]))
    yield proxy
    proxy.close()


def through(proxy, s3_server):
    return dataclasses.replace(s3_server.credentials, endpoint_url=f"http://127.0.0.1:{proxy.port}")


def write(path, content=CONTENT):
    path.write_bytes(content)
    return path


def leftovers(directory):
    return sorted(path.name for path in directory.iterdir() if path.name.startswith("."))


def test_what_is_put_is_fetched(s3_server, bucket, tmp_path):
    url = f"s3://{bucket}/models/final model.ckpt"
    stored = put(write(tmp_path / "a"), url, s3_server.credentials)
    assert stored == Stored(len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    assert s3_server.s3.get_object(Bucket=bucket, Key="models/final model.ckpt")["Body"].read() == CONTENT
    target = fetch(url, tmp_path / "deep" / "b", s3_server.credentials)
    assert target == tmp_path / "deep" / "b"
    assert target.read_bytes() == CONTENT
    assert leftovers(tmp_path / "deep") == []


def test_credentials_of_the_environment(s3_server, bucket, tmp_path, monkeypatch):
    for name, value in s3_server.credentials.environment().items():
        monkeypatch.setenv(name, value)
    put(write(tmp_path / "a", b"x"), f"s3://{bucket}/x")
    assert fetch(f"s3://{bucket}/x", tmp_path / "b").read_bytes() == b"x"
    monkeypatch.delenv("SECRET_ACCESS_KEY")
    with pytest.raises(UserError, match="s3:// needs the environment variables SECRET_ACCESS_KEY"):
        fetch(f"s3://{bucket}/x", tmp_path / "b")


def test_large_file_goes_in_parts(s3_server, bucket, tmp_path):
    content = random.Random(2).randbytes(2 * PART_BYTES + 5)
    put(write(tmp_path / "a", content), f"s3://{bucket}/big", s3_server.credentials)
    head = s3_server.s3.head_object(Bucket=bucket, Key="big")
    assert head["ETag"].endswith('-3"')  # three parts
    assert fetch(f"s3://{bucket}/big", tmp_path / "b", s3_server.credentials).read_bytes() == content


def test_empty_object(s3_server, bucket, tmp_path):
    put(write(tmp_path / "a", b""), f"s3://{bucket}/empty", s3_server.credentials)
    assert fetch(f"s3://{bucket}/empty", tmp_path / "b", s3_server.credentials).read_bytes() == b""


def test_listing_and_remove(s3_server, bucket, tmp_path):
    for key in ("job/silo_0/1", "job/silo_1/2", "other/3"):
        put(write(tmp_path / "a", key.encode()), f"s3://{bucket}/{key}", s3_server.credentials)
    assert listing(f"s3://{bucket}/job/", s3_server.credentials) == [
        Entry(f"s3://{bucket}/job/silo_0/1", 12),
        Entry(f"s3://{bucket}/job/silo_1/2", 12),
    ]
    remove(f"s3://{bucket}/job/silo_0/1", s3_server.credentials)
    remove(f"s3://{bucket}/job/silo_0/1", s3_server.credentials)
    assert [entry.url for entry in listing(f"s3://{bucket}", s3_server.credentials)] == [
        f"s3://{bucket}/job/silo_1/2",
        f"s3://{bucket}/other/3",
    ]


def test_listing_of_more_than_a_page(s3_server, bucket, monkeypatch):
    monkeypatch.setattr("cross_silo.objects.s3.PAGE", 2)
    for number in range(5):
        s3_server.s3.put_object(Bucket=bucket, Key=f"many/{number}", Body=b"")
    found = listing(f"s3://{bucket}/many/", s3_server.credentials)
    assert [entry.url[-1:] for entry in found] == ["0", "1", "2", "3", "4"]


def test_all_below_a_prefix(s3_server, bucket, tmp_path):
    for key in ("coco/images/1.jpg", "coco/labels/1.txt", "coconut/2"):
        s3_server.s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    directory = fetch_all(f"s3://{bucket}/coco", tmp_path / "data", s3_server.credentials)
    assert {str(p.relative_to(directory)): p.read_text() for p in directory.rglob("*") if p.is_file()} == {
        "images/1.jpg": "coco/images/1.jpg",
        "labels/1.txt": "coco/labels/1.txt",
    }
    with pytest.raises(UserError, match="there is no object below it"):
        fetch_all(f"s3://{bucket}/cocoa", tmp_path / "none", s3_server.credentials)


def test_key_that_leads_out_of_the_directory(s3_server, bucket, tmp_path):
    s3_server.s3.put_object(Bucket=bucket, Key="data/../../evil", Body=b"")
    with pytest.raises(UserError, match="would be a file outside of"):
        fetch_all(f"s3://{bucket}/data", tmp_path / "data", s3_server.credentials)


@pytest.mark.parametrize("wrong", ["access_key", "secret_key"])
def test_wrong_key(s3_server, bucket, tmp_path, wrong):
    bad = dataclasses.replace(s3_server.credentials, **{wrong: "WRONGWRONGWRONGWRONG"})
    source = write(tmp_path / "a", b"x")
    calls = (
        lambda: fetch(f"s3://{bucket}/x", tmp_path / "b", bad),
        lambda: put(source, f"s3://{bucket}/x", bad),
        lambda: listing(f"s3://{bucket}", bad),
        lambda: remove(f"s3://{bucket}/x", bad),
    )
    for call in calls:
        with pytest.raises(UserError) as caught:
            call()
        assert "refuses the key" in str(caught.value)
        assert s3_server.endpoint in str(caught.value)
        assert "WRONG" not in str(caught.value)
        assert s3_server.credentials.secret_key not in str(caught.value)
    assert not (tmp_path / "b").exists()


def test_missing_bucket_and_missing_object(s3_server, bucket, tmp_path):
    source = write(tmp_path / "a", b"x")
    for call in (
        lambda: fetch("s3://nowhere-at-all/x", tmp_path / "b", s3_server.credentials),
        lambda: put(source, "s3://nowhere-at-all/x", s3_server.credentials),
        lambda: listing("s3://nowhere-at-all", s3_server.credentials),
    ):
        with pytest.raises(
            UserError, match=f"^s3://nowhere-at-all.*no bucket 'nowhere-at-all' at {s3_server.endpoint}"
        ):
            call()
    with pytest.raises(UserError, match=f"^s3://{bucket}/none: no such object at {s3_server.endpoint}"):
        fetch(f"s3://{bucket}/none", tmp_path / "b", s3_server.credentials)
    with pytest.raises(UserError, match=f"s3://{bucket}/dir/ names no object"):
        fetch(f"s3://{bucket}/dir/", tmp_path / "b", s3_server.credentials)


def test_bucket_of_no_valid_name_is_an_error_at_once(s3_server, tmp_path):
    with pytest.raises(UserError, match="Invalid bucket name"):
        fetch("s3://no valid name/x", tmp_path / "b", s3_server.credentials)


def test_download_goes_on_after_broken_connections(s3_server, bucket, proxy, tmp_path):
    put(write(tmp_path / "a"), f"s3://{bucket}/x", s3_server.credentials)
    proxy.limits = [2**20, 2**20, 500]
    target = fetch(f"s3://{bucket}/x", tmp_path / "b", through(proxy, s3_server))
    assert target.read_bytes() == CONTENT
    assert proxy.cut == 3
    assert leftovers(tmp_path) == []


def test_download_that_stays_broken_is_not_taken_for_whole(s3_server, bucket, proxy, tmp_path):
    put(write(tmp_path / "a"), f"s3://{bucket}/x", s3_server.credentials)
    proxy.limits = [2**21] + [0] * 1000
    with pytest.raises(UserError, match=r"the connection stays broken for 2 s.*bytes are kept"):
        fetch(f"s3://{bucket}/x", tmp_path / "b", through(proxy, s3_server), patience=2.0)
    assert not (tmp_path / "b").exists()
    part = next(tmp_path.glob(".b.*.part"))
    assert 0 < part.stat().st_size < len(CONTENT)
    kept = part.stat().st_size
    again = BreakingProxy(int(s3_server.endpoint.rpartition(":")[2]), [len(CONTENT) - kept // 2])
    assert fetch(f"s3://{bucket}/x", tmp_path / "b", through(again, s3_server)).read_bytes() == CONTENT
    assert again.cut == 0  # what was kept did not come a second time
    again.close()


def test_object_that_changed_begins_anew(s3_server, bucket, proxy, tmp_path):
    put(write(tmp_path / "a"), f"s3://{bucket}/x", s3_server.credentials)
    proxy.limits = [2**21] + [0] * 1000
    with pytest.raises(UserError):
        fetch(f"s3://{bucket}/x", tmp_path / "b", through(proxy, s3_server), patience=0.5)
    other = bytes(reversed(CONTENT))
    put(write(tmp_path / "a", other), f"s3://{bucket}/x", s3_server.credentials)
    assert fetch(f"s3://{bucket}/x", tmp_path / "b", s3_server.credentials).read_bytes() == other


def test_killed_download_goes_on(s3_server, bucket, tmp_path):
    """A process that is killed in the middle leaves a part, which the next one takes up."""
    put(write(tmp_path / "a"), f"s3://{bucket}/x", s3_server.credentials)
    proxy = BreakingProxy(int(s3_server.endpoint.rpartition(":")[2]), [2**20] + [0] * 1000)
    code = "import sys; from cross_silo.objects import fetch; fetch(sys.argv[1], sys.argv[2])"
    environment = {**os.environ, **through(proxy, s3_server).environment()}
    child = subprocess.Popen([sys.executable, "-c", code, f"s3://{bucket}/x", str(tmp_path / "b")], env=environment)
    deadline = time.monotonic() + 120
    while proxy.cut < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    proxy.close()
    assert not (tmp_path / "b").exists()
    assert 0 < next(tmp_path.glob(".b.*.part")).stat().st_size < len(CONTENT)
    assert fetch(f"s3://{bucket}/x", tmp_path / "b", s3_server.credentials).read_bytes() == CONTENT
    assert leftovers(tmp_path) == []


def test_damaged_object_is_refused(s3_server, bucket, tmp_path):
    s3_server.s3.put_object(Bucket=bucket, Key="x", Body=b"damaged", Metadata={"sha256": "0" * 64})
    with pytest.raises(UserError, match=rf"s3://{bucket}/x: SHA-256 of what came is .*, expected 0{{64}}"):
        fetch(f"s3://{bucket}/x", tmp_path / "b", s3_server.credentials)
    assert not (tmp_path / "b").exists()
    assert leftovers(tmp_path) == []
    with pytest.raises(UserError, match="SHA-256 of what came is"):
        fetch(f"s3://{bucket}/x", tmp_path / "b", s3_server.credentials, sha256="1" * 64)


def test_target_that_is_the_object_already_stays(s3_server, bucket, tmp_path):
    for key, metadata in (("ours", {"sha256": hashlib.sha256(CONTENT).hexdigest()}), ("others", {})):
        s3_server.s3.put_object(Bucket=bucket, Key=key, Body=CONTENT, Metadata=metadata)
        target = fetch(f"s3://{bucket}/{key}", tmp_path / key, s3_server.credentials)
        inode = target.stat().st_ino
        fetch(f"s3://{bucket}/{key}", target, s3_server.credentials)
        assert target.stat().st_ino == inode
        target.write_bytes(bytes(reversed(CONTENT)))
        assert fetch(f"s3://{bucket}/{key}", target, s3_server.credentials).read_bytes() == CONTENT


def test_upload_tries_again(s3_server, bucket, proxy, tmp_path):
    proxy.limits = [0, 0]
    put(write(tmp_path / "a"), f"s3://{bucket}/x", through(proxy, s3_server))
    assert s3_server.s3.get_object(Bucket=bucket, Key="x")["Body"].read() == CONTENT


def test_upload_that_stays_broken_leaves_nothing(s3_server, bucket, proxy, tmp_path):
    proxy.limits = [0] * 1000
    with pytest.raises(UserError, match=f"s3://{bucket}/x: given up after 1 s"):
        put(write(tmp_path / "a"), f"s3://{bucket}/x", through(proxy, s3_server), patience=1.0)


def test_nobody_listens(free_port, tmp_path):
    nobody = Credentials(f"http://127.0.0.1:{free_port}", "key", "hidden-secret")
    with pytest.raises(UserError, match="stays broken for 0.5 s") as caught:
        fetch("s3://bucket/x", tmp_path / "b", nobody, patience=0.5)
    assert "hidden-secret" not in str(caught.value)


def test_keys_are_never_logged(s3_server, bucket, proxy, tmp_path, caplog):
    caplog.set_level("DEBUG")
    put(write(tmp_path / "a"), f"s3://{bucket}/x", s3_server.credentials)
    proxy.limits = [2**20]
    fetch(f"s3://{bucket}/x", tmp_path / "b", through(proxy, s3_server))
    assert "broke after" in caplog.text
    assert s3_server.credentials.secret_key not in caplog.text
    assert s3_server.credentials.secret_key not in repr(s3_server.credentials)
