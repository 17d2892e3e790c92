"""Where a result comes from: code, machine, command and configuration, as plain data.

Nothing here may stop a run: what cannot be found out is left out.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import llvmlite.binding  # type: ignore[import-untyped]
import numba
import numpy as np

from sftsolve.output.description import RunDescription

_PACKAGES = ("sftsolve", "numpy", "scipy", "numba", "llvmlite", "h5py", "sympy")
_ROOT = Path(__file__).resolve().parents[2]


def to_json(value: object) -> str:
    """`value` as JSON text; NumPy numbers and arrays become numbers and lists, what JSON lacks becomes its text."""
    return json.dumps(value, default=_plain, ensure_ascii=False)


def begin(run: RunDescription) -> dict[str, Any]:
    """What is known before the first step, by name: numbers, texts, lists and dicts that JSON can hold."""
    meta: dict[str, Any] = {
        "run_id": uuid.uuid4().hex,
        "title": run.title or f"sftsolve: {', '.join(run.fields)}",
        "started": _now(),
        "grid": run.grid.description(),
        "fields": list(run.fields),
        "dtype": run.dtype,
        "settings": json.loads(to_json(dict(run.settings))),
        "seeds": json.loads(to_json(dict(run.seeds))),
        "argv": [_text(argument) for argument in sys.argv],
        "directory": _text(_quietly(os.getcwd)),
        "host": _quietly(socket.gethostname),
        "platform": platform.platform(),
        "processes": 1,
        "threads": numba.get_num_threads(),
        "versions": _versions(),
        "cpu": _cpu(),
        "git": _git(),
    }
    return meta if run.config is None else {**meta, "config": run.config}


def end(meta: Mapping[str, Any], stats: Mapping[str, object]) -> dict[str, Any]:
    """`meta` with what is known after the last step: when it ended, CPU seconds of the process, and the counts."""
    return {
        **meta,
        "ended": _now(),
        "process_time": time.process_time(),
        # Numba chooses its threading layer at the first parallel loop, so it is not known before.
        "threading_layer": _quietly(numba.threading_layer),
        "stats": dict(stats),
    }


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    return dict(value) if isinstance(value, Mapping) else str(value)


def _quietly(look: Callable[[], Any]) -> Any:
    """What `look` finds, or an empty text on systems that do not tell (a removed directory, an unknown processor)."""
    try:
        return look()
    except (OSError, RuntimeError, ValueError):
        return ""


def _text(name: str) -> str:
    """`name` from the system as valid Unicode: file names and arguments can be any bytes."""
    return os.fsencode(name).decode("utf-8", "replace")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@cache
def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "hdf5": h5py.version.hdf5_version}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


@cache
def _cpu() -> dict[str, Any]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor()
    features = _quietly(llvmlite.binding.get_host_cpu_features) or {}
    return {
        "model": model,
        "name": _quietly(llvmlite.binding.get_host_cpu_name),
        "count": os.cpu_count(),
        "features": sorted(name for name, present in features.items() if present),
    }


@cache
def _git() -> str:
    """Commit of the checkout that the package runs from, with "-dirty" where files differ; empty when installed."""
    if not (_ROOT / ".git").exists():
        return ""
    command = ["git", "-C", str(_ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        # Looking must not take the lock that another git command may be waiting for.
        environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
        answer = subprocess.run(command, capture_output=True, text=True, timeout=2.0, env=environment, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""
