"""Kernels without structure: a full matrix, or an expression of two points that is never stored."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from sftsolve.errors import ActionError
from sftsolve.grid import Grid
from sftsolve.kernels.entries import ArrayEntries, ExpressionEntries, between, cell_points
from sftsolve.kernels.protocol import Estimate
from sftsolve.kernels.reference import ASYMMETRY, Reference, joined
from sftsolve.loops.pairs import PairSums
from sftsolve.state import Layout, State

log = logging.getLogger("sftsolve")

ALTERNATIVES = (
    "give A as an expression, which is evaluated in tiles and never stored; use LowRank, Sparse or Convolution if A has such a "
    "structure (Kernel.from_function looks for one); or take a coarser grid"
)
_CHECKED_ROWS = 16
_CHECKED_PAIRS = 1 << 12


class Dense:
    """The cost  int int A(x, y) a(x) b(y) = h^2d sum_ij A_ij a_i b_j,  without a factor 1/2.

    The force on a is -h^d sum_j A_ij b_j and on b -h^d sum_j A_ji a_j; both act where a is b, so that only A + A^T matters then
    (the talk behind arXiv:2503.08827, J_2(x, y)). One force costs a pass over A, or N^2 evaluations of the expression.

    Parameters
    ----------
    first, second : the fields a and b, which may be the same
    kernel : A as an array (N, N) over the cells in C order, float64 or float32, not copied where it is contiguous; or an
        expression of the points (x, y, z) and (x2, y2, z2), such as ``"exp(-(x-x2)**2)"``, taken as it stands on circles too
    parameters : numbers by name, for an expression
    about : w_ref, see `Reference`; the kernel acts on w - w_ref
    memory : bytes that it may hold, see `Estimate.require`

    Raises
    ------
    ActionError : not square, values that are not finite real numbers, parameters for an array
    ExpressionError : a text outside the language
    """

    report = ""
    """How `Kernel.from_function` came to this kernel."""

    def __init__(
        self,
        first: str,
        second: str,
        kernel: Any,
        parameters: Mapping[str, float] | None = None,
        about: Any = None,
        memory: float | None = None,
    ):
        self.fields = joined("Dense", first, second)
        self.first, self.second, self.memory = first, second, memory
        if parameters and not isinstance(kernel, str):
            raise ActionError("an array has no parameters", expected="an expression, or no parameters", given=list(parameters))
        self.entries = ExpressionEntries(kernel, parameters) if isinstance(kernel, str) else ArrayEntries(np.asarray(kernel))
        self.about = Reference(self.fields, about)

    def estimate(self, grid: Grid, dtype: str = "float64") -> Estimate:
        """One pass over A, or as many evaluations of the expression."""
        pairs, sums = float(grid.size) ** 2, PairSums.memory(grid.size)
        read = self.entries.nbytes + 2 * sums
        reference = self.about.bytes_on(Layout.of(grid, 0, dtype))
        return Estimate((4.0 + self.entries.operations) * pairs, read, self.entries.nbytes + sums, making=reference)

    def bind(self, fields: tuple[str, ...], grid: Grid, layout: Layout) -> BoundDense:
        """The operator on a grid.

        Raises
        ------
        GridError : the array has another size than the grid, does not fit into memory, or w_ref does not fit
        ActionError : the expression is not finite
        """
        self.estimate(grid).require("Dense", self.memory, ALTERNATIVES)
        reference = self.about.padded(fields, grid, layout)
        return BoundDense(self, (fields.index(self.first), fields.index(self.second)), reference, grid, layout)

    def __repr__(self) -> str:
        return f"Dense({self.first!r}, {self.second!r}, {self.entries})"


class BoundDense:
    """`Dense` on a grid."""

    def __init__(self, kernel: Dense, index: tuple[int, int], reference: np.ndarray | None, grid: Grid, layout: Layout):
        self._kernel, self._grid = kernel, grid
        module, arguments = kernel.entries.compile(grid)
        _check(kernel, grid)
        self._sums = PairSums(module, arguments, grid.cell_volume, index, reference, layout)

    def add_force(self, state: State, out: State, t: float) -> None:
        self._sums.add(state.storage, out.storage, affine=True)

    def add_jvp(self, state: State, direction: State, out: State, t: float) -> None:
        self._sums.add(direction.storage, out.storage, affine=False)

    def energy(self, state: State, t: float) -> float:
        return self._sums.energy(state.storage)

    def symbol(self) -> None:
        return None

    def bound(self, t: float = 0.0) -> float:
        """h^d sqrt(|A|_1 |A|_inf), above the largest |eigenvalue| of F' (of A + A^T where a is b)."""
        return self._bound

    @cached_property
    def _bound(self) -> float:
        rows, columns = np.zeros(self._grid.size), np.zeros(self._grid.size)
        for part, values in _panels(self._kernel, self._grid):
            size = np.abs(values)
            rows[part] = size.sum(axis=1)
            columns += size.sum(axis=0)
        if len(self._kernel.fields) == 1:
            return float((rows + columns).max()) * self._grid.cell_volume
        return float(np.sqrt(rows.max() * columns.max())) * self._grid.cell_volume


