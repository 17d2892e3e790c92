"""Products with matrices in compressed rows whose columns are places in padded storage, so that no field is copied.

    apply   out_i -= volume (sum_j A_ij w_j - shift_i)            energy   sum_i (w_i - w_ref,i) (sum_j A_ij w_j - shift_i)

Rows are independent of each other, and sums run over blocks of rows that the grid alone fixes: no result depends on the number of
threads.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from scipy import sparse

from sftsolve.loops.projection import block_bounds, geometry
from sftsolve.parallel import slabs
from sftsolve.state import Layout


@njit(cache=True, nogil=True, fastmath={"contract"})
def _row(data, columns, first, last, source):  # type: ignore[no-untyped-def]
    total = 0.0
    for k in range(first, last):
        total += data[k] * source[columns[k]]
    return total


@njit(cache=True, nogil=True)
def _apply_rows(matrix, source, shift, volume, target, place, first, last):  # type: ignore[no-untyped-def]
    data, columns, starts = matrix
    ny, nx = place[3], place[4]
    row, x, i = first // nx, first % nx, first
    while i < last:
        n = min(nx - x, last - i)
        cells = target[row // ny + place[0], row % ny + place[1], place[2] + x : place[2] + x + n]
        for k in range(n):
            image = _row(data, columns, starts[i + k], starts[i + k + 1], source)
            cells[k] -= volume * (image - shift[i + k] if shift.size else image)
        row, x, i = row + 1, 0, i + n


@njit(cache=True, nogil=True)
def _apply(matrix, source, shift, volume, target, place, bounds):  # type: ignore[no-untyped-def]
    _apply_rows(matrix, source, shift, volume, target, place, bounds[0], bounds[-1])


@njit(cache=True, nogil=True, parallel=True)
def _apply_threads(matrix, source, shift, volume, target, place, bounds):  # type: ignore[no-untyped-def]
    for thread in prange(bounds.size - 1):
        _apply_rows(matrix, source, shift, volume, target, place, bounds[thread], bounds[thread + 1])


@njit(cache=True, nogil=True)
def _energy_rows(matrix, source, shift, left, reference, place, first, last):  # type: ignore[no-untyped-def]
    data, columns, starts = matrix
    ny, nx = place[3], place[4]
    row, x, i, total = first // nx, first % nx, first, 0.0
    while i < last:
        n = min(nx - x, last - i)
        z, y, begin = row // ny + place[0], row % ny + place[1], place[2] + x
        cells = left[z, y, begin : begin + n]
        for k in range(n):
            image = _row(data, columns, starts[i + k], starts[i + k + 1], source)
            if shift.size:
                total += (cells[k] - reference[z, y, begin + k]) * (image - shift[i + k])
            else:
                total += cells[k] * image
        row, x, i = row + 1, 0, i + n
    return total


@njit(cache=True, nogil=True)
def _energy(matrix, source, shift, left, reference, place, bounds, sums):  # type: ignore[no-untyped-def]
    for b in range(sums.size):
        sums[b] = _energy_rows(matrix, source, shift, left, reference, place, bounds[b], bounds[b + 1])


@njit(cache=True, nogil=True, parallel=True)
def _energy_threads(matrix, source, shift, left, reference, place, bounds, sums):  # type: ignore[no-untyped-def]
    for b in prange(sums.size):
        sums[b] = _energy_rows(matrix, source, shift, left, reference, place, bounds[b], bounds[b + 1])


class SparseProduct:
    """One matrix that takes a field to the force on another.

    Parameters
    ----------
    matrix : CSR, (cells, cells)
    volume : h^d
    target, source : numbers of the fields of the rows and of the columns
    reference : w_ref in padded storage, or None
    """

    def __init__(
        self, matrix: sparse.csr_array, volume: float, target: int, source: int, reference: np.ndarray | None, layout: Layout
    ):
        self._volume, self._target, self._source = volume, target, source
        self._place = geometry(layout)
        places = layout.interior(np.arange(int(np.prod(layout.padded)), dtype=np.int64).reshape(1, *layout.padded)).reshape(-1)
        kind = np.uint32 if places[-1] < 2**32 else np.uint64  # unsigned: an index that might be negative costs half the rate
        self._matrix = (matrix.data, places.astype(kind)[matrix.indices], matrix.indptr.astype(np.uint64))
        rows = matrix.shape[0]
        threads = slabs(max(rows, matrix.nnz))
        cuts = np.searchsorted(matrix.indptr, matrix.nnz * np.arange(1, threads) // threads)
        self._bounds = np.array([0, *cuts, rows], np.int64)
        self._blocks = block_bounds(rows)
        self._sums = np.zeros(len(self._blocks) - 1)
        self._run = (_apply, _energy) if threads == 1 else (_apply_threads, _energy_threads)
        self._none = np.zeros(0)
        self._shift, self._reference = self._none, layout.zeros(1) if reference is None else reference
        if reference is not None:
            image = layout.zeros(1)
            self._run[0](self._matrix, reference[source].reshape(-1), self._none, -1.0, image[0], self._place, self._bounds)
            self._shift = layout.interior(image).reshape(-1).copy()

    def apply(self, storage: np.ndarray, out: np.ndarray, affine: bool) -> None:
        """out -= volume A (w - w_ref) in padded storage, or A w where not `affine`."""
        source, shift = storage[self._source].reshape(-1), self._shift if affine else self._none
        self._run[0](self._matrix, source, shift, self._volume, out[self._target], self._place, self._bounds)

    def energy(self, storage: np.ndarray) -> float:
        """(w_target - w_ref) A (w_source - w_ref) h^2d."""
        source, left = storage[self._source].reshape(-1), storage[self._target]
        reference = self._reference[self._target if self._shift.size else 0]
        self._run[1](self._matrix, source, self._shift, left, reference, self._place, self._blocks, self._sums)
        return float(np.sum(self._sums)) * self._volume**2
