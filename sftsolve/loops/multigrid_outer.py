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

from sftsolve.codegen.vectors import load as take
from sftsolve.codegen.vectors import prefetch, put
from sftsolve.loops.lanes import address, double, every_other, peek, poke, rounded, total, weave
from sftsolve.loops.multigrid_planes import LANES, NY, ODD, ROW, F, U, first_cell

# Numbers are not fused: the compiler chooses freely which of two products is, and copies of a function would differ. Vectors are.
_FAST = {"nsz"}
_SUMS = {"contract", "reassoc", "nsz"}


@njit(cache=True, nogil=True, inline="always")
def _cell(w, k, own, left, right, below, above, back, front, j, j_left, j_below, j_back, j_r):  # type: ignore[no-untyped-def]
    """L w in one cell; `left`, `right` and `j_left` may be round the circle."""
    kx, ky, kz, r = k
    here = w[own]
    flux = kx[j_left] * (w[left] - here) + kx[j] * (w[right] - here)
    flux += ky[j_below] * (w[below] - here) + ky[j] * (w[above] - here)
    flux += kz[j_back] * (w[back] - here) + kz[j] * (w[front] - here)
    return flux - r[j_r] * here


@njit(cache=True, nogil=True, inline="always")
def _cells(w, k, own, below, above, back, front, j, j_below, j_back, j_r, rows):  # type: ignore[no-untyped-def]
    """L w in sixteen cells."""
    kx, ky, kz, r = k
    here = double(take(w, own, LANES))
    flux = double(take(kx, j - 1, LANES)) * (double(take(w, own - 1, LANES)) - here)
    flux = flux + double(take(kx, j, LANES)) * (double(take(w, own + 1, LANES)) - here)
    if rows:
        flux = flux + double(take(ky, j_below, LANES)) * (double(take(w, below, LANES)) - here)
        flux = flux + double(take(ky, j, LANES)) * (double(take(w, above, LANES)) - here)
    flux = flux + double(take(kz, j_back, LANES)) * (double(take(w, back, LANES)) - here)
    flux = flux + double(take(kz, j, LANES)) * (double(take(w, front, LANES)) - here)
    return flux - double(take(r, j_r, LANES)) * here


@njit(cache=True, nogil=True, fastmath=_FAST)
def _linear_row(w, k, place, z, y, t):  # type: ignore[no-untyped-def]
    """t = L w in one row."""
    first, plane, row, nz, ny, nx, varies = place
    ym, yp = y - 1 if y > 0 else ny - 1, y + 1 if y < ny - 1 else 0
    zm, zp = z - 1 if z > 0 else nz - 1, z + 1 if z < nz - 1 else 0
    i = first + z * plane + y * row
    below, above = first + z * plane + ym * row, first + z * plane + yp * row
    back, front = first + zm * plane + y * row, first + zp * plane + y * row
    j, j_below, j_back = (z * ny + y) * nx, (z * ny + ym) * nx, (zm * ny + y) * nx
    j_r = j if varies else 0
    whole, last = nx >= LANES + 2, nx - 1
    for x in range(0, nx, last if whole else 1):
        left, right = x - 1 if x > 0 else last, x + 1 if x < last else 0
        t[x] = _cell(
            w, k, i + x, i + left, i + right, below + x, above + x, back + x, front + x,
            j + x, j + left, j_below + x, j_back + x, j_r + x,
        )  # fmt: skip
    if not whole:
        return
    at, k_at, t_at = address(w, 0), (address(k[0], 0), address(k[1], 0), address(k[2], 0), address(k[3], 0)), address(t, 0)
    for step in range(1, last, LANES):
        x = min(step, last - LANES)  # the last cells overlap those before
        prefetch(k_at[0], j + x + nx)
        prefetch(k_at[0], j + x + nx + 8)
        prefetch(k_at[2], j + x + nx)
        prefetch(k_at[2], j + x + nx + 8)
        if ny > 1:
            prefetch(k_at[1], j + x + nx)
            prefetch(k_at[1], j + x + nx + 8)
        value = _cells(
            at, k_at, i + x, below + x, above + x, back + x, front + x, j + x, j_below + x, j_back + x, j_r + x, ny > 1
        )  # fmt: skip
        put(t_at, x, value, None)


@njit(cache=True, nogil=True, fastmath=_FAST)
def _apply_planes(w, out, k, place, alpha, beta, t, z0, z1):  # type: ignore[no-untyped-def]
    first, plane, row, _, ny, nx, _ = place
    for z in range(z0, z1):
        for y in range(ny):
            _linear_row(w, k, place, z, y, t)
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


@njit(cache=True, nogil=True, inline="always")
def _ask_row(row, x):  # type: ignore[no-untyped-def]
    """Have thirty-two numbers brought near."""
    prefetch(row, x)
    prefetch(row, x + 8)
    prefetch(row, x + 16)
    prefetch(row, x + 24)


