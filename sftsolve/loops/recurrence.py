"""The recurrence of stabilised Runge-Kutta methods, one pass over memory a stage.

    Y_j = (1 - mu - nu) Y_0 + mu Y_{j-1} + nu Y_{j-2} + f F_{j-1} + g F_0

Y_j takes the place of Y_{j-2}. Arrays are flat and contiguous, scalars of the arrays' type, as in `loops.combine`.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from sftsolve.loops.combine import Numbers
from sftsolve.parallel import SMALL

_BLOCK = 1 << 14
_FASTMATH = {"contract"}


@njit(cache=True, fastmath=_FASTMATH)
def _span(older, newer, first, force, start_force, rest, mu, nu, f, g, start, stop):  # type: ignore[no-untyped-def]
    for i in range(np.uint64(start), np.uint64(stop)):
        stage = rest * first[i] + mu * newer[i] + nu * older[i]
        older[i] = stage + (f * force[i] + g * start_force[i])


@njit(cache=True, fastmath=_FASTMATH, parallel=True)
def _parallel(older, newer, first, force, start_force, rest, mu, nu, f, g, threads):  # type: ignore[no-untyped-def]
    blocks = (older.size + _BLOCK - 1) // _BLOCK
    for thread in prange(threads):
        for block in range(thread * blocks // threads, (thread + 1) * blocks // threads):
            start, stop = block * _BLOCK, min(older.size, (block + 1) * _BLOCK)
            _span(older, newer, first, force, start_force, rest, mu, nu, f, g, start, stop)


def recur(
    older: np.ndarray,
    newer: np.ndarray,
    first: np.ndarray,
    force: np.ndarray,
    start_force: np.ndarray,
    weights: Numbers,
    threads: int,
) -> None:
    """Overwrite `older` = Y_{j-2} by Y_j.

    Parameters
    ----------
    newer, first : Y_{j-1}, Y_0
    force, start_force : F_{j-1}, F_0
    weights : (1 - mu - nu, mu, nu, f, g)
    """
    rest, mu, nu, f, g = weights
    if older.size < SMALL:
        _span(older, newer, first, force, start_force, rest, mu, nu, f, g, 0, older.size)
    else:
        _parallel(older, newer, first, force, start_force, rest, mu, nu, f, g, threads)
