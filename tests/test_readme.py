"""The commands of README and docs exist, with the flags that they are given."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def commands():
    """Yield (document, script, flags) of every ``scripts/x.py`` or ``tools/x.py`` with flags behind it."""
    for document in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = document.read_text(encoding="utf-8").replace("\\\n", " ")
        for line in text.splitlines():
            for script, rest in re.findall(r"((?:scripts|tools)/[\w/]+\.(?:py|sh))([^`#\n]*)", line):
                yield document.name, script, tuple(re.findall(r"--\w+", rest))


@cache
def help_of(script):
    return subprocess.run(
        [sys.executable, ROOT / script, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.parametrize("document, script, flags", sorted(set(commands())))
def test_a_command_exists_with_its_flags(document, script, flags):
    assert (ROOT / script).is_file(), f"{document} names {script}"
    if script.endswith(".py") and flags:
        known = set(re.findall(r"--\w+", help_of(script)))
        assert set(flags) <= known, f"{document}: {script} has no {', '.join(sorted(set(flags) - known))}"


def test_links_lead_somewhere():
    for document in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"
