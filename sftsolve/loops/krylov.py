"""Vector operations of Krylov methods on padded arrays: sums fused with the updates that they belong to.

Sums run over the segments and blocks of `norms.CellSums`, which the grid alone fixes, so that no result depends on the number of
threads. Halo and pads are neither read nor written.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

_FASTMATH = {"contract", "reassoc"}
# What one pass does.
DOT, STEP, TWO_DOTS, TURN = range(4)


@njit(cache=True, nogil=True, fastmath=_FASTMATH)
def _dots(a, b, c, start, stop):  # type: ignore[no-untyped-def]
    one, two = 0.0, 0.0
    for i in range(start, stop):
        one += np.float64(a[i]) * b[i]
        two += np.float64(a[i]) * c[i]
    return one, two


@njit(cache=True, nogil=True, fastmath=_FASTMATH)
def _step(x, p, r, q, alpha, start, stop):  # type: ignore[no-untyped-def]
    """x += alpha p, r -= alpha q; the sum of r^2."""
    total = 0.0
    for i in range(start, stop):
        x[i] += alpha * p[i]
        value = r[i] - alpha * q[i]
        r[i] = value
        total += np.float64(value) * value
    return total


@njit(cache=True, nogil=True, fastmath=_FASTMATH)
def _turn(p, z, beta, start, stop):  # type: ignore[no-untyped-def]
    """p = z + beta p."""
    for i in range(start, stop):
        p[i] = z[i] + beta * p[i]


@njit(cache=True, nogil=True)
def _block(kind, a, b, c, d, factor, segments, a_block, number, partial):  # type: ignore[no-untyped-def]
    one, two = 0.0, 0.0
    for place in range(number * a_block, min(len(segments), (number + 1) * a_block)):
        start, stop = segments[place, 0], segments[place, 1]
        if kind == DOT or kind == TWO_DOTS:
            first, second = _dots(a, b, c, start, stop)
            one += first
            two += second
        elif kind == STEP:
            one += _step(a, b, c, d, factor, start, stop)
        else:
            _turn(a, b, factor, start, stop)
    partial[0, number], partial[1, number] = one, two


@njit(cache=True, nogil=True)
def sweep(kind, a, b, c, d, factor, segments, a_block, partial):  # type: ignore[no-untyped-def]
    """One pass over flat arrays, serial; `partial` (2, blocks) takes the sums.

    DOT, TWO_DOTS     a . b,  a . c
    STEP              a += factor b, c -= factor d,  c . c
    TURN              a = b + factor a
    """
    for number in range(partial.shape[1]):
        _block(kind, a, b, c, d, factor, segments, a_block, number, partial)


@njit(cache=True, nogil=True, parallel=True)
def sweep_threads(kind, a, b, c, d, factor, segments, a_block, partial, threads):  # type: ignore[no-untyped-def]
    """The same with a range of blocks a thread."""
    blocks = partial.shape[1]
    for thread in prange(threads):
        t = np.int64(thread)
        for number in range(t * blocks // threads, (t + 1) * blocks // threads):
            _block(kind, a, b, c, d, factor, segments, a_block, number, partial)
