"""Errors that a user can mend, and how a command reports them."""

from __future__ import annotations

import sys
from typing import Callable, Optional


class UserError(Exception):
    """A mistake in what the user gave: a key, flag, file or id.

    The message is one line: which one, what was found and what is expected. It is shown without a traceback.
    """


def run_main(main: Callable[[], Optional[int]]) -> None:
    """Run a command's ``main`` and exit with its status.

    A :class:`UserError` is printed as one ``error:`` line with status 2, an interrupt gives 130.
    """
    try:
        status = main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        status = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        status = 130
    sys.exit(status or 0)
