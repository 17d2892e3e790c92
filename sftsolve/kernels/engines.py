"""Convolutions by sums: direct ones over a short stencil, and one pass an axis where the stencil factors.

An engine computes  target += scale X (K * (Y (w - w_ref)))  and the product of that with the target's own values. Sources and
targets are `Side`s: a field of a storage, its reference and its mask.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple, Protocol

import numpy as np

from sftsolve.kernels.stencil import Stencil
from sftsolve.loops import convolution
from sftsolve.parallel import slabs
from sftsolve.state import Layout

# A tile with its surroundings should stay in a core's own cache.
TILE_BYTES = 1 << 19
# As many tiles as keep many threads busy, on grids that are worth it.
_TILES = 64
_SLACK = 8  # cells at the end of a tile's row, read by stencil rows that are padded to a compiled width
_ROUND = 32  # cells, four of the widest vectors: loops over whole rows of a tile leave no remainder


class Side(NamedTuple):
    """One end of a convolution; arrays without elements stand for "none"."""

    storage: np.ndarray
    field: int
    reference: np.ndarray
    mask: np.ndarray


@dataclass(frozen=True)
class Space:
    """A grid as the engines see it: always three axes.

    Attributes
    ----------
    layout : of all storages
    ends : what lies beyond the ends of each axis, one of the codes of `loops.convolution`
    """

    layout: Layout
    ends: tuple[int, int, int]

    @property
    def size(self) -> int:
        return math.prod(self.layout.shape)

    @property
    def parts(self) -> int:
        """Number of threads at work."""
        return slabs(self.size)

    def place(self, reach: tuple[int, ...]) -> tuple[np.ndarray, ...]:
        """Geometry for the compiled loops."""
        return tuple(np.array(part, np.int64) for part in (self.layout.offset, self.layout.shape, self.ends, reach))

    def deep(self, stencil: Stencil) -> tuple[np.ndarray, tuple[int, ...]]:
        """Weights and lowest displacements with axes that the grid lacks."""
        missing = 3 - stencil.values.ndim
        return stencil.values.reshape((1,) * missing + stencil.values.shape), (0,) * missing + stencil.lowest

    def none(self, axes: int) -> np.ndarray:
        """The array that stands for "none"."""
        return np.empty((0,) + (1,) * (axes - 1), self.layout.dtype)


class Engine(Protocol):
    """A convolution on a grid."""

    def add(self, source: Side, target: Side, scale: float) -> None:
        """target.storage += scale * target.mask * (K * source), source and target being different storages."""
        ...

    def dot(self, source: Side, target: Side) -> float:
        """sum_i target_i (K * source)_i."""
        ...

    def transposed(self) -> Engine:
        """The engine of K_-m; it shares the scratch of this one."""
        ...


def tile_extents(cells: tuple[int, ...], reach: tuple[int, ...], itemsize: int, ring: bool) -> tuple[int, ...]:
    """Extents of the tiles: as little surroundings as the cache allows, and long rows. They depend on grid and stencil alone.

    Parameters
    ----------
    ring : whether a tile is worked off plane by plane, with a ring of results, or lies in the cache as a whole
    """
    most = max(4096, math.prod(cells) // _TILES)
    choices = [sorted({min(n, 2**power) for power in range(13)}) for n in cells]

    def price(extents: tuple[int, ...]) -> float:
        z, y, x = (n + 2 * r for n, r in zip(extents, reach, strict=True))
        held = y * x + (2 * reach[0] + 1) * extents[1] * extents[2] if ring else z * y * x
        own = math.prod(extents)
        too_large = max(1.0, held * itemsize / TILE_BYTES) ** 2 * max(1.0, own / most) ** 0.5
        return too_large * (z * y * x / own + 150.0 / extents[2])  # to begin a row costs as much as many cells

    return min(product(*choices), key=price)


class _Tiled:
    """What engines that work tile by tile share."""

    ring = False

    def __init__(self, stencil: Stencil, space: Space):
        self.stencil, self.space = stencil, space
        values, lowest = space.deep(stencil)
        self.reach = tuple(max(-low, low + n - 1, 0) for low, n in zip(lowest, values.shape, strict=True))
        cells = space.layout.shape
        self._dtype = np.dtype(space.layout.dtype)
        self._extents = tile_extents(cells, self.reach, self._dtype.itemsize, self.ring)
        around = [n + 2 * r for n, r in zip(self._extents, self.reach, strict=True)]
        around[2] += _SLACK + -(around[2] + _SLACK) % _ROUND
        self._boxes = np.array(
            [
                [
                    bound
                    for start, n, end in zip(starts, self._extents, cells, strict=True)
                    for bound in (start, min(start + n, end))
                ]
                for starts in product(*(range(0, end, n) for n, end in zip(self._extents, cells, strict=True)))
            ],
            np.int64,
        )
        self._sums = np.zeros(len(self._boxes))
        self._parts = min(space.parts, len(self._boxes))
        self._tiles = np.zeros((self._parts, 1 if self.ring else around[0], *around[1:]), self._dtype)
        self._rows = np.zeros((self._parts, 2, around[2]), self._dtype)
        self._place = space.place(self.reach)

    def _run(self, source: Side, target: Side, scale: float, adding: bool) -> None:
        raise NotImplementedError

    def add(self, source: Side, target: Side, scale: float) -> None:
        self._run(source, target, scale, True)

    def dot(self, source: Side, target: Side) -> float:
        self._run(source, target, 1.0, False)
        return float(np.sum(self._sums))


class Direct(_Tiled):
    """Every weight of the stencil times the row it points at; the row's cells are in registers for two rows of results."""

    def __init__(self, stencil: Stencil, space: Space):
        super().__init__(stencil, space)
        values, lowest = space.deep(stencil)
        wide = width(values.shape[2])
        self._unroll = (0,) * wide
        self._table = _table(values.astype(space.layout.dtype), lowest, self._tiles.shape[1:], wide)

    def _run(self, source: Side, target: Side, scale: float, adding: bool) -> None:
        loop = convolution.direct if self._parts == 1 else convolution.direct_threads
        work = (self._boxes, self._tiles, self._rows, self._table, self._unroll)
        loop(tuple(source), tuple(target), self._place, *work, self._dtype.type(scale), self._sums, adding)

    def transposed(self) -> Direct:
        return Direct(self.stencil.transposed(), self.space)


