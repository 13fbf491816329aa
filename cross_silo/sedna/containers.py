"""The variables and arguments of a worker's container, and those that Sedna's global manager would add."""

from __future__ import annotations

import hashlib
import re
from typing import Any, Dict, List, Mapping, Optional, Tuple

from cross_silo.sedna.environment import PARSERS

ID_FLAG = re.compile(r"(?:-i|--id)(?:=(.*))?|-i(\d.*)", re.DOTALL)


class Variables:
    """A container's variables: its own, then those that Sedna injects, then those set for a trial; the last win."""

    def __init__(self, container: Any, path: str, for_trial: Mapping[str, str]) -> None:
        """``path``: of the container in the manifest."""
        self._paths: Dict[str, str] = {}
        self._trial = dict(for_trial)
        self.values: Dict[str, str] = {}
        self.from_elsewhere: List[str] = []
        """Those whose value is known in a cluster only."""
        trial = {name.lower() for name in for_trial}
        for index, variable in enumerate(container.env):
            if variable.value_from is not None:
                self.from_elsewhere.append(variable.name)
            elif variable.name.lower() not in trial:
                self.values[variable.name] = variable.value
                self._paths[variable.name] = f"{path}.env[{index}].value"
        for name, value in for_trial.items():
            self.values[name] = value
            self._paths[name] = f"--set_env {name}"

    def inject(self, values: Mapping[str, str]) -> List[str]:
        """Add Sedna's own; they win as in a pod, where a name's last entry counts. Returns the names overridden."""
        trial = {name.lower() for name in self._trial}
        added = {name: value for name, value in values.items() if name.lower() not in trial}
        overridden = [name for name, value in added.items() if self.values.get(name, value) != value]
        self.values.update(added)
        return overridden

    def path(self, name: str) -> str:
        """Return where a variable stands, by its name in any case; empty if nowhere."""
        paths = {known.lower(): path for known, path in self._paths.items()}
        return self._paths.get(name) or paths.get(name.lower(), "")

    def unread(self) -> List[str]:
        """Return the container's own variables that mean nothing here."""
        return sorted(name for name in self._paths if name.lower() not in PARSERS)


def client_id(container: Any) -> Tuple[Optional[str], str]:
    """Return (text of ``-i N``, path below the container) among a container's arguments; (None, "") without it."""
    for field in ("args", "command"):
        words: List[str] = getattr(container, field)
        for index, word in enumerate(words):
            match = ID_FLAG.fullmatch(word)
            if match is None:
                continue
            if word not in ("-i", "--id"):
                return match[1] or match[2] or "", f"{field}[{index}]"
            following = words[index + 1] if index + 1 < len(words) else ""
            return following, f"{field}[{min(index + 1, len(words) - 1)}]"
    return None, ""


def worker_name(prefix: str, namespace: str, job: str, role: str) -> str:
    """Return a worker's name as Sedna makes them, with five characters that are the same for the same job."""
    return f"{prefix}-{hashlib.sha256(f'{namespace}/{job}/{role}'.encode()).hexdigest()[:5]}"


def map_path(url: str, mapping: Mapping[str, str]) -> str:
    """Return a host path as it is on this machine: by the longest directory in ``mapping`` that it is in."""
    for source in sorted(mapping, key=len, reverse=True):
        prefix = source.rstrip("/")
        if url == prefix or url.startswith(f"{prefix}/"):
            return mapping[source].rstrip("/") + url[len(prefix) :]
    return url
