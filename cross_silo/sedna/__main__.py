"""``python -m cross_silo.sedna aggregator|trainer``: a role of a Sedna job in a pod, in the foreground."""

from __future__ import annotations

import sys
from typing import Callable, Dict, List, Optional

from cross_silo.errors import UserError, run_main
from cross_silo.sedna import aggregator, trainer

ROLES: Dict[str, Callable[[Optional[List[str]]], int]] = {"aggregator": aggregator.main, "trainer": trainer.main}


def main(argv: Optional[List[str]] = None) -> int:
    """Run the role that the first argument names. Raises UserError."""
    given = sys.argv[1:] if argv is None else argv
    if not given or given[0] not in ROLES:
        raise UserError(f"the role is {given[0] if given else 'not given'!r}; expected {' or '.join(ROLES)}")
    return ROLES[given[0]](given[1:])


if __name__ == "__main__":
    run_main(main)
