"""Ways to convolve: direct sums over a short stencil, one pass an axis where the stencil factors, and transforms of the grid.

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
from sftsolve.kernels.transforms import Basis, Transform
from sftsolve.loops import boxes, convolution, spectral
from sftsolve.parallel import slabs
from sftsolve.state import Layout

# A tile with its surroundings should stay in a core's own cache.
TILE_BYTES = 1 << 19
# As many tiles as keep many threads busy, on grids that are worth it.
_TILES = 64
# SciPy's transforms have threads of their own, which wait for those of the loops wherever the two take turns: from how many
# points on transforms are divided, and from how many on the passes between them are, too.
_DIVIDED, _DIVIDED_PASSES = 1 << 18, 1 << 20
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


def transform_parts(points: int, space: Space) -> int:
    """Number of threads of a transform."""
    return space.parts if points >= _DIVIDED else 1


class Workspace:
    """A transform with its arrays: `count` spectra and one array of cells."""

    def __init__(self, bases: tuple[Basis, Basis, Basis], space: Space, count: int):
        self.space = space
        points = math.prod(basis.length for basis in bases)
        self.transform = Transform(bases, space.layout.dtype, transform_parts(points, space))
        modes = self.transform.modes
        self.spectra = np.empty((count, *modes), self.transform.spectrum_dtype)
        self._flat = self.spectra.reshape(count, -1)
        self._work = np.zeros(self.transform.work_shape, space.layout.dtype)
        parts, cells = space.parts if points >= _DIVIDED_PASSES else 1, space.layout.shape
        self._results = np.empty((parts, count, spectral.PIECE), self.transform.spectrum_dtype)
        extents = self._work.shape
        self._fill_boxes = boxes.for_threads(((0, extents[0]), (0, extents[1]), (0, cells[2])), parts)
        region: boxes.Region = tuple((0, n) for n in cells)  # type: ignore[assignment]
        self._boxes = boxes.for_threads(region, parts)
        self._sum_boxes = boxes.for_sums(region)
        self._sums = np.zeros(len(self._sum_boxes))
        self._serial = parts == 1
        # Beyond the cells the work array is zero, whatever the ends are.
        self._place = (*space.place((0, 0, 0))[:2], np.full(3, convolution.ZERO), np.zeros(3, np.int64))

    def load(self, source: Side, slot: int) -> None:
        """Transform a source into a spectrum."""
        if self.transform.plain and not source.reference.size and not source.mask.size:
            (oz, oy, ox), (nz, ny, nx) = self.space.layout.offset, self.space.layout.shape
            cells = source.storage[source.field, oz : oz + nz, oy : oy + ny, ox : ox + nx]
            self.transform.forward(cells, self.spectra[slot])
            return
        fill = spectral.fill if self._serial else spectral.fill_threads
        fill(self._work, tuple(source), self._place, self._fill_boxes)
        self.transform.forward(self._work, self.spectra[slot])

    def mix(self, symbols: np.ndarray, terms: np.ndarray, factors: np.ndarray) -> None:
        """Multiply the spectra by symbols, see `loops.spectral.mix`."""
        mix = spectral.mix if self._serial else spectral.mix_threads
        mix(self._flat, symbols, terms, factors, self._results)

    def add(self, slot: int, target: Side, scale: float) -> None:
        """Add a spectrum's cells to a target; the spectrum is lost."""
        self.transform.backward(self.spectra[slot], self._work)
        add = spectral.add if self._serial else spectral.add_threads
        add(self._work, tuple(target), self._place[0], self._boxes, self._work.dtype.type(scale))

    def dot(self, slot: int, target: Side) -> float:
        """Sum of a spectrum's cells times a target's values; the spectrum is lost."""
        self.transform.backward(self.spectra[slot], self._work)
        dot = spectral.dot if self._serial else spectral.dot_threads
        dot(self._work, tuple(target), self._place[0], self._sum_boxes, self._sums)
        return float(np.sum(self._sums))

    @property
    def bytes(self) -> float:
        return float(self.spectra.nbytes + self._work.nbytes)


class Spectral:
    """Forward transform, symbol, inverse transform."""

    def __init__(self, symbol: np.ndarray, workspace: Workspace, conjugate: bool = False):
        self._symbol, self._workspace = symbol, workspace
        self._terms = np.array([[0, 0, 0, int(conjugate)]], np.int64)
        self._factors = np.ones(1, workspace.transform.dtype)
        self._conjugate = conjugate

    @classmethod
    def of(cls, stencil: Stencil, space: Space) -> Spectral:
        """The engine of a stencil, with a workspace of its own."""
        workspace = Workspace(stencil_bases(space, stencil), space, 1)
        symbol = stencil_symbol(space, stencil, workspace.transform).reshape(1, -1)
        kind = workspace.transform.spectrum_dtype if np.iscomplexobj(symbol) else space.layout.dtype
        return cls(symbol.astype(kind), workspace)

    def _convolve(self, source: Side) -> None:
        self._workspace.load(source, 0)
        self._workspace.mix(self._symbol, self._terms, self._factors)

    def add(self, source: Side, target: Side, scale: float) -> None:
        self._convolve(source)
        self._workspace.add(0, target, scale)

    def dot(self, source: Side, target: Side) -> float:
        self._convolve(source)
        return self._workspace.dot(0, target)

    def transposed(self) -> Spectral:
        return Spectral(self._symbol, self._workspace, not self._conjugate)


def stencil_bases(space: Space, stencil: Stencil) -> tuple[Basis, Basis, Basis]:
    """Bases in which a stencil's convolution is diagonal."""
    values, lowest = space.deep(stencil)
    reach = [max(-low, low + n - 1, 0) for low, n in zip(lowest, values.shape, strict=True)]
    make = {convolution.PERIODIC: lambda n, r: Basis.periodic(n), convolution.ZERO: Basis.padded}
    make[convolution.MIRROR] = lambda n, r: Basis("cosine", n, n)
    found = [make[end](n, r) for end, n, r in zip(space.ends, space.layout.shape, reach, strict=True)]
    return found[0], found[1], found[2]


def stencil_symbol(space: Space, stencil: Stencil, transform: Transform) -> np.ndarray:
    """Factor by which a stencil's convolution multiplies each mode, real where the stencil is even."""
    deep = Stencil(*space.deep(stencil))
    symbol = transform.symbol(deep.wrapped)
    return np.ascontiguousarray(symbol.real) if stencil.is_even() else symbol
