"""Stages of exponential steppers in modes: one pass over the spectra for any number of forcings.

With the responses G, P_1, P_2, P_3 of each mode to a forcing over H (`loops.responses`) and M_k = sum_j c_jk N_j

    w_out = (1 + l P_1) w + eps G u + P_1 M_1 + P_2 M_2 + P_3 M_3
    u_out = l G w + (1 + l P_1 - kappa G) u + G M_1 + (P_1 M_2 + P_2 M_3) / H

u comes in on the scale of one state and leaves on that of another (`friction.Span`). Spectra are flat, complex or real; tables
(4, values) are of their real type and hold equal rows of modes once (`loops.folding`).
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from numba.extending import overload

from sftsolve.loops.combine import Arrays, Numbers, weighted
from sftsolve.loops.folding import Folded, piece
from sftsolve.parallel import SMALL

_FASTMATH = {"contract"}


def forcings(terms, weights, i):  # type: ignore[no-untyped-def]
    """(M_1, M_2, M_3) of mode i, weights = (c_j1..., c_j2..., c_j3...), for use in compiled code only."""
    raise NotImplementedError("forcings() exists in compiled code only")


@overload(forcings, jit_options={"fastmath": _FASTMATH})
def _forcings(terms, weights, i):  # type: ignore[no-untyped-def]
    n, m = len(terms), 2 * len(terms)

    def sums(terms, weights, i):  # type: ignore[no-untyped-def]
        return weighted(terms, weights[:n], i), weighted(terms, weights[n:m], i), weighted(terms, weights[m:], i)

    return sums


@njit(cache=True, fastmath=_FASTMATH, error_model="numpy")
def _advance_span(out, base, terms, weights, eigenvalues, tables, place, rule, start, stop):  # type: ignore[no-untyped-def]
    w_out, u_out = out
    w, u = base
    span, eps, kappa, enter, leave = rule
    width = w.size // place.size
    for row in range(start // width, (stop + width - 1) // width):
        first, last, shift = piece(row, width, place, start, stop)
        for i in range(first, last):
            at = i - shift
            m1, m2, m3 = forcings(terms, weights, i)
            g, p1, p2 = tables[0, at], tables[1, at], tables[2, at]
            keep = 1.0 + eigenvalues[at] * p1
            velocity = enter * u[i]
            w_new = keep * w[i] + eps * g * velocity + (p1 * m1 + p2 * m2 + tables[3, at] * m3)
            pushed = g * m1 + (p1 * m2 + p2 * m3) / span
            u_out[i] = leave * (eigenvalues[at] * g * w[i] + (keep - kappa * g) * velocity + pushed)
            w_out[i] = w_new


@njit(cache=True, fastmath=_FASTMATH, error_model="numpy", parallel=True)
def _advance_parallel(out, base, terms, weights, eigenvalues, tables, place, rule, threads):  # type: ignore[no-untyped-def]
    size = out[0].size
    for thread in prange(threads):
        start, stop = thread * size // threads, (thread + 1) * size // threads
        _advance_span(out, base, terms, weights, eigenvalues, tables, place, rule, start, stop)


@njit(cache=True, fastmath=_FASTMATH, error_model="numpy")
def _flow_span(out, w, terms, weights, eigenvalues, tables, place, start, stop):  # type: ignore[no-untyped-def]
    width = w.size // place.size
    for row in range(start // width, (stop + width - 1) // width):
        first, last, shift = piece(row, width, place, start, stop)
        for i in range(first, last):
            at = i - shift
            m1, m2, m3 = forcings(terms, weights, i)
            p1 = tables[1, at]
            kept = w[i] + eigenvalues[at] * p1 * w[i]
            out[i] = kept + (p1 * m1 + tables[2, at] * m2 + tables[3, at] * m3)


@njit(cache=True, fastmath=_FASTMATH, error_model="numpy", parallel=True)
def _flow_parallel(out, w, terms, weights, eigenvalues, tables, place, threads):  # type: ignore[no-untyped-def]
    size = out.size
    for thread in prange(threads):
        start, stop = thread * size // threads, (thread + 1) * size // threads
        _flow_span(out, w, terms, weights, eigenvalues, tables, place, start, stop)


@njit(cache=True, fastmath=_FASTMATH, error_model="numpy")
def _implicit_span(out, fields, eigenvalues, place, drag, start, stop):  # type: ignore[no-untyped-def]
    w, u = fields[0], fields[-1]
    width = w.size // place.size
    for row in range(start // width, (stop + width - 1) // width):
        first, last, shift = piece(row, width, place, start, stop)
        for i in range(first, last):
            at = i - shift
            out[i] = -(eigenvalues[at] * w[i] + drag * u[i])


@njit(cache=True, fastmath=_FASTMATH, error_model="numpy", parallel=True)
def _implicit_parallel(out, fields, eigenvalues, place, drag, threads):  # type: ignore[no-untyped-def]
    size = out.size
    for thread in prange(threads):
        start, stop = thread * size // threads, (thread + 1) * size // threads
        _implicit_span(out, fields, eigenvalues, place, drag, start, stop)


@njit(cache=True, fastmath=_FASTMATH, error_model="numpy")
def _estimate_span(out, one, other, fields, tables, place, rule, start, stop):  # type: ignore[no-untyped-def]
    u = fields[-1]
    e_w, e_u = out[0], out[-1]
    second, third, drag, scale = rule
    width = u.size // place.size
    for row in range(start // width, (stop + width - 1) // width):
        first, last, shift = piece(row, width, place, start, stop)
        for i in range(first, last):
            at = i - shift
            difference = one[i] - (other[i] - drag * u[i])
            p2 = tables[2, at]
            e_u[i] = scale * (second * tables[1, at] + third * p2) * difference
            e_w[i] = (second * p2 + third * tables[3, at]) * difference


@njit(cache=True, fastmath=_FASTMATH, error_model="numpy", parallel=True)
def _estimate_parallel(out, one, other, fields, tables, place, rule, threads):  # type: ignore[no-untyped-def]
    size = one.size
    for thread in prange(threads):
        start, stop = thread * size // threads, (thread + 1) * size // threads
        _estimate_span(out, one, other, fields, tables, place, rule, start, stop)


def advance(
    out: Arrays,
    base: Arrays,
    terms: Arrays,
    weights: Numbers,
    eigenvalues: Folded,
    tables: np.ndarray,
    rule: Numbers,
    threads: int,
) -> None:
    """A stage in modes, as above.

    Parameters
    ----------
    out, base : (w, u), or (w,) for a gradient flow
    terms, weights : the N_j, and the c_j1, then the c_j2, then the c_j3
    eigenvalues : l of each mode
    tables : G, P_1, P_2, P_3 of each of the values in `eigenvalues`
    rule : (H, eps, kappa, enter, leave)
    """
    values, place, size = eigenvalues.values.reshape(-1), eigenvalues.place, eigenvalues.size
    small = size < SMALL // 4
    if len(out) == 1:
        if small:
            _flow_span(out[0], base[0], terms, weights, values, tables, place, 0, size)
        else:
            _flow_parallel(out[0], base[0], terms, weights, values, tables, place, threads)
    elif small:
        _advance_span(out, base, terms, weights, values, tables, place, rule, 0, size)
    else:
        _advance_parallel(out, base, terms, weights, values, tables, place, rule, threads)


def implicit_part(out: np.ndarray, fields: Arrays, eigenvalues: Folded, drag: float, threads: int) -> None:
    """out = -(l w + drag u), fields = (w, u) or (w,) with drag = 0: what the force has less for the explicit part."""
    values, place, size = eigenvalues.values.reshape(-1), eigenvalues.place, eigenvalues.size
    if size < SMALL // 4:
        _implicit_span(out, fields, values, place, drag, 0, size)
    else:
        _implicit_parallel(out, fields, values, place, drag, threads)


def estimate(
    out: Arrays,
    one: np.ndarray,
    other: np.ndarray,
    fields: Arrays,
    tables: np.ndarray,
    place: np.ndarray,
    rule: Numbers,
    threads: int,
) -> None:
    """Difference of two forcings, weighed: e_w = (a P_2 + b P_3) D, e_u = scale (a P_1 + b P_2) D, D = one - (other - drag u).

    Parameters
    ----------
    out : (e_w, e_u), or (e_w,)
    fields : the u of `other` last
    tables, place : as in `advance`, with the place of the eigenvalues
    rule : (a, b, drag, scale)
    """
    if one.size < SMALL // 4:
        _estimate_span(out, one, other, fields, tables, place, rule, 0, one.size)
    else:
        _estimate_parallel(out, one, other, fields, tables, place, rule, threads)
