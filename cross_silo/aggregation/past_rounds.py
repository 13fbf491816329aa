"""What became of rounds that are over, for those who ask late."""

from __future__ import annotations

from typing import Dict, Mapping, Optional

from cross_silo.aggregation.participant import Kept, Key


class PastRounds:
    """The newest ones. Not thread-safe: its owner holds a lock."""

    def __init__(self) -> None:
        self._failed: Dict[Key, str] = Kept()
        self._closed: Dict[int, Mapping[str, str]] = Kept()

    def failed(self, key: Key, why: str) -> None:
        """An attempt failed."""
        self._failed[key] = why

    def closed(self, iteration: int, left_out: Mapping[str, str]) -> None:
        """A round ended well, without the silos in ``left_out``, for the reasons there."""
        self._closed[iteration] = dict(left_out)

    def verdict(self, iteration: int, attempt: Optional[int], present: Key) -> Optional[str]:
        """Return why an attempt at the round in progress, ``present``, failed; None while it may become good."""
        if iteration != present[0] or attempt is None or attempt >= present[1]:
            return None
        return self._failed.get((iteration, attempt), f"attempt {attempt} of round {iteration} is over")

    def refusal(self, silo: str, iteration: int, attempt: Optional[int], present: Key) -> str:
        """Return why an update is too late for the round in progress, ``present``; empty where it is for that one.

        Args:
            attempt: None where the client does not say it.
        """
        if iteration != present[0]:
            without = self._closed.get(iteration, {}).get(silo)
            if without is not None:
                return f"round {iteration} closed without silo {silo}: {without}"
            return f"UpdateModel iteration number is invalid:{iteration}, current iteration:{present[0]}"
        if attempt is not None and attempt != present[1]:
            why = self._failed.get((iteration, attempt), "it is over")
            return f"attempt {attempt} of round {iteration}: {why}"
        return ""
