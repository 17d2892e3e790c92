"""Geometric multigrid for (1 - sigma L) w = R of one field with variable coefficients.

    L w = sum_faces k (w_neighbour - w) - r w

V-cycles in single precision correct a solution in double precision: red-black Gauss-Seidel, restriction by the mean of a coarse
cell's children, trilinear prolongation, exact solution on the coarsest level, coarsening of the strongly coupled axes only
(Trottenberg, Oosterlee and Schueller, Multigrid, 2001, sections 2.4, 2.8 and 5.1). Where that reduces the residual too slowly, as
at jumps of the coefficients, the cycle preconditions conjugate gradients instead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sftsolve.errors import GridError, StepError
from sftsolve.linear import hierarchy
from sftsolve.linear.krylov import ConjugateGradients
from sftsolve.loops import multigrid as loops
from sftsolve.loops import multigrid_outer as outer
from sftsolve.loops import multigrid_planes as planes
from sftsolve.memory import Need
from sftsolve.parallel import SMALL, slabs
from sftsolve.state import Layout

_CYCLES = 60
# Reduction per cycle above which conjugate gradients take over, and above which rounding may be what stops it.
_SLOW, _STALLED = 0.3, 0.7
# Cycles run without a residual in double precision between them, at most _MOST, each of which is expected to reduce it by
# _EXPECTED. Rounding of the correction to single precision, of relative size _SINGLE, leaves about _QUIET of what it could at
# worst. The correction is taken to be _GUESSED of the residual while nothing is known, and never less than _ROUGH of it, as
# residuals get smoother.
_MOST, _EXPECTED, _SINGLE, _QUIET, _GUESSED, _ROUGH = 6, 0.06, 2.0**-24, 0.1, 0.1, 1e-4
# Over-relaxation: best for the cycle with two coarse corrections, in two and in three dimensions.
_OMEGA = np.float32(1.15)
# Cells from which on a level is shared out to threads: each of its sweeps waits for them once a stage.
_SHARED = 1 << 17
# sigma k below which L changes nothing; single precision would overflow.
_NOTHING = 1e-30


def can_coarsen(shape: Sequence[int], periodic: Sequence[bool]) -> bool:
    """Whether multigrid fits a grid: after halving its axes while they are even, few enough cells are left to solve exactly.

    Parameters
    ----------
    shape : extents in axis order
    periodic : by axis
    """
    extents, closed = _on_three_axes(shape, periodic)
    return hierarchy.coarsen(extents, closed, (1.0, 1.0, 1.0)).exact


class Multigrid:
    """Solver of (1 - sigma L) w = R for one field and any sigma >= 0; nothing is allocated after construction.

    Arrays are padded storage (Z, Y, X), or (1, Z, Y, X), of which interiors count and ghosts are not read.

    Parameters
    ----------
    layout : padded storage of the field
    periodic : by axis of the grid
    faces : one array of the grid's shape per axis: k >= 0 between cell i and the next one along this axis, the last one round the
        circle; not read at walls. In units of 1/(time of sigma).
    reaction : r >= 0, an array of the grid's shape or a number; a wall with a value adds twice its face's k to the cells next to
        it
    sweeps : smoothing steps before and after the coarse correction
    threads : how many share the work, the machine's by default; the result does not depend on it

    Attributes
    ----------
    radius : bound of the eigenvalues of -L
    reductions : factors by which the cycles of the last solve reduced the residual; cycles without a residual between them share
        what they did

    Raises
    ------
    GridError : the grid cannot be coarsened, or the coefficients do not fit, are negative or not finite
    """

    def __init__(
        self,
        layout: Layout,
        periodic: Sequence[bool],
        faces: Sequence[np.ndarray],
        reaction: np.ndarray | float = 0.0,
        sweeps: tuple[int, int] = (1, 1),
        threads: int | None = None,
    ):
        self.layout, self.sweeps = layout, sweeps
        shape = layout.shape[3 - layout.dimension :]
        extents, closed = _on_three_axes(shape, periodic)
        cells = math.prod(extents)
        self._threads = 1 if cells < SMALL else (slabs(cells) if threads is None else threads)
        self._parallel = self._threads > 1
        k = _faces(faces, shape, extents, closed)
        r = _checked(np.broadcast_to(np.asarray(reaction, float), shape), shape, "reaction").reshape(extents)
        self._conserves = not r.any()  # L of a constant is zero
        self._place = _place(layout, extents, bool((r != r[0, 0]).any()))
        self._k = (*(face.reshape(-1) for face in k[::-1]), r.reshape(-1))
        self.radius = float(r.max()) + 4 * sum(float(face.max()) for face in k)
        self._build(k, r, closed)
        self._rows = np.zeros((self._threads, extents[2]))
        self._sums = np.zeros((3, extents[0]))
        self._iterate = ConjugateGradients(layout, 1, threads=self._threads)
        self._cells, self._eps = cells, float(np.finfo(layout.dtype).eps)
        self.reductions: list[float] = []

    @staticmethod
    def need(layout: Layout, periodic: Sequence[bool], reacts: bool) -> Need:
        """What the solver takes of memory: its coefficients in double precision, and all levels in single precision.

        The arrays of the conjugate gradients, which only difficult coefficients ask for, are not counted.

        Parameters
        ----------
        reacts : whether there is a reaction; zeros that nobody writes to take no memory
        """
        extents, closed = _on_three_axes(layout.shape[3 - layout.dimension :], periodic)
        table = hierarchy.table_of(hierarchy.coarsen(extents, closed, (1.0, 1.0, 1.0)), closed)
        cells = 8.0 * math.prod(extents)
        return Need.of((layout.dimension + reacts) * cells + hierarchy.bytes_of(table), cells)

    def _build(self, faces: list[np.ndarray], reaction: np.ndarray, closed: Sequence[bool]) -> None:
        """Fill the levels; coefficients are in units of a power of two near the largest."""
        coarsening = hierarchy.coarsen(reaction.shape, closed, [float(k.mean()) for k in faces])
        if not coarsening.exact:
            raise GridError(
                "the grid cannot be coarsened for multigrid",
                expected="extents that are small numbers times powers of two",
                given=reaction.shape,
            )
        table = self._table = hierarchy.table_of(coarsening, closed)
        self._store = hierarchy.store_of(table)
        largest = max([float(k.max()) for k in faces] + [float(reaction.max())])
        self._unit = 2.0 ** math.floor(math.log2(largest)) if largest > 0 else 1.0
        self._mirrors = np.ones((len(table), 3, 2), np.float32)
        stencil = hierarchy.Stencil.split(faces, reaction, closed)
        for number, level in enumerate(table):
            if number:
                stencil = stencil.coarsened(coarsening.factors[number - 1])
                self._mirrors[number - 1] = stencil.mirrors()
            hierarchy.fill(self._store, level, stencil, 1 / self._unit)
        self._plans = hierarchy.plans_of(table)
        self._vectors, self._values = hierarchy.spectrum(stencil, 1 / self._unit)
        self._work = np.zeros((2, len(self._values)))
        row = int(table[:, planes.ROW].max())
        self._scratch = np.zeros((self._threads, 4, 2 * row + 16), np.float32)
        sizes = table[:-1, planes.NZ] * table[:-1, planes.NY] * table[:-1, planes.NX]
        shared = int(np.sum(sizes >= _SHARED)) if self._parallel else 0
        self._program = [hierarchy.program(len(table), self.sweeps, shared, cycles) for cycles in range(1, _MOST + 1)]

    def apply(self, w: np.ndarray, out: np.ndarray, alpha: float = 0.0, beta: float = 1.0) -> None:
        """out = alpha w + beta L w; `out` is another array than w."""
        run = outer.apply_threads if self._parallel else outer.apply
        run(w.reshape(-1), out.reshape(-1), self._k, self._place, alpha, beta, self._rows)

    def precondition(self, right: np.ndarray, sigma: float, out: np.ndarray) -> None:
        """out = nearly (1 - sigma L)^-1 right, by one cycle from zero."""
        right, out = right.reshape(-1), out.reshape(-1)
        size, mean = self._measure(right)
        if size == 0.0 or sigma * self._unit < _NOTHING:
            np.copyto(out, right)
            return
        self._load(right, out, mean, 1.0 / size)
        self._cycle(sigma, 1)
        run = outer.unload_threads if self._parallel else outer.unload
        run(out, mean, self._place, self._store, self._table[0], size / (sigma * self._unit), self._threads)

    def solve(self, right: np.ndarray, sigma: float, out: np.ndarray, guess: bool = False, rtol: float = 1e-8) -> int:
        """Solve (1 - sigma L) out = right; returns the number of cycles.

        Parameters
        ----------
        right, out : padded arrays; `out` holds the first guess if `guess`
        sigma : >= 0, in units of 1/k
        rtol : norm of the residual relative to that of `right`. Rounding may not allow it where sigma k is beyond 1e10 (in single
            precision: 10); what rounding allows is then enough.

        Raises
        ------
        StepError : no convergence, or numbers that are not finite
        """
        self.reductions.clear()
        right, out = right.reshape(-1), out.reshape(-1)
        size, mean = self._measure(right)
        if size == 0.0 or sigma * self._unit < _NOTHING:
            np.copyto(out, right)
            return 0
        scale, residual = 1.0 / size, size
        if guess:
            residual = self._correct(right, sigma, out, 0.0, scale)
        else:
            self._load(right, out, mean, scale)
        noise = _GUESSED * self._noise(sigma)
        while len(self.reductions) < _CYCLES:
            if not math.isfinite(residual):
                raise StepError(
                    "a multigrid solve meets numbers that are not finite", expected="a finite residual", given=residual
                )
            if residual <= rtol * size:
                return len(self.reductions)
            count = self._at_once(rtol * size / residual, noise)
            self._cycle(sigma, count)
            before, factor = residual, 1.0 / (scale * sigma * self._unit)
            scale = 1.0 / before
            residual = self._correct(right, sigma, out, factor, scale)
            number = len(self.reductions)
            self.reductions.extend([(residual / before) ** (1.0 / count)] * count)
            if self.reductions[-1] > _STALLED and residual <= self._rounding(sigma):
                return len(self.reductions)
            noise = self._noise(sigma) * max(_ROUGH, math.sqrt(self._sums[2].sum() / self._cells) / before)
            # The first cycles may leave noise of single precision behind, which the next one removes.
            if self.reductions[-1] > _SLOW and residual > rtol * size and (number or noise < _EXPECTED):
                return len(self.reductions) + self._conjugate(right, sigma, out, rtol)
        raise StepError(
            "a multigrid solve does not converge",
            expected=f"a residual of {rtol:.1e} relative to the right side",
            given=f"{residual / size:.1e} after {_CYCLES} cycles",
        )

    def _noise(self, sigma: float) -> float:
        """Part of a correction that its rounding to single precision leaves in the residual."""
        return _QUIET * _SINGLE * (1.0 + sigma * self.radius)

    def _at_once(self, wanted: float, noise: float) -> int:
        """How many cycles to run before the next residual: as many as it may take, unless noise drowns what they do."""
        count, reduction = 1, _EXPECTED
        while count < _MOST and len(self._table) > 1 and reduction > wanted and reduction * _EXPECTED >= noise:
            count, reduction = count + 1, reduction * _EXPECTED
        return count

    def _conjugate(self, right: np.ndarray, sigma: float, out: np.ndarray, rtol: float) -> int:
        def shifted(w: np.ndarray, image: np.ndarray) -> None:
            self.apply(w, image, 1.0, -sigma)

        def precondition(w: np.ndarray, better: np.ndarray) -> None:
            self.precondition(w, sigma, better)

        shape = (1, *self.layout.padded)
        return self._iterate.solve(shifted, precondition, right.reshape(shape), out.reshape(shape), True, rtol)

    def _correct(self, right: np.ndarray, sigma: float, out: np.ndarray, factor: float, scale: float) -> float:
        """Add the correction and form the next residual; its root mean square."""
        run = outer.correct_threads if self._parallel else outer.correct
        level = self._table[0]
        run(out, right, self._k, self._place, sigma, self._store, level, factor, scale, self._rows, self._sums)
        return math.sqrt(self._sums[0].sum() / self._cells)

    def _measure(self, right: np.ndarray) -> tuple[float, float]:
        """Root mean square, and the mean where constants are solutions: single precision would leave noise of its size."""
        (outer.measure_threads if self._parallel else outer.measure)(right, self._place, self._sums, self._threads)
        size = math.sqrt(self._sums[0].sum() / self._cells)
        return size, float(self._sums[1].sum()) / self._cells if self._conserves else 0.0

    def _load(self, right: np.ndarray, out: np.ndarray, mean: float, scale: float) -> None:
        run = outer.load_threads if self._parallel else outer.load
        run(right, out, mean, self._place, self._store, self._table[0], scale, self._rows)

    def _rounding(self, sigma: float) -> float:
        """Root mean square of the residual that rounding of the solution alone may leave."""
        return 2 * self._eps * (1.0 + sigma * self.radius) * math.sqrt(self._sums[1].sum() / self._cells)

    def _cycle(self, sigma: float, count: int) -> None:
        """Cycles from zero: u of the finest level, for f there, in units of 1/(sigma unit)."""
        shift, omega = np.float32(1.0 / (sigma * self._unit)), _OMEGA
        store, table, plans, mirrors, scratch = self._store, self._table, self._plans, self._mirrors, self._scratch
        for part, number, mode in self._program[count - 1]:
            if part is None:
                level, coarse, plan = table[number], table[number + 1], plans[number, mode]
                loops.sweep_threads(store, level, coarse, plan, mirrors[number], shift, omega, scratch)
            else:
                loops.run(part, store, table, plans, mirrors, shift, omega, scratch, self._vectors, self._values, self._work)


def _on_three_axes(shape: Sequence[int], periodic: Sequence[bool]) -> tuple[hierarchy.Shape, tuple[bool, ...]]:
    """Extents and periodicity of three axes: rows of a two-dimensional grid become planes, along which sweeps run."""
    if len(shape) == 3:
        return (shape[0], shape[1], shape[2]), tuple(periodic)
    if len(shape) == 2:
        return (shape[0], 1, shape[1]), (periodic[0], True, periodic[1])
    return (1, 1, shape[0]), (True, True, periodic[0])


def _place(layout: Layout, extents: hierarchy.Shape, varies: bool) -> tuple[int, ...]:
    """The padded array as `loops.multigrid_outer` sees it."""
    (_, rows, columns), (oz, oy, ox) = layout.padded, layout.offset
    plane = rows * columns if layout.dimension == 3 else columns
    return ((oz * rows + oy) * columns + ox, plane, columns, *extents, int(varies))


def _checked(values: np.ndarray, shape: Sequence[int], what: str) -> np.ndarray:
    if values.shape != tuple(shape):
        raise GridError(f"the {what} of multigrid does not fit the grid", expected=f"shape {tuple(shape)}", given=values.shape)
    if not np.isfinite(values).all() or values.min() < 0:
        raise GridError(f"the {what} of multigrid must be finite and not negative", given=f"{values.min()} ... {values.max()}")
    return np.ascontiguousarray(values)


def _faces(
    faces: Sequence[np.ndarray], shape: Sequence[int], extents: hierarchy.Shape, closed: Sequence[bool]
) -> list[np.ndarray]:
    """Faces on three axes; none at walls nor from a cell to itself."""
    found = [_checked(np.asarray(k), shape, "faces").reshape(extents) for k in faces]
    if len(found) != len(shape):
        raise GridError("multigrid needs faces for every axis", expected=f"{len(shape)} arrays", given=len(found))
    nothing = np.zeros(extents)
    three = {3: found, 2: [found[0], nothing, found[-1]], 1: [nothing, nothing, found[0]]}[len(found)]
    for axis, n in enumerate(extents):
        last = (slice(None),) * axis + (slice(n - 1, n),)
        if (n == 1 or not closed[axis]) and three[axis][last].any():
            three[axis] = three[axis].copy()
            three[axis][last] = 0.0
    return three
