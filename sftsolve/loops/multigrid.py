"""Smoothing, restriction and prolongation of geometric multigrid in single precision, for cells of one field.

On every level the operator is

    A u = (shift + r) u - sum_faces k (u_neighbour - u)

with k on the face towards the next cell of each axis (periodic wrap included, zero at walls). Gauss-Seidel runs over the two
colours of a checkerboard. A row holds its even cells first and its odd cells after them, so that the cells of one colour are
contiguous, as are their neighbours: nothing is computed in vain and every access has unit stride.

Planes go through the stages of a sweep one behind the other, so that a level is read once a sweep: stage 0 on plane z, 1 on
z - 1, 2 on z - 2. Threads own slabs of planes; what depends on a neighbour's planes waits for its phase. The result is that of
whole sweeps one after the other, whatever the number of threads.

A level is one row of an integer table, see `OFFSET` and the rest; its arrays are pieces of the rows of one store.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange, types
from numba.core.typing.templates import signature
from numba.extending import intrinsic

# Columns of the table of levels.
OFFSET, NZ, NY, NX, HALF, ODD, ROW, FZ, FY, FX, PZ, PY, PX, VARIES = range(14)
# Rows of the store.
U, F, KX, KY, KZ, R = range(6)
# What a sweep does: zero guess, one red-black step, restricted residual; the same from the guess that is there; prolongation and
# one step; one step; zero guess and one step. SOLVE is for the coarsest level.
DESCEND, AGAIN, ASCEND, SMOOTH, START, SOLVE = range(6)
RED, BLACK = 0, 1

_FAST = {"contract", "arcp", "nsz"}


@intrinsic
def _on_its_own(typingctx):  # type: ignore[no-untyped-def]
    """Keeps the function that calls this from being inlined in those that call it, which multiplies the time to compile."""

    def generate(context, builder, sig, args):  # type: ignore[no-untyped-def]
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return signature(types.none), generate


@njit(cache=True, nogil=True)
def _array(store, which, level):  # type: ignore[no-untyped-def]
    """One array of a level, (nz, ny, row)."""
    size = level[NZ] * level[NY] * level[ROW]
    start = level[OFFSET]
    return store[which, start : start + size].reshape((level[NZ], level[NY], level[ROW]))


@njit(cache=True, nogil=True, inline="always")
def _flat(store, which, level):  # type: ignore[no-untyped-def]
    start = level[OFFSET]
    return store[which, start : start + level[NZ] * level[NY] * level[ROW]]


@njit(cache=True, nogil=True, inline="always")
def _around(level, z, y, colour):  # type: ignore[no-untyped-def]
    """Where the cells of one colour in a row and their neighbours begin, in the flat arrays of a level.

    own, the -x neighbour, rows y - 1, y + 1, z - 1, z + 1; then where to read r, ky and ky of row y - 1. Unsigned, because an
    index that might be negative keeps a loop from being vectorised.
    """
    nz, ny, row, odd = level[NZ], level[NY], level[ROW], level[ODD]
    ym, yp = y - 1 if y > 0 else ny - 1, y + 1 if y < ny - 1 else 0
    zm, zp = z - 1 if z > 0 else nz - 1, z + 1 if z < nz - 1 else 0
    parity = (z + y + colour) & 1
    a = parity * odd
    own, below = (z * ny + y) * row + a, (z * ny + ym) * row + a
    left = own + odd - 1 if parity == 0 else own - odd
    # Planes of one row have no faces along y. Their "neighbours" are any cells that are not being written.
    flat = ny == 1
    return (
        np.uint64(own),
        np.uint64(left),
        np.uint64(left if flat else below),
        np.uint64(left if flat else (z * ny + yp) * row + a),
        np.uint64((zm * ny + y) * row + a),
        np.uint64((zp * ny + y) * row + a),
        np.uint64(own if level[VARIES] else a),
        np.uint64(a if flat else own),
        np.uint64(a if flat else below),
    )


@njit(cache=True, nogil=True, inline="always")
def _diagonal(kx, ky, kz, i, left, back, y_here, y_below):  # type: ignore[no-untyped-def]
    return (kx[left] + kx[i]) + (ky[y_below] + ky[y_here]) + (kz[back] + kz[i])


@njit(cache=True, nogil=True, inline="always")
def _start_row(u, f, kx, ky, kz, r, n, at, shift, omega):  # type: ignore[no-untyped-def]
    """u = omega f / diagonal on the cells of one colour in a row: a step from zero."""
    own, left, _, _, back, _, r_here, y_here, y_below = at
    for i in range(np.uint64(n)):
        total = _diagonal(kx, ky, kz, own + i, left + i, back + i, y_here + i, y_below + i)
        u[own + i] = omega * f[own + i] / (shift + r[r_here + i] + total)


@njit(cache=True, nogil=True, inline="always")
def _relax_row(u, f, kx, ky, kz, r, n, at, shift, omega, residual):  # type: ignore[no-untyped-def]
    """u += omega residual / diagonal on the cells of one colour in a row; keeps the residual."""
    own, left, below, above, back, front, r_here, y_here, y_below = at
    right = left + np.uint64(1)
    for i in range(np.uint64(n)):
        w = u[own + i]
        c = shift + r[r_here + i]
        k0, k1, k2, k3 = kx[left + i], kx[own + i], ky[y_below + i], ky[y_here + i]
        k4, k5 = kz[back + i], kz[own + i]
        flux = k0 * (u[left + i] - w) + k1 * (u[right + i] - w)
        flux += k2 * (u[below + i] - w) + k3 * (u[above + i] - w)
        flux += k4 * (u[back + i] - w) + k5 * (u[front + i] - w)
        t = f[own + i] - c * w + flux
        residual[i] = t
        u[own + i] = w + omega * t / (c + ((k0 + k1) + (k2 + k3) + (k4 + k5)))


@njit(cache=True, nogil=True, inline="always")
def _residual_row(u, f, kx, ky, kz, r, n, at, shift, residual):  # type: ignore[no-untyped-def]
    own, left, below, above, back, front, r_here, y_here, y_below = at
    right = left + np.uint64(1)
    for i in range(np.uint64(n)):
        w = u[own + i]
        flux = kx[left + i] * (u[left + i] - w) + kx[own + i] * (u[right + i] - w)
        flux += ky[y_below + i] * (u[below + i] - w) + ky[y_here + i] * (u[above + i] - w)
        flux += kz[back + i] * (u[back + i] - w) + kz[own + i] * (u[front + i] - w)
        residual[i] = f[own + i] - (shift + r[r_here + i]) * w + flux


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_FAST)
def _start_plane(store, level, z, shift, omega):  # type: ignore[no-untyped-def]
    """One step on the red cells of a plane from zero; its black cells are zero."""
    _on_its_own()
    u, f, r = _flat(store, U, level), _flat(store, F, level), _flat(store, R, level)
    kx, ky, kz = _flat(store, KX, level), _flat(store, KY, level), _flat(store, KZ, level)
    for y in range(level[NY]):
        at = _around(level, z, y, RED)
        _start_row(u, f, kx, ky, kz, r, level[HALF], at, shift, omega)
        other = (z * level[NY] + y) * level[ROW] + (0 if (z + y) & 1 else level[ODD])
        u[other : other + level[HALF]] = np.float32(0.0)


@njit(cache=True, nogil=True, inline="always")
def _add(to, values, factor):  # type: ignore[no-untyped-def]
    for i in range(to.size):
        to[i] += factor * values[i]


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_FAST)
def _colour_plane(store, level, coarse, z, colour, step, restrict, shift, omega, scratch):  # type: ignore[no-untyped-def]
    """The cells of one colour in a plane: a step if `step`, and their residual added to the coarse right side if `restrict`.

    After a step the residual of a cell is 1 - omega times that before, since its neighbours are of the other colour.
    """
    _on_its_own()
    u, f, r = _flat(store, U, level), _flat(store, F, level), _flat(store, R, level)
    kx, ky, kz = _flat(store, KX, level), _flat(store, KY, level), _flat(store, KZ, level)
    to = _array(store, F, coarse)
    n, odd, ny = level[HALF], level[ODD], level[NY]
    factor = (np.float32(1.0) - omega if step else np.float32(1.0)) / np.float32(level[FZ] * level[FY] * level[FX])
    t = scratch[0, :n]
    for y in range(ny):
        at = _around(level, z, y, colour)
        row = (z * ny + y) * level[ROW]
        # The neighbour beyond either end of the row, for the half that has one there.
        if (z + y + colour) & 1:
            u[row + n] = u[row]
            first = odd
        else:
            u[row + odd - 1] = u[row + odd + n - 1]
            first = 0
        if step:
            _relax_row(u, f, kx, ky, kz, r, n, at, shift, omega, t)
        else:
            _residual_row(u, f, kx, ky, kz, r, n, at, shift, t)
        if restrict:
            if level[FX] == 2:
                first = 0
            _add(to[z // level[FZ], y // level[FY], first : first + n], t, factor)


@njit(cache=True, nogil=True, inline="always")
def _far(i, factor, n, periodic, mirrors):  # type: ignore[no-untyped-def]
    """The second coarse cell that cell i interpolates from, and its weight; behind a wall it is the mirror image of the first."""
    if factor == 1:
        return i, np.float32(0.25)
    near = i >> 1
    far = near + (1 if i & 1 else -1)
    if 0 <= far < n:
        return far, np.float32(0.25)
    if periodic:
        return (far + n) % n, np.float32(0.25)
    return near, np.float32(0.25) * mirrors[i & 1]


@njit(cache=True, nogil=True, inline="always")
def _blend(to, one, two, three, four, w):  # type: ignore[no-untyped-def]
    for i in range(to.size):
        to[i] = (w[0] * one[i] + w[1] * two[i]) + (w[2] * three[i] + w[3] * four[i])


@njit(cache=True, nogil=True, inline="always")
def _spread(even, odd, values):  # type: ignore[no-untyped-def]
    """u += 3/4 of the coarse cell that holds it + 1/4 of the next one; `values` begins with the coarse cell -1."""
    near, far = np.float32(0.75), np.float32(0.25)
    before, here, after = values[: even.size], values[1 : 1 + even.size], values[2 : 2 + even.size]
    for i in range(even.size):
        even[i] += near * here[i] + far * before[i]
    for i in range(even.size):
        odd[i] += near * here[i] + far * after[i]


@njit(cache=True, nogil=True, inline="always")
def _interleave(to, even, odd):  # type: ignore[no-untyped-def]
    for i in range(even.size):
        to[2 * i] = even[i]
        to[2 * i + 1] = odd[i]


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_FAST)
def _prolong_plane(store, level, coarse, mirrors, z, scratch):  # type: ignore[no-untyped-def]
    """u += the interpolated correction of the coarse level: weights (3/4, 1/4) on every axis that was coarsened."""
    _on_its_own()
    u, c = _array(store, U, level), _array(store, U, coarse)
    n, m, nx = level[HALF], coarse[HALF], coarse[NX]
    near = np.float32(0.75)
    zn = z // level[FZ]
    zf, far_z = _far(z, level[FZ], coarse[NZ], level[PZ], mirrors[0])
    for y in range(level[NY]):
        yn = y // level[FY]
        yf, far_y = _far(y, level[FY], coarse[NY], level[PY], mirrors[1])
        w = (near * near, near * far_y, far_z * near, far_z * far_y)
        for half in range(2):
            a = half * coarse[ODD]
            to = scratch[half + 1, :m]
            _blend(to, c[zn, yn, a : a + m], c[zn, yf, a : a + m], c[zf, yn, a : a + m], c[zf, yf, a : a + m], w)
        even, odd = u[z, y, :n], u[z, y, level[ODD] : level[ODD] + n]
        if level[FX] == 1:
            _add(even, scratch[1, :n], np.float32(1.0))
            _add(odd, scratch[2, :n], np.float32(1.0))
            continue
        values = scratch[3]
        _interleave(values[1 : 1 + 2 * m], scratch[1, :m], scratch[2, :m])
        if level[PX]:
            values[0], values[nx + 1] = values[nx], values[1]
        else:
            values[0], values[nx + 1] = mirrors[2, 0] * values[1], mirrors[2, 1] * values[nx]
        _spread(even, odd, values)


@njit(cache=True, nogil=True)
def _pack(row, nx, odd, scratch):  # type: ignore[no-untyped-def]
    """A row in natural order becomes even cells first."""
    _on_its_own()
    values = scratch[3]
    for i in range(nx):
        values[i] = row[i]
    half = (nx + 1) // 2
    row[half:odd] = np.float32(0.0)
    row[odd:] = np.float32(0.0)
    for i in range(half):
        row[i] = values[2 * i]
    for i in range(nx // 2):
        row[odd + i] = values[2 * i + 1]


@njit(cache=True, nogil=True, inline="always")
def _stage(store, level, coarse, mirrors, z, stage, mode, shift, omega, scratch):  # type: ignore[no-untyped-def]
    """One stage of a sweep in one plane: what comes first; a step on one colour; a step on the other colour, or its residual."""
    restricts = mode == DESCEND or mode == AGAIN
    begins = mode == DESCEND or mode == START
    if stage == 0:
        if restricts and z % level[FZ] == 0:
            _array(store, F, coarse)[z // level[FZ]] = np.float32(0.0)
        if begins:
            _start_plane(store, level, z, shift, omega)
        elif mode == ASCEND:
            _prolong_plane(store, level, coarse, mirrors, z, scratch)
        if mode != AGAIN:
            return
    colour = RED
    if stage == 1 and (begins or restricts):
        colour = BLACK
    elif stage == 2:
        if mode == START:
            return
        colour = RED if restricts else BLACK
    step = stage < 2 or not restricts
    _colour_plane(store, level, coarse, z, colour, step, restricts and stage > 0, shift, omega, scratch)


@njit(cache=True, nogil=True)
def _slab(store, level, coarse, mirrors, mode, first, last, z0, z1, shift, omega, scratch):  # type: ignore[no-untyped-def]
    """Phases first ... last - 1 of a sweep over the planes z0 ... z1 of a thread.

    In phase 0 every stage stays within reach of this thread's planes; phases 1 and 2 do what is left of stages 1 and 2. The
    planes that one coarse plane is summed from stay together, so that the order of its sums does not depend on slabs.
    """
    _on_its_own()
    restricts = mode == DESCEND or mode == AGAIN
    margin = level[FZ] if restricts else 1
    for turn in range(first * (z1 - z0 + 2), last * (z1 - z0 + 2)):
        phase, plane = turn // (z1 - z0 + 2), z0 + turn % (z1 - z0 + 2)
        for stage in range(3):
            z = plane - stage if phase == 0 else plane
            inside = z0 + stage * margin <= z < z1 - stage * margin
            if (phase == 0 and inside) or (phase > 0 and stage == phase and z < z1 and not inside):
                _stage(store, level, coarse, mirrors, z, stage, mode, shift, omega, scratch)
    if last == 3 and restricts and level[FX] == 2:
        to = _array(store, F, coarse)
        for z in range(z0 // level[FZ], z1 // level[FZ]):
            for y in range(coarse[NY]):
                _pack(to[z, y], coarse[NX], coarse[ODD], scratch)


@njit(cache=True, nogil=True, parallel=True)
def sweep_threads(store, level, coarse, mirrors, mode, shift, omega, scratch):  # type: ignore[no-untyped-def]
    """One sweep over a level, a slab of planes a thread.

    Parameters
    ----------
    store : (6, cells of all levels) float32
    level, coarse : rows of the table: this level and the next one
    mirrors : (3, 2) float32, by axis and side of the coarse level: what a mirror image in a wall is multiplied by
    mode : DESCEND, AGAIN, ASCEND, SMOOTH or START
    shift, omega : float32
    scratch : (threads, 4, row) float32
    """
    threads = scratch.shape[0]
    pairs = level[NZ] // level[FZ]
    for phase in range(3):
        for thread in prange(threads):
            t = np.int64(thread)
            z0, z1 = t * pairs // threads * level[FZ], (t + 1) * pairs // threads * level[FZ]
            _slab(store, level, coarse, mirrors, mode, phase, phase + 1, z0, z1, shift, omega, scratch[t])


@njit(cache=True, nogil=True)
def _solve_coarsest(store, level, shift, vectors, values, work):  # type: ignore[no-untyped-def]
    """u = Q (shift + Lambda)^-1 Q^T f on the coarsest level in double precision; `vectors` holds Q^T by rows."""
    _on_its_own()
    u, f = _array(store, U, level), _array(store, F, level)
    count = 0
    for z in range(level[NZ]):
        for y in range(level[NY]):
            for x in range(level[NX]):
                work[0, count] = f[z, y, (x & 1) * level[ODD] + (x >> 1)]
                count += 1
    work[1, :count] = 0.0
    for row in range(count):
        total = 0.0
        for i in range(count):
            total += vectors[row, i] * work[0, i]
        total /= np.float64(shift) + values[row]
        for i in range(count):
            work[1, i] += total * vectors[row, i]
    count = 0
    for z in range(level[NZ]):
        for y in range(level[NY]):
            for x in range(level[NX]):
                u[z, y, (x & 1) * level[ODD] + (x >> 1)] = np.float32(work[1, count])
                count += 1


@njit(cache=True, nogil=True)
def run(program, store, table, mirrors, shift, omega, scratch, vectors, values, work):  # type: ignore[no-untyped-def]
    """Sweeps one after the other, serial; rows of `program` are (number of a level, what to do there)."""
    for step in range(program.shape[0]):
        number, mode = program[step, 0], program[step, 1]
        if mode == SOLVE:
            _solve_coarsest(store, table[number], shift, vectors, values, work)
        else:
            level, coarse = table[number], table[number + 1]
            _slab(store, level, coarse, mirrors[number], mode, 0, 3, 0, level[NZ], shift, omega, scratch[0])
