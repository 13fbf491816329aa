"""A role tells its launcher that it serves: ``ready.json`` in its directory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict, Optional, Union

from cross_silo.launch.record import read_json, write_json

FILE = "ready.json"


def write_ready(role_dir: Union[str, os.PathLike], address: str) -> None:
    """Say that this process serves at ``address`` (a worker: works for the server at that address)."""
    directory = Path(role_dir)
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / FILE, {"pid": os.getpid(), "address": address})


def read_ready(role_dir: Union[str, os.PathLike], pid: int) -> Optional[Dict[str, Any]]:
    """Return what the process ``pid`` wrote when it was ready; None before that."""
    content = read_json(Path(role_dir) / FILE)
    return content if content is not None and content.get("pid") == pid else None
