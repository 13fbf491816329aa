"""A MistNet server process that takes any tensors for the model's, and may be killed where ``FAULT`` says."""

from cross_silo.aggregation import initial
from cross_silo.errors import run_main
from cross_silo.mistnet import server, store
from tests.support.faults import around

if __name__ == "__main__":
    initial._run = lambda module, arguments, failure: None
    around(store.FeatureStore, "write", before="writing", after="written")
    around(store.FeatureStore, "_commit", before="committing", after="committed")
    run_main(server.main)
