"""Kicks and drifts of splitting methods, each one pass over memory.

    kick      u <- keep u + push F
    drift     w <- w + move u + lead F          (lead = 0 but for Nesterov's recursion)

Arrays are flat and contiguous, halo and pads included, scalars of the arrays' type, as in `loops.combine`.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from sftsolve.loops.combine import Arrays, Numbers
from sftsolve.parallel import SMALL

_BLOCK = 1 << 14
_FASTMATH = {"contract"}


@njit(cache=True, fastmath=_FASTMATH)
def _first_span(w_out, u_out, w, u, force, keep, push, move, lead, start, stop):  # type: ignore[no-untyped-def]
    for i in range(np.uint64(start), np.uint64(stop)):
        velocity = keep * u[i] + push * force[i]
        u_out[i] = velocity
        w_out[i] = w[i] + move * velocity + lead * force[i]


@njit(cache=True, fastmath=_FASTMATH, parallel=True)
def _first_parallel(w_out, u_out, w, u, force, keep, push, move, lead, threads):  # type: ignore[no-untyped-def]
    blocks = (w.size + _BLOCK - 1) // _BLOCK
    for thread in prange(threads):
        for block in range(thread * blocks // threads, (thread + 1) * blocks // threads):
            start, stop = block * _BLOCK, min(w.size, (block + 1) * _BLOCK)
            _first_span(w_out, u_out, w, u, force, keep, push, move, lead, start, stop)


@njit(cache=True, fastmath=_FASTMATH)
def _within_span(w, u, force, keep, push, move, start, stop):  # type: ignore[no-untyped-def]
    for i in range(np.uint64(start), np.uint64(stop)):
        velocity = keep * u[i] + push * force[i]
        u[i] = velocity
        w[i] += move * velocity


@njit(cache=True, fastmath=_FASTMATH, parallel=True)
def _within_parallel(w, u, force, keep, push, move, threads):  # type: ignore[no-untyped-def]
    blocks = (w.size + _BLOCK - 1) // _BLOCK
    for thread in prange(threads):
        for block in range(thread * blocks // threads, (thread + 1) * blocks // threads):
            _within_span(w, u, force, keep, push, move, block * _BLOCK, min(w.size, (block + 1) * _BLOCK))


@njit(cache=True, fastmath=_FASTMATH)
def _last_span(u, force, keep, push, start, stop):  # type: ignore[no-untyped-def]
    for i in range(np.uint64(start), np.uint64(stop)):
        u[i] = keep * u[i] + push * force[i]


@njit(cache=True, fastmath=_FASTMATH, parallel=True)
def _last_parallel(u, force, keep, push, threads):  # type: ignore[no-untyped-def]
    blocks = (u.size + _BLOCK - 1) // _BLOCK
    for thread in prange(threads):
        for block in range(thread * blocks // threads, (thread + 1) * blocks // threads):
            _last_span(u, force, keep, push, block * _BLOCK, min(u.size, (block + 1) * _BLOCK))


def kick_drift_into(out: Arrays, base: Arrays, force: np.ndarray, factors: Numbers, threads: int) -> None:
    """Kick and drift `base` = (w, u) into `out`; `factors` = (keep, push, move, lead)."""
    (w_out, u_out), (w, u), (keep, push, move, lead) = out, base, factors
    if force.size < SMALL:
        _first_span(w_out, u_out, w, u, force, keep, push, move, lead, 0, force.size)
    else:
        _first_parallel(w_out, u_out, w, u, force, keep, push, move, lead, threads)


def kick_drift(place: Arrays, force: np.ndarray, factors: Numbers, threads: int) -> None:
    """Kick and drift `place` = (w, u) where it lies; `factors` = (keep, push, move)."""
    (w, u), (keep, push, move) = place, factors
    if force.size < SMALL:
        _within_span(w, u, force, keep, push, move, 0, force.size)
    else:
        _within_parallel(w, u, force, keep, push, move, threads)


def kick(u: np.ndarray, force: np.ndarray, factors: Numbers, threads: int) -> None:
    """Kick u where it lies; `factors` = (keep, push)."""
    keep, push = factors
    if force.size < SMALL:
        _last_span(u, force, keep, push, 0, force.size)
    else:
        _last_parallel(u, force, keep, push, threads)
