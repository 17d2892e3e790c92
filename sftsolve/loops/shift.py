"""Couplings of cells at fixed displacements: each row of results takes a row of values, in at most three pieces.

    out_i += scale c_i v_(i+s)    or, the adjoint,    out_i += scale c_(i-s) v_(i-s),    v = w - w_ref

The tuples `source`, `target` and `place` are those of `loops.convolution`; `shifts` is (displacements (n, 3), rows of the
coefficient table (n,) or -1, numbers (n,)), the numbers being the coefficients where there is no row.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

_FUSED = {"contract"}
_SUMMED = {"contract", "reassoc", "nsz"}


@njit(cache=True, nogil=True)
def _seen(i, n, end):  # type: ignore[no-untyped-def]
    """The cell at index i of an axis of n cells, -1 for none; |i| < 2 n."""
    if 0 <= i < n:
        return i
    return -1 if end else (i + n if i < 0 else i - n)


@njit(cache=True, nogil=True, fastmath=_FUSED)
def _add(out, values, reference, coefficients, scale):  # type: ignore[no-untyped-def]
    n = np.uint64(out.size)
    if reference.size and coefficients.size:
        for k in range(n):
            out[k] += scale * coefficients[k] * (values[k] - reference[k])
    elif reference.size:
        for k in range(n):
            out[k] += scale * (values[k] - reference[k])
    elif coefficients.size:
        for k in range(n):
            out[k] += scale * coefficients[k] * values[k]
    else:
        for k in range(n):
            out[k] += scale * values[k]


@njit(cache=True, nogil=True, fastmath=_SUMMED)
def _sum(left, left_reference, values, reference, coefficients, scale):  # type: ignore[no-untyped-def]
    total = 0.0
    for k in range(np.uint64(left.size)):
        a, b = left[k], values[k]
        if reference.size:
            a -= left_reference[k]
            b -= reference[k]
        total += np.float64(scale * coefficients[k] if coefficients.size else scale) * a * b
    return total


@njit(cache=True, nogil=True)
def _part(side, offset, z, y, x, n):  # type: ignore[no-untyped-def]
    """Values and reference of n cells of a side from cell (z, y, x) on."""
    storage, field, reference, _ = side
    start = offset[2] + x
    values = storage[field, z + offset[0], y + offset[1], start : start + n]
    if reference.size:
        return values, reference[field, z + offset[0], y + offset[1], start : start + n]
    return values, values[:0]


@njit(cache=True, nogil=True)
def _row(source, target, place, table, shifts, number, adjoint, scale, z, y, x0, x1, adding):  # type: ignore[no-untyped-def]
    """One shift of one row of results."""
    offset, cells, ends, _ = place
    displacements, rows, numbers = shifts
    sign = -1 if adjoint else 1
    from_z = _seen(z + sign * displacements[number, 0], cells[0], ends[0])
    from_y = _seen(y + sign * displacements[number, 1], cells[1], ends[1])
    if from_z < 0 or from_y < 0:
        return 0.0
    step, n, row = sign * displacements[number, 2], cells[2], rows[number]
    first, last = max(x0, min(-step, x1)), min(x1, max(n - step, x0))
    factor = scale if row >= 0 else scale * numbers[number]
    total = 0.0
    for start, stop, move in ((x0, first, step + n), (first, last, step), (last, x1, step - n)):
        if start >= stop or (move != step and ends[2] != 0):
            continue
        values, reference = _part(source, offset, from_z, from_y, start + move, stop - start)
        own, own_reference = _part(target, offset, z, y, start, stop - start)
        coefficients = values[:0]
        if row >= 0:
            coefficients = table[row, from_z, from_y, start + move : stop + move] if adjoint else table[row, z, y, start:stop]
        if adding:
            _add(own, values, reference, coefficients, factor)
        else:
            total += _sum(own, own_reference, values, reference, coefficients, factor)
    return total


@njit(cache=True, nogil=True)
def _box(source, target, place, table, shifts, adjoint, scale, box, adding):  # type: ignore[no-untyped-def]
    total = 0.0
    for z in range(box[0], box[1]):
        for y in range(box[2], box[3]):
            for number in range(shifts[0].shape[0]):
                total += _row(source, target, place, table, shifts, number, adjoint, scale, z, y, box[4], box[5], adding)
    return total


@njit(cache=True, nogil=True)
def shift(source, target, place, table, shifts, adjoint, scale, boxes, sums, adding):  # type: ignore[no-untyped-def]
    """Add shifted values to the target, or sum their products with its values, one partial sum a box."""
    for b in range(boxes.shape[0]):
        sums[b] = _box(source, target, place, table, shifts, adjoint, scale, boxes[b], adding)


@njit(cache=True, nogil=True, parallel=True)
def shift_threads(source, target, place, table, shifts, adjoint, scale, boxes, sums, adding):  # type: ignore[no-untyped-def]
    for b in prange(boxes.shape[0]):
        sums[b] = _box(source, target, place, table, shifts, adjoint, scale, boxes[b], adding)
