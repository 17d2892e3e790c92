"""A matrix between fields in every cell: one compiled loop for any number of fields."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit, prange

from sftsolve.errors import ActionError, GridError
from sftsolve.grid import Grid
from sftsolve.kernels.protocol import Estimate
from sftsolve.loops import boxes
from sftsolve.parallel import slabs
from sftsolve.state import Layout, State


class PointwiseMatrix:
    """The cost  int d^dx ( w_a M_ab(x) w_b / 2 - b_a(x) w_a ), its force  b_a - M_ab w_b.

    This is what training examples give any layer whose couplings are labelled by their output: M the mean of the inputs'
    products, b the mean of inputs times targets (theory: locally wired filter).

    Parameters
    ----------
    fields : names of the fields a, b = 1 ... n
    matrix : M, (n, n, *grid.shape), symmetrised
    vector : b, (n, *grid.shape), zero by default

    Raises
    ------
    ActionError : shapes that do not fit each other or the number of fields, values that are not finite
    """

    def __init__(self, fields: Sequence[str], matrix: np.ndarray, vector: np.ndarray | None = None):
        self.fields = tuple(fields)
        count = len(self.fields)
        self.matrix = _real("matrix", matrix)
        if count == 0 or len(set(self.fields)) != count or self.matrix.ndim < 3 or self.matrix.shape[:2] != (count, count):
            raise ActionError(
                "the matrix of PointwiseMatrix does not fit its fields",
                expected=f"distinct fields and an array ({count}, {count}, *grid.shape)",
                given=f"fields {list(self.fields)}, array {self.matrix.shape}",
            )
        shape = (count, *self.matrix.shape[2:])
        self.vector = np.zeros(shape) if vector is None else _real("vector", vector)
        if self.vector.shape != shape:
            raise ActionError(
                "the vector of PointwiseMatrix does not fit", expected=f"shape {shape}", given=f"shape {self.vector.shape}"
            )
        for name, values in (("matrix", self.matrix), ("vector", self.vector)):
            if not np.isfinite(values).all():
                raise ActionError(
                    f"the {name} of PointwiseMatrix is not finite", expected="finite values", given="NaN or infinity"
                )

    def bind(self, fields: tuple[str, ...], grid: Grid, layout: Layout) -> BoundMatrix:
        """The operator on a grid.

        Raises
        ------
        GridError : the matrix has another shape than the grid
        """
        if self.matrix.shape[2:] != grid.shape:
            raise GridError(
                "PointwiseMatrix does not fit the grid",
                expected=f"(n, n, {', '.join(map(str, grid.shape))})",
                given=self.matrix.shape,
            )
        return BoundMatrix(self, np.array([fields.index(name) for name in self.fields], np.int64), grid, layout)

    def estimate(self, grid: Grid, dtype: str = "float64") -> Estimate:
        """One pass over the upper triangle of M, over b and over the fields."""
        count = len(self.fields)
        entries = count * (count + 1) // 2 + count
        given = float(self.matrix.nbytes + self.vector.nbytes)
        held, traffic = 8.0 * entries * grid.size, 8.0 * (entries + 3 * count) * grid.size
        return Estimate(2.0 * count**2 * grid.size, traffic, held, given, 24.0 * grid.size)

    def __repr__(self) -> str:
        return f"PointwiseMatrix({list(self.fields)}, M{self.matrix.shape}, b{self.vector.shape})"


def _real(name: str, values: object) -> np.ndarray:
    """`values` as an array of float64; ActionError where they are not real numbers, or rows of unequal length."""
    try:
        array = np.asarray(values)
    except ValueError:
        array = np.empty(0, object)
    if array.dtype.kind not in "fiub":
        raise ActionError(f"the {name} of PointwiseMatrix is not an array of real numbers", given=repr(values)[:80])
    return array.astype(np.float64, copy=False)


class BoundMatrix:
    """`PointwiseMatrix` on a grid: the upper triangle of M in one array, so that each entry is read once."""

    def __init__(self, kernel: PointwiseMatrix, index: np.ndarray, grid: Grid, layout: Layout):
        count, cells = len(index), layout.shape
        self._pairs = [(a, b) for a in range(count) for b in range(a, count)]
        self._upper = np.empty((len(self._pairs), *cells))
        self._vector = np.empty((count, *cells))
        self.load(kernel)
        self._index, self._volume = index, grid.cell_volume
        self._offset = np.array(layout.offset, np.int64)
        parts = slabs(grid.size)
        region: boxes.Region = tuple((0, n) for n in cells)  # type: ignore[assignment]
        self._boxes = boxes.for_threads(region, parts)
        self._apply = _apply if parts == 1 else _apply_threads
        self._sum_boxes = boxes.for_sums(region)
        self._sums = np.zeros(len(self._sum_boxes))
        self._energy = _energy if parts == 1 else _energy_threads

    def load(self, kernel: PointwiseMatrix) -> None:
        """Take up the values of M and b."""
        count, cells = len(self._vector), self._upper.shape[1:]
        for number, (a, b) in enumerate(self._pairs):
            self._upper[number] = (0.5 * (kernel.matrix[a, b] + kernel.matrix[b, a])).reshape(cells)
        self._vector[...] = kernel.vector.reshape(self._vector.shape)
        rows = [[self._pairs.index((min(a, b), max(a, b))) for b in range(count)] for a in range(count)]
        self._bound = max(float(sum(np.abs(self._upper[number]) for number in row).max()) for row in rows)

    def add_force(self, state: State, out: State, t: float) -> None:
        self._apply(state.storage, out.storage, self._upper, self._vector, self._index, self._offset, self._boxes, True)

    def add_jvp(self, state: State, direction: State, out: State, t: float) -> None:
        self._apply(direction.storage, out.storage, self._upper, self._vector, self._index, self._offset, self._boxes, False)

    def energy(self, state: State, t: float) -> float:
        self._energy(state.storage, self._upper, self._vector, self._index, self._offset, self._sum_boxes, self._sums)
        return float(np.sum(self._sums)) * self._volume

    def symbol(self) -> None:
        return None

    def bound(self, t: float = 0.0) -> float:
        """Largest row sum of |M| in any cell (Gershgorin)."""
        return self._bound


@njit(cache=True, nogil=True, fastmath={"contract"})
def _apply_box(w, out, upper, index, offset, box):  # type: ignore[no-untyped-def]
    """out_a -= sum_b M_ab w_b in a box."""
    count = index.shape[0]
    n = box[5] - box[4]
    start = offset[2] + box[4]
    for z in range(box[0], box[1]):
        for y in range(box[2], box[3]):
            pair = 0
            for a in range(count):
                wa = w[index[a], z + offset[0], y + offset[1], start : start + n]
                oa = out[index[a], z + offset[0], y + offset[1], start : start + n]
                m = upper[pair, z, y, box[4] : box[5]]
                pair += 1
                for k in range(n):
                    oa[k] -= m[k] * wa[k]
                for b in range(a + 1, count):
                    wb = w[index[b], z + offset[0], y + offset[1], start : start + n]
                    ob = out[index[b], z + offset[0], y + offset[1], start : start + n]
                    m = upper[pair, z, y, box[4] : box[5]]
                    pair += 1
                    for k in range(n):
                        oa[k] -= m[k] * wb[k]
                        ob[k] -= m[k] * wa[k]


@njit(cache=True, nogil=True)
def _add_box(out, vector, index, offset, box):  # type: ignore[no-untyped-def]
    """out_a += b_a in a box."""
    for a in range(index.shape[0]):
        for z in range(box[0], box[1]):
            for y in range(box[2], box[3]):
                o = out[index[a], z + offset[0], y + offset[1], offset[2] + box[4] : offset[2] + box[5]]
                v = vector[a, z, y, box[4] : box[5]]
                for k in range(box[5] - box[4]):
                    o[k] += v[k]


@njit(cache=True, nogil=True)
def _apply(w, out, upper, vector, index, offset, boxes, affine):  # type: ignore[no-untyped-def]
    for b in range(boxes.shape[0]):
        if affine:
            _add_box(out, vector, index, offset, boxes[b])
        _apply_box(w, out, upper, index, offset, boxes[b])


@njit(cache=True, nogil=True, parallel=True)
def _apply_threads(w, out, upper, vector, index, offset, boxes, affine):  # type: ignore[no-untyped-def]
    for b in prange(boxes.shape[0]):
        if affine:
            _add_box(out, vector, index, offset, boxes[b])
        _apply_box(w, out, upper, index, offset, boxes[b])


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"})
def _energy_box(w, upper, vector, index, offset, box):  # type: ignore[no-untyped-def]
    """sum of w M w / 2 - b w over a box."""
    count = index.shape[0]
    n = box[5] - box[4]
    start = offset[2] + box[4]
    total = 0.0
    for z in range(box[0], box[1]):
        for y in range(box[2], box[3]):
            pair = 0
            for a in range(count):
                wa = w[index[a], z + offset[0], y + offset[1], start : start + n]
                v = vector[a, z, y, box[4] : box[5]]
                m = upper[pair, z, y, box[4] : box[5]]
                pair += 1
                for k in range(n):
                    total += (0.5 * m[k] * wa[k] - v[k]) * wa[k]
                for b in range(a + 1, count):
                    wb = w[index[b], z + offset[0], y + offset[1], start : start + n]
                    m = upper[pair, z, y, box[4] : box[5]]
                    pair += 1
                    for k in range(n):
                        total += m[k] * wa[k] * wb[k]
    return total


@njit(cache=True, nogil=True)
def _energy(w, upper, vector, index, offset, boxes, sums):  # type: ignore[no-untyped-def]
    for b in range(boxes.shape[0]):
        sums[b] = _energy_box(w, upper, vector, index, offset, boxes[b])


@njit(cache=True, nogil=True, parallel=True)
def _energy_threads(w, upper, vector, index, offset, boxes, sums):  # type: ignore[no-untyped-def]
    for b in prange(boxes.shape[0]):
        sums[b] = _energy_box(w, upper, vector, index, offset, boxes[b])
