"""The aggregator: rounds, averaging, the model of the last good round, and its HTTP service."""
