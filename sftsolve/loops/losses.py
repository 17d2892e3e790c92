"""What friction takes in a step that is exact in every mode, in closed form.

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

import numpy as np
from numba import njit, prange

from sftsolve.loops.combine import Arrays, Numbers
from sftsolve.loops.folding import Folded, piece
from sftsolve.parallel import SMALL

# Where a mode decays by less than this in a step the recursion cancels.
_SLOW = 0.02
_WEAK = 0.5  # kappa H/eps below which friction hardly acts within a step
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
    h2 = total * total - product
    h3 = total * h2 - product * total
    h4 = total * h3 - product * h2
    p4 = 1.0 / 120.0 + total / 720.0 + h2 / 5040.0 + h3 / 40320.0 + h4 / 362880.0
    p5 = 1.0 / 720.0 + total / 5040.0 + h2 / 40320.0 + h3 / 362880.0 + h4 / 3628800.0
    return p4 / inertia, p5 / inertia


@njit(cache=True, fastmath=_FASTMATH, error_model="numpy")
def _lost_rows(begin, forcings, eigenvalues, tables, place, rule, weights, start, stop):  # type: ignore[no-untyped-def]
    span, eps, kappa = rule
    outer, inner, sums = weights
    width, field_rows = inner.shape[1], len(outer) // len(inner)
    for row in range(start, stop):
        first, last, shift = piece(row, width, place, row * width, (row + 1) * width)
        along = inner[row // field_rows]
        total = 0.0
        for i in range(first, last):
            at = i - shift
            eigenvalue, g = np.float64(eigenvalues[at]), np.float64(tables[0, at])
            p1, p2, p3 = np.float64(tables[1, at]), np.float64(tables[2, at]), np.float64(tables[3, at])
            p4, p5 = _further(eigenvalue, p1, p2, p3, span, eps, kappa)
            w, u = begin[0][i], begin[-1][i]
            n, half, n_end = forcings[0][i], forcings[1][i] + forcings[2][i], forcings[3][i]
            m2, m3 = -3.0 * n + 2.0 * half - n_end, 4.0 * (n - half + n_end)
            area = (1.0 + eigenvalue * p2) * w + p2 * n + p3 * m2 + p4 * m3
            moment = (0.5 + eigenvalue * (p2 - p3)) * w + (p2 - p3) * n + (p3 - p4) * m2 + (p4 - p5) * m3
            w_end = (1.0 + eigenvalue * p1) * w + p1 * n + p2 * m2 + p3 * m3
            moved = 0.0
            if eps > 0.0:
                w_end += eps * g * u
                u_end = eigenvalue * g * w + (1.0 + eigenvalue * p1 - kappa * g) * u + g * n + (p1 * m2 + p2 * m3) / span
                moved = eps * ((u_end.conjugate() * u_end).real - (u.conjugate() * u).real)
                area += eps * p1 / span * u
                moment += eps * (p1 - p2) / span * u
            worked = n_end.conjugate() * w_end - n.conjugate() * w - m2.conjugate() * area - m3.conjugate() * moment
            stored = eigenvalue * ((w_end.conjugate() * w_end).real - (w.conjugate() * w).real)
            total += along[i - first] * (worked.real + 0.5 * (stored - moved))
        sums[row] = outer[row] * total


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
    if eigenvalues.size < SMALL // 4:
        _lost_rows(begin, forcings, values, tables, place, rule, weights, 0, rows)
    else:
        _lost_parallel(begin, forcings, values, tables, place, rule, weights, threads)
    return float(weights[-1].sum())
