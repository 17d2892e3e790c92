"""Projections of fields on functions phi_r over the grid, and sums of such functions: two passes over phi, no more.

    project   c_r = sum_i phi_r,i w_i            expand   out_i -= sum_r g_r phi_r,i

Cells are numbered in C order and cut into blocks that the grid alone fixes. A block of the (padded) fields is gathered into a
small buffer that stays in cache while the block's part of every phi_r streams by, so that fields cost nothing beside phi and rows
may be short. Where rows are long, the field is read (and written) along with four functions: one stream is slower than five at
once, which is felt at small ranks. Partial sums are added block by block: no result depends on the number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit, prange

from sftsolve.parallel import slabs
from sftsolve.state import Layout

# Sums are split into vector lanes ("reassoc"), which keeps NaN and inf as they are.
_FASTMATH = {"contract", "reassoc", "nsz"}
# Cells a block: long enough to stream (below 2048 the rate halves), short enough for the buffers to stay in cache, and enough
# blocks for many threads where the grid has the cells.
_LONGEST, _SHORTEST, _BLOCKS = 16384, 2048, 32
_ROW = 64  # cells of a row from which on it is read and written along with functions


def block_bounds(cells: int) -> np.ndarray:
    """Starts of the blocks and the end of the last one; they depend on the number of cells alone."""
    length = min(_LONGEST, max(_SHORTEST, -(-cells // _BLOCKS)))
    return np.append(np.arange(0, cells, length), cells)


def geometry(layout: Layout) -> np.ndarray:
    """What `gather` and `subtract` need of a layout: offsets (z, y, x), then extents (y, x)."""
    return np.array([*layout.offset, *layout.shape[1:]], np.int64)


@njit(cache=True, nogil=True)
def gather(field, place, start, stop, into):  # type: ignore[no-untyped-def]
    """into[0 : stop - start] = cells start ... stop of a padded field (Z, Y, X)."""
    ny, nx = place[3], place[4]
    row, x = start // nx, start % nx
    done = 0
    while done < stop - start:
        n = min(nx - x, stop - start - done)
        z, y, first, to = row // ny + place[0], row % ny + place[1], np.uint64(place[2] + x), np.uint64(done)
        for k in range(np.uint64(n)):
            into[to + k] = field[z, y, first + k]
        done, row, x = done + n, row + 1, 0


@njit(cache=True, nogil=True)
def subtract(field, place, start, stop, values):  # type: ignore[no-untyped-def]
    """Cells start ... stop of a padded field -= values[0 : stop - start]."""
    ny, nx = place[3], place[4]
    row, x = start // nx, start % nx
    done = 0
    while done < stop - start:
        n = min(nx - x, stop - start - done)
        z, y, first, to = row // ny + place[0], row % ny + place[1], np.uint64(place[2] + x), np.uint64(done)
        for k in range(np.uint64(n)):
            field[z, y, first + k] -= values[to + k]
        done, row, x = done + n, row + 1, 0


@njit(cache=True, nogil=True, fastmath=_FASTMATH)
def dot(one, other):  # type: ignore[no-untyped-def]
    """sum of one * other in double precision."""
    total = 0.0
    for k in range(one.size):
        total += one[k] * other[k]
    return total


@njit(cache=True, nogil=True, fastmath=_FASTMATH)
def _dot_four(v0, v1, v2, v3, w, into):  # type: ignore[no-untyped-def]
    """Four functions at once: four streams from memory run faster than one."""
    t0, t1, t2, t3 = 0.0, 0.0, 0.0, 0.0
    for k in range(w.size):
        t0 += v0[k] * w[k]
        t1 += v1[k] * w[k]
        t2 += v2[k] * w[k]
        t3 += v3[k] * w[k]
    into[0], into[1], into[2], into[3] = t0, t1, t2, t3


@njit(cache=True, nogil=True, fastmath=_FASTMATH)
def _gather_with_four(bank, slot, field, place, start, stop, kept, into):  # type: ignore[no-untyped-def]
    """`gather`, and the dot products with the first four functions on the way."""
    ny, nx = place[3], place[4]
    row, x = start // nx, start % nx
    t0, t1, t2, t3 = 0.0, 0.0, 0.0, 0.0
    at = start
    while at < stop:
        n = min(nx - x, stop - at)
        z, y, first = row // ny + place[0], row % ny + place[1], np.uint64(place[2] + x)
        to, here = np.uint64(at - start), np.uint64(at)
        for k in range(np.uint64(n)):
            value = field[z, y, first + k]
            kept[to + k] = value
            t0 += bank[0, slot, here + k] * value
            t1 += bank[1, slot, here + k] * value
            t2 += bank[2, slot, here + k] * value
            t3 += bank[3, slot, here + k] * value
        at, row, x = at + n, row + 1, 0
    into[0], into[1], into[2], into[3] = t0, t1, t2, t3


@njit(cache=True, nogil=True)
def _project_block(bank, inputs, parts, place, start, stop, buffer, sums):  # type: ignore[no-untyped-def]
    n, rank = stop - start, bank.shape[0]
    fours = rank - rank % 4
    along = 4 if fours and place[4] >= _ROW else 0
    for p in range(parts.shape[0]):
        field = inputs[parts[p, 0]][parts[p, 1]]
        if along:
            _gather_with_four(bank, parts[p, 2], field, place, start, stop, buffer[p], sums[p])
        else:
            gather(field, place, start, stop, buffer[p])
    for r in range(along, fours, 4):
        for p in range(parts.shape[0]):
            s = parts[p, 2]
            v0, v1 = bank[r, s, start:stop], bank[r + 1, s, start:stop]
            v2, v3 = bank[r + 2, s, start:stop], bank[r + 3, s, start:stop]
            _dot_four(v0, v1, v2, v3, buffer[p, :n], sums[p, r : r + 4])
    for r in range(fours, rank):
        for p in range(parts.shape[0]):
            sums[p, r] = dot(bank[r, parts[p, 2], start:stop], buffer[p, :n])


@njit(cache=True, nogil=True)
def _project(bank, inputs, parts, place, bounds, buffers, sums):  # type: ignore[no-untyped-def]
    for b in range(bounds.size - 1):
        _project_block(bank, inputs, parts, place, bounds[b], bounds[b + 1], buffers[0], sums[b])


@njit(cache=True, nogil=True, parallel=True)
def _project_threads(bank, inputs, parts, place, bounds, buffers, sums):  # type: ignore[no-untyped-def]
    threads, blocks = buffers.shape[0], bounds.size - 1
    for thread in prange(threads):
        for b in range(thread * blocks // threads, (thread + 1) * blocks // threads):
            _project_block(bank, inputs, parts, place, bounds[b], bounds[b + 1], buffers[thread], sums[b])


@njit(cache=True, nogil=True)
def _total(sums, volume, into):  # type: ignore[no-untyped-def]
    """into = volume * sum of the blocks' sums, in order."""
    into[...] = 0.0
    for b in range(sums.shape[0]):
        for p in range(into.shape[0]):
            for r in range(into.shape[1]):
                into[p, r] += sums[b, p, r]
    for p in range(into.shape[0]):
        for r in range(into.shape[1]):
            into[p, r] *= volume


