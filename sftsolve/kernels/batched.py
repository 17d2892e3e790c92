"""A matrix between fields in every cell that is made anew of every mini-batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from sftsolve.errors import ActionError
from sftsolve.grid import Grid
from sftsolve.kernels.pointwise import BoundMatrix, PointwiseMatrix
from sftsolve.kernels.protocol import Estimate
from sftsolve.sources import BatchSchedule
from sftsolve.state import Layout, State

Made = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


class BatchedMatrix:
    """The cost  int d^dx ( w_a M_ab(x, t) w_b / 2 - b_a(x, t) w_a )  with M and b of the mini-batch that is shown at t.

    It is `PointwiseMatrix` for a layer that is trained by stochastic descent: M the mean over the batch of the inputs' products,
    b that of inputs times targets.

    Parameters
    ----------
    fields : names of the fields a, b = 1 ... n
    schedule : which examples are shown when
    made_of : function from the numbers of a batch's examples, sorted, to M (n, n, *grid.shape) and b (n, *grid.shape)

    Raises
    ------
    ActionError : no schedule or no function; later, values that `PointwiseMatrix` refuses
    """

    def __init__(self, fields: Sequence[str], schedule: BatchSchedule, made_of: Made):
        if not isinstance(schedule, BatchSchedule) or not callable(made_of):
            raise ActionError(
                "BatchedMatrix is not clear",
                expected="BatchedMatrix(fields, sft.BatchSchedule(...), function of the examples' numbers)",
                given=f"{schedule!r}, {made_of!r}"[:80],
            )
        self.fields, self.schedule = tuple(fields), schedule
        self._made_of = made_of

    def matrix_of(self, number: int) -> PointwiseMatrix:
        """The kernel of a batch."""
        return PointwiseMatrix(self.fields, *self._made_of(self.schedule.examples(number)))

    def bind(self, fields: tuple[str, ...], grid: Grid, layout: Layout) -> BoundBatches:
        """The operator on a grid; it begins with the first batch.

        Raises
        ------
        GridError : the matrix has another shape than the grid
        """
        return BoundBatches(self, self.matrix_of(0).bind(fields, grid, layout))

    def estimate(self, grid: Grid, dtype: str = "float64") -> Estimate:
        """As `PointwiseMatrix`; what a new batch costs is not counted."""
        count = len(self.fields)
        entries = count * (count + 1) // 2 + count
        # A batch's own matrix and vector go when the operator has taken them up.
        making = 8.0 * (count**2 + count) * grid.size
        held, traffic = 8.0 * entries * grid.size, 8.0 * (entries + 3 * count) * grid.size
        return Estimate(2.0 * count**2 * grid.size, traffic, held, making=making)

    def __repr__(self) -> str:
        return f"BatchedMatrix({list(self.fields)}, {self.schedule})"


class BoundBatches:
    """`BatchedMatrix` on a grid: the matrix of the batch at hand, and of the batch of a time when that is asked for."""

    time_dependent = True
    drifting = False

    def __init__(self, kernel: BatchedMatrix, matrix: BoundMatrix):
        self._kernel, self._matrix, self._number = kernel, matrix, 0

    def switches(self, first: float, last: float) -> list[float]:
        """Times inside (first, last) at which a batch ends."""
        return self._kernel.schedule.switches(first, last)

    def enter(self, t: float) -> None:
        """Take up the batch that is shown at t, the later one where two meet."""
        number = self._kernel.schedule.number(t)
        if number != self._number:
            self._number = number
            self._matrix.load(self._kernel.matrix_of(number))

    def add_force(self, state: State, out: State, t: float) -> None:
        self._at(t).add_force(state, out, t)

    def add_jvp(self, state: State, direction: State, out: State, t: float) -> None:
        self._at(t).add_jvp(state, direction, out, t)

    def energy(self, state: State, t: float) -> float:
        return self._at(t).energy(state, t)

    def power(self, state: State, t: float) -> float:
        """A batch stands still while it is shown."""
        return 0.0

    def symbol(self) -> None:
        return None

    def bound(self, t: float = 0.0) -> float:
        """That of the batch at t."""
        return self._at(t).bound(t)

    def _at(self, t: float) -> BoundMatrix:
        """The matrix at hand, or that of t where t lies outside its batch."""
        if not self._kernel.schedule.holds(self._number, t):
            self.enter(t)
        return self._matrix
