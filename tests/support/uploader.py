"""A silo's worker process that sends features made before: ``directory`` has them but for what the terms say."""

import argparse
import os
import secrets
import socket
from pathlib import Path

from cross_silo.config.federated import load_federated
from cross_silo.errors import run_main
from cross_silo.mistnet.client import FeatureClient
from cross_silo.mistnet.features import FORMAT, VERSION
from cross_silo.mistnet.prepared import terms_fingerprint
from cross_silo.mistnet.transmitter import HttpTransmitter, make_transmitter
from cross_silo.mistnet.waiting import await_end
from cross_silo.training.heartbeat import Heartbeat
from tests.support.fake_features import write_features
from tests.support.faults import around


def main():
    parser = argparse.ArgumentParser()
    for name in ("yaml_config", "address", "silo", "directory"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--bytes", type=int, default=200_000)
    arguments = parser.parse_args()
    config = load_federated(arguments.yaml_config)
    return upload(config, arguments.address, arguments.silo, Path(arguments.directory), arguments.bytes)


def upload(config, address, silo, directory, size=200_000, serves=lambda: None):
    """Take part for ``silo``; ``serves`` is called with the lease held. Returns the exit status."""
    node = f"{socket.gethostname()}:{os.getpid()}"
    client = FeatureClient(address, silo, secrets.token_hex(8), node)
    terms = client.terms()
    assert len(client.extractor()) > 100
    seed = sum(silo.encode())
    terms = {"format": FORMAT, "version": VERSION, **terms}
    manifest = write_features(directory, (size, 5000), 7, seed, **terms)
    lease = client.acquire_lease(7, terms_fingerprint(client.terms()))
    serves()
    beats = Heartbeat(client, lease, lambda: {"phase": "uploading"})
    transmitter = make_transmitter(config, client, silo)
    if isinstance(transmitter, HttpTransmitter):
        transmitter = HttpTransmitter(client, chunk_bytes=10_000)
    transmitter.deliver(directory, manifest, lambda size: None)
    print("delivered", flush=True)
    state = await_end(client, beats)
    client.release()
    return 0 if state == "finished" else 1


if __name__ == "__main__":
    around(FeatureClient, "chunk", after="chunk")
    run_main(main)