def _panels(kernel: Dense, grid: Grid) -> Any:
    """(cells, their rows of A) in pieces that stay small."""
    step = max(1, (1 << 21) // grid.size)
    for start in range(0, grid.size, step):
        part = np.arange(start, min(start + step, grid.size))
        yield part, _rows(kernel, grid, part)


def _rows(kernel: Dense, grid: Grid, cells: np.ndarray) -> np.ndarray:
    if isinstance(kernel.entries, ArrayEntries):
        return kernel.entries.matrix[cells]
    return between(kernel.entries, grid, cells[:, None], np.arange(grid.size)[None, :])


def _check(kernel: Dense, grid: Grid) -> None:
    """Warn of a matrix of which only the symmetric part acts; refuse an expression that is not finite where it is sampled.

    Raises
    ------
    ActionError : the expression has no finite value on the diagonal or in one of the sampled rows
    """
    symmetric = _is_symmetric(kernel.entries.matrix) if isinstance(kernel.entries, ArrayEntries) else _sample(kernel, grid)
    if len(kernel.fields) == 1 and not symmetric:
        log.warning("the kernel %r is not symmetric: only A + A^T acts", kernel)


def _is_symmetric(matrix: np.ndarray) -> bool:
    """In tiles, until the first that is not."""
    tile = 1024
    scale = max(float(np.abs(matrix[start : start + tile]).max()) for start in range(0, len(matrix), tile))
    for i in range(0, len(matrix), tile):
        for j in range(0, i + 1, tile):
            difference = matrix[i : i + tile, j : j + tile] - matrix[j : j + tile, i : i + tile].T
            if np.abs(difference).max() > ASYMMETRY * scale:
                return False
    return True


def _sample(kernel: Dense, grid: Grid) -> bool:
    """Whether A(x, y) = A(y, x) at random pairs; the diagonal, these pairs and some rows must be finite."""
    assert isinstance(kernel.entries, ExpressionEntries)
    rng = np.random.default_rng(0)
    one, other = rng.integers(grid.size, size=(2, _CHECKED_PAIRS))
    cells, some = np.arange(grid.size), rng.integers(grid.size, size=(_CHECKED_ROWS, 1))
    values = between(kernel.entries, grid, one, other)
    for rows, columns, found in (
        (one, other, values),
        (cells, cells, between(kernel.entries, grid, cells, cells)),
        (some, cells[None, :], between(kernel.entries, grid, some, cells[None, :])),
    ):
        bad = ~np.isfinite(found)
        if bad.any():
            where = int(np.argmax(bad))
            pair = [int(np.broadcast_to(part, found.shape).flat[where]) for part in (rows, columns)]
            points = [{axis: float(value) for axis, value in cell_points(grid, np.array(cell)).items()} for cell in pair]
            raise ActionError(
                f"the kernel {kernel.entries} is not finite",
                expected="finite values between all cells",
                given=f"{found.flat[where]} between {points[0]} and {points[1]}",
                remedy="soften a singularity, as in 1/sqrt((x-x2)**2 + e**2)",
            )
    difference = np.abs(values - between(kernel.entries, grid, other, one))
    return bool(difference.max() <= ASYMMETRY * max(np.abs(values).max(), 1e-300))
