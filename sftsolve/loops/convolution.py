"""Convolutions by direct sums over a short stencil, tile by tile, in one pass over memory.

    out_i += scale X_i sum_m K_m v_(i-m),    v = (w - w_ref) Y

A tile with its surroundings is loaded into a thread's scratch, where ghosts (copies, images or zeros), the reference and the
mask Y are applied on the way; the sums then run over rows in the cache. Tiles depend on the grid and the stencil alone, so
results do not depend on threads.

Arguments that belong together travel in tuples: ``source = (storage, field, reference, mask)`` and
``target = (storage, field, reference, mask)``, the reference (field, Z, Y, X) padded like the storage, the mask (nz, ny, nx),
and an array without elements for "none"; ``place = (offset, cells, ends, reach)`` with one of the codes `PERIODIC`, `ZERO` and
`MIRROR` an axis for its ends.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from numba.extending import overload

PERIODIC, ZERO, MIRROR = 0, 1, 2

# Taps of a stencil's row that one loop holds in registers; each width is compiled by itself when it is first used.
WIDTHS = (1, 3, 5, 7)
_FUSED = {"contract"}
_SUMMED = {"contract", "reassoc", "nsz"}
_U = np.uint64  # an index that might be negative keeps a loop from being vectorised


def _taps(table, row, unroll):  # type: ignore[no-untyped-def]
    """Row of a table as a tuple of len(unroll) numbers, for use in compiled code only."""
    raise NotImplementedError("_taps() exists in compiled code only")


@overload(_taps)
def _taps_of_type(table, row, unroll):  # type: ignore[no-untyped-def]
    last = len(unroll) - 1
    if last == 0:
        return lambda table, row, unroll: (table[row, 0],)
    return lambda table, row, unroll: _taps(table, row, unroll[1:]) + (table[row, last],)


def _dot(taps, values, k):  # type: ignore[no-untyped-def]
    """sum_m taps[m] values[k + m], for use in compiled code only."""
    raise NotImplementedError("_dot() exists in compiled code only")


@overload(_dot)
def _dot_of_type(taps, values, k):  # type: ignore[no-untyped-def]
    last = len(taps) - 1
    if last == 0:
        return lambda taps, values, k: taps[0] * values[k]
    return lambda taps, values, k: _dot(taps[:-1], values, k) + taps[last] * values[k + _U(last)]


@njit(cache=True, nogil=True)
def _inside(i, n, end):  # type: ignore[no-untyped-def]
    """The cell whose value stands at index i of an axis of n cells; -1 for none."""
    if 0 <= i < n:
        return i
    if end == 0:
        return i % n
    if end == 1:
        return -1
    image = i % (2 * n)
    return image if image < n else 2 * n - 1 - image


@njit(cache=True, nogil=True, fastmath=_FUSED)
def _load_row(row, w, r, m, referenced, masked, x0, end):  # type: ignore[no-untyped-def]
    """row = (w - r) * m for cells x0 ... of a line, of which some may lie outside the grid; w, r and m begin at its cell 0."""
    done = 0
    while done < row.size:
        x = _inside(x0 + done, w.size, end)
        if x < 0:
            row[done] = 0.0
            done += 1
            continue
        along = 0 <= x0 + done < w.size or end == 0  # cells and their copies run along, images run back
        run = min(row.size - done, w.size - x) if along else 1
        n, at, of = _U(run), _U(done), _U(x)
        for k in range(n):
            row[at + k] = w[of + k]
        if referenced:
            for k in range(n):
                row[at + k] -= r[of + k]
        if masked:
            for k in range(n):
                row[at + k] *= m[of + k]
        done += run


@njit(cache=True, nogil=True)
def load(tile, source, place, box):  # type: ignore[no-untyped-def]
    """tile = (w - reference) * mask in a box of cells and `reach` cells around it; what a row has left becomes zero."""
    storage, field, reference, mask = source
    offset, cells, ends, reach = place
    x0, wide = box[4] - reach[2], box[5] - box[4] + 2 * reach[2]
    start, stop = offset[2], offset[2] + cells[2]
    for z in range(box[0] - reach[0], box[1] + reach[0]):
        at_z = _inside(z, cells[0], ends[0])
        for y in range(box[2] - reach[1], box[3] + reach[1]):
            at_y = _inside(y, cells[1], ends[1])
            row = tile[z - box[0] + reach[0], y - box[2] + reach[1]]
            done = 0
            if at_z >= 0 and at_y >= 0:
                w = storage[field, at_z + offset[0], at_y + offset[1], start:stop]
                r = reference[field, at_z + offset[0], at_y + offset[1], start:stop] if reference.size else w
                m = mask[at_z, at_y] if mask.size else w
                _load_row(row[:wide], w, r, m, reference.size > 0, mask.size > 0, x0, ends[2])
                done = wide
            row[done:] = 0.0


@njit(cache=True, nogil=True, fastmath=_FUSED)
def add_row(values, target, offset, z, y, x, scale):  # type: ignore[no-untyped-def]
    """out += scale * mask * values from cell (z, y, x) on."""
    storage, field, _, mask = target
    n = _U(values.size)
    start = offset[2] + x
    out = storage[field, z + offset[0], y + offset[1], start : start + values.size]
    if mask.size:
        m = mask[z, y, x : x + values.size]
        for k in range(n):
            out[k] += scale * m[k] * values[k]
    else:
        for k in range(n):
            out[k] += scale * values[k]


@njit(cache=True, nogil=True, fastmath=_SUMMED)
def sum_row(values, target, offset, z, y, x):  # type: ignore[no-untyped-def]
    """sum of (w - reference) * mask * values from cell (z, y, x) on."""
    storage, field, reference, mask = target
    n = _U(values.size)
    start = offset[2] + x
    w = storage[field, z + offset[0], y + offset[1], start : start + values.size]
    r = reference[field, z + offset[0], y + offset[1], start : start + values.size] if reference.size else w
    m = mask[z, y, x : x + values.size] if mask.size else w
    total = 0.0
    for k in range(n):
        left = w[k]
        if reference.size:
            left -= r[k]
        if mask.size:
            left *= m[k]
        total += np.float64(left) * values[k]
    return total


@njit(cache=True, nogil=True)
def _finish(values, target, offset, z, y, x, scale, adding):  # type: ignore[no-untyped-def]
    if adding:
        add_row(values, target, offset, z, y, x, scale)
        return 0.0
    return scale * sum_row(values, target, offset, z, y, x)


@njit(cache=True, nogil=True, fastmath=_FUSED)
def _one_row(first, values, n, taps):  # type: ignore[no-untyped-def]
    for k in range(n):
        first[k] += _dot(taps, values, k)


@njit(cache=True, nogil=True, fastmath=_FUSED)
def _two_rows(first, second, values, n, taps, others):  # type: ignore[no-untyped-def]
    """Two rows of sums from one row of values: each value is read once for both."""
    for k in range(n):
        a = first[k] + _dot(taps, values, k)
        b = second[k] + _dot(others, values, k)
        first[k] = a
        second[k] = b


@njit(cache=True, nogil=True)
def _direct_tile(source, target, place, box, tile, rows, table, unroll, scale, adding):  # type: ignore[no-untyped-def]
    """All rows of a tile; `table` is (offsets, taps of one row, taps of the next row, offsets and taps of a lone row)."""
    pair_at, taps, others, lone_at, lone = table
    offset, reach = place[0], place[3]
    load(tile, source, place, box)
    flat = tile.reshape(-1)
    stride, n, wide = tile.shape[2], _U(box[5] - box[4]), _U(len(unroll))
    first, second = rows[0, :n], rows[1, :n]
    total = 0.0
    for z in range(box[0], box[1]):
        y = box[2]
        while y < box[3]:
            base = ((z - box[0] + reach[0]) * tile.shape[1] + y - box[2] + reach[1]) * stride + reach[2]
            paired = pair_at.size > 0 and y + 1 < box[3]
            first[:] = 0.0
            if paired:
                second[:] = 0.0
                for q in range(pair_at.size):
                    start = _U(base + pair_at[q])
                    values = flat[start : start + n + wide]
                    _two_rows(first, second, values, n, _taps(taps, q, unroll), _taps(others, q, unroll))
                total += _finish(second, target, offset, z, y + 1, box[4], scale, adding)
            else:
                for q in range(lone_at.size):
                    start = _U(base + lone_at[q])
                    _one_row(first, flat[start : start + n + wide], n, _taps(lone, q, unroll))
            total += _finish(first, target, offset, z, y, box[4], scale, adding)
            y += 2 if paired else 1
    return total


@njit(cache=True, nogil=True, fastmath=_FUSED)
def _along_x(out, values, taps):  # type: ignore[no-untyped-def]
    """out[k] = sum_m taps[m] values[k + m], in groups of seven taps (their number is a multiple of it)."""
    n = _U(out.size)
    out[:] = 0.0
    for q in range(0, taps.size, 7):
        v = values[_U(q) : _U(q) + n + _U(7)]
        c = (taps[q], taps[q + 1], taps[q + 2], taps[q + 3], taps[q + 4], taps[q + 5], taps[q + 6])
        for k in range(n):
            out[k] += _dot(c, v, k)


@njit(cache=True, nogil=True, fastmath=_FUSED)
def _across(out, flat, start, stride, taps):  # type: ignore[no-untyped-def]
    """out[k] += sum_m taps[m] flat[start + m stride + k]."""
    n, at, step = _U(out.size), _U(start), _U(stride)
    last = taps.size - taps.size % 4
    for q in range(0, last, 4):
        a, b = flat[at : at + n], flat[at + step : at + step + n]
        c, d = flat[at + _U(2) * step : at + _U(2) * step + n], flat[at + _U(3) * step : at + _U(3) * step + n]
        s, t, u, v = taps[q], taps[q + 1], taps[q + 2], taps[q + 3]
        for k in range(n):
            out[k] += s * a[k] + t * b[k] + u * c[k] + v * d[k]
        at += _U(4) * step
    for q in range(last, taps.size):
        a, s = flat[at : at + n], taps[q]
        for k in range(n):
            out[k] += s * a[k]
        at += step


@njit(cache=True, nogil=True)
def _separable_tile(source, target, place, box, plane, ring, rows, table, scale, adding):  # type: ignore[no-untyped-def]
    """All rows of a tile by one pass an axis: planes are convolved along y and x into a ring, which is summed along z.

    `table` is the taps of (z, y, x), each from the highest displacement down; `plane` is a tile of one plane.
    """
    in_z, in_y, in_x = table
    offset, cells, ends, reach = place
    flat = (offset, cells, ends, (0, reach[1], reach[2]))
    n, depth, ahead = box[5] - box[4], in_z.size, in_z.size // 2
    width, page, values, results = plane.shape[2], ring.shape[1] * ring.shape[2], plane.reshape(-1), ring.reshape(-1)
    convolved, summed = rows[0, :width], rows[1, :n]
    total = 0.0
    for step in range(box[1] - box[0] + 2 * ahead):
        front = box[0] - ahead + step
        load(plane, source, flat, (front, front + 1, box[2], box[3], box[4], box[5]))
        slot = step % depth
        for y in range(box[3] - box[2]):
            convolved[:] = 0.0
            _across(convolved, values, y * width, width, in_y)
            _along_x(ring[slot, y, :n], convolved, in_x)
        if step < 2 * ahead:
            continue
        first = (slot + 1) % depth
        for y in range(box[3] - box[2]):
            summed[:] = 0.0
            _across(summed, results, first * page + y * ring.shape[2], page, in_z[: depth - first])
            _across(summed, results, y * ring.shape[2], page, in_z[depth - first :])
            total += _finish(summed, target, offset, front - ahead, y + box[2], box[4], scale, adding)
    return total


@njit(cache=True, nogil=True)
def direct(source, target, place, boxes, tiles, rows, table, unroll, scale, sums, adding):  # type: ignore[no-untyped-def]
    """Add the convolution to the target, or sum its product with the target's values, one partial sum a box."""
    for b in range(boxes.shape[0]):
        sums[b] = _direct_tile(source, target, place, boxes[b], tiles[0], rows[0], table, unroll, scale, adding)


