"""A model of what each way of convolving costs, with constants that are stored or measured.

A prediction follows from the stencil, the grid, the number of threads and the constants alone. `measure` writes constants of this
machine to the user's cache folder, which replace the stored ones. `trial` settles what the model leaves open.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import lru_cache, reduce
from pathlib import Path

import llvmlite.binding
import numpy as np
from scipy import optimize

from sftsolve.codegen.cache import cache_folder, write
from sftsolve.grid import Grid
from sftsolve.kernels.engines import Side, Space, make_engine, stencil_bases, tile_extents, transform_parts, width
from sftsolve.kernels.protocol import Estimate
from sftsolve.kernels.stencil import Stencil
from sftsolve.state import Layout

METHODS = ("auto", "direct", "separable", "fft")


@dataclass(frozen=True)
class Costs:
    """Nanoseconds of one core.

    Attributes
    ----------
    cell : to load a cell into a tile, or to add a result
    tap : a weight of a direct sum
    line : a weight of a pass along an axis
    wave : a point of a transform and of its inverse, divided by log2 of the axis
    trip : an axis' passes over memory, a point, where the arrays exceed the caches
    call : to begin, a convolution
    """

    cell: float
    tap: float
    line: float
    wave: float
    trip: float
    call: float


STORED = Costs(cell=0.4, tap=0.032, line=0.07, wave=0.5, trip=1.5, call=4800.0)
_CACHES = 4 << 20  # bytes of an array that the caches hold beside others


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
    """Predicted time of one convolution by "direct", "separable" or "fft"."""
    return _PREDICTIONS[method](stencil, space, costs()) * 1e-9


def possible(stencil: Stencil, space: Space) -> tuple[str, ...]:
    """The methods that can convolve with a stencil and differ on this grid."""
    if space.layout.dimension == 1 or stencil.factors() is None:
        return "direct", "fft"
    return "separable", "direct", "fft"


def quickest(stencil: Stencil, space: Space) -> str:
    """The method of least predicted time."""
    return min(possible(stencil, space), key=lambda method: seconds(method, stencil, space))


def _tiles(
    stencil: Stencil, space: Space, ring: bool
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[float, ...]]:
    """Extents and reach of a stencil, its tiles, and per axis how much more than its cells a tile loads."""
    values, _ = space.deep(stencil)
    reach = (0,) * (3 - len(stencil.reach)) + stencil.reach
    tile = tile_extents(space.layout.shape, reach, np.dtype(space.layout.dtype).itemsize, ring)
    return values.shape, reach, tile, tuple((n + 2 * r) / n for n, r in zip(tile, reach, strict=True))


def _direct(stencil: Stencil, space: Space, cost: Costs) -> float:
    extents, _, tile, around = _tiles(stencil, space, False)
    wide = width(extents[2])
    # Two rows of results read one row of the stencil more than one does; a lone row reads every value for itself.
    rows = extents[0] * (extents[1] + 1 if extents[1] > 1 else 1.5) * -(-extents[2] // wide)
    each = cost.cell * (1 + math.prod(around)) + rows * cost.tap * (wide + 1.5 + 300.0 / tile[2])
    return cost.call + each * space.size / space.parts


def _separable(stencil: Stencil, space: Space, cost: Costs) -> float:
    _, reach, tile, around = _tiles(stencil, space, True)
    each = cost.cell * (1 + math.prod(around))
    for r, share in zip(reach, (1.0, around[0] * around[2], around[0]), strict=True):
        each += share * cost.line * (2 * r + 3) * (1 + 60.0 / tile[2])
    return cost.call + each * space.size / space.parts


def _fft(stencil: Stencil, space: Space, cost: Costs) -> float:
    bases = [basis for basis in stencil_bases(space, stencil) if basis.length > 1]
    points = math.prod(basis.length for basis in bases)
    depth = sum(math.log2(basis.length) for basis in bases)
    far = points * np.dtype(space.layout.dtype).itemsize > _CACHES
    # One long transform has no neighbours to share vectors and threads with.
    alone = len(bases) == 1
    each = cost.wave * depth * (2.0 if alone else 1.0) + (cost.trip * len(bases) * (8.0 if alone else 1.0) if far else cost.cell)
    return 2 * cost.call + points * each / (1 if alone else transform_parts(points, space))


_PREDICTIONS: dict[str, Callable[[Stencil, Space, Costs], float]] = {"direct": _direct, "separable": _separable, "fft": _fft}


def estimate(method: str, stencil: Stencil, space: Space) -> Estimate:
    """Operations, traffic and memory of one convolution."""
    item = float(np.dtype(space.layout.dtype).itemsize)
    if method == "fft":
        bases = stencil_bases(space, stencil)
        points = math.prod(basis.length for basis in bases)
        passes = 2 * sum(1 for basis in bases if basis.length > 1)
        symbol = 0.5 * points * item * (1 if stencil.is_even() else 2)
        flops = 5.0 * points * math.log2(max(points, 2))
        return Estimate(flops, (2 * passes + 4) * points * item + symbol, 2 * points * item + symbol)
    extents, reach, tile, around = _tiles(stencil, space, method == "separable")
    taps = sum(2 * r + 1 for r in reach) if method == "separable" else math.prod(extents)
    scratch = space.parts * math.prod(tile) * math.prod(around) * item
    return Estimate(2.0 * taps * space.size, 3 * item * space.size, scratch)


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
        rows.append([_PREDICTIONS[method](stencil, space, Costs(*unit)) * 1e-9 / taken for unit in np.eye(len(names))])
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
