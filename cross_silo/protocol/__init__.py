"""The wire between workers and aggregator: FlatBuffers messages, HTTP headers, client and service base."""