@njit(cache=True, nogil=True, parallel=True)
def direct_threads(source, target, place, boxes, tiles, rows, table, unroll, scale, sums, adding):  # type: ignore[no-untyped-def]
    """`direct` with one tile and one set of rows a thread."""
    parts = tiles.shape[0]
    for part in prange(parts):
        for b in range(part * boxes.shape[0] // parts, (part + 1) * boxes.shape[0] // parts):
            sums[b] = _direct_tile(source, target, place, boxes[b], tiles[part], rows[part], table, unroll, scale, adding)


@njit(cache=True, nogil=True)
def separable(source, target, place, boxes, planes, rings, rows, table, scale, sums, adding):  # type: ignore[no-untyped-def]
    """`direct` for a stencil that is a product of one factor an axis."""
    for b in range(boxes.shape[0]):
        sums[b] = _separable_tile(source, target, place, boxes[b], planes[0], rings[0], rows[0], table, scale, adding)


@njit(cache=True, nogil=True, parallel=True)
def separable_threads(source, target, place, boxes, planes, rings, rows, table, scale, sums, adding):  # type: ignore[no-untyped-def]
    """`separable` with one plane, ring and set of rows a thread."""
    parts = planes.shape[0]
    for part in prange(parts):
        for b in range(part * boxes.shape[0] // parts, (part + 1) * boxes.shape[0] // parts):
            sums[b] = _separable_tile(
                source, target, place, boxes[b], planes[part], rings[part], rows[part], table, scale, adding
            )
