"""Objects over HTTP: ranges, broken connections, servers that say little."""

import hashlib
import http.server
import random
import threading

import pytest

from cross_silo.errors import UserError
from cross_silo.objects import fetch, listing, put, remove

CONTENT = random.Random(3).randbytes(2**20 + 3)


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT as the server's settings say."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):  # noqa: N802 - the name that http.server calls
        server = self.server
        server.requests.append(dict(self.headers))
        status = server.statuses.pop(0) if server.statuses else 200
        if status != 200:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content, start = server.content, 0
        wanted = self.headers.get("Range")
        if wanted and server.ranges and self.headers.get("If-Range") == server.tag:
            start = int(wanted[len("bytes=") : -1])
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        if server.length:
            self.send_header("Content-Length", str(len(content) - start))
        if server.tag:
            self.send_header("ETag", server.tag)
        self.end_headers()
        limit = server.limits.pop(0) if server.limits else len(content)
        self.wfile.write(content[start : start + limit])
        self.close_connection = True

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.content, server.tag, server.ranges, server.length = CONTENT, '"v1"', True, True
    server.limits, server.statuses, server.requests = [], [], []
    server.url = f"http://127.0.0.1:{server.server_port}/model.ckpt"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_fetch(server, tmp_path):
    assert fetch(server.url, tmp_path / "a").read_bytes() == CONTENT


def test_goes_on_where_it_broke(server, tmp_path):
    server.limits = [300_000, 400_000]
    assert fetch(server.url, tmp_path / "a").read_bytes() == CONTENT
    assert [request.get("Range") for request in server.requests] == [None, "bytes=300000-", "bytes=700000-"]


def test_server_without_ranges_sends_all_again(server, tmp_path):
    server.ranges, server.limits = False, [300_000]
    assert fetch(server.url, tmp_path / "a").read_bytes() == CONTENT


def test_server_without_tags_sends_all_again(server, tmp_path):
    server.tag, server.limits = "", [300_000]
    assert fetch(server.url, tmp_path / "a").read_bytes() == CONTENT
    assert server.requests[1].get("Range") is None


def test_changed_between_two_tries(server, tmp_path):
    server.limits = [300_000, 0, 0, 0, 0, 0, 0, 0, 0]
    with pytest.raises(UserError, match="300000 bytes are kept"):
        fetch(server.url, tmp_path / "a", patience=0.3)
    server.content, server.tag, server.limits = bytes(reversed(CONTENT)), '"v2"', []
    assert fetch(server.url, tmp_path / "a").read_bytes() == server.content


def test_end_that_cannot_be_told_is_refused(server, tmp_path):
    server.length = False
    with pytest.raises(UserError, match="does not say how long it is"):
        fetch(server.url, tmp_path / "a")


def test_busy_server_is_asked_again(server, tmp_path):
    server.statuses = [503, 429]
    assert fetch(server.url, tmp_path / "a").read_bytes() == CONTENT


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_refused_at_once(server, tmp_path, status):
    server.statuses = [status]
    with pytest.raises(UserError, match=rf"{server.url}: the server answers {status}"):
        fetch(server.url, tmp_path / "a")


def test_url_of_other_letters(server, tmp_path):
    assert fetch(f"{server.url}/modèle%20final", tmp_path / "a").read_bytes() == CONTENT


@pytest.mark.parametrize("url", ["http://[h/x", "http://h:port/x", "http://h:99999/x", f"http://{'h' * 64}/x"])
def test_url_that_is_none_is_refused_at_once(tmp_path, url):
    with pytest.raises(UserError):
        fetch(url, tmp_path / "a", patience=600)


def test_checksum(server, tmp_path):
    right = hashlib.sha256(CONTENT).hexdigest()
    fetch(server.url, tmp_path / "a", sha256=right)
    fetch(server.url, tmp_path / "a", sha256=right.upper())
    with pytest.raises(UserError, match=f"SHA-256 of what came is {right}, expected 0"):
        fetch(server.url, tmp_path / "b", sha256="0" * 64)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_signature_in_the_query_is_not_shown(server, tmp_path):
    server.statuses = [403]
    with pytest.raises(UserError) as caught:
        fetch(server.url + "?X-Amz-Signature=deadbeef", tmp_path / "a")
    assert "deadbeef" not in str(caught.value)
    server.limits = [10, 0, 0, 0, 0]
    with pytest.raises(UserError):
        fetch(server.url + "?X-Amz-Signature=deadbeef", tmp_path / "a", patience=0.2)
    assert all("deadbeef" not in path.read_text(errors="replace") for path in tmp_path.iterdir())


def test_cannot_be_written(tmp_path):
    for call in (lambda: put(tmp_path, "http://h/x"), lambda: listing("http://h/x"), lambda: remove("https://h/x")):
        with pytest.raises(UserError, match="cannot be .*; expected s3:// or a path"):
            call()
