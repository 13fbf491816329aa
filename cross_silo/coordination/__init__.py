"""Redis as the cloud side's coordinator: job, members, leases, rounds and requests; never weights."""

from cross_silo.coordination.connection import connect
from cross_silo.coordination.store import JobStore, job_names

__all__ = ["JobStore", "connect", "job_names"]
