"""The certificates that the tool makes: who they are for, their keys' modes, adding, rotating."""

import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509

from cross_silo.config.auth import OPERATOR, SERVER, SILO
from cross_silo.protocol.access import Identity, identity_of
from cross_silo.protocol.tls import check_own

TOOL = Path(__file__).parents[2] / "tools" / "make_certs.py"


def make(directory, *arguments):
    command = [sys.executable, str(TOOL), "--out", str(directory), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, env={"PYTHONPATH": str(TOOL.parents[1])}
    )


@pytest.fixture(scope="module")
def auth(tmp_path_factory):
    directory = tmp_path_factory.mktemp("certs") / "auth"
    result = make(directory, "--silos", "silo_0", "silo_1", "--hosts", "fl.example.org", "10.1.2.3")
    assert result.returncode == 0, result.stderr
    return directory


def read(path):
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_everybody_has_a_certificate_that_peers_accept(auth):
    names = {path.stem for path in auth.glob("*.pem")}
    assert names == {"ca", "server", "scheduler", "operator", "silo_0", "silo_1"}
    for name in ("server", "scheduler"):
        check_own(auth / f"{name}.pem", auth / f"{name}.key", auth / "ca.pem", serves=True)
    for name, role in (("server", SERVER), ("operator", OPERATOR), ("silo_0", SILO), ("silo_1", SILO)):
        found = identity_of(auth / f"{name}.pem", auth / f"{name}.key", auth / "ca.pem")
        assert found == Identity(role, name)


def test_hosts_dates_and_modes(auth):
    hosts = read(auth / "server.pem").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(host.value) for host in hosts] == ["localhost", "127.0.0.1", "::1", "fl.example.org", "10.1.2.3"]
    for name, days in (("silo_0", 365), ("ca", 3650)):
        certificate = read(auth / f"{name}.pem")
        assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days == days
    assert {stat.S_IMODE(key.stat().st_mode) for key in auth.glob("*.key")} == {0o600}
    assert stat.S_IMODE(auth.stat().st_mode) == 0o700
    basic = read(auth / "silo_0.pem").extensions.get_extension_for_class(x509.BasicConstraints).value
    assert not basic.ca


def test_adding_and_rotating(auth):
    before = {path.name: path.read_bytes() for path in auth.iterdir()}
    result = make(auth, "--silos", "silo_0", "silo_1", "silo_2", "--rotate", "silo_1", "server")
    assert result.returncode == 0, result.stderr
    changed = {path.name for path in auth.iterdir() if before.get(path.name) != path.read_bytes()}
    assert changed == {f"{name}.{kind}" for name in ("silo_1", "silo_2", "server") for kind in ("pem", "key")}
    assert re.search(r"server +server .* new +localhost 127.0.0.1 ::1 fl.example.org 10.1.2.3", result.stdout)
    assert re.search(r"silo_0 +silo .* as it was", result.stdout)
    assert "PRIVATE" not in result.stdout


def test_a_new_authority_is_trusted_beside_the_one_before(auth):
    assert make(auth, "--silos", "silo_0", "silo_1", "--rotate", "ca", "silo_0").returncode == 0
    assert (auth / "ca.pem").read_text().count("BEGIN CERTIFICATE") == 2
    for name in ("silo_0", "silo_1"):
        identity_of(auth / f"{name}.pem", auth / f"{name}.key", auth / "ca.pem")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--silos", "a/b"], "--silos: silo 'a/b': expected"),
        (["--silos", "server"], "--silos: silo 'server': expected"),
        (["--silos", "a", "--rotate", "b"], "--rotate names b; expected"),
        (["--days", "0"], "--days is 0, expected more than 0"),
        (["--hosts", "bücher"], "host 'bücher': expected"),
    ],
)
def test_mistakes_are_one_line(tmp_path, arguments, problem):
    result = make(tmp_path / "auth", *arguments)
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {problem}") and result.stderr.count("\n") == 1


def test_an_authoritys_key_that_others_may_read(tmp_path):
    make(tmp_path / "auth")
    (tmp_path / "auth" / "ca.key").chmod(0o644)
    assert "the authority's key" in make(tmp_path / "auth", "--silos", "a").stderr
