"""A server beside the first one that is killed at the point that ``FAULT`` names."""

from cross_silo.aggregation import shard_routes, shard_server
from cross_silo.aggregation.shard import Shard
from cross_silo.errors import run_main
from tests.support.faults import around


def arm():
    """Put the points of a round into the server's code."""
    around(Shard, "expect", after="expected")
    around(shard_routes, "receive", after="received")
    around(Shard, "add", before="adding", after="added")
    around(Shard, "prepare", before="preparing", after="prepared")
    around(Shard, "read", before="reading")
    around(Shard, "commit", before="committing", after="committed")


if __name__ == "__main__":
    arm()
    run_main(shard_server.main)
