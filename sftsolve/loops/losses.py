"""What friction takes in a step that is exact in every mode, or cell, in closed form.

    eps u' = l w + N - kappa u,  w' = u,     N(s) = M_1 + M_2 s/H + M_3 s^2/(2 H^2),     0 <= s <= H

times u, integrated over the step, is the balance of energy of a mode,

    kappa int |u|^2 = [l |w|^2/2 - eps |u|^2/2] + int N u,       int N u = [N w] - M_2/H int w - M_3/H^2 int s w

where the end, int w and int s w follow from the start by the responses P_k of the mode (`loops.responses`), with P_4 and P_5 by
their recursion

    l P_{k+1} = eps P_{k-1}/H^2 + kappa P_k/H - 1/k!

A gradient flow is the case eps = 0. Quadrature would have to follow every mode through the step. The state that the step has led
to is not looked at: whether its energy is less by this is for others to see.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

from sftsolve.loops.combine import Arrays, Numbers
from sftsolve.loops.folding import Folded, piece
from sftsolve.loops.norms import CellSums
from sftsolve.parallel import SMALL

# Where a mode decays by less than this in a step the recursion cancels.
_SLOW = 0.02
_WEAK = 0.5  # kappa H/eps below which friction hardly acts within a step, and terms of a power series that serve there
_TERMS = 10
_SHARES = tuple(1.0 / math.factorial(n) for n in range(5, 6 + _TERMS))
# Sums are split into vector lanes ("reassoc"), which keeps NaN and inf as they are.
_FASTMATH = {"contract", "reassoc"}


@njit(cache=True, error_model="numpy", inline="always")
def _further(eigenvalue, p1, p2, p3, span, eps, kappa):  # type: ignore[no-untyped-def]
    """P_4 and P_5, by the recursion from below, or where that cancels from above, with l P_5 = l P_4/5 and l P_6 = l P_5/6 as for
    l = 0; where friction does not act within the step either, by the power series of `loops.responses`."""
    inertia, drag = eps / (span * span), kappa / span
    if -eigenvalue * p1 > _SLOW:
        p4 = (inertia * p2 + drag * p3 - 1.0 / 6.0) / eigenvalue
        return p4, (inertia * p3 + drag * p4 - 1.0 / 24.0) / eigenvalue
    if drag > _WEAK * inertia:
        p4 = (1.0 / 24.0 - inertia * p3) / (drag - 0.2 * eigenvalue)
        return p4, (1.0 / 120.0 - inertia * p4) / (drag - eigenvalue / 6.0)
    total, product = -drag / inertia, -eigenvalue / inertia
    before, now, p4, p5 = 0.0, 1.0, 0.0, 0.0
    for n in range(_TERMS):
        p4 += now * _SHARES[n]
        p5 += now * _SHARES[n + 1]
        before, now = now, total * now - product * before
    return p4 / inertia, p5 / inertia


@njit(cache=True, fastmath=_FASTMATH, error_model="numpy", inline="always")
def _loss(eigenvalue, responses, rule, w, u, n, half, n_end):  # type: ignore[no-untyped-def]
    """Of one mode, from w, u and N at the start, the sum of both N in the middle, and N at the end: real numbers, or the real
    and the imaginary parts of complex ones in turn, which take a third of the operations that way.
    """
    span, eps, kappa = rule
    g, p1, p2, p3, p4, p5 = responses
    m2, m3 = -3.0 * n + 2.0 * half - n_end, 4.0 * (n - half + n_end)
    area = (1.0 + eigenvalue * p2) * w + p2 * n + p3 * m2 + p4 * m3
    moment = (0.5 + eigenvalue * (p2 - p3)) * w + (p2 - p3) * n + (p3 - p4) * m2 + (p4 - p5) * m3
    w_end = (1.0 + eigenvalue * p1) * w + p1 * n + p2 * m2 + p3 * m3
    moved = 0.0
    if eps > 0.0:
        w_end += eps * g * u
        u_end = eigenvalue * g * w + (1.0 + eigenvalue * p1 - kappa * g) * u + g * n + (p1 * m2 + p2 * m3) / span
        moved = eps * (u_end * u_end - u * u)
        area += eps * p1 / span * u
        moment += eps * (p1 - p2) / span * u
    worked = n_end * w_end - n * w - m2 * area - m3 * moment
    return worked + 0.5 * (eigenvalue * (w_end * w_end - w * w) - moved)


@njit(cache=True, fastmath=_FASTMATH, error_model="numpy")
def _lost_rows(begin, forcings, eigenvalues, tables, place, rule, weights, start, stop):  # type: ignore[no-untyped-def]
    span, eps, kappa = rule
    outer, inner, sums = weights
    width, field_rows = inner.shape[1], len(outer) // len(inner)
    parts = np.uint64(begin[0].size // (len(outer) * width))
    for row in range(start, stop):
        first, last, shift = piece(row, width, place, row * width, (row + 1) * width)
        along = inner[row // field_rows]
        total = 0.0
        for i in range(first, last):
            at = i - shift
            eigenvalue, g = np.float64(eigenvalues[at]), np.float64(tables[0, at])
            p1, p2, p3 = np.float64(tables[1, at]), np.float64(tables[2, at]), np.float64(tables[3, at])
            p4, p5 = _further(eigenvalue, p1, p2, p3, span, eps, kappa)
            responses, loss = (g, p1, p2, p3, p4, p5), 0.0
            for k in range(i * parts, i * parts + parts):
                half = forcings[1][k] + forcings[2][k]
                loss += _loss(eigenvalue, responses, rule, begin[0][k], begin[-1][k], forcings[0][k], half, forcings[3][k])
            total += along[i - first] * loss
        sums[row] = outer[row] * total


@njit(cache=True, fastmath=_FASTMATH, error_model="numpy")
def _lost_blocks(u, forcings, responses, rule, segments, a_block, partial, start, stop):  # type: ignore[no-untyped-def]
    for block in range(start, stop):
        total = 0.0
        for number in range(block * a_block, min(len(segments), (block + 1) * a_block)):
            for i in range(segments[number, 0], segments[number, 1]):
                half = forcings[1][i] + forcings[2][i]
                # Without l the loss does not depend on w.
                total += _loss(0.0, responses, rule, 0.0, u[i], forcings[0][i], half, forcings[3][i])
        partial[block] = total


@njit(cache=True, error_model="numpy", parallel=True)
def _lost_blocks_parallel(u, forcings, responses, rule, segments, a_block, partial, threads):  # type: ignore[no-untyped-def]
    blocks = partial.size
    for thread in prange(threads):
        start, stop = thread * blocks // threads, (thread + 1) * blocks // threads
        _lost_blocks(u, forcings, responses, rule, segments, a_block, partial, start, stop)


@njit(cache=True, error_model="numpy", parallel=True)
def _lost_parallel(begin, forcings, eigenvalues, tables, place, rule, weights, threads):  # type: ignore[no-untyped-def]
    rows = len(weights[0])
    for thread in prange(threads):
        start, stop = thread * rows // threads, (thread + 1) * rows // threads
        _lost_rows(begin, forcings, eigenvalues, tables, place, rule, weights, start, stop)


def lost(
    begin: Arrays, forcings: Arrays, eigenvalues: Folded, tables: np.ndarray, rule: Numbers, weights: Arrays, threads: int
) -> float:
    """kappa int |u|^2 ds over a step, summed over fields and cells; the same for every number of threads.

    Parameters
    ----------
    begin : w and u at the start, or w alone for a gradient flow; flat spectra
    forcings : N at the start, twice in the middle, and at the end
    eigenvalues, tables : l, and G, P_1, P_2, P_3 over the whole step
    rule : (H, eps, kappa)
    weights : of products of spectra, rows and along x (`Modes.squares`), and room for the sums of all rows
    """
    values, place, rows = eigenvalues.values.reshape(-1), eigenvalues.place, len(weights[0])
    begin, forcings = (tuple(spectrum.view(spectrum.real.dtype) for spectrum in spectra) for spectra in (begin, forcings))
    if eigenvalues.size < SMALL // 4:
        _lost_rows(begin, forcings, values, tables, place, rule, weights, 0, rows)
    else:
        _lost_parallel(begin, forcings, values, tables, place, rule, weights, threads)
    return float(weights[-1].sum())


def lost_in_cells(u: np.ndarray, forcings: Arrays, responses: Numbers, rule: Numbers, sums: CellSums, threads: int) -> float:
    """The same where l = 0 and there is inertia, cell by cell.

    Parameters
    ----------
    u, forcings, rule : u at the start, the others as in `lost`; padded fields
    responses : G, P_1, P_2, P_3 over the whole step
    sums : tells the cells
    """
    segments, a_block, partial = sums.blocks
    every = (*responses, *_further(0.0, *responses[1:], *rule))
    if sums.count < SMALL:
        _lost_blocks(u, forcings, every, rule, segments, a_block, partial, 0, partial.size)
    else:
        _lost_blocks_parallel(u, forcings, every, rule, segments, a_block, partial, threads)
    return float(partial.sum())
