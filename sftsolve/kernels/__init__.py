"""Operators between fields. `REGISTRY`, every kind by name, is loaded when it is first used: a run loads the kinds it has."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    if name != "REGISTRY":
        raise AttributeError(f"module 'sftsolve.kernels' has no attribute {name!r}")
    return import_module("sftsolve.kernels.registry").REGISTRY