@njit(cache=True, nogil=True, fastmath=_FAST)
def _correct_plane(w, place, store, level, z, factor):  # type: ignore[no-untyped-def]
    """w += factor e; returns the sum of the squares of what was added."""
    e, at = first_cell(store, U, level, 0), address(w, 0)
    first, plane, row, _, ny, nx, _ = place
    whole = nx - nx % (2 * LANES)
    one = take(e, z * level[NY] * level[ROW], LANES)
    many, squares = double(one - one), 0.0
    for y in range(ny):
        i = first + z * plane + y * row
        even = (z * level[NY] + y) * level[ROW]
        odd = even + level[ODD]
        for x in range(0, whole, 2 * LANES):
            one, two = take(e, even + x // 2, LANES), take(e, odd + x // 2, LANES)
            low, high = factor * double(weave(one, two, 0)), factor * double(weave(one, two, 1))
            many = many + (low * low + high * high)
            put(at, i + x, rounded(double(take(at, i + x, LANES)) + low, at), None)
            put(at, i + x + LANES, rounded(double(take(at, i + x + LANES, LANES)) + high, at), None)
            _ask_row(at, i + x + row)
            prefetch(e, even + level[ROW] + x // 2)
            prefetch(e, odd + level[ROW] + x // 2)
        for x in range(whole, nx):
            added = factor * peek(e, (odd if x % 2 else even) + x // 2)
            w[i + x] += added
            squares += added * added
    return squares + total(many)


@njit(cache=True, nogil=True, fastmath=_FAST)
def _pack_row(t, f, even, odd, scale):  # type: ignore[no-untyped-def]
    """f = scale t, even cells first."""
    from_row, whole = address(t, 0), t.size - t.size % (2 * LANES)
    for x in range(0, whole, 2 * LANES):
        one, two = scale * take(from_row, x, LANES), scale * take(from_row, x + LANES, LANES)
        put(f, even + x // 2, rounded(every_other(one, two, 0), f), None)
        put(f, odd + x // 2, rounded(every_other(one, two, 1), f), None)
    for x in range(whole, t.size):
        poke(f, (odd if x % 2 else even) + x // 2, np.float32(scale * t[x]))


@njit(cache=True, nogil=True, fastmath=_FAST)
def _residual_row(t, right, w, i, sigma, ahead):  # type: ignore[no-untyped-def]
    """t = right - w + sigma t, and the sums of its square and of that of w."""
    at, right_at, t_at = address(w, i), address(right, i), address(t, 0)
    whole = t.size - t.size % LANES
    squares, size = 0.0, 0.0
    if whole:
        here, value = double(take(at, 0, LANES)), take(t_at, 0, LANES)
        many_squares, many_size = value - value, value - value
        for x in range(0, whole, LANES):
            here = double(take(at, x, LANES))
            prefetch(right_at, x + ahead)
            prefetch(right_at, x + ahead + 8)
            value = double(take(right_at, x, LANES)) - here + sigma * take(t_at, x, LANES)
            put(t_at, x, value, None)
            many_squares = many_squares + value * value
            many_size = many_size + here * here
        squares, size = total(many_squares), total(many_size)
    for x in range(whole, t.size):
        rest = np.float64(right[i + x]) - w[i + x] + sigma * t[x]
        t[x] = rest
        squares += rest * rest
        size += w[i + x] * np.float64(w[i + x])
    return squares, size


@njit(cache=True, nogil=True)
def _residual_plane(w, right, k, place, sigma, store, level, z, scale, t, sums):  # type: ignore[no-untyped-def]
    """f of the finest level = scale (right - A w)."""
    f = first_cell(store, F, level, 0)
    first, plane, row, _, ny, _, _ = place
    squares, size = 0.0, 0.0
    for y in range(ny):
        _linear_row(w, k, place, z, y, t)
        row_squares, row_size = _residual_row(t, right, w, first + z * plane + y * row, sigma, row)
        squares += row_squares
        size += row_size
        even = (z * level[NY] + y) * level[ROW]
        _pack_row(t, f, even, even + level[ODD], scale)
    sums[0, z], sums[1, z] = squares, size


@njit(cache=True, nogil=True)
def _correct_slab(w, right, k, place, sigma, store, level, factor, scale, t, sums, phase, z0, z1):  # type: ignore[no-untyped-def]
    if phase == 0:
        for z in range(z0, z1 + 1):
            if z < z1 and factor != 0.0:
                sums[2, z] = _correct_plane(w, place, store, level, z, factor)
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
    sums : (3, nz), becomes the sums over planes of the squares of the residual, of w and of what was added to it
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


@njit(cache=True, nogil=True, fastmath=_SUMS, forceinline=True)
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
    f = first_cell(store, F, level, 0)
    first, plane, row, _, ny, nx, _ = place
    for z in range(z0, z1):
        for y in range(ny):
            i = np.uint64(first + z * plane + y * row)
            for x in range(np.uint64(nx)):
                t[x] = right[i + x] - mean
            even = (z * level[NY] + y) * level[ROW]
            _pack_row(t, f, even, even + level[ODD], scale)
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
