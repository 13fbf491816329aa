"""What is said of a round whose time is over: who is in the way of its end."""

from __future__ import annotations

from typing import Mapping

from cross_silo.aggregation.participant import Participant
from cross_silo.config.participation import Participation


def missing(
    participation: Participation, joining: bool, joined: Mapping[str, Participant], known: Mapping[str, str]
) -> str:
    """Say which silos did not join or did not push.

    Args:
        joining: silos were still waited for at the round's start.
        joined: those that had joined, by name.
        known: those that may take part, from name to node ("" where it is not known).
    """
    there, needed, least = list(joined.values()), participation.ready, participation.least
    if joining and len(there) < needed:
        suffice = f" ({least} suffice)" if least < needed else ""
        absent = [f"{name} ({node})" if node else name for name, node in sorted(known.items()) if name not in joined]
        count = needed - len(there)
        named = f" ({', '.join(absent)})" if absent else ""
        return (
            f"joined {len(there)} of {needed}{suffice}: {', '.join(map(str, there))}; "
            f"{count} missing silo{'s' if count > 1 else ''}{named} did not join"
        )
    parts = []
    late = [str(participant) for participant in there if not participant.admitted]
    if late:
        parts.append(f"{', '.join(late)} joined but did not push")
    if least < participation.most:
        parts.append(f"{sum(participant.admitted for participant in there)} updates are in, {least} needed")
    return "; ".join(parts)
