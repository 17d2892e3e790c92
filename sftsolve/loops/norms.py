"""Sums over the cells of a grid: error norms fused with their estimates, and mean squares.

Sums run over blocks that the grid alone fixes and are added in order, so that no result depends on the number of threads.
Halo and pads are left out.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange
from numba.extending import overload

from sftsolve.loops.combine import Arrays, Numbers, weighted, weighted_pair
from sftsolve.parallel import SMALL, slabs
from sftsolve.state import Layout

# Cells a segment (a piece of a row) and a block of segments have at least, where the grid has them.
_SEGMENT = 1 << 12
# Sums are split into vector lanes ("reassoc"), which keeps NaN and inf as they are.
_FASTMATH = {"contract", "reassoc"}


@njit(inline="always")
def _larger(one, other):  # type: ignore[no-untyped-def]
    """The larger of two, and `other` where it is NaN (max() would drop a NaN)."""
    return one if one > other else other


def _square(i, ends, terms, weights, rule, atol):  # type: ignore[no-untyped-def]
    """Squared error of cell i in units of its tolerance, for use in compiled code only."""
    raise NotImplementedError("_square() exists in compiled code only")


@overload(_square, jit_options={"fastmath": _FASTMATH, "error_model": "numpy"})
def _square_of_type(i, ends, terms, weights, rule, atol):  # type: ignore[no-untyped-def]
    count = len(weights) // 3

    def flow(i, ends, terms, weights, rule, atol):  # type: ignore[no-untyped-def]
        scale = atol + rule[0] * _larger(abs(ends[0][i]), abs(ends[1][i]))
        error = weighted(terms, weights, i) / scale
        return error * error

    def damped(i, ends, terms, weights, rule, atol):  # type: ignore[no-untyped-def]
        rtol, mix, own, share = rule
        error, error_u = weighted_pair(terms[:count], terms[count:], weights, i)
        error_u += mix * error
        scale = atol + rtol * _larger(abs(ends[0][i]), abs(ends[1][i]))
        scale_u = own * (atol + rtol * _larger(abs(ends[2][i]), abs(ends[3][i]))) + share * scale
        error, error_u = error / scale, error_u / scale_u
        # Where the first is NaN, so is the second, which holds the same terms.
        return _larger(error * error, error_u * error_u)

    return flow if len(ends) == 2 else damped


@njit(cache=True, fastmath=_FASTMATH, error_model="numpy", forceinline=True)
def _error_block(ends, terms, weights, rule, atol, segments, first, last):  # type: ignore[no-untyped-def]
    total = 0.0
    for number in range(first, last):
        tolerance = atol[segments[number, 2]]
        for i in range(segments[number, 0], segments[number, 1]):
            total += _square(i, ends, terms, weights, rule, tolerance)
    return total


@njit(cache=True, fastmath=_FASTMATH, error_model="numpy")
def _error_serial(ends, terms, weights, rule, atol, segments, a_block, partial):  # type: ignore[no-untyped-def]
    for block in range(partial.size):
        last = min(len(segments), (block + 1) * a_block)
        partial[block] = _error_block(ends, terms, weights, rule, atol, segments, block * a_block, last)


@njit(cache=True, fastmath=_FASTMATH, error_model="numpy", parallel=True)
def _error_parallel(ends, terms, weights, rule, atol, segments, a_block, partial, threads):  # type: ignore[no-untyped-def]
    for thread in prange(threads):
        for block in range(thread * partial.size // threads, (thread + 1) * partial.size // threads):
            last = min(len(segments), (block + 1) * a_block)
            partial[block] = _error_block(ends, terms, weights, rule, atol, segments, block * a_block, last)


@njit(cache=True, fastmath=_FASTMATH, forceinline=True)
def _square_block(values, segments, first, last):  # type: ignore[no-untyped-def]
    total = 0.0
    for number in range(first, last):
        for i in range(segments[number, 0], segments[number, 1]):
            total += values[i] * values[i]
    return total


@njit(cache=True, fastmath=_FASTMATH)
def _square_serial(values, segments, a_block, partial):  # type: ignore[no-untyped-def]
    for block in range(partial.size):
        partial[block] = _square_block(values, segments, block * a_block, min(len(segments), (block + 1) * a_block))


@njit(cache=True, fastmath=_FASTMATH, parallel=True)
def _square_parallel(values, segments, a_block, partial, threads):  # type: ignore[no-untyped-def]
    for thread in prange(threads):
        for block in range(thread * partial.size // threads, (thread + 1) * partial.size // threads):
            partial[block] = _square_block(values, segments, block * a_block, min(len(segments), (block + 1) * a_block))


class CellSums:
    """Sums over all cells of all fields of one layout.

    Parameters
    ----------
    layout : layout of the padded arrays
    count : number of fields
    """

    def __init__(self, layout: Layout, count: int):
        self._segments = _segments(layout, count)
        cells = math.prod(layout.shape)
        self.count = count * cells
        self._a_block = max(1, _SEGMENT // min(layout.shape[2], _SEGMENT))
        self._partial = np.zeros(-(-len(self._segments) // self._a_block))
        self._small = self.count < SMALL
        self._threads = slabs(self.count)

    def error(self, ends: Arrays, terms: Arrays, weights: Numbers, rule: Numbers, atol: np.ndarray) -> float:
        """Root mean square of an error in units of its tolerance.

        Gradient flow, ``ends = (w_old, w_new)``, ``rule = (rtol,)``:

            e = sum d_j terms_j,    scale = atol + rtol max(|w_old|, |w_new|)

        Damped, ``ends = (w_old, w_new, u_old, u_new)``, ``terms = (U..., F...)``, ``weights = (d..., f..., g...)``,
        ``rule = (rtol, mix, own, share)``: the larger of e_w/scale and e_u/scale_u in each cell, with

            e_w = sum d_j U_j,    e_u = sum f_j F_j - sum g_j U_j + mix e_w
            scale_u = own (atol + rtol max(|u_old|, |u_new|)) + share scale

        Parameters
        ----------
        ends : flat fields at both ends of the step
        terms, weights : flat arrays and scalars of their type, as above
        atol : absolute tolerance per field
        """
        if self._small:
            _error_serial(ends, terms, weights, rule, atol, self._segments, self._a_block, self._partial)
        else:
            _error_parallel(ends, terms, weights, rule, atol, self._segments, self._a_block, self._partial, self._threads)
        return math.sqrt(self._partial.sum() / self.count)

    @property
    def blocks(self) -> tuple[np.ndarray, int, np.ndarray]:
        """Segments of cells, how many make a block, and room for the sums of all blocks."""
        return self._segments, self._a_block, self._partial

    def mean_square(self, values: np.ndarray) -> float:
        """Mean of the squares of a padded array (field, Z, Y, X) over fields and cells."""
        flat = values.reshape(-1)
        if self._small:
            _square_serial(flat, self._segments, self._a_block, self._partial)
        else:
            _square_parallel(flat, self._segments, self._a_block, self._partial, self._threads)
        return float(self._partial.sum()) / self.count


def _segments(layout: Layout, count: int) -> np.ndarray:
    """Start, stop and field of every segment in the flat storage, (segments, 3).

    Unsigned, because an index that might be negative keeps a loop from being vectorised.
    """
    (nz, ny, nx), (oz, oy, ox), (padded_z, padded_y, row) = layout.shape, layout.offset, layout.padded
    field, z, y, cut = np.ix_(range(count), range(nz), range(ny), range(0, nx, _SEGMENT))
    start = ((field * padded_z + z + oz) * padded_y + y + oy) * row + ox + cut
    stop = start + np.minimum(nx - cut, _SEGMENT)
    return np.stack(np.broadcast_arrays(start, stop, field), axis=-1).reshape(-1, 3).astype(np.uint64)
