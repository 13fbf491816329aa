"""Shared set-up of the tests."""

import cross_silo.runtime

cross_silo.runtime.prepare()
