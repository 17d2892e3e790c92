"""Couplings between cells at fixed displacements: the lattice couplings of toy networks, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sftsolve.errors import ActionError
from sftsolve.grid import Grid
from sftsolve.kernels.amplitude import Amplitude
from sftsolve.kernels.convolution import space_of
from sftsolve.kernels.engines import Side, Space
from sftsolve.kernels.protocol import Estimate
from sftsolve.kernels.reference import Reference, joined
from sftsolve.kernels.spectral import Coupling, jacobian_symbol
from sftsolve.kernels.stencil import Stencil
from sftsolve.kernels.transforms import Transform
from sftsolve.kernels.workspaces import stencil_bases, stencil_symbol
from sftsolve.loops import boxes
from sftsolve.loops import shift as loops
from sftsolve.loops.convolution import PERIODIC, ZERO
from sftsolve.sources import ArraySource, make_source, on_grid
from sftsolve.state import Layout, State


class Shift:
    """The cost  sum_s int d^dx c_s(x) a(x) b(x + s h)  with displacements of s whole cells, without a factor 1/2.

    The force on a is -sum_s c_s(x) b(x + s h) and on b -sum_s c_s(x - s h) a(x - s h); both act where a is b. Nothing lies beyond
    the ends of a walled axis. It is how weights couple in a network whose layers are wired to fixed neighbours, before the
    expansion in derivatives (arXiv:2503.08827, the toy networks).

    Parameters
    ----------
    first, second : the fields a and b, which may be the same
    displacement : s, whole numbers of cells in axis order ((y, x), say), or a list of such
    coefficient : c_s, a number, an array of the grid's shape or an expression of the coordinates; one for all displacements or
        a list with one for each
    about : w_ref, see `Reference`; the kernel acts on w - w_ref

    Raises
    ------
    ActionError : displacements that are no whole numbers, or coefficients that do not fit them
    """

    def __init__(self, first: str, second: str, displacement: Any, coefficient: Any = 1.0, about: Any = None):
        self.fields = joined("Shift", first, second)
        self.first, self.second = first, second
        self.displacements = _displacements(displacement)
        given = list(coefficient) if isinstance(coefficient, (list, tuple)) else [coefficient] * len(self.displacements)
        if len(given) != len(self.displacements):
            raise ActionError(
                "Shift has not one coefficient a displacement",
                expected=f"one coefficient, or a list of {len(self.displacements)}",
                given=f"{len(given)}",
            )
        self.coefficients = [make_source("coefficient of Shift", value) for value in given]
        self.about = Reference(self.fields, about)

    def estimate(self, grid: Grid, dtype: str = "float64") -> Estimate:
        """One pass over the coefficients a field; coefficients that are numbers cost nothing."""
        twice, arrays = 2.0, len(self._arrays(grid)[1])
        count = len(self.displacements)
        traffic = 8.0 * grid.size * twice * (3 + arrays)
        layout = Layout.of(grid, 0, dtype)
        held = float(np.dtype(dtype).itemsize * arrays * grid.size) + self.about.bytes_on(layout)
        return Estimate(2.0 * twice * count * grid.size, traffic, held, self._given, 8.0 * arrays * grid.size)

    def bind(self, fields: tuple[str, ...], grid: Grid, layout: Layout) -> BoundShift:
        """The operator on a grid.

        Raises
        ------
        GridError : displacements, coefficients or w_ref do not fit the grid, or more memory than there is
        """
        self.estimate(grid).require("Shift", remedy="give constant coefficients as numbers")
        space = space_of(layout, tuple(PERIODIC if grid.periodic(axis) else ZERO for axis in grid.axes))
        index = (fields.index(self.first), fields.index(self.second))
        return BoundShift(self, index, len(fields), self.about.padded(fields, grid, layout), grid, space)

    @property
    def _given(self) -> float:
        """Bytes of coefficients that are arrays."""
        return float(sum(source.array.nbytes for source in self.coefficients if isinstance(source, ArraySource)))

    def on(self, grid: Grid, space: Space) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Displacements (n, 3), rows of the table or -1, numbers, and the table of coefficients (rows, nz, ny, nx)."""
        numbers, arrays = self._arrays(grid)
        moves, rows, kept = [], [], []
        for number, displacement in enumerate(self.displacements):
            move = [0] * (3 - grid.dimension) + list(displacement)
            for axis, (n, end) in enumerate(zip(space.layout.shape, space.ends, strict=True)):
                move[axis] = (move[axis] + n // 2) % n - n // 2 if end == PERIODIC else move[axis]
            if all(abs(step) < n for step, n in zip(move, space.layout.shape, strict=True)):
                moves.append(move)
                rows.append(list(arrays).index(number) if number in arrays else -1)
                kept.append(numbers.get(number, 0.0))
        table = np.empty((len(arrays), *space.layout.shape), space.layout.dtype)
        for row, values in enumerate(arrays.values()):
            table[row] = values.reshape(space.layout.shape)
        return np.array(moves, np.int64).reshape(-1, 3), np.array(rows, np.int64), np.array(kept, table.dtype), table

    def _arrays(self, grid: Grid) -> tuple[dict[int, float], dict[int, np.ndarray]]:
        """Coefficients by the number of their displacement: those that are one number, and those that vary."""
        if any(len(displacement) != grid.dimension for displacement in self.displacements):
            raise ActionError(
                "the displacements of Shift do not fit the grid",
                expected=f"{grid.dimension} whole numbers ({', '.join(grid.axes)})",
                given=self.displacements[0],
            )
        numbers, arrays = {}, {}
        for number, source in enumerate(self.coefficients):
            values = on_grid(grid, "coefficient", np.asarray(source.values(grid, {})), "Shift's")
            if values.size and not any(values.strides):  # one value, broadcast
                numbers[number] = float(values.flat[0])
            else:
                arrays[number] = values
        return numbers, arrays

    def __repr__(self) -> str:
        return f"Shift({self.first!r}, {self.second!r}, {self.displacements})"


class BoundShift:
    """`Shift` on a grid: both forces as compiled sweeps."""

    def __init__(self, kernel: Shift, index: tuple[int, int], count: int, reference: np.ndarray | None, grid: Grid, space: Space):
        self._a, self._b = index
        self._count, self._grid, self._space = count, grid, space
        *shifts, self._table = kernel.on(grid, space)
        self._shifts = tuple(shifts)
        self._none, self._no_mask = space.none(4), space.none(3)
        self._reference = self._none if reference is None else reference
        self._place = space.place((0, 0, 0))
        region: boxes.Region = tuple((0, n) for n in space.layout.shape)  # type: ignore[assignment]
        self._boxes, self._sum_boxes = boxes.for_threads(region, space.parts), boxes.for_sums(region)
        self._sums = np.zeros(len(self._sum_boxes))
        self._unused = np.zeros(len(self._boxes))
        self._loop = loops.shift if space.parts == 1 else loops.shift_threads

    def add_force(self, state: State, out: State, t: float) -> None:
        self._add(state, self._reference, out)

    def add_jvp(self, state: State, direction: State, out: State, t: float) -> None:
        self._add(direction, self._none, out)

    def energy(self, state: State, t: float) -> float:
        source, target = (self._side(state, field, self._reference) for field in (self._b, self._a))
        self._run(source, target, False, 1.0, self._sum_boxes, self._sums, False)
        return float(np.sum(self._sums)) * self._grid.cell_volume

    def symbol(self) -> np.ndarray | None:
        """Of constant coefficients on a periodic grid."""
        moves, rows, numbers = self._shifts
        if self._grid.walls or (rows >= 0).any():
            return None
        nothing = Stencil(np.zeros((1, 1, 1)), (0, 0, 0))
        stencils = [Stencil(np.full((1, 1, 1), c), tuple(int(-s) for s in move)) for move, c in zip(moves, numbers, strict=True)]
        stencil = sum(stencils, nothing)
        transform = Transform(stencil_bases(self._space, stencil), np.float64, self._space.parts)
        weights = stencil_symbol(self._space, stencil, transform)
        always = Amplitude("Shift", 1.0, {})
        found = jacobian_symbol(
            [Coupling(self._a, self._b, always, None, transform.bases, lambda _: weights)], transform, self._count
        )
        assert found is not None
        return found.reshape(self._count, self._count, *transform.modes[3 - self._grid.dimension :])

    def bound(self, t: float = 0.0) -> float:
        """Sum of the largest coefficients."""
        _, rows, numbers = self._shifts
        sizes = [float(np.abs(self._table[row]).max()) if row >= 0 else abs(c) for row, c in zip(rows, numbers, strict=True)]
        return sum(sizes) * (2.0 if self._a == self._b else 1.0)

    def _add(self, state: State, reference: np.ndarray, out: State) -> None:
        for field, other, adjoint in ((self._a, self._b, False), (self._b, self._a, True)):
            source, target = self._side(state, other, reference), self._side(out, field, self._none)
            self._run(source, target, adjoint, -1.0, self._boxes, self._unused, True)

    def _run(
        self, source: Side, target: Side, adjoint: bool, scale: float, region: np.ndarray, sums: np.ndarray, adding: bool
    ) -> None:
        factor = self._table.dtype.type(scale)
        self._loop(tuple(source), tuple(target), self._place, self._table, self._shifts, adjoint, factor, region, sums, adding)

    def _side(self, state: State, field: int, reference: np.ndarray) -> Side:
        return Side(state.storage, field, reference, self._no_mask)


def _displacements(given: Any) -> tuple[tuple[int, ...], ...]:
    """One displacement or a list of them as tuples of whole numbers."""
    entries = given.tolist() if isinstance(given, np.ndarray) else given
    if isinstance(entries, (int, np.integer)) and not isinstance(entries, bool):
        entries = [[entries]]
    elif isinstance(entries, Sequence) and entries and not isinstance(entries[0], (Sequence, np.ndarray)):
        entries = [entries]
    found = []
    for entry in entries if isinstance(entries, Sequence) and not isinstance(entries, str) else [None]:
        steps = list(entry) if isinstance(entry, (Sequence, np.ndarray)) and not isinstance(entry, str) else []
        if not 1 <= len(steps) <= 3 or not all(isinstance(s, (int, np.integer)) and not isinstance(s, bool) for s in steps):
            raise ActionError(
                "a displacement of Shift is not understood",
                expected="whole numbers of cells in axis order, such as (0, 1), or a list of such",
                given=repr(given)[:80],
            )
        found.append(tuple(int(step) for step in steps))
    if not found or len({len(entry) for entry in found}) != 1:
        raise ActionError(
            "the displacements of Shift differ in length", expected="one number an axis each", given=repr(given)[:80]
        )
    return tuple(found)
