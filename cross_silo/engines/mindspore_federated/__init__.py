"""The engine of the mindspore-federated wheel: its C++ servers behind a front of ours, which workers ask first."""

from __future__ import annotations

from typing import Any

__all__ = ["client_class", "scheduler_roles", "server_roles"]


def __getattr__(name: str) -> Any:
    # not imported above: the wheel's own processes import this package in a Python with little installed
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from cross_silo.engines.mindspore_federated import roles

    return getattr(roles, name)
