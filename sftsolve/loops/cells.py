"""Small symmetric matrices between fields, one in every cell: products and solves by Cholesky's factors.

Lower triangles are stored by rows, entry (a, b) with b <= a at a (a + 1) / 2 + b, as arrays (entries, nz, ny, nx).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange


@njit(cache=True, nogil=True)
def _multiply_planes(w, out, lower, offset, z0, z1):  # type: ignore[no-untyped-def]
    count = w.shape[0]
    _, _, ny, nx = lower.shape
    for z in range(z0, z1):
        for y in range(ny):
            for a in range(count):
                target = out[a, offset[0] + z, offset[1] + y, offset[2] : offset[2] + nx]
                target[:] = 0.0
                for b in range(count):
                    entry = a * (a + 1) // 2 + b if b <= a else b * (b + 1) // 2 + a
                    values = lower[entry, z, y]
                    source = w[b, offset[0] + z, offset[1] + y, offset[2] : offset[2] + nx]
                    for x in range(nx):
                        target[x] -= values[x] * source[x]


@njit(cache=True, nogil=True)
def _factor(factors, count):  # type: ignore[no-untyped-def]
    """Cholesky's factor in place of a lower triangle; the inverse of its diagonal on the diagonal."""
    for a in range(count):
        row = a * (a + 1) // 2
        for b in range(a):
            column = b * (b + 1) // 2
            total = factors[row + b]
            for k in range(b):
                total -= factors[row + k] * factors[column + k]
            factors[row + b] = total * factors[column + b]
        total = factors[row + a]
        for k in range(a):
            total -= factors[row + k] * factors[row + k]
        factors[row + a] = 1.0 / math.sqrt(total)


@njit(cache=True, nogil=True)
def _substitute(factors, values, count):  # type: ignore[no-untyped-def]
    for a in range(count):
        row = a * (a + 1) // 2
        total = values[a]
        for k in range(a):
            total -= factors[row + k] * values[k]
        values[a] = total * factors[row + a]
    for a in range(count - 1, -1, -1):
        total = values[a]
        for k in range(a + 1, count):
            total -= factors[k * (k + 1) // 2 + a] * values[k]
        values[a] = total * factors[a * (a + 1) // 2 + a]


@njit(cache=True, nogil=True)
def _solve_planes(right, out, lower, offset, sigma, scratch, z0, z1):  # type: ignore[no-untyped-def]
    count = right.shape[0]
    entries, _, ny, nx = lower.shape
    factors, values = scratch[:entries], scratch[entries:]
    for z in range(z0, z1):
        for y in range(ny):
            for x in range(nx):
                cell = (offset[0] + z, offset[1] + y, offset[2] + x)
                for entry in range(entries):
                    factors[entry] = sigma * lower[entry, z, y, x]
                for a in range(count):
                    factors[a * (a + 1) // 2 + a] += 1.0
                    values[a] = right[a, cell[0], cell[1], cell[2]]
                _factor(factors, count)
                _substitute(factors, values, count)
                for a in range(count):
                    out[a, cell[0], cell[1], cell[2]] = values[a]


@njit(cache=True, nogil=True)
def _range(number, parts, n):  # type: ignore[no-untyped-def]
    return number * n // parts, (number + 1) * n // parts


@njit(cache=True, nogil=True)
def _part(lower, offset, number, parts):  # type: ignore[no-untyped-def]
    """A thread's share: planes of a three-dimensional grid, else rows, else cells; (lower, offset) of it."""
    _, nz, ny, nx = lower.shape
    if nz > 1:
        first, last = _range(number, parts, nz)
        return lower[:, first:last], (offset[0] + first, offset[1], offset[2])
    if ny > 1:
        first, last = _range(number, parts, ny)
        return lower[:, :, first:last], (offset[0], offset[1] + first, offset[2])
    first, last = _range(number, parts, nx)
    return lower[:, :, :, first:last], (offset[0], offset[1], offset[2] + first)


@njit(cache=True, nogil=True, parallel=True)
def _multiply_threads(w, out, lower, offset, parts):  # type: ignore[no-untyped-def]
    for number in prange(parts):
        own, start = _part(lower, offset, np.int64(number), parts)
        _multiply_planes(w, out, own, start, 0, own.shape[1])


@njit(cache=True, nogil=True, parallel=True)
def _solve_threads(right, out, lower, offset, sigma, scratch):  # type: ignore[no-untyped-def]
    for number in prange(scratch.shape[0]):
        own, start = _part(lower, offset, np.int64(number), scratch.shape[0])
        _solve_planes(right, out, own, start, sigma, scratch[np.int64(number)], 0, own.shape[1])


@njit(cache=True, nogil=True)
def _multiply_serial(w, out, lower, offset):  # type: ignore[no-untyped-def]
    own, start = _part(lower, offset, 0, 1)
    _multiply_planes(w, out, own, start, 0, own.shape[1])


@njit(cache=True, nogil=True)
def _solve_serial(right, out, lower, offset, sigma, scratch):  # type: ignore[no-untyped-def]
    own, start = _part(lower, offset, 0, 1)
    _solve_planes(right, out, own, start, sigma, scratch[0], 0, own.shape[1])


def multiply(w: np.ndarray, out: np.ndarray, lower: np.ndarray, offset: np.ndarray, scratch: np.ndarray) -> None:
    """out = -R w on padded arrays (field, Z, Y, X), another array than w.

    Parameters
    ----------
    lower : R, (entries, nz, ny, nx)
    offset : first cell of the interior
    scratch : (threads, entries + fields)
    """
    if len(scratch) == 1:
        _multiply_serial(w, out, lower, offset)
    else:
        _multiply_threads(w, out, lower, offset, len(scratch))


def solve(right: np.ndarray, out: np.ndarray, lower: np.ndarray, offset: np.ndarray, sigma: float, scratch: np.ndarray) -> None:
    """(I + sigma R) out = right in every cell, R positive semidefinite; `out` may be `right`."""
    if len(scratch) == 1:
        _solve_serial(right, out, lower, offset, sigma, scratch)
    else:
        _solve_threads(right, out, lower, offset, sigma, scratch)