@njit(cache=True, nogil=True, fastmath={"contract"})
def _add_four(into, g0, g1, g2, g3, v0, v1, v2, v3):  # type: ignore[no-untyped-def]
    for k in range(into.size):
        into[k] += (g0 * v0[k] + g1 * v1[k]) + (g2 * v2[k] + g3 * v3[k])


@njit(cache=True, nogil=True, fastmath={"contract"})
def _add_one(into, g, v):  # type: ignore[no-untyped-def]
    for k in range(into.size):
        into[k] += g * v[k]


@njit(cache=True, nogil=True, fastmath={"contract"})
def _subtract_with_four(bank, slot, g, field, place, start, stop, kept):  # type: ignore[no-untyped-def]
    """`subtract`, with the first four functions, weighted, on top."""
    ny, nx = place[3], place[4]
    row, x = start // nx, start % nx
    g0, g1, g2, g3 = g[0], g[1], g[2], g[3]
    at = start
    while at < stop:
        n = min(nx - x, stop - at)
        z, y, first = row // ny + place[0], row % ny + place[1], np.uint64(place[2] + x)
        to, here = np.uint64(at - start), np.uint64(at)
        for k in range(np.uint64(n)):
            low = g0 * bank[0, slot, here + k] + g1 * bank[1, slot, here + k]
            high = g2 * bank[2, slot, here + k] + g3 * bank[3, slot, here + k]
            field[z, y, first + k] -= kept[to + k] + (low + high)
        at, row, x = at + n, row + 1, 0


