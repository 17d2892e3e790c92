"""Passes of Krylov and Newton-Krylov iterations, each fused with the sums that it needs.

Sums run over the blocks of `loops.norms.CellSums` and are added in order: no result depends on the number of threads. Only cells
are read and written, never halo or pads. Scalars and sums are doubles whatever the arrays' type.

Sums that the compiler may reorder are inlined by force, here and elsewhere: a function of its own exists several times over,
compiled for itself and within its callers, and which of these is linked depends on what was compiled before. The last bits would.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

from sftsolve.loops.norms import CellSums
from sftsolve.state import Layout

_FASTMATH = {"contract", "reassoc"}
# What a pass does; all are compiled together.
_SHIFT, _ADVANCE, _TURN, _DOT, _DOTS, _MEAN, _REST, _ADD = range(8)


@njit(cache=True, nogil=True, fastmath=_FASTMATH, forceinline=True)
def _shift(p, q, sigma, start, stop):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(start, stop):
        value = p[i] - sigma * q[i]
        q[i] = value
        total += np.float64(p[i]) * value
    return total


@njit(cache=True, nogil=True, fastmath=_FASTMATH, forceinline=True)
def _advance(x, r, p, q, alpha, start, stop):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(start, stop):
        x[i] += alpha * p[i]
        rest = r[i] - alpha * q[i]
        r[i] = rest
        total += np.float64(rest) * rest
    return total


@njit(cache=True, nogil=True, fastmath=_FASTMATH, forceinline=True)
def _turn(p, z, beta, start, stop):  # type: ignore[no-untyped-def]
    for i in range(start, stop):
        p[i] = z[i] + beta * p[i]
    return 0.0


@njit(cache=True, nogil=True, fastmath=_FASTMATH, forceinline=True)
def _dot(a, b, start, stop):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(start, stop):
        total += np.float64(a[i]) * b[i]
    return total


@njit(cache=True, nogil=True, fastmath=_FASTMATH, forceinline=True)
def _dots(a, b, c, start, stop):  # type: ignore[no-untyped-def]
    one, two = 0.0, 0.0
    for i in range(start, stop):
        one += np.float64(a[i]) * b[i]
        two += np.float64(a[i]) * c[i]
    return one, two


@njit(cache=True, nogil=True, fastmath=_FASTMATH, forceinline=True)
def _mean(a, b, c, start, stop):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(start, stop):
        value = 0.5 * (a[i] + b[i])
        a[i] = value
        total += value * c[i]
    return total


@njit(cache=True, nogil=True, fastmath=_FASTMATH, forceinline=True)
def _rest(r, u, force, change, scalars, start, stop):  # type: ignore[no-untyped-def]
    carried, pushed, own = scalars
    total = 0.0
    for i in range(start, stop):
        value = carried * u[i] + pushed * force[i] - own * change[i]
        r[i] = value
        total += value * value
    return total


@njit(cache=True, nogil=True, fastmath=_FASTMATH, forceinline=True)
def _add(x, y, start, stop):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(start, stop):
        x[i] += y[i]
        total += np.float64(y[i]) * y[i]
    return total


@njit(cache=True, nogil=True, forceinline=True)
def _block(what, a, b, c, d, scalars, segments, first, last):  # type: ignore[no-untyped-def]
    total, second = 0.0, 0.0
    for number in range(first, last):
        start, stop = segments[number, 0], segments[number, 1]
        if what == _SHIFT:
            total += _shift(a, b, scalars[0], start, stop)
        elif what == _ADVANCE:
            total += _advance(a, b, c, d, scalars[0], start, stop)
        elif what == _TURN:
            _turn(a, b, scalars[0], start, stop)
        elif what == _DOT:
            total += _dot(a, b, start, stop)
        elif what == _DOTS:
            one, two = _dots(a, b, c, start, stop)
            total += one
            second += two
        elif what == _MEAN:
            total += _mean(a, b, c, start, stop)
        elif what == _REST:
            total += _rest(a, b, c, d, scalars, start, stop)
        else:
            total += _add(a, b, start, stop)
    return total, second


@njit(cache=True, nogil=True)
def _serial(what, a, b, c, d, scalars, segments, a_block, partial):  # type: ignore[no-untyped-def]
    for block in range(partial.shape[1]):
        last = min(len(segments), (block + 1) * a_block)
        partial[0, block], partial[1, block] = _block(what, a, b, c, d, scalars, segments, block * a_block, last)


@njit(cache=True, nogil=True, parallel=True)
def _parallel(what, a, b, c, d, scalars, segments, a_block, partial, threads):  # type: ignore[no-untyped-def]
    for thread in prange(threads):
        for block in range(thread * partial.shape[1] // threads, (thread + 1) * partial.shape[1] // threads):
            last = min(len(segments), (block + 1) * a_block)
            partial[0, block], partial[1, block] = _block(what, a, b, c, d, scalars, segments, block * a_block, last)


class Passes(CellSums):
    """The passes for padded arrays (field, Z, Y, X) of one layout; inner products are plain sums over all cells and fields.

    Parameters
    ----------
    threads : how many share the work of large arrays, all by default
    """

    def __init__(self, layout: Layout, count: int, threads: int | None = None):
        super().__init__(layout, count)
        self._both = np.zeros((2, self._partial.size))
        if threads is not None:
            self._threads = threads
            self._small = self._small or threads == 1

    def shift(self, p: np.ndarray, q: np.ndarray, sigma: float) -> float:
        """q <- p - sigma q; returns p . q."""
        return self._run(_SHIFT, (p, q, p, q), sigma)

    def advance(self, x: np.ndarray, r: np.ndarray, p: np.ndarray, q: np.ndarray, alpha: float) -> float:
        """x <- x + alpha p, r <- r - alpha q; returns r . r."""
        return self._run(_ADVANCE, (x, r, p, q), alpha)

    def turn(self, p: np.ndarray, z: np.ndarray, beta: float) -> None:
        """p <- z + beta p."""
        self._run(_TURN, (p, z, p, z), beta)

    def dot(self, a: np.ndarray, b: np.ndarray) -> float:
        """a . b."""
        return self._run(_DOT, (a, b, a, b))

    def dots(self, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> tuple[float, float]:
        """a . b and a . c."""
        one = self._run(_DOTS, (a, b, c, b))
        return one, float(self._both[1].sum())

    def mean(self, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> float:
        """a <- (a + b)/2; returns a . c."""
        return self._run(_MEAN, (a, b, c, b))

    def rest(
        self, r: np.ndarray, u: np.ndarray, force: np.ndarray, change: np.ndarray, scalars: tuple[float, float, float]
    ) -> float:
        """r <- carried u + pushed force - own change, `scalars` = (carried, pushed, own); returns r . r."""
        return self._run(_REST, (r, u, force, change), *scalars)

    def add(self, x: np.ndarray, y: np.ndarray) -> float:
        """x <- x + y; returns y . y."""
        return self._run(_ADD, (x, y, x, y))

    def rms(self, square: float) -> float:
        """Root mean square from a sum of squares."""
        return math.sqrt(square / self.count)

    def _run(self, what: int, arrays: tuple[np.ndarray, ...], one: float = 0.0, two: float = 0.0, three: float = 0.0) -> float:
        a, b, c, d = (array.reshape(-1) for array in arrays)
        scalars = (one, two, three)
        if self._small:
            _serial(what, a, b, c, d, scalars, self._segments, self._a_block, self._both)
        else:
            _parallel(what, a, b, c, d, scalars, self._segments, self._a_block, self._both, self._threads)
        return float(self._both[0].sum())
