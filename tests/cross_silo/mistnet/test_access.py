"""Terms, extractor and features are for enrolled silos alone, each for its own."""

from __future__ import annotations

import pytest

from cross_silo.config.auth import OPERATOR, SERVER, SILO
from cross_silo.errors import UserError
from cross_silo.mistnet.transmitter import HttpTransmitter
from cross_silo.protocol.access import Access, Credentials, credentials
from tests.support.auth_files import config, make_auth
from tests.support.fake_features import write_features
from tests.support.served_features import ServedFeatures


@pytest.fixture(scope="module")
def auth(tmp_path_factory):
    return make_auth(tmp_path_factory.mktemp("made") / "auth")


@pytest.fixture(params=["token", "mtls"])
def served(request, store, tmp_path, auth):
    settings = config(auth, request.param)
    job = ServedFeatures(store, tmp_path, Access(settings, SERVER, (SILO,), also={"/job": (OPERATOR,)}))
    job.settings = settings
    yield job
    job.close()


def test_a_silo_delivers_its_own_features(served, tmp_path):
    manifest = write_features(tmp_path / "features")
    client = served.client(shown=credentials(served.settings, "silo_0"))
    assert client.extractor()
    HttpTransmitter(client).deliver(tmp_path / "features", manifest, lambda size: None)
    assert served.store.is_whole("silo_0")


def test_nobody_delivers_in_the_name_of_another(served, tmp_path):
    manifest = write_features(tmp_path / "features")
    served.client(shown=credentials(served.settings, "silo_0")).offer(manifest)
    other = served.client(shown=credentials(served.settings, "silo_1"), leased=False)
    for call in (
        lambda: other.offer(manifest),
        lambda: other.placed(manifest),
        lambda: other.chunk("features_0.mindrecord", 0, b"x"),
    ):
        with pytest.raises(UserError, match="silo silo_1 asks in the name of silo 'silo_0'"):
            call()
    assert served.store.received() == {"silo_0": 0}


def test_terms_and_extractor_are_not_for_others(served):
    operator = served.client(shown=credentials(served.settings, OPERATOR, OPERATOR), leased=False)
    for call in (operator.terms, operator.extractor):
        with pytest.raises(UserError, match="not for operator"):
            call()
    if served.settings.auth.mode == "token":
        with pytest.raises(UserError, match="no token"):
            served.client(shown=Credentials(), leased=False).terms()
