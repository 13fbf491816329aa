"""What is read of a process: the most memory that it had."""

import subprocess
import sys

from cross_silo.launch.proc import peak_memory


def test_peak_memory_is_that_of_a_process_that_has_given_it_back():
    code = "block = b'x' * (200 << 20); del block; print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        assert 200 < peak_memory(process.pid) < 300
        process.communicate(b"\n")
    assert peak_memory(process.pid) == 0
