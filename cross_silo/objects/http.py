"""Objects at http(s)://, which are read alone: ranges and If-Range (RFC 9110, 13.1.5 and 14)."""

from __future__ import annotations

import http.client
import re
import ssl
import urllib.error
import urllib.parse
import urllib.request
from typing import Dict, Optional

from cross_silo.errors import UserError
from cross_silo.objects.location import Location
from cross_silo.objects.stored import BrokenError, ChangedError, Opened

SECONDS = 30.0
"""Of silence."""
SAFE = "%/:=&?~#+!$,;'@()*[]"
"""What stays as it is in a URL; all else, such as a letter with an accent, is written with %."""
BROKEN = (http.client.HTTPException, OSError)


def open_http(place: Location, start: int, tag: str) -> Opened:
    """Begin to read at ``start`` if the object is still that of ``tag``, else from its beginning.

    Raises:
        BrokenError: no connection, or the server is busy.
        ChangedError: the server does not have so many bytes.
        UserError: the server has no such object, or its end could not be told from a broken connection.
    """
    headers: Dict[str, str] = {"Range": f"bytes={start}-", "If-Range": tag} if start else {}
    reply = _ask(place, headers)
    begins, size = 0, _whole(reply)
    if reply.status == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", reply.headers.get("Content-Range", ""))
        if found is None or int(found[1]) != start:
            raise ChangedError()
        begins, size = start, int(found[2])
    elif size is None and not reply.chunked:
        raise UserError(f"{place}: the server does not say how long it is; half of it could be taken for the whole")

    def read(amount: int) -> bytes:
        try:
            return reply.read(amount)
        except BROKEN as error:
            raise BrokenError(_text(error)) from None

    return Opened(begins, size, _tag(reply), read, reply.close)


def _ask(place: Location, headers: Dict[str, str]) -> http.client.HTTPResponse:
    url = urllib.parse.quote(place.url, safe=SAFE)
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity", **headers})
    try:
        return urllib.request.urlopen(request, timeout=SECONDS)  # type: ignore[no-any-return]
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:
            raise ChangedError() from None
        if error.code >= 500 or error.code in (408, 429):
            raise BrokenError(f"the server answers {error.code} {error.reason}") from None
        raise UserError(f"{place}: the server answers {error.code} {error.reason}") from None
    except UnicodeError as error:  # a host's name that is none: another try would not help
        raise UserError(f"{place}: {_text(error)}") from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise UserError(f"{place}: its certificate is not trusted: {error.reason.verify_message}") from None
        raise BrokenError(_text(error.reason)) from None
    except BROKEN as error:
        raise BrokenError(_text(error)) from None


def _whole(reply: http.client.HTTPResponse) -> Optional[int]:
    length = reply.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


def _tag(reply: http.client.HTTPResponse) -> str:
    """Return what If-Range takes: a strong entity tag, or the date of the last change."""
    tag = reply.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else reply.headers.get("Last-Modified", "")


def _text(error: object) -> str:
    return " ".join(str(error).split()) or type(error).__name__