def width(extent: int) -> int:
    """The compiled width that covers a stencil's row with the fewest idle taps."""
    return min(convolution.WIDTHS, key=lambda wide: -(-extent // wide) * (wide + 1.5))


def _table(values: np.ndarray, lowest: tuple[int, ...], tile: tuple[int, ...], wide: int) -> tuple[np.ndarray, ...]:
    """Positions in a tile relative to a cell, and the taps of `wide` neighbours from there on, for two rows and for one.

    A weight K_m acts on the cell at -m. The row below the cell's sees the same values one row further up.
    """
    taps = values[::-1, ::-1, ::-1]
    start = [-(low + n - 1) for low, n in zip(lowest, values.shape, strict=True)]
    rows: dict[tuple[int, int, int], np.ndarray] = {}
    for z, y in np.ndindex(taps.shape[:2]):
        for x in range(0, taps.shape[2], wide):
            piece = np.zeros(wide, values.dtype)
            found = taps[z, y, x : x + wide]
            piece[: len(found)] = found
            if piece.any():
                rows[start[0] + z, start[1] + y, start[2] + x] = piece
    if not rows:
        rows[0, 0, 0] = np.zeros(wide, values.dtype)
    nothing = np.zeros(wide, values.dtype)
    below = {(z, y + 1, x): piece for (z, y, x), piece in rows.items()}
    both = sorted({*rows, *below}) if taps.shape[1] > 1 else []

    def at(keys: list[tuple[int, int, int]]) -> np.ndarray:
        return np.array([(z * tile[1] + y) * tile[2] + x for z, y, x in keys], np.int64)

    def of(part: dict[tuple[int, int, int], np.ndarray], keys: list[tuple[int, int, int]]) -> np.ndarray:
        return np.array([part.get(key, nothing) for key in keys], values.dtype).reshape(-1, wide)

    alone = sorted(rows)
    return at(both), of(rows, both), of(below, both), at(alone), of(rows, alone)


class Factored(_Tiled):
    """One pass an axis with the factors of the stencil."""

    ring = True

    def __init__(self, stencil: Stencil, space: Space):
        factors = stencil.factors()
        assert factors is not None  # the caller asked
        super().__init__(stencil, space)
        lines = (np.ones(1),) * (3 - len(factors)) + factors
        _, lowest = space.deep(stencil)
        # Every factor becomes as long as its axis' surroundings, displacement +reach first; the last one in groups of seven.
        taps = []
        for line, low, reach in zip(lines, lowest, self.reach, strict=True):
            whole = np.zeros(2 * reach + 1, self._dtype)
            whole[reach + low : reach + low + len(line)] = line
            taps.append(whole[::-1].copy())
        taps[2] = np.concatenate([taps[2], np.zeros(-len(taps[2]) % 7, self._dtype)])
        self._taps = tuple(taps)
        self._rings = np.zeros((self._parts, len(taps[0]), *self._extents[1:]), self._dtype)

    def _run(self, source: Side, target: Side, scale: float, adding: bool) -> None:
        loop = convolution.separable if self._parts == 1 else convolution.separable_threads
        work = (self._boxes, self._tiles, self._rings, self._rows, self._taps)
        loop(tuple(source), tuple(target), self._place, *work, self._dtype.type(scale), self._sums, adding)

    def transposed(self) -> Factored:
        return Factored(self.stencil.transposed(), self.space)
