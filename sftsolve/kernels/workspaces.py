"""Convolutions by transforms: forward, symbol, inverse; and the workspace in which a transform of the whole grid does that.

A `Workspace` convolves several fields at once, each of them transformed once, however many convolutions meet in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from sftsolve.kernels.engines import Side, Space
from sftsolve.kernels.stencil import Stencil
from sftsolve.kernels.transforms import Basis, Transform
from sftsolve.loops import boxes, convolution, spectral
from sftsolve.state import Layout

# SciPy's transforms have threads of their own, which wait for those of the loops wherever the two take turns: from how many
# points on transforms are divided, and from how many on the passes between them are, too.
_DIVIDED, _DIVIDED_PASSES = 1 << 18, 1 << 20


def transform_parts(points: int, space: Space) -> int:
    """Number of threads of a transform."""
    return space.parts if points >= _DIVIDED else 1


class Mixing(NamedTuple):
    """What becomes of spectra: result o is the sum over terms (o, i, s, conjugate) of factor * symbol s * spectrum i."""

    symbols: np.ndarray
    terms: np.ndarray
    factors: np.ndarray


class Modes(Protocol):
    """A transform as far as its modes go: their kind, and the factor by which a convolution multiplies each."""

    dtype: np.dtype
    spectrum_dtype: Any

    def symbol(self, weights: Callable[[tuple[int, ...]], np.ndarray]) -> np.ndarray:
        """Of weights on circles of the transform's lengths, displacement zero first."""
        ...


class Workspace(Protocol):
    """Transforms with their arrays."""

    @property
    def transform(self) -> Modes: ...

    def add(self, sources: Sequence[Side], mixing: Mixing, targets: Sequence[Side], scale: float) -> None:
        """Transform all sources, mix their spectra and add scale * mask * result n to target n."""
        ...

    def dot(self, sources: Sequence[Side], mixing: Mixing, targets: Sequence[Side]) -> float:
        """The same with the sum over n of result n times the values of target n."""
        ...


class WholeGrid:
    """A transform of the whole grid with its arrays: `count` spectra and one array of cells."""

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

    def add(self, sources: Sequence[Side], mixing: Mixing, targets: Sequence[Side], scale: float) -> None:
        """See `Workspace`."""
        self._convolve(sources, mixing)
        add = spectral.add if self._serial else spectral.add_threads
        for slot, target in enumerate(targets):
            self.transform.backward(self.spectra[slot], self._work)
            add(self._work, tuple(target), self._place[0], self._boxes, self._work.dtype.type(scale))

    def dot(self, sources: Sequence[Side], mixing: Mixing, targets: Sequence[Side]) -> float:
        """See `Workspace`."""
        self._convolve(sources, mixing)
        dot = spectral.dot if self._serial else spectral.dot_threads
        total = 0.0
        for slot, target in enumerate(targets):
            self.transform.backward(self.spectra[slot], self._work)
            dot(self._work, tuple(target), self._place[0], self._sum_boxes, self._sums)
            total += float(np.sum(self._sums))
        return total

    def _convolve(self, sources: Sequence[Side], mixing: Mixing) -> None:
        for slot, source in enumerate(sources):
            self._load(source, slot)
        mix = spectral.mix if self._serial else spectral.mix_threads
        mix(self._flat, *mixing, self._results)

    def _load(self, source: Side, slot: int) -> None:
        """Transform a source into a spectrum."""
        if self.transform.plain and not source.reference.size and not source.mask.size:
            (oz, oy, ox), (nz, ny, nx) = self.space.layout.offset, self.space.layout.shape
            cells = source.storage[source.field, oz : oz + nz, oy : oy + ny, ox : ox + nx]
            self.transform.forward(cells, self.spectra[slot])
            return
        fill = spectral.fill if self._serial else spectral.fill_threads
        fill(self._work, tuple(source), self._place, self._fill_boxes)
        self.transform.forward(self._work, self.spectra[slot])

    @property
    def bytes(self) -> float:
        return float(self.spectra.nbytes + self._work.nbytes)


def whole_grid_bytes(bases: tuple[Basis, Basis, Basis], layout: Layout, count: int, symbols: float) -> float:
    """Bytes of a `WholeGrid` with `count` spectra, and of so many real symbols."""
    transform = Transform(bases, layout.dtype, 1)
    modes = float(math.prod(transform.modes))
    spectrum, item = modes * np.dtype(transform.spectrum_dtype).itemsize, np.dtype(layout.dtype).itemsize
    return count * spectrum + math.prod(transform.work_shape) * item + symbols * modes * item


class Spectral:
    """Forward transforms, symbol, inverse transforms, in a workspace."""

    def __init__(self, symbols: np.ndarray, workspace: Workspace, conjugate: bool = False):
        self._workspace, self._conjugate = workspace, conjugate
        terms, factors = np.array([[0, 0, 0, int(conjugate)]], np.int64), np.ones(1, workspace.transform.dtype)
        self._mixing = Mixing(symbols, terms, factors)

    @classmethod
    def of(cls, stencil: Stencil, space: Space) -> Spectral:
        """The engine of a stencil in transforms of the whole grid."""
        return cls.inside(WholeGrid(stencil_bases(space, stencil), space, 1), stencil, space)

    @classmethod
    def inside(cls, workspace: Workspace, stencil: Stencil, space: Space) -> Spectral:
        """The engine of a stencil in a workspace."""
        symbol = stencil_symbol(space, stencil, workspace.transform).reshape(1, -1)
        kind = workspace.transform.spectrum_dtype if np.iscomplexobj(symbol) else space.layout.dtype
        return cls(symbol.astype(kind), workspace)

    def add(self, source: Side, target: Side, scale: float) -> None:
        self._workspace.add([source], self._mixing, [target], scale)

    def dot(self, source: Side, target: Side) -> float:
        return self._workspace.dot([source], self._mixing, [target])

    def transposed(self) -> Spectral:
        return Spectral(self._mixing.symbols, self._workspace, not self._conjugate)


def stencil_bases(space: Space, stencil: Stencil) -> tuple[Basis, Basis, Basis]:
    """Bases in which a stencil's convolution is diagonal."""
    values, lowest = space.deep(stencil)
    reach = [max(-low, low + n - 1, 0) for low, n in zip(lowest, values.shape, strict=True)]
    make = {convolution.PERIODIC: lambda n, r: Basis.periodic(n), convolution.ZERO: Basis.padded}
    make[convolution.MIRROR] = lambda n, r: Basis("cosine", n, n)
    found = [make[end](n, r) for end, n, r in zip(space.ends, space.layout.shape, reach, strict=True)]
    return found[0], found[1], found[2]


def stencil_symbol(space: Space, stencil: Stencil, transform: Modes) -> np.ndarray:
    """Factor by which a stencil's convolution multiplies each mode, real where the stencil is even.

    Modes of the grid that are equal by a symmetry of the stencil are so to the last bit, for tables of them to fold
    (`loops.folding`); a Fourier transform leaves them equal up to rounding.
    """
    deep = Stencil(*space.deep(stencil))
    symbol = transform.symbol(deep.wrapped)
    symbol = np.ascontiguousarray(symbol.real) if stencil.is_even() else symbol
    if isinstance(transform, Transform):
        even = [axis in transform.mirrored and deep.is_even(axis) for axis in range(3)]
        transform.share(symbol, even, transform.alike and deep.is_alike(0, 1))
    return symbol
