"""GET /status and /metrics: for the operator alone, with and without Redis; asked as scripts/status.py asks."""

import pytest
import redis

from cross_silo.config.auth import OPERATOR, SERVER, SILO, Auth
from cross_silo.config.federated import FederatedConfig
from cross_silo.errors import UserError
from cross_silo.protocol.access import Access, credentials
from cross_silo.protocol.connection import exchange
from cross_silo.protocol.http_service import HttpService
from cross_silo.report.find_status import over_http
from cross_silo.report.state_routes import PATHS, StateRoutes
from cross_silo.report.status import read_status
from tests.support.auth_files import SILOS, make_auth


@pytest.fixture
def serve(store):
    made = []

    def make(config=FederatedConfig(), read=lambda: read_status(store, "job")):  # noqa: B008
        access = Access(config, SERVER, (SILO,), also=dict.fromkeys(PATHS, (OPERATOR,)))
        made.append(HttpService("127.0.0.1:0", "--http_server_address", StateRoutes(read).routes(), access))
        made[-1].start()
        return made[-1].address

    yield make
    for service in made:
        service.stop(grace=0)


@pytest.mark.parametrize("mode", ["mtls", "token"])
def test_the_operator_alone_is_told(serve, store, tmp_path, mode):
    config = FederatedConfig(silos=SILOS, auth=Auth(mode=mode, dir=str(make_auth(tmp_path))))
    store.begin({"instance": "i1"})
    address = serve(config)
    assert over_http(address, config)()["instance"] == "i1"
    silo = credentials(config, "silo_0")
    host, port = address.split(":")
    for path in PATHS:
        reply = exchange(host, int(port), path, None, silo.headers(), 10, None, silo.context)
        assert reply.status == 403
        assert b"is not for silo silo_0; expected the role operator" in bytes(reply.body)
    if mode == "token":
        with pytest.raises(UserError, match="no token came with the request"):
            over_http(address, None)()


def test_no_job_and_no_redis_are_told_apart(serve, store):
    address = serve()
    with pytest.raises(UserError, match="no record of job 'job' in Redis"):
        over_http(address, None)()

    def away():
        raise redis.ConnectionError("gone")

    address = serve(read=away)
    with pytest.raises(UserError, match=f"--address {address}: Redis does not answer"):
        over_http(address, None)()
    host, port = address.split(":")
    reply = exchange(host, int(port), "/metrics", None, {}, 10)
    assert reply.status == 200
    assert reply.content_type.startswith("text/plain; version=0.0.4")
    assert b"cross_silo_job_known 0.0" in bytes(reply.body)
