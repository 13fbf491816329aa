"""The format of a role's log."""

import re
import subprocess
import sys

CODE = "import logging; from cross_silo.launch import logs; logs.start('50%_0'); logging.getLogger('a').info('%d%%', 5)"


def test_a_line_has_time_role_level_and_message_on_standard_output():
    done = subprocess.run([sys.executable, "-c", CODE], check=True, capture_output=True, text=True)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d 50%_0 INFO 5%\n", done.stdout)
    assert done.stderr == ""
