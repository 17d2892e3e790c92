"""The methods of convolving by name: the engine of each, where it serves, and a model of what it costs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sftsolve.kernels import overlap
from sftsolve.kernels.engines import Direct, Engine, Factored, Space, tile_extents, width
from sftsolve.kernels.protocol import Estimate
from sftsolve.kernels.stencil import Stencil
from sftsolve.kernels.workspaces import Spectral, stencil_bases, transform_parts, whole_grid_bytes


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


_CACHES = 4 << 20  # bytes of an array that the caches hold beside others


def _tiles(
    stencil: Stencil, space: Space, ring: bool
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[float, ...]]:
    """Extents and reach of a stencil, its tiles, and per axis how much more than its cells a tile loads."""
    values, _ = space.deep(stencil)
    reach = (0,) * (3 - len(stencil.reach)) + stencil.reach
    tile = tile_extents(space.layout.shape, reach, _item(space), ring)
    return values.shape, reach, tile, tuple((n + 2 * r) / n for n, r in zip(tile, reach, strict=True))


def _item(space: Space) -> int:
    return np.dtype(space.layout.dtype).itemsize


def _direct(stencil: Stencil, space: Space, cost: Costs) -> float:
    extents, _, tile, around = _tiles(stencil, space, False)
    wide = width(extents[2])
    # Two rows of results read one row of the stencil more than one does; a lone row reads every value for itself.
    rows = extents[0] * (extents[1] + 1 if extents[1] > 1 else 1.5) * -(-extents[2] // wide)
    each = cost.cell * (1 + math.prod(around)) + rows * cost.tap * (wide + 1.5 + 300.0 / tile[2])
    return cost.call + each * space.size / space.parts


def _direct_estimate(stencil: Stencil, space: Space, fields: int = 1) -> Estimate:
    return _tiled_estimate(stencil, space, False, stencil.values.size, fields)


def _tiled_estimate(stencil: Stencil, space: Space, ring: bool, taps: int, fields: int) -> Estimate:
    _, _, tile, around = _tiles(stencil, space, ring)
    scratch = float(space.parts * math.prod(tile) * math.prod(around) * _item(space))
    return Estimate(2.0 * taps * space.size, 3.0 * _item(space) * space.size, fields * scratch, 8.0 * stencil.values.size)


def _separable(stencil: Stencil, space: Space, cost: Costs) -> float:
    _, reach, tile, around = _tiles(stencil, space, True)
    each = cost.cell * (1 + math.prod(around))
    for r, share in zip(reach, (1.0, around[0] * around[2], around[0]), strict=True):
        each += share * cost.line * (2 * r + 3) * (1 + 60.0 / tile[2])
    return cost.call + each * space.size / space.parts


def _separable_estimate(stencil: Stencil, space: Space, fields: int = 1) -> Estimate:
    lacking = 3 - len(stencil.reach)
    return _tiled_estimate(stencil, space, True, lacking + sum(2 * r + 1 for r in stencil.reach), fields)


def _overlap(stencil: Stencil, space: Space, cost: Costs) -> float:
    plan = overlap.Plan.of(stencil.reach, space)
    points, groups = plan.blocks * math.prod(plan.points), -(-plan.blocks // plan.group)
    # Across the rows of a block, transforms gather what they need from far apart, real ones in the smallest pieces.
    across = (5.0 if plan.axes[-1] < 2 else 0.0) + 1.5 * (len(plan.axes) - 1)
    each = cost.wave * plan.depth + cost.cell + cost.trip * across
    return cost.call * (2 + groups) + points * each / plan.parts


def _overlap_estimate(stencil: Stencil, space: Space, fields: int = 1) -> Estimate:
    plan = overlap.Plan.of(stencil.reach, space)
    points, item = math.prod(plan.points), float(_item(space))
    symbol = 0.5 * points * item * (1 if stencil.is_even() else 2)
    flops = 5.0 * plan.blocks * points * math.log2(max(points, 2))
    loaded = plan.blocks * points * item
    scratch = (1 + fields) * plan.parts * plan.group * points * item
    return Estimate(flops, loaded + 2 * item * space.size, scratch + symbol, 8.0 * stencil.values.size)


def _fft(stencil: Stencil, space: Space, cost: Costs) -> float:
    bases = [basis for basis in stencil_bases(space, stencil) if basis.length > 1]
    points = math.prod(basis.length for basis in bases)
    depth = sum(math.log2(basis.length) for basis in bases)
    far = points * _item(space) > _CACHES
    # One long transform has no neighbours to share vectors and threads with.
    alone = len(bases) == 1
    each = cost.wave * depth * (2.0 if alone else 1.0) + (cost.trip * len(bases) * (8.0 if alone else 1.0) if far else cost.cell)
    return 2 * cost.call + points * each / (1 if alone else transform_parts(points, space))


def _fft_estimate(stencil: Stencil, space: Space, fields: int = 1) -> Estimate:
    bases, item = stencil_bases(space, stencil), float(_item(space))
    points = math.prod(basis.length for basis in bases)
    passes = 2 * sum(1 for basis in bases if basis.length > 1)
    symbols = 1 if stencil.is_even() else 2
    flops = 5.0 * points * math.log2(max(points, 2))
    traffic = (2 * passes + 4 + 0.5 * symbols) * points * item
    held, given = whole_grid_bytes(bases, space.layout, fields, symbols), 8.0 * stencil.values.size
    # The symbol is made in double precision, from weights on the whole circle, before spectra are touched.
    return Estimate(flops, traffic, held, given, max(0.0, 16.0 * points - held))


def _always(stencil: Stencil, space: Space) -> bool:
    return True


def _factors(stencil: Stencil, space: Space) -> bool:
    return stencil.factors() is not None


def _several_axes(stencil: Stencil, space: Space) -> bool:
    return space.layout.dimension > 1


def _several_blocks(stencil: Stencil, space: Space) -> bool:
    # A stencil that reaches along three axes makes the overlap of blocks in a cache larger than the blocks.
    return sum(n > 0 for n in stencil.reach) < 3 and overlap.Plan.of(stencil.reach, space).blocks > 1


class Method(NamedTuple):
    """A way of convolving.

    Attributes
    ----------
    make : its engine for a stencil on a grid
    nanoseconds : predicted time of one convolution
    estimate : operations and traffic of one convolution, and the memory of what convolves so many fields
    differs : whether it may be quicker on a grid than every other method
    serves : whether it can convolve with a stencil at all
    needs : what it needs for that, in words
    """

    make: Callable[[Stencil, Space], Engine]
    nanoseconds: Callable[[Stencil, Space, Costs], float]
    estimate: Callable[..., Estimate]
    differs: Callable[[Stencil, Space], bool] = _always
    serves: Callable[[Stencil, Space], bool] = _always
    needs: str = ""


METHODS: dict[str, Method] = {
    "direct": Method(Direct, _direct, _direct_estimate),
    "separable": Method(
        Factored,
        _separable,
        _separable_estimate,
        _several_axes,
        _factors,
        "a kernel that is a product of one factor an axis, such as a Gaussian",
    ),
    "overlap": Method(overlap.in_blocks, _overlap, _overlap_estimate, _several_blocks),
    "fft": Method(Spectral.of, _fft, _fft_estimate),
}


def make_engine(method: str, stencil: Stencil, space: Space) -> Engine:
    """The engine of a method."""
    return METHODS[method].make(stencil, space)
