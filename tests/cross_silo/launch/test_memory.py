"""Threads' freed memory goes back to one arena."""

import re
import subprocess
import sys

import pytest

ARENAS = """
import ctypes, threading
from cross_silo.launch.memory import share_one_arena
{call}
def use():
    held = [bytes(5000) for _ in range(100)]
    inside.wait()
inside = threading.Barrier(9)
threads = [threading.Thread(target=use) for _ in range(8)]
for thread in threads: thread.start()
inside.wait()
for thread in threads: thread.join()
ctypes.CDLL(None).malloc_stats()
"""


@pytest.mark.skipif("glibc" not in " ".join(__import__("platform").libc_ver()), reason="another C library")
@pytest.mark.parametrize("call, one", [("share_one_arena()", True), ("", False)])
def test_threads_share_one_arena(call, one):
    told = subprocess.run([sys.executable, "-c", ARENAS.format(call=call)], capture_output=True, text=True, check=True)
    arenas = len(re.findall(r"^Arena \d+:", told.stderr, re.MULTILINE))
    assert (arenas == 1) is one, told.stderr
