"""Exact responses of a damped mode: the phi functions of exponential integrators for the 2 x 2 block of friction and stiffness.

For  w' = u,  eps u' = l w + N - kappa u  over a step h, that is y' = A y + (0, N/eps) with

    A = [[0, 1], [l/eps, -kappa/eps]],      h phi_k(hA) (0, 1/eps) = (P_k, P_{k-1}/h),     k = 1, 2, 3,     P_0/h = G,

the four numbers G, P_1, P_2, P_3 say everything:  exp(hA) = [[1 + l P_1, eps G], [l G, 1 + l P_1 - kappa G]].  With the roots
z = h lambda of  eps lambda^2 + kappa lambda - l = 0  they are divided differences,  P_k = (h^2/eps) phi_k[z_s, z_f]  and
G = (h/eps) phi_0[z_s, z_f], computed without cancellation where the roots meet (critical damping) and without overflow for any
eps. Gradient flow, eps = 0:  P_k = h phi_k(h l / kappa) / kappa, G is not defined (0).

phi_0 = exp, phi_k(z) = (phi_{k-1}(z) - 1/(k-1)!) / z  (S. Krogstad, J. Comput. Phys. 203 (2005) 72-88, eq. 2.8).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

from sftsolve.parallel import SMALL

_TERMS = 30  # of the power series; their arguments are at most 2.5 in size
_NEAR = 2.5


@njit(cache=True, error_model="numpy")
def _phi(z):  # type: ignore[no-untyped-def]
    """phi_0 ... phi_3 of a real z <= 0."""
    if z > -1.0:
        # phi_3 by its series, the others from it: no cancellation on the way down.
        term, phi3 = 1.0 / 6.0, 0.0
        for n in range(1, 20):
            phi3 += term
            term *= z / (n + 3)
        phi2 = 0.5 + z * phi3
        phi1 = 1.0 + z * phi2
        return 1.0 + z * phi1, phi1, phi2, phi3
    phi0 = math.exp(z)
    phi1 = (phi0 - 1.0) / z
    phi2 = (phi1 - 1.0) / z
    return phi0, phi1, phi2, (phi2 - 0.5) / z


@njit(cache=True, error_model="numpy")
def _near(p, q):  # type: ignore[no-untyped-def]
    """phi_k[a, b], k = 0 ... 3, of two roots of z^2 - p z + q, at most `_NEAR` in size: power series in the symmetric sums."""
    before, now = 0.0, 1.0  # complete homogeneous polynomials h_{n-2}, h_{n-1}
    factorial = 1.0  # n!
    d0, d1, d2, d3 = 0.0, 0.0, 0.0, 0.0
    for n in range(1, _TERMS):
        factorial *= n
        d0 += now / factorial
        d1 += now / (factorial * (n + 1))
        d2 += now / (factorial * (n + 1) * (n + 2))
        d3 += now / (factorial * (n + 1) * (n + 2) * (n + 3))
        before, now = now, p * now - q * before
    return d0, d1, d2, d3


@njit(cache=True, error_model="numpy")
def response(h, eps, kappa, eigenvalue):  # type: ignore[no-untyped-def]
    """(G, P_1, P_2, P_3) of a mode, eigenvalue l <= 0."""
    if eps == 0.0:
        _, phi1, phi2, phi3 = _phi(h * eigenvalue / kappa)
        return 0.0, h * phi1 / kappa, h * phi2 / kappa, h * phi3 / kappa
    square = kappa * kappa + 4.0 * eps * eigenvalue
    p, q = -kappa * h / eps, -eigenvalue * h * h / eps
    scale = h / eps
    if q <= _NEAR * _NEAR and -p + math.sqrt(max(p * p - 4.0 * q, 0.0)) <= 2.0 * _NEAR:
        d0, d1, d2, d3 = _near(p, q)
        return scale * d0, h * scale * d1, h * scale * d2, h * scale * d3
    if square > 0.0:
        d = math.sqrt(square)
        slow, fast = 2.0 * h * eigenvalue / (kappa + d), -h * (kappa + d) / (2.0 * eps)
        if slow - fast >= max(1.0, -0.25 * fast):
            s0, s1, s2, s3 = _phi(slow)
            f0, f1, f2, f3 = _phi(fast)
            return (s0 - f0) / d, h * (s1 - f1) / d, h * (s2 - f2) / d, h * (s3 - f3) / d
    # Roots that are close or complex, and not small: exp by its mean and half difference, the others by the equation itself.
    mean, quarter = 0.5 * p, 0.25 * p * p - q  # quarter = (half difference)^2
    if abs(quarter) < 1e-2:
        decay = math.exp(mean)
        sine = decay * (1.0 + quarter / 6.0 * (1.0 + quarter / 20.0 * (1.0 + quarter / 42.0 * (1.0 + quarter / 72.0))))
        cosine = decay * (1.0 + quarter / 2.0 * (1.0 + quarter / 12.0 * (1.0 + quarter / 30.0 * (1.0 + quarter / 56.0))))
    elif quarter < 0.0:
        root, decay = math.sqrt(-quarter), math.exp(mean)
        sine, cosine = decay * math.sin(root) / root, decay * math.cos(root)
    else:
        root = math.sqrt(quarter)
        one, other = math.exp(mean + root), math.exp(mean - root)
        sine, cosine = 0.5 * (one - other) / root, 0.5 * (one + other)
    g = scale * sine
    p1 = (cosine - mean * sine - 1.0) / eigenvalue
    p2 = (kappa * p1 / h + eps / h * g - 1.0) / eigenvalue
    p3 = (kappa * p2 / h + eps / h * p1 / h - 0.5) / eigenvalue
    return g, p1, p2, p3


@njit(cache=True, error_model="numpy")
def _tabulate_span(h, eps, kappa, eigenvalues, tables, start, stop):  # type: ignore[no-untyped-def]
    for i in range(start, stop):
        tables[0, i], tables[1, i], tables[2, i], tables[3, i] = response(h, eps, kappa, eigenvalues[i])


@njit(cache=True, error_model="numpy", parallel=True)
def _tabulate_parallel(h, eps, kappa, eigenvalues, tables, threads):  # type: ignore[no-untyped-def]
    size = eigenvalues.size
    for thread in prange(threads):
        _tabulate_span(h, eps, kappa, eigenvalues, tables, thread * size // threads, (thread + 1) * size // threads)


def tabulate(h: float, eps: float, kappa: float, eigenvalues: np.ndarray, tables: np.ndarray, threads: int) -> None:
    """Rows G, P_1, P_2, P_3 of `tables` (4, modes) for flat eigenvalues l <= 0."""
    if eigenvalues.size < SMALL // 16:  # a hundred times the work of a sweep over cells
        _tabulate_span(h, eps, kappa, eigenvalues, tables, 0, eigenvalues.size)
    else:
        _tabulate_parallel(h, eps, kappa, eigenvalues, tables, threads)
