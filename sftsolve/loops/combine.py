"""Stage combinations of explicit methods: one pass over memory for any number of terms.

    gradient flow    out = base + sum_j weights_j terms_j
    damped           w_out = w + sum_j a_j U_j,     u_out = c u + sum_j b_j F_j - sum_j g_j U_j

All arrays are flat and contiguous, halo and pads included (they hold finite numbers that no cell reads). The number of
terms is part of the compiled type: the tuples unroll into one vectorised loop without temporaries.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from numba.extending import overload

from sftsolve.parallel import SMALL

Arrays = tuple[np.ndarray, ...]
Numbers = tuple[float, ...]

# Elements a block: every element is computed in the same block, whatever the number of threads.
_BLOCK = 1 << 14
# Spans are unsigned, because an index that might be negative keeps a loop from being vectorised.
# Only fusing multiply and add: NaN and inf must come through.
_FASTMATH = {"contract"}


def weighted(terms, weights, i):  # type: ignore[no-untyped-def]
    """sum_j weights_j terms_j[i], for use in compiled code only."""
    raise NotImplementedError("weighted() exists in compiled code only")


@overload(weighted)
def _weighted(terms, weights, i):  # type: ignore[no-untyped-def]
    if len(terms) == 1:
        return lambda terms, weights, i: weights[0] * terms[0][i]
    return lambda terms, weights, i: weights[0] * terms[0][i] + weighted(terms[1:], weights[1:], i)


def weighted_pair(velocities, forces, weights, i):  # type: ignore[no-untyped-def]
    """(sum a_j U_j, sum b_j F_j - sum g_j U_j) of cell i, weights = (a..., b..., g...), for use in compiled code only."""
    raise NotImplementedError("weighted_pair() exists in compiled code only")


@overload(weighted_pair, jit_options={"fastmath": _FASTMATH})
def _weighted_pair(velocities, forces, weights, i):  # type: ignore[no-untyped-def]
    # One flat tuple of weights: parallel loops take no nested ones.
    n, m = len(velocities), len(velocities) + len(forces)

    def sums(velocities, forces, weights, i):  # type: ignore[no-untyped-def]
        push = weighted(forces, weights[n:m], i) - weighted(velocities, weights[m:], i)
        return weighted(velocities, weights[:n], i), push

    return sums


def weighted_twice(terms, weights, i):  # type: ignore[no-untyped-def]
    """(sum a_j terms_j, sum b_j terms_j) of cell i, weights = (a..., b...), for use in compiled code only."""
    raise NotImplementedError("weighted_twice() exists in compiled code only")


@overload(weighted_twice, jit_options={"fastmath": _FASTMATH})
def _weighted_twice(terms, weights, i):  # type: ignore[no-untyped-def]
    n = len(terms)

    def sums(terms, weights, i):  # type: ignore[no-untyped-def]
        return weighted(terms, weights[:n], i), weighted(terms, weights[n:], i)

    return sums


@njit(cache=True, fastmath=_FASTMATH)
def _single_span(out, base, terms, weights, start, stop):  # type: ignore[no-untyped-def]
    for i in range(np.uint64(start), np.uint64(stop)):
        out[i] = base[i] + weighted(terms, weights, i)


@njit(cache=True, fastmath=_FASTMATH)
def _single_serial(out, base, terms, weights):  # type: ignore[no-untyped-def]
    _single_span(out, base, terms, weights, 0, out.size)


@njit(cache=True, fastmath=_FASTMATH, parallel=True)
def _single_parallel(out, base, terms, weights, threads):  # type: ignore[no-untyped-def]
    blocks = (out.size + _BLOCK - 1) // _BLOCK
    for thread in prange(threads):
        for block in range(thread * blocks // threads, (thread + 1) * blocks // threads):
            _single_span(out, base, terms, weights, block * _BLOCK, min(out.size, (block + 1) * _BLOCK))


@njit(cache=True, fastmath=_FASTMATH)
def _pair_span(out, base, velocities, forces, weights, share, start, stop):  # type: ignore[no-untyped-def]
    w_out, u_out = out
    w, u = base
    for i in range(np.uint64(start), np.uint64(stop)):
        move, push = weighted_pair(velocities, forces, weights, i)
        w_out[i] = w[i] + move
        u_out[i] = share * u[i] + push


@njit(cache=True, fastmath=_FASTMATH)
def _pair_serial(out, base, velocities, forces, weights, share):  # type: ignore[no-untyped-def]
    _pair_span(out, base, velocities, forces, weights, share, 0, out[0].size)


@njit(cache=True, fastmath=_FASTMATH, parallel=True)
def _pair_parallel(out, base, velocities, forces, weights, share, threads):  # type: ignore[no-untyped-def]
    size = out[0].size
    blocks = (size + _BLOCK - 1) // _BLOCK
    for thread in prange(threads):
        for block in range(thread * blocks // threads, (thread + 1) * blocks // threads):
            start, stop = block * _BLOCK, min(size, (block + 1) * _BLOCK)
            _pair_span(out, base, velocities, forces, weights, share, start, stop)


@njit(cache=True, fastmath=_FASTMATH)
def _both_span(out, terms, weights, start, stop):  # type: ignore[no-untyped-def]
    first, second = out
    for i in range(np.uint64(start), np.uint64(stop)):
        one, other = weighted_twice(terms, weights, i)
        first[i] = one
        second[i] = other


@njit(cache=True, fastmath=_FASTMATH)
def _both_serial(out, terms, weights):  # type: ignore[no-untyped-def]
    _both_span(out, terms, weights, 0, out[0].size)


@njit(cache=True, fastmath=_FASTMATH, parallel=True)
def _both_parallel(out, terms, weights, threads):  # type: ignore[no-untyped-def]
    size = out[0].size
    blocks = (size + _BLOCK - 1) // _BLOCK
    for thread in prange(threads):
        for block in range(thread * blocks // threads, (thread + 1) * blocks // threads):
            _both_span(out, terms, weights, block * _BLOCK, min(size, (block + 1) * _BLOCK))


def combine_both(out: Arrays, terms: Arrays, weights: Numbers, threads: int) -> None:
    """out[0] = sum_j a_j terms_j, out[1] = sum_j b_j terms_j in one pass, weights = (a..., b...); `out` may be among them."""
    if out[0].size < SMALL:
        _both_serial(out, terms, weights)
    else:
        _both_parallel(out, terms, weights, threads)


def combine(out: np.ndarray, base: np.ndarray, terms: Arrays, weights: Numbers, threads: int) -> None:
    """out = base + sum_j weights_j terms_j, flat arrays of one size and type.

    `weights` are scalars of the arrays' type (a Python float would promote float32 sums to float64).
    """
    if out.size < SMALL:
        _single_serial(out, base, terms, weights)
    else:
        _single_parallel(out, base, terms, weights, threads)


def combine_pair(
    out: Arrays, base: Arrays, velocities: Arrays, forces: Arrays, weights: Numbers, share: float, threads: int
) -> None:
    """Fields and velocities of a damped stage in one pass.

    Parameters
    ----------
    out, base : (w, u) of the stage and of the step's start; flat
    velocities, forces : U_j and F_j of the stages before
    weights : the a_j, then the b_j, then the g_j above, scalars of the arrays' type
    share : c above
    """
    if out[0].size < SMALL:
        _pair_serial(out, base, velocities, forces, weights, share)
    else:
        _pair_parallel(out, base, velocities, forces, weights, share, threads)
