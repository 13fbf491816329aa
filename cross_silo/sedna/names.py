"""Names, urls and formats as Kubernetes and Sedna take them."""

from __future__ import annotations

import re
from typing import Optional
from urllib.parse import urlsplit

from cross_silo.sedna.problems import invalid

MOST_JOB_NAME = 63 - len("-aggregation")
"""Sedna names a Service after the job, whose name is a DNS label."""
DNS_1035, DNS_1123 = "[a-z]([-a-z0-9]*[a-z0-9])?", "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
SUBDOMAIN = rf"{DNS_1123}(\.{DNS_1123})*"
SCHEMES = ("s3", "http", "https")
FORMATS = ("txt", "csv", "dir", "mindrecord")


def job_name_fault(name: str) -> Optional[str]:
    """Return why a job cannot have ``name``; None: it can."""
    if re.fullmatch(DNS_1035, name) is None:
        return invalid(
            name,
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic "
            "character, and end with an alphanumeric character (e.g. 'my-name', or 'abc-123', regex used for "
            f"validation is '{DNS_1035}')",
        )
    if len(name) > MOST_JOB_NAME:
        return invalid(name, f"must be no more than {MOST_JOB_NAME} characters: its Service is {{name}}-aggregation")
    return None


def name_fault(name: str) -> Optional[str]:
    """Return why a resource or node cannot have ``name``; None: it can."""
    if re.fullmatch(SUBDOMAIN, name) is None or len(name) > 253:
        return invalid(
            name,
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must "
            "start and end with an alphanumeric character (e.g. 'example.com')",
        )
    return None


def namespace_fault(namespace: str) -> Optional[str]:
    """Return why ``namespace`` is none; None: it is."""
    if re.fullmatch(DNS_1123, namespace) is None or len(namespace) > 63:
        return invalid(
            namespace,
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and "
            "end with an alphanumeric character (e.g. 'my-name', or '123-abc')",
        )
    return None


def url_fault(url: str) -> Optional[str]:
    """Return why ``url`` is no host path, s3://, http:// or https://; None: it is."""
    if not url:
        return 'Invalid value: "": empty url'
    if re.search(r"%(?![0-9A-Fa-f]{2})", url) or re.search(r"[\x00-\x20\x7f]", url):
        return f"invalid url({url}): a space, a control character, or a % that is not followed by two hex digits"
    if "$" in url:
        return f"invalid url({url}): a $, which a shell would have filled, is left"
    scheme, separator, _ = url.partition("://")
    if separator and scheme not in SCHEMES:
        return f"invalid url({url}), not support prefix({scheme}), support prefix: [{' '.join(('', *SCHEMES))}]"
    if separator:
        try:
            host = urlsplit(url).netloc
            urlsplit(url).port  # noqa: B018 - raises where it is none
        except ValueError as error:
            return f"invalid url({url}): {error}"
        return None if host else f"invalid url({url}): no {'bucket' if scheme == 's3' else 'host'}"
    if not url.startswith("/"):
        return f"invalid url({url}): a path of a node begins with /"
    return None


def mounts_root(url: str) -> bool:
    """Tell whether Sedna would mount the host's root for ``url``: it mounts the parent directory."""
    return url.startswith("/") and url.rstrip("/").count("/") == 1 and not url.endswith("/")
