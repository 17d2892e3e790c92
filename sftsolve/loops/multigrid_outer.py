"""The operator of a multigrid solve in double precision on padded storage: L w, residuals, corrections.

    L w = sum_faces k (w_neighbour - w) - r w,        A = 1 - sigma L

Residuals are formed from differences of neighbours, never as diagonal times w: that would lose all digits at large sigma. The
correction of one cycle is added and the next residual formed in one sweep, plane behind plane (see `loops.multigrid`).
Sums run over planes, which the grid fixes, so that no result depends on the number of threads.

Arrays are flat. `place` holds the index of the first interior cell of a padded array, its strides between planes and rows, and
the extents (nz, ny, nx); coefficients k = (kx, ky, kz, r) have rows of nx without gaps, and of r only the first row is read where
`place[6]` is 0, since all are equal.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from sftsolve.loops.multigrid import NY, ODD, ROW, F, U, _flat

_FAST = {"contract", "nsz"}
_SUMS = {"contract", "reassoc", "nsz"}


@njit(cache=True, nogil=True, inline="always")
def _flux(w, kx, ky, kz, i, left, right, below, above, back, front, j, j_left, j_y, j_below, j_back):  # type: ignore[no-untyped-def]
    here = w[i]
    flux = kx[j_left] * (w[left] - here) + kx[j] * (w[right] - here)
    flux += ky[j_below] * (w[below] - here) + ky[j_y] * (w[above] - here)
    return flux + (kz[j_back] * (w[back] - here) + kz[j] * (w[front] - here))


@njit(cache=True, nogil=True, fastmath=_FAST)
def _linear_row(w, kx, ky, kz, r, place, z, y, t):  # type: ignore[no-untyped-def]
    """t = L w in one row."""
    first, plane, row, nz, ny, nx, varies = place
    ym, yp = y - 1 if y > 0 else ny - 1, y + 1 if y < ny - 1 else 0
    zm, zp = z - 1 if z > 0 else nz - 1, z + 1 if z < nz - 1 else 0
    i = np.uint64(first + z * plane + y * row)
    below, above = np.uint64(first + z * plane + ym * row), np.uint64(first + z * plane + yp * row)
    back, front = np.uint64(first + zm * plane + y * row), np.uint64(first + zp * plane + y * row)
    j = np.uint64((z * ny + y) * nx)
    # A grid of two axes has one row a plane and no faces between rows: one row of zeros stands for them.
    j_y = j if ny > 1 else np.uint64(0)
    j_below = np.uint64((z * ny + ym) * nx) if ny > 1 else np.uint64(0)
    j_back = np.uint64((zm * ny + y) * nx)
    j_r = j if varies else np.uint64(0)
    last, one = np.uint64(nx - 1), np.uint64(1)
    for x in (np.uint64(0), last):
        left = last if x == 0 else x - one
        right = np.uint64(0) if x == last else x + one
        t[x] = _flux(
            w, kx, ky, kz, i + x, i + left, i + right, below + x, above + x, back + x, front + x,
            j + x, j + left, j_y + x, j_below + x, j_back + x,
        ) - r[j_r + x] * w[i + x]  # fmt: skip
    for x in range(one, last):
        t[x] = _flux(
            w, kx, ky, kz, i + x, i + x - one, i + x + one, below + x, above + x, back + x, front + x,
            j + x, j + x - one, j_y + x, j_below + x, j_back + x,
        ) - r[j_r + x] * w[i + x]  # fmt: skip


@njit(cache=True, nogil=True, fastmath=_FAST)
def _apply_planes(w, out, k, place, alpha, beta, t, z0, z1):  # type: ignore[no-untyped-def]
    kx, ky, kz, r = k
    first, plane, row, _, ny, nx, _ = place
    for z in range(z0, z1):
        for y in range(ny):
            _linear_row(w, kx, ky, kz, r, place, z, y, t)
            i = np.uint64(first + z * plane + y * row)
            for x in range(np.uint64(nx)):
                out[i + x] = alpha * w[i + x] + beta * t[x]


@njit(cache=True, nogil=True)
def apply(w, out, k, place, alpha, beta, scratch):  # type: ignore[no-untyped-def]
    """out = alpha w + beta L w, serial."""
    _apply_planes(w, out, k, place, alpha, beta, scratch[0], 0, place[3])


@njit(cache=True, nogil=True, parallel=True)
def apply_threads(w, out, k, place, alpha, beta, scratch):  # type: ignore[no-untyped-def]
    """The same with a slab of planes a thread."""
    threads = scratch.shape[0]
    for thread in prange(threads):
        t = np.int64(thread)
        z0, z1 = t * place[3] // threads, (t + 1) * place[3] // threads
        _apply_planes(w, out, k, place, alpha, beta, scratch[t], z0, z1)


@njit(cache=True, nogil=True, fastmath=_FAST)
def _correct_plane(w, place, store, level, z, factor):  # type: ignore[no-untyped-def]
    """w += factor e."""
    e = _flat(store, U, level)
    first, plane, row, _, ny, nx, _ = place
    pairs, two, one = np.uint64(nx // 2), np.uint64(2), np.uint64(1)
    for y in range(ny):
        i = np.uint64(first + z * plane + y * row)
        even = np.uint64((z * level[NY] + y) * level[ROW])
        odd = even + np.uint64(level[ODD])
        for x in range(pairs):
            w[i + two * x] += factor * e[even + x]
            w[i + two * x + one] += factor * e[odd + x]
        if nx % 2:
            w[i + np.uint64(nx - 1)] += factor * e[even + pairs]


@njit(cache=True, nogil=True, fastmath=_FAST)
def _pack_row(t, f, even, odd, scale):  # type: ignore[no-untyped-def]
    pairs, two, one = np.uint64(t.size // 2), np.uint64(2), np.uint64(1)
    for x in range(pairs):
        f[even + x] = np.float32(scale * t[two * x])
        f[odd + x] = np.float32(scale * t[two * x + one])
    if t.size % 2:
        f[even + pairs] = np.float32(scale * t[np.uint64(t.size - 1)])


@njit(cache=True, nogil=True, fastmath=_SUMS)
def _residual_row(t, right, w, i, sigma):  # type: ignore[no-untyped-def]
    """t = right - w + sigma t, and the sums of its square and of that of w."""
    total, size = 0.0, 0.0
    for x in range(np.uint64(t.size)):
        value = np.float64(right[i + x]) - w[i + x] + sigma * t[x]
        t[x] = value
        total += value * value
        size += w[i + x] * np.float64(w[i + x])
    return total, size


@njit(cache=True, nogil=True)
def _residual_plane(w, right, k, place, sigma, store, level, z, scale, t, sums):  # type: ignore[no-untyped-def]
    """f of the finest level = scale (right - A w)."""
    f = _flat(store, F, level)
    kx, ky, kz, r = k
    first, plane, row, _, ny, _, _ = place
    total, size = 0.0, 0.0
    for y in range(ny):
        _linear_row(w, kx, ky, kz, r, place, z, y, t)
        row_total, row_size = _residual_row(t, right, w, np.uint64(first + z * plane + y * row), sigma)
        total += row_total
        size += row_size
        even = np.uint64((z * level[NY] + y) * level[ROW])
        _pack_row(t, f, even, even + np.uint64(level[ODD]), scale)
    sums[0, z], sums[1, z] = total, size


@njit(cache=True, nogil=True)
def _correct_slab(w, right, k, place, sigma, store, level, factor, scale, t, sums, phase, z0, z1):  # type: ignore[no-untyped-def]
    if phase == 0:
        for z in range(z0, z1 + 1):
            if z < z1 and factor != 0.0:
                _correct_plane(w, place, store, level, z, factor)
            if z0 + 1 <= z - 1 < z1 - 1:
                _residual_plane(w, right, k, place, sigma, store, level, z - 1, scale, t, sums)
    else:
        for z in range(z0, z1):
            if not z0 + 1 <= z < z1 - 1:
                _residual_plane(w, right, k, place, sigma, store, level, z, scale, t, sums)


@njit(cache=True, nogil=True)
def correct(w, right, k, place, sigma, store, level, factor, scale, scratch, sums):  # type: ignore[no-untyped-def]
    """w += factor u of the finest level (none where factor is 0), then f of that level = scale (right - A w); serial.

    Parameters
    ----------
    w, right : flat padded arrays
    scratch : (threads, nx)
    sums : (2, nz), becomes the sums over planes of the squares of the residual and of w
    """
    for phase in range(2):
        _correct_slab(w, right, k, place, sigma, store, level, factor, scale, scratch[0], sums, phase, 0, place[3])


@njit(cache=True, nogil=True, parallel=True)
def correct_threads(w, right, k, place, sigma, store, level, factor, scale, scratch, sums):  # type: ignore[no-untyped-def]
    """The same with a slab of planes a thread."""
    threads = scratch.shape[0]
    for phase in range(2):
        for thread in prange(threads):
            t = np.int64(thread)
            z0, z1 = t * place[3] // threads, (t + 1) * place[3] // threads
            _correct_slab(w, right, k, place, sigma, store, level, factor, scale, scratch[t], sums, phase, z0, z1)


@njit(cache=True, nogil=True, fastmath=_SUMS)
def _measure_planes(right, place, sums, z0, z1):  # type: ignore[no-untyped-def]
    first, plane, row, _, ny, nx, _ = place
    for z in range(z0, z1):
        squares, total = 0.0, 0.0
        for y in range(ny):
            i = np.uint64(first + z * plane + y * row)
            for x in range(np.uint64(nx)):
                value = np.float64(right[i + x])
                squares += value * value
                total += value
        sums[0, z], sums[1, z] = squares, total


@njit(cache=True, nogil=True)
def measure(right, place, sums, threads):  # type: ignore[no-untyped-def]
    """Sums over planes of the squares of `right` and of itself; serial."""
    _measure_planes(right, place, sums, 0, place[3])


@njit(cache=True, nogil=True, parallel=True)
def measure_threads(right, place, sums, threads):  # type: ignore[no-untyped-def]
    """The same with a slab of planes a thread."""
    for thread in prange(threads):
        t = np.int64(thread)
        _measure_planes(right, place, sums, t * place[3] // threads, (t + 1) * place[3] // threads)


@njit(cache=True, nogil=True)
def _load_planes(right, out, mean, place, store, level, scale, t, z0, z1):  # type: ignore[no-untyped-def]
    f = _flat(store, F, level)
    first, plane, row, _, ny, nx, _ = place
    for z in range(z0, z1):
        for y in range(ny):
            i = np.uint64(first + z * plane + y * row)
            for x in range(np.uint64(nx)):
                t[x] = right[i + x] - mean
            even = np.uint64((z * level[NY] + y) * level[ROW])
            _pack_row(t, f, even, even + np.uint64(level[ODD]), scale)
            for x in range(np.uint64(nx)):
                out[i + x] = mean


@njit(cache=True, nogil=True)
def load(right, out, mean, place, store, level, scale, scratch):  # type: ignore[no-untyped-def]
    """f of the finest level = scale (right - mean), and out = mean; serial."""
    _load_planes(right, out, mean, place, store, level, scale, scratch[0], 0, place[3])


@njit(cache=True, nogil=True, parallel=True)
def load_threads(right, out, mean, place, store, level, scale, scratch):  # type: ignore[no-untyped-def]
    """The same with a slab of planes a thread."""
    threads = scratch.shape[0]
    for thread in prange(threads):
        t = np.int64(thread)
        z0, z1 = t * place[3] // threads, (t + 1) * place[3] // threads
        _load_planes(right, out, mean, place, store, level, scale, scratch[t], z0, z1)


@njit(cache=True, nogil=True)
def _unload_planes(out, mean, place, store, level, factor, z0, z1):  # type: ignore[no-untyped-def]
    first, plane, row, _, ny, nx, _ = place
    for z in range(z0, z1):
        for y in range(ny):
            i = first + z * plane + y * row
            out[i : i + nx] = mean
        _correct_plane(out, place, store, level, z, factor)


@njit(cache=True, nogil=True)
def unload(out, mean, place, store, level, factor, threads):  # type: ignore[no-untyped-def]
    """out = mean + factor u of the finest level; serial."""
    _unload_planes(out, mean, place, store, level, factor, 0, place[3])


@njit(cache=True, nogil=True, parallel=True)
def unload_threads(out, mean, place, store, level, factor, threads):  # type: ignore[no-untyped-def]
    """The same with a slab of planes a thread."""
    for thread in prange(threads):
        t = np.int64(thread)
        _unload_planes(out, mean, place, store, level, factor, t * place[3] // threads, (t + 1) * place[3] // threads)
