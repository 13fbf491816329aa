"""The tokens that the tool makes: secret, random, known by hash alone."""

import json
import stat
import subprocess
import sys
from pathlib import Path

from cross_silo.config.auth import OPERATOR, SERVER, SILO
from cross_silo.protocol.access import Identity, Tokens, read_token

TOOL = Path(__file__).parents[2] / "tools" / "make_tokens.py"


def make(directory, *arguments):
    command = [sys.executable, str(TOOL), "--out", str(directory), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, env={"PYTHONPATH": str(TOOL.parents[1])}
    )


def test_making_adding_and_rotating(tmp_path):
    auth = tmp_path / "auth"
    assert make(auth, "--silos", "a", "b").stdout == f"new tokens in {auth}: operator, server, a, b\n"
    tokens = {name: read_token(auth / f"{name}.token") for name in ("operator", "server", "a", "b")}
    assert len(set(tokens.values())) == 4 and min(map(len, tokens.values())) >= 43
    known = Tokens(auth / "tokens.json")
    assert known.find(tokens["a"]) == Identity(SILO, "a")
    assert known.find(tokens["operator"]) == Identity(OPERATOR, "operator")
    assert known.find(tokens["server"]) == Identity(SERVER, "server")
    result = make(auth, "--silos", "a", "b", "c", "--rotate", "a")
    assert result.stdout == f"new tokens in {auth}: a, c\n"
    known = Tokens(auth / "tokens.json")
    assert known.find(tokens["a"]) is None
    assert known.find(tokens["b"]) == Identity(SILO, "b")
    assert known.find(read_token(auth / "a.token")) == Identity(SILO, "a")


def test_no_token_lies_where_it_need_not(tmp_path):
    result = make(tmp_path, "--silos", "a")
    token = read_token(tmp_path / "a.token")
    assert token not in result.stdout + result.stderr
    assert token not in (tmp_path / "tokens.json").read_text()
    assert len(json.loads((tmp_path / "tokens.json").read_text())) == 3
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


def test_mistakes_are_one_line(tmp_path):
    assert make(tmp_path, "--silos", "a", "--rotate", "b").stderr.startswith("error: --rotate names b; expected")
    assert make(tmp_path, "--silos", "../a").stderr.startswith("error: --silos: silo '../a'")
    (tmp_path / "tokens.json").write_text("[")
    assert make(tmp_path, "--silos", "a").stderr.startswith(f"error: {tmp_path}/tokens.json: expected")
