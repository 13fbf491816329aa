"""What the scheduler's REST does not do with this engine."""

import pytest

from cross_silo.config.federated import FederatedConfig
from cross_silo.engines.native.management import Management, Refused


def test_a_job_is_not_begun_anew(store):
    """The wheel's own route breaks a running job where threshold or ratio change."""
    store.begin({})
    store.beat("server", "host:1", {})
    management = Management(store, FederatedConfig(fl_name="job", engine="mindspore_federated"))
    with pytest.raises(Refused, match="cannot begin a job anew"):
        management.new_instance(b"{}")
    assert store.take_requests() == []
