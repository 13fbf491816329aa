"""Runs the parts of a job in forked processes: they share what is in memory already and send back counts as json."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from multiprocessing.connection import Connection, wait
from typing import Any, Callable, Dict, List, Sequence, Tuple

Result = Dict[str, Any]
Part = Callable[[Callable[[int], None]], Result]
"""Does its work, calls the function it is given with each number of items done, returns what json can carry."""


def available_processes() -> int:
    """Return how many processes are worth while: one where forking is not safe."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1


def run_parts(parts: Sequence[Part], processes: int, progress: Callable[[int], None]) -> List[Result]:
    """Run all parts, by turns on ``processes`` processes, or in this one for 1; results stand in their order.

    Args:
        progress: called with the number of items done so far by all.

    Raises:
        RuntimeError: a process has died or one of its parts has failed; the others are ended.
    """
    done = 0

    def advance(items: int) -> None:
        nonlocal done
        done += items
        progress(done)

    processes = min(processes, len(parts))
    if processes <= 1:
        return [part(advance) for part in parts]
    context = multiprocessing.get_context("fork")
    results: Dict[int, Result] = {}
    children: List[Tuple[Any, Connection]] = []
    try:
        for first in range(processes):
            receiver, sender = context.Pipe(duplex=False)
            turns = range(first, len(parts), processes)
            child = context.Process(target=_work, args=(parts, turns, sender), daemon=True)
            child.start()
            sender.close()
            children.append((child, receiver))
        _collect(children, results, advance)
    finally:
        for child, receiver in children:
            if len(results) < len(parts):
                child.terminate()
            child.join()
            receiver.close()
    return [results[place] for place in range(len(parts))]


def _collect(
    children: Sequence[Tuple[Any, Connection]], results: Dict[int, Result], advance: Callable[[int], None]
) -> None:
    open_ends = {receiver: child for child, receiver in children}
    while open_ends:
        for receiver in wait(list(open_ends)):
            try:
                message = json.loads(receiver.recv_bytes())
            except EOFError:
                child = open_ends.pop(receiver)
                child.join()
                if child.exitcode:
                    raise RuntimeError(f"a writing process has ended with status {child.exitcode}") from None
                continue
            if "error" in message:
                raise RuntimeError(f"a writing process has failed: {message['error']}")
            if "items" in message:
                advance(message["items"])
            else:
                results[message["part"]] = message["result"]


def _work(parts: Sequence[Part], turns: Sequence[int], sender: Connection) -> None:
    def send(message: Dict[str, Any]) -> None:
        sender.send_bytes(json.dumps(message).encode())

    try:
        for turn in turns:
            result = parts[turn](lambda items: send({"items": items}))
            send({"part": turn, "result": result})
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        send({"error": f"{type(error).__name__}: {error}"})