@njit(cache=True, nogil=True)
def _expand_block(bank, weights, parts, place, start, stop, buffer, out):  # type: ignore[no-untyped-def]
    n, rank = stop - start, bank.shape[0]
    buffer[:, :n] = 0.0
    fours = rank - rank % 4
    along = 4 if fours and place[4] >= _ROW else 0
    for r in range(fours, rank):
        for p in range(parts.shape[0]):
            _add_one(buffer[p, :n], weights[p, r], bank[r, parts[p, 2], start:stop])
    for r in range(along, fours, 4):
        for p in range(parts.shape[0]):
            s, g = parts[p, 2], weights[p, r : r + 4]
            v0, v1 = bank[r, s, start:stop], bank[r + 1, s, start:stop]
            v2, v3 = bank[r + 2, s, start:stop], bank[r + 3, s, start:stop]
            _add_four(buffer[p, :n], g[0], g[1], g[2], g[3], v0, v1, v2, v3)
    for p in range(parts.shape[0]):
        field = out[parts[p, 1]]
        if along:
            _subtract_with_four(bank, parts[p, 2], weights[p], field, place, start, stop, buffer[p])
        else:
            subtract(field, place, start, stop, buffer[p])


@njit(cache=True, nogil=True)
def _expand(bank, weights, parts, place, bounds, buffers, out):  # type: ignore[no-untyped-def]
    for b in range(bounds.size - 1):
        _expand_block(bank, weights, parts, place, bounds[b], bounds[b + 1], buffers[0], out)


@njit(cache=True, nogil=True, parallel=True)
def _expand_threads(bank, weights, parts, place, bounds, buffers, out):  # type: ignore[no-untyped-def]
    threads, blocks = buffers.shape[0], bounds.size - 1
    for thread in prange(threads):
        for b in range(thread * blocks // threads, (thread + 1) * blocks // threads):
            _expand_block(bank, weights, parts, place, bounds[b], bounds[b + 1], buffers[thread], out)


class Projection:
    """Sums over cells and over functions for a bank of functions bound to padded storage.

    Parameters
    ----------
    bank : phi, (rank, slots, cells) contiguous, float64 or float32; with several slots a function has a part for each of several
        fields
    volume : weight of a cell in the integrals
    layout : layout of the padded arrays
    parts : which integrals are wanted, one triple (number of the input, field, slot) each
    """

    def __init__(self, bank: np.ndarray, volume: float, layout: Layout, parts: Sequence[tuple[int, int, int]]):
        rank, _, cells = bank.shape
        self._bank, self._volume = bank, volume
        self._parts = np.array(parts, np.int64).reshape(-1, 3)
        self._place = geometry(layout)
        self._bounds = block_bounds(cells)
        threads = slabs(bank.size)
        longest = int(np.diff(self._bounds).max())
        self._buffers = np.zeros((threads, len(self._parts), longest))
        self._sums = np.zeros((len(self._bounds) - 1, len(self._parts), rank))
        self._integrals = np.zeros((len(self._parts), rank))
        self._run = (_project, _expand) if threads == 1 else (_project_threads, _expand_threads)

    def project(self, *inputs: np.ndarray) -> np.ndarray:
        """The integrals <phi_r, w> of padded arrays (field, Z, Y, X), (parts, rank); overwritten by the next call."""
        self._run[0](self._bank, inputs, self._parts, self._place, self._bounds, self._buffers, self._sums)
        _total(self._sums, self._volume, self._integrals)
        return self._integrals

    def expand(self, weights: np.ndarray, out: np.ndarray) -> None:
        """out_p -= sum_r weights_pr phi_r for every part p, into the padded array `out`; weights (parts, rank)."""
        self._run[1](self._bank, weights, self._parts, self._place, self._bounds, self._buffers, out)
