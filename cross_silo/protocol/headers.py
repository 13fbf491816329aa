"""HTTP headers for what the engine's messages have no field for; a client that does not know them loses nothing."""

from __future__ import annotations

import math
import urllib.parse
from typing import Optional

WORKER = "Cross-Silo-Worker"
"""Request: the worker's id, random for each start of its process."""
ATTEMPT = "Cross-Silo-Attempt"
"""Request: the attempt that the worker joined. Reply: the attempt in progress."""
WAIT = "Cross-Silo-Wait"
"""Request: seconds to wait at the server; getModel: for a verdict, startFLJob: for a place in a round."""
STATS = "Cross-Silo-Stats"
"""Request, updateModel: JSON with steps, train_seconds and loss."""
INSTANCE = "Cross-Silo-Job-Instance"
"""Reply: the job's instance."""
STATE = "Cross-Silo-State"
"""Reply: running, disabled, finished, failed or stopped."""
ITERATION = "Cross-Silo-Iteration"
"""Reply: the round in progress."""
VERDICT = "Cross-Silo-Verdict"
"""Reply: pending, good or failed; startFLJob: pending where the silo is to ask again for a later round."""
REASON = "Cross-Silo-Reason"
"""Reply: why, percent-encoded UTF-8."""
MODEL_ROUND = "Cross-Silo-Model-Round"
"""Reply, getModel: the good round that the model is of."""
PORTS = "Cross-Silo-Ports"
"""Reply, startFLJob: the ports of the job's servers, in order, where there are several; all at the host asked."""
SPLIT = "Cross-Silo-Split"
"""Reply, startFLJob: which of them holds which tensor, a digit (0-9, a-z) each, in the order of the tensors' names."""
SHARD = "Cross-Silo-Shard"
"""Request, updateModel and getModel: only the tensors of the server that is asked."""
TAG = "Cross-Silo-Model-Tag"
"""getModel: what the shards of one model have in common. Reply of the first server, request to the others."""

PENDING = "pending"
GOOD = "good"
FAILED = "failed"

MAX_WAIT = 60.0
"""Longest wait that the server grants, seconds."""


def quote(reason: str) -> str:
    """Return ``reason`` as a header can carry it."""
    return urllib.parse.quote(reason[:2000], safe=" ,;:()/=+")


def unquote(value: Optional[str]) -> str:
    """Return the text that :func:`quote` encoded; empty for a missing header."""
    return urllib.parse.unquote(value or "")


def number(value: Optional[str], largest: float) -> Optional[float]:
    """Return a header's number, held to 0..``largest``; None where it is missing or is no number."""
    try:
        found = float(value) if value is not None else None
    except ValueError:
        return None
    return None if found is None or math.isnan(found) else min(max(found, 0.0), largest)
