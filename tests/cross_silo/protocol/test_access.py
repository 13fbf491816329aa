"""Who is let in by certificate or token, over real sockets: other authorities, dates, names, roles, secrets."""

from __future__ import annotations

import hmac
import http.client
import json
import logging
import shutil
import socket
import ssl
import threading
import time
from pathlib import Path

import pytest

from cross_silo.config.auth import OPERATOR, SERVER, SILO
from cross_silo.errors import UserError
from cross_silo.protocol.access import (
    TOKEN,
    Access,
    AccessError,
    Credentials,
    Identity,
    Tokens,
    credentials,
    peer_identity,
)
from cross_silo.protocol.connection import TransportError, exchange
from cross_silo.protocol.http_service import HttpService, json_response
from cross_silo.protocol.tls import client_context
from cross_silo.security.authority import Authority
from cross_silo.security.reloading import Reloading
from cross_silo.security.tokens import make_tokens
from tests.support.auth_files import config, expired, make_auth


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Certificates and tokens; no test changes them."""
    return make_auth(tmp_path_factory.mktemp("made") / "auth")


@pytest.fixture
def auth(made, tmp_path) -> Path:
    """A copy of them that a test may change."""
    return shutil.copytree(made, tmp_path / "auth")


@pytest.fixture
def serve():
    """Starts services that tell who asks."""
    started = []

    def start(settings) -> HttpService:
        routes = {
            ("POST", "/who"): lambda request: json_response({"who": str(request.identity), "got": len(request.body())}),
            ("POST", "/as_silo_0"): lambda request: json_response({"silo": request.check_silo("silo_0")}),
            ("GET", "/job"): lambda request: json_response({"who": str(request.identity)}),
        }
        access = Access(settings, SERVER, (SILO,), also={"/job": (OPERATOR,)})
        service = HttpService("127.0.0.1:0", "--address", routes, access)
        service.start()
        started.append(service)
        return service

    yield start
    for service in started:
        service.stop(grace=0)


def ask(service, path, shown, body=b""):
    """Status and content of a request."""
    host, port = service.address.split(":")
    reply = exchange(host, int(port), path, body, shown.headers(), 10.0, None, shown.context)
    return reply.status, json.loads(bytes(reply.body))


def shown_by(auth, name):
    """What a peer shows that has not looked at its own certificate."""
    files = (auth / "ca.pem", auth / f"{name}.pem", auth / f"{name}.key")
    return Credentials(Reloading(lambda: client_context(*files), files))


def test_the_name_comes_from_the_certificate(serve, made):
    settings = config(made, "mtls")
    service = serve(settings)
    assert ask(service, "/who", credentials(settings, "silo_1"), b"12") == (200, {"who": "silo silo_1", "got": 2})
    assert ask(service, "/job", credentials(settings, OPERATOR, OPERATOR), None) == (200, {"who": "operator"})


def test_a_silo_cannot_ask_in_anothers_name(serve, made):
    settings = config(made, "mtls")
    service = serve(settings)
    assert ask(service, "/as_silo_0", credentials(settings, "silo_0")) == (200, {"silo": None})
    status, told = ask(service, "/as_silo_0", credentials(settings, "silo_1"))
    assert (status, told) == (403, {"error": "silo silo_1 asks in the name of silo 'silo_0'"})


def test_roles_and_enrolment(serve, auth):
    settings = config(auth, "mtls")
    service = serve(settings)
    status, told = ask(service, "/who", shown_by(auth, OPERATOR))
    assert (status, told["error"]) == (403, "/who is not for operator; expected the role silo")
    Authority(auth).issue("silo_9")
    status, told = ask(service, "/who", shown_by(auth, "silo_9"))
    assert (status, told["error"]) == (403, "silo 'silo_9' is not enrolled")
    assert ask(service, "/nowhere", shown_by(auth, "silo_9"))[0] == 403  # strangers do not learn what is served


def test_another_authority(serve, auth, tmp_path):
    service = serve(config(auth, "mtls"))
    other = make_auth(tmp_path / "other")
    with pytest.raises(UserError, match="certificate of the server at .* is not accepted: .*(issuer|self.signed)"):
        ask(service, "/who", shown_by(other, "silo_0"))
    shutil.copy(auth / "ca.pem", other / "ca.pem")  # it trusts the server, the server does not trust it
    with pytest.raises(UserError, match="does not accept this silo's certificate: unknown ca"):
        ask(service, "/who", shown_by(other, "silo_0"))
    with pytest.raises(UserError, match="silo_0.pem: unable to get local issuer|silo_0.pem: certificate signature"):
        credentials(config(other, "mtls"), "silo_0")


def test_no_certificate(serve, auth):
    service = serve(config(auth, "mtls"))
    nobody = Credentials(Reloading(lambda: client_context(auth / "ca.pem"), ()))
    with pytest.raises(UserError, match="does not accept this silo's certificate: certificate required"):
        ask(service, "/who", nobody)


def test_an_expired_certificate(serve, auth):
    service = serve(config(auth, "mtls"))
    expired(auth, "silo_0")
    with pytest.raises(UserError, match="silo_0.pem: certificate has expired"):
        credentials(config(auth, "mtls"), "silo_0")
    with pytest.raises(UserError, match="does not accept this silo's certificate: certificate expired"):
        ask(service, "/who", shown_by(auth, "silo_0"))


def test_a_certificate_that_ends_soon_is_warned_of(auth, caplog):
    Authority(auth).issue("silo_0", days=3)
    credentials(config(auth, "mtls"), "silo_0")
    assert "silo_0.pem ends in 3.0 days" in caplog.text


def test_a_server_with_an_expired_certificate_does_not_start(serve, auth):
    expired(auth, SERVER)
    with pytest.raises(UserError, match="server.pem: certificate has expired"):
        serve(config(auth, "mtls"))


def test_a_silo_cannot_be_the_server(auth, serve):
    shutil.copy(auth / "silo_1.pem", auth / "server.pem")
    shutil.copy(auth / "silo_1.key", auth / "server.key")
    with pytest.raises(UserError, match="server.pem: unsuitable certificate purpose"):
        serve(config(auth, "mtls"))


def test_a_server_of_another_host(auth, serve):
    Authority(auth).issue(SERVER, ("fl.example.org",))
    service = serve(config(auth, "mtls"))
    with pytest.raises(UserError, match="is not accepted: IP address mismatch"):
        ask(service, "/who", shown_by(auth, "silo_0"))


def test_anothers_certificate_under_my_name(auth):
    shutil.copy(auth / "silo_1.pem", auth / "silo_0.pem")
    with pytest.raises(UserError, match="silo_0.key is not the certificate's"):
        credentials(config(auth, "mtls"), "silo_0")
    shutil.copy(auth / "silo_1.key", auth / "silo_0.key")
    with pytest.raises(UserError, match="is that of silo silo_1, expected silo silo_0"):
        credentials(config(auth, "mtls"), "silo_0")


@pytest.mark.parametrize(
    "subject",
    [
        (),
        ((("commonName", "silo_0"),),),
        ((("commonName", "silo_0"),), (("commonName", "silo_1"),), (("organizationalUnitName", "silo"),)),
        ((("commonName", "silo_0"),), (("organizationalUnitName", "root"),)),
        ((("commonName", "silo_0"),), (("organizationalUnitName", "silo"),), (("organizationalUnitName", "operator"),)),
    ],
)
def test_a_certificate_with_no_clear_name_and_role(subject):
    with pytest.raises(AccessError, match="expected one name"):
        peer_identity({"subject": subject})


def test_keys_that_others_may_read(auth):
    (auth / "silo_0.key").chmod(0o644)
    with pytest.raises(UserError, match="private key .*silo_0.key has mode 644, others could read it; expected 600"):
        credentials(config(auth, "mtls"), "silo_0")
    (auth / "silo_0.key").unlink()
    with pytest.raises(UserError, match="private key .*silo_0.key: No such file"):
        credentials(config(auth, "mtls"), "silo_0")


def test_rotation_needs_no_restart(serve, auth, caplog):
    caplog.set_level(logging.INFO)
    settings = config(auth, "mtls")
    service = serve(settings)
    silo = credentials(settings, "silo_0")
    assert ask(service, "/who", silo)[0] == 200
    authority = Authority(auth)
    authority.renew()
    authority.issue("silo_0")
    assert ask(service, "/who", silo)[0] == 200  # the new silo's certificate, the server's old one
    authority.issue(SERVER, ("127.0.0.1",))
    assert ask(service, "/who", silo)[0] == 200
    (auth / "ca.pem").write_bytes((auth / "ca.pem").read_bytes().partition(b"\n-----BEGIN")[0])  # the old one goes
    assert ask(service, "/who", silo)[0] == 200
    with pytest.raises(UserError, match="unknown ca"):
        ask(service, "/who", shown_by(auth, "silo_1"))
    (auth / "server.pem").write_text("half")
    assert ask(service, "/who", silo)[0] == 200
    assert "what was read before stays in use" in caplog.text


# tokens


def test_a_token_names_its_silo(serve, made):
    settings = config(made, "token")
    service = serve(settings)
    assert ask(service, "/who", credentials(settings, "silo_1")) == (200, {"who": "silo silo_1", "got": 0})
    assert ask(service, "/as_silo_0", credentials(settings, "silo_1"))[0] == 403
    assert ask(service, "/job", credentials(settings, OPERATOR, OPERATOR), None)[1] == {"who": "operator"}
    assert ask(service, "/who", credentials(settings, OPERATOR, OPERATOR))[0] == 403


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (None, "no token came"),
        ("Bearer", "no token came"),
        ("Basic c2lsb18wOng=", "no token came"),
        ("Bearer " + "x" * 43, "is not known"),
        ("Bearer \xff\xfe", "is not known"),
        ("Bearer " + "x" * 5000, "is not known"),
    ],
)
def test_missing_and_wrong_tokens(serve, made, header, reason):
    service = serve(config(made, "token"))
    connection = http.client.HTTPConnection(service.address, timeout=10)
    connection.request("POST", "/who", b"", {"Authorization": header} if header else {})
    response = connection.getresponse()
    assert (response.status, response.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert reason in json.loads(response.read())["error"]
    connection.close()


def test_an_old_token_is_worth_nothing(serve, auth):
    settings = config(auth, "token")
    old = credentials(settings, "silo_0")
    service = serve(settings)
    assert ask(service, "/who", old)[0] == 200
    make_tokens(auth, ["silo_0"], rotate=["silo_0"])  # needs no restart
    assert ask(service, "/who", old)[0] == 401
    assert ask(service, "/who", credentials(settings, "silo_0"))[0] == 200


def test_a_silo_that_is_no_longer_enrolled(serve, auth):
    make_tokens(auth, ["silo_9"])
    settings = config(auth, "token")
    assert ask(serve(settings), "/who", credentials(settings, "silo_9")) == (
        403,
        {"error": "silo 'silo_9' is not enrolled"},
    )


def test_a_token_of_the_environment(serve, made, monkeypatch, tmp_path):
    token = (made / "silo_1.token").read_text().strip()
    monkeypatch.setenv(TOKEN, token)
    shown = credentials(config(tmp_path, "token"), "silo_1")
    assert ask(serve(config(made, "token")), "/who", shown)[1]["who"] == "silo silo_1"
    assert token not in repr(shown)
    monkeypatch.setenv(TOKEN, "short")
    with pytest.raises(UserError, match=f"environment variable {TOKEN}: expected one line of 32") as error:
        credentials(config(tmp_path, "token"), "silo_1")
    assert "short" not in str(error.value)


def test_tokens_over_tls(serve, made):
    settings = config(made, "token", enable_ssl=True)
    service = serve(settings)
    shown = credentials(settings, "silo_0")
    assert ask(service, "/who", shown)[1]["who"] == "silo silo_0"
    status, told = ask(service, "/who", credentials(config(made, "token"), "silo_0"))
    assert (status, told) == (400, {"error": "this address speaks TLS: https"})
    plain = serve(config(made, "token"))
    with pytest.raises(UserError, match="does not speak TLS"):
        ask(plain, "/who", shown)


@pytest.mark.parametrize(
    "content", ["", "[]x", "{}", "[1]", '[{"name": "a", "role": "silo"}]', '[{"name": "a", "role": "x", "sha256": ""}]']
)
def test_a_broken_list_of_tokens(tmp_path, content):
    path = tmp_path / "tokens.json"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(UserError, match="tokens.json: expected"):
        Tokens(path)


def test_every_hash_is_compared(made, monkeypatch):
    """Which token it is, and whether it is one at all, must not show in the time it takes."""
    tokens, compared = Tokens(made / "tokens.json"), []
    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append(len(a)) or real(a, b))
    for token in ("wrong" * 10, *((made / f"{name}.token").read_text().strip() for name in ("operator", "silo_1"))):
        compared.clear()
        tokens.find(token)
        assert compared == [32] * 4
    assert tokens.find((made / "silo_1.token").read_text().strip()) == Identity(SILO, "silo_1")


# peers that mean no good


def address_of(service):
    host, port = service.address.split(":")
    return host, int(port)


def test_a_stalled_handshake_holds_up_nobody(serve, made, monkeypatch):
    monkeypatch.setattr("cross_silo.protocol.connections.HEADER_SECONDS", 4.0)
    settings = config(made, "mtls")
    service = serve(settings)
    stalled = [socket.create_connection(address_of(service), timeout=10) for _ in range(20)]
    stalled[0].sendall(b"\x16\x03\x01\x02\x00")  # the head of a ClientHello, and then nothing
    began = time.monotonic()
    assert ask(service, "/who", credentials(settings, "silo_0"))[0] == 200
    assert time.monotonic() - began < 3.5
    for peer in stalled:  # and each is dropped in time
        assert peer.recv(100) == b""
        peer.close()
    assert 3.5 < time.monotonic() - began < 15


def test_garbage_instead_of_a_handshake(serve, made):
    settings = config(made, "mtls")
    service = serve(settings)
    for garbage in (b"\x00" * 600, b"SSH-2.0-x\r\n", b"\x16\x03\x01\xff\xff" + b"\xaa" * 500, b"\x80"):
        with socket.create_connection(address_of(service), timeout=10) as peer:
            peer.sendall(garbage)
            peer.shutdown(socket.SHUT_WR)
            while peer.recv(1000):
                pass
    assert ask(service, "/who", credentials(settings, "silo_0"))[0] == 200


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_old_versions_of_tls(serve, made):
    service = serve(config(made, "mtls"))
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.load_verify_locations(str(made / "ca.pem"))
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with socket.create_connection(address_of(service), timeout=10) as peer, pytest.raises(OSError):
        old.wrap_socket(peer, server_hostname="127.0.0.1").close()


def test_the_log_of_those_not_let_in_is_bounded(serve, made, caplog):
    service = serve(config(made, "token"))
    threads = [
        threading.Thread(target=lambda: [ask(service, "/who", Credentials(token="x" * 40)) for _ in range(20)])
        for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = [record for record in caplog.records if "is not known" in record.getMessage()]
    assert 1 <= len(lines) <= 30
    assert "xxxx" not in caplog.text


def test_a_server_that_is_not_there(made):
    with pytest.raises(TransportError):
        exchange("127.0.0.1", 1, "/who", None, {}, 5.0, None, credentials(config(made, "mtls"), "silo_0").context)
