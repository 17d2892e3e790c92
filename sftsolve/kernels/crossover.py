"""A model of what each way of convolving costs, with constants that are stored or measured.

A prediction follows from the stencil, the grid, the number of threads and the constants alone. `measure` writes constants of this
machine to the user's cache folder, which replace the stored ones. `trial` settles what the model leaves open.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, fields
from functools import lru_cache, reduce
from pathlib import Path

import llvmlite.binding
import numpy as np
from scipy import optimize

from sftsolve.codegen.cache import cache_folder, write
from sftsolve.grid import Grid
from sftsolve.kernels.engines import Side, Space
from sftsolve.kernels.methods import METHODS, Costs, make_engine
from sftsolve.kernels.protocol import Estimate
from sftsolve.kernels.stencil import Stencil
from sftsolve.state import Layout

STORED = Costs(cell=0.4, tap=0.032, line=0.07, wave=0.5, trip=1.5, call=4800.0)


def constants_file() -> Path:
    """Where measured constants are kept."""
    return cache_folder() / "convolution-costs.json"


@lru_cache(maxsize=1)
def costs() -> Costs:
    """The constants in force: those measured on this processor if there are any, else the stored ones."""
    try:
        found = json.loads(constants_file().read_text())
        if found["processor"] != llvmlite.binding.get_host_cpu_name():
            return STORED
        values = {field.name: float(found["costs"][field.name]) for field in fields(Costs)}
    except (OSError, ValueError, KeyError, TypeError):
        return STORED
    return Costs(**values) if all(0 < value < math.inf for value in values.values()) else STORED


def seconds(method: str, stencil: Stencil, space: Space) -> float:
    """Predicted time of one convolution."""
    return METHODS[method].nanoseconds(stencil, space, costs()) * 1e-9


def possible(stencil: Stencil, space: Space) -> tuple[str, ...]:
    """The methods that can convolve with a stencil and differ on this grid."""
    return tuple(name for name, way in METHODS.items() if way.differs(stencil, space) and way.serves(stencil, space))


def quickest(stencil: Stencil, space: Space) -> str:
    """The method of least predicted time."""
    return min(possible(stencil, space), key=lambda method: seconds(method, stencil, space))


def estimate(method: str, stencil: Stencil, space: Space, fields: int = 1) -> Estimate:
    """Operations and traffic of one convolution, and the memory of what convolves so many fields."""
    return METHODS[method].estimate(stencil, space, fields)


def measure(budget: float = 0.3) -> Costs:
    """Measure the constants on this machine (a few seconds) and keep them in the user's cache folder, where `costs` finds them.

    The predictions are linear in the constants: their relative errors are fitted, within a factor of eight of the stored
    constants, so that noise on a busy machine cannot make nonsense of the model.

    Parameters
    ----------
    budget : seconds for each of the measurements

    Raises
    ------
    FileError : the cache folder cannot be written to
    """
    names = [field.name for field in fields(Costs)]
    stored = np.array([getattr(STORED, name) for name in names])
    rows = []
    for method, shape, reach in _CASES:
        taken, stencil, space = _time(method, shape, reach, budget)
        rows.append([METHODS[method].nanoseconds(stencil, space, Costs(*unit)) * 1e-9 / taken for unit in np.eye(len(names))])
    fit = optimize.lsq_linear(np.array(rows) * stored, np.ones(len(rows)), (1 / 8, 8))
    found = Costs(*(float(value) for value in fit.x * stored))
    text = json.dumps({"processor": llvmlite.binding.get_host_cpu_name(), "costs": asdict(found)}, indent=1)
    write(constants_file(), text)
    costs.cache_clear()
    return found


# Method, grid and reach of what is measured: each constant decides the time of some of them.
_CASES = (
    ("direct", (16,), 1),
    ("direct", (160, 160), 1),
    ("direct", (160, 160), 5),
    ("separable", (160, 160), 3),
    ("separable", (160, 160), 12),
    ("overlap", (1 << 17,), 60),
    ("fft", (16,), 1),
    ("fft", (160, 160), 1),
    ("fft", (1024, 1024), 1),
    ("direct", (1024, 1024), 1),
)


def _time(method: str, shape: tuple[int, ...], reach: int, budget: float) -> tuple[float, Stencil, Space]:
    """Least time of one convolution with a separable stencil on a periodic grid."""
    layout = Layout.of(Grid(shape, [1.0] * len(shape)), 0)
    space = Space(layout, (0, 0, 0))
    lines = [1.0 / (1.0 + np.arange(-reach, reach + 1) ** 2)] * len(shape)
    stencil = Stencil(reduce(np.multiply.outer, lines), (-reach,) * len(shape))
    engine = make_engine(method, stencil, space)
    fields, none = layout.zeros(2), (space.none(4), space.none(3))
    source, target = Side(fields[:1], 0, *none), Side(fields[1:], 0, *none)
    engine.add(source, target, 1.0)
    best, end = math.inf, time.perf_counter() + budget
    while time.perf_counter() < end:
        start = time.perf_counter()
        engine.add(source, target, 1.0)
        best = min(best, time.perf_counter() - start)
    return best, stencil, space
