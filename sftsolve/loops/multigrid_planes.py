"""Smoothing, restriction and prolongation of geometric multigrid in single precision, plane by plane, for cells of one field.

On every level the operator is

    A u = (shift + r) u - sum_faces k (u_neighbour - u)

with k on the face towards the next cell of each axis (periodic wrap included, zero at walls). Gauss-Seidel runs over the two
colours of a checkerboard. A row holds its even cells first and its odd cells after them, so that the cells of one colour are
contiguous, as are their neighbours: nothing is computed in vain and every access has unit stride.

A level is one row of an integer table, see `OFFSET` and the rest; its arrays are pieces of the rows of one store.

What is done in a plane is a stage of a sweep, a row of its plan, see `DOES` and the rest.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from sftsolve.codegen.vectors import load, prefetch, put
from sftsolve.loops.lanes import address, beyond, every_other, peek, poke, weave

# Columns of the table of levels.
OFFSET, NZ, NY, NX, HALF, ODD, ROW, FZ, FY, FX, PZ, PY, PX, VARIES, BLOCK, GROUP = range(16)
# Rows of the store.
U, F, KX, KY, KZ, R = range(6)
# Stages of sweeps: red cells from zero, prolongation, steps, a step with residuals restricted, restricted residuals.
ZERO, PROLONG, RED, BLACK, BLACK_DOWN, RED_DOWN = range(6)
# Columns of a plan, a row a stage: what it does (-1 for nothing more), by how many planes and rows it keeps away from what is not
# ready, the two arrays that it asks for and how far ahead.
DOES, PLANES, ROWS, ONE, TWO, AHEAD = range(6)

LANES = 16  # cells that are computed at once; rows have pads for what does not fill them


@intrinsic
def on_its_own(typingctx):  # type: ignore[no-untyped-def]
    """Keeps the function that calls this from being inlined in those that call it, which multiplies the time to compile."""

    def generate(context, builder, sig, args):  # type: ignore[no-untyped-def]
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return signature(types.none), generate


@njit(cache=True, nogil=True)
def array_of(store, which, level):  # type: ignore[no-untyped-def]
    """One array of a level, (nz, ny, row)."""
    size = level[NZ] * level[NY] * level[ROW]
    start = level[OFFSET]
    return store[which, start : start + size].reshape((level[NZ], level[NY], level[ROW]))


@njit(cache=True, nogil=True, inline="always")
def first_cell(store, which, level, row):  # type: ignore[no-untyped-def]
    """Address of the first cell of one array of a level, or of a row that begins `row` cells after it."""
    return address(store, which * store.shape[1] + level[OFFSET] + row)


@njit(cache=True, nogil=True)
def clear(store, coarse, z, first, last):  # type: ignore[no-untyped-def]
    """The right side of rows first ... last - 1 of a plane becomes zero."""
    row = coarse[ROW]
    f = first_cell(store, F, coarse, (z * coarse[NY] + first) * row)
    nothing = load(f, 0, LANES)
    nothing = nothing - nothing
    for i in range(0, (last - first) * row, LANES):
        put(f, i, nothing, None)


@njit(cache=True, nogil=True, inline="always")
def _neighbours(level, z, y, a):  # type: ignore[no-untyped-def]
    """Where half a row and its neighbours begin, from the first cell of a level; `a` is 0 for its even cells, else `level[ODD]`.

    own, the other half, the -x neighbour, rows y - 1, y + 1, z - 1, z + 1; then where to read r.
    """
    nz, ny, row, odd = level[NZ], level[NY], level[ROW], level[ODD]
    ym, yp = y - 1 if y > 0 else ny - 1, y + 1 if y < ny - 1 else 0
    zm, zp = z - 1 if z > 0 else nz - 1, z + 1 if z < nz - 1 else 0
    own = (z * ny + y) * row + a
    left, other = (own + odd - 1, own + odd) if a == 0 else (own - odd, own - odd)
    below, above = (z * ny + ym) * row + a, (z * ny + yp) * row + a
    back, front = (zm * ny + y) * row + a, (zp * ny + y) * row + a
    return own, other, left, below, above, back, front, own if level[VARIES] else a


@njit(cache=True, nogil=True, inline="always")
def _close(u, even, odd, n):  # type: ignore[no-untyped-def]
    """The neighbours beyond both ends of a row, round the circle: behind its even cells and before its odd ones."""
    poke(u, even + n, peek(u, even))
    poke(u, odd - 1, peek(u, odd + n - 1))


@njit(cache=True, nogil=True, inline="always")
def _arrays(store, level):  # type: ignore[no-untyped-def]
    """Where the arrays of a level begin: u, f, kx, ky, kz, r."""
    u, f, r = first_cell(store, U, level, 0), first_cell(store, F, level, 0), first_cell(store, R, level, 0)
    return u, f, first_cell(store, KX, level, 0), first_cell(store, KY, level, 0), first_cell(store, KZ, level, 0), r


@njit(cache=True, nogil=True, inline="always")
def _asked(store, level, stage):  # type: ignore[no-untyped-def]
    """The two arrays that a stage asks for, and how far ahead."""
    return first_cell(store, stage[ONE], level, 0), first_cell(store, stage[TWO], level, 0), stage[AHEAD]


@njit(cache=True, nogil=True, inline="always")
def _ask(one, other, i, j):  # type: ignore[no-untyped-def]
    """Have two lines of two arrays brought near."""
    prefetch(one, i)
    prefetch(one, j)
    prefetch(other, i)
    prefetch(other, j)


@njit(cache=True, nogil=True, inline="always")
def _start_row(arrays, ask, at, n, shift, omega, rows):  # type: ignore[no-untyped-def]
    """u = omega f / diagonal in the cells of one colour in a row, zero in the others."""
    u, f, kx, ky, kz, r = arrays
    one, two, ahead = ask
    own, other, left, below, _, back, _, r_here = at
    for i in range(0, n, LANES):
        _ask(one, two, own + i + ahead, other + i + ahead)
        total = (load(kx, left + i, LANES) + load(kx, own + i, LANES)) + (load(kz, back + i, LANES) + load(kz, own + i, LANES))
        if rows:
            total = total + (load(ky, below + i, LANES) + load(ky, own + i, LANES))
        value = load(f, own + i, LANES)
        put(u, own + i, omega * value / (load(r, r_here + i, LANES) + shift + total), None)
        put(u, other + i, value - value, None)


@njit(cache=True, nogil=True, error_model="numpy")
def start(store, level, stage, z0, z1, first, last, shift, omega):  # type: ignore[no-untyped-def]
    """One step on the red cells of some planes from zero, u = omega f / diagonal; their black cells are zero."""
    on_its_own()
    arrays, ask = _arrays(store, level), _asked(store, level, stage)
    n, odd, ny = level[HALF], level[ODD], level[NY]
    for z in range(z0, z1):
        for line in range(first, last):
            y = line if line < ny else line - ny
            at = _neighbours(level, z, y, ((z + y) & 1) * odd)
            if ny > 1:
                _start_row(arrays, ask, at, n, shift, omega, True)
            else:
                _start_row(arrays, ask, at, n, shift, omega, False)
            even = (z * ny + y) * level[ROW]
            _close(arrays[0], even, even + odd, n)


@njit(cache=True, nogil=True, inline="always")
def _colour_row(arrays, ask, to, at, n, shift, omega, factor, step, restrict, rows):  # type: ignore[no-untyped-def]
    """The cells of one colour in a row; every `step`, `restrict` and `rows` has a loop of its own, without branches."""
    u, f, kx, ky, kz, r = arrays
    one, two, ahead = ask
    own, other, left, below, above, back, front, r_here = at
    for i in range(0, n, LANES):
        _ask(one, two, own + i + ahead, other + i + ahead)
        w, c = load(u, own + i, LANES), load(r, r_here + i, LANES) + shift
        k0, k1 = load(kx, left + i, LANES), load(kx, own + i, LANES)
        k4, k5 = load(kz, back + i, LANES), load(kz, own + i, LANES)
        total = (k0 + k1) + (k4 + k5)
        flux = k0 * (load(u, left + i, LANES) - w) + k1 * (load(u, left + i + 1, LANES) - w)
        flux = flux + (k4 * (load(u, back + i, LANES) - w) + k5 * (load(u, front + i, LANES) - w))
        if rows:
            k2, k3 = load(ky, below + i, LANES), load(ky, own + i, LANES)
            total = total + (k2 + k3)
            flux = flux + (k2 * (load(u, below + i, LANES) - w) + k3 * (load(u, above + i, LANES) - w))
        t = load(f, own + i, LANES) - c * w + flux
        if step:
            put(u, own + i, w + omega * t / (c + total), None)
        if restrict:
            put(to, i, load(to, i, LANES) + factor * t, None)


@njit(cache=True, nogil=True, error_model="numpy")
def colour(store, level, coarse, stage, z0, z1, first, last, shift, omega, scratch):  # type: ignore[no-untyped-def]
    """The cells of one colour in some planes: a step, or their residual added to the coarse right side, or both.

    After a step, u += omega residual / diagonal, the residual of a cell is 1 - omega times that before, since its neighbours are
    of the other colour.
    """
    on_its_own()
    arrays, ask = _arrays(store, level), _asked(store, level, stage)
    n, odd, ny, fz, fy, fx = level[HALF], level[ODD], level[NY], level[FZ], level[FY], level[FX]
    step, restrict = stage[DOES] != RED_DOWN, stage[DOES] >= BLACK_DOWN
    black = int(stage[DOES] == BLACK or stage[DOES] == BLACK_DOWN)
    factor = (np.float32(1.0) - omega if step else np.float32(1.0)) / np.float32(fz * fy * fx)
    for z in range(z0, z1):
        for line in range(first, last):
            y = line if line < ny else line - ny
            second = (z + y + black) & 1
            at = _neighbours(level, z, y, second * odd)
            # Sums are in natural order until the last one, if rows are coarsened.
            to = first_cell(store, F, coarse, ((z >> (fz - 1)) * coarse[NY] + (y >> (fy - 1))) * coarse[ROW])
            there = to if fx == 2 else beyond(to, second * odd)
            if ny > 1:
                if not restrict:
                    _colour_row(arrays, ask, there, at, n, shift, omega, factor, True, False, True)
                elif step:
                    _colour_row(arrays, ask, there, at, n, shift, omega, factor, True, True, True)
                else:
                    _colour_row(arrays, ask, there, at, n, shift, omega, factor, False, True, True)
            elif not restrict:
                _colour_row(arrays, ask, there, at, n, shift, omega, factor, True, False, False)
            elif step:
                _colour_row(arrays, ask, there, at, n, shift, omega, factor, True, True, False)
            else:
                _colour_row(arrays, ask, there, at, n, shift, omega, factor, False, True, False)
            if step:
                even = (z * ny + y) * level[ROW]
                _close(arrays[0], even, even + odd, n)
            elif fx == 2 and z & (fz - 1) == fz - 1 and y & (fy - 1) == fy - 1:
                _pack(to, coarse, scratch)


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
def _blend(c, i, near, side, back, across, w):  # type: ignore[no-untyped-def]
    """Sixteen coarse cells of four rows, weighted."""
    one = w[0] * load(c, near + i, LANES) + w[1] * load(c, side + i, LANES)
    return one + (w[2] * load(c, back + i, LANES) + w[3] * load(c, across + i, LANES))


@njit(cache=True, nogil=True)
def prolong(store, level, coarse, mirrors, stage, z0, z1, first, last, scratch):  # type: ignore[no-untyped-def]
    """u += the interpolated correction of the coarse level: weights (3/4, 1/4) on every axis that was coarsened."""
    on_its_own()
    u, c, values = first_cell(store, U, level, 0), first_cell(store, U, coarse, 0), address(scratch, 0)
    asked, too, ahead = _asked(store, level, stage)
    n, m, nx, row, rows = level[HALF], coarse[HALF], coarse[NX], coarse[ROW], coarse[NY]
    quarter, near = np.float32(0.25), np.float32(0.75)
    for z in range(z0, z1):
        for line in range(first, last):
            y = line if line < level[NY] else line - level[NY]
            zn = z >> (level[FZ] - 1)
            zf, far_z = _far(z, level[FZ], coarse[NZ], level[PZ], mirrors[0])
            yn = y >> (level[FY] - 1)
            yf, far_y = _far(y, level[FY], coarse[NY], level[PY], mirrors[1])
            w = (near * near, near * far_y, far_z * near, far_z * far_y)
            here, side = (zn * rows + yn) * row, (zn * rows + yf) * row
            back, across = (zf * rows + yn) * row, (zf * rows + yf) * row
            even = (z * level[NY] + y) * level[ROW]
            odd, second = even + level[ODD], coarse[ODD]
            for i in range(0, m, LANES):
                one = _blend(c, i, here, side, back, across, w)
                two = _blend(c, i + second, here, side, back, across, w)
                if level[FX] == 1:
                    put(u, even + i, load(u, even + i, LANES) + one, None)
                    put(u, odd + i, load(u, odd + i, LANES) + two, None)
                else:
                    put(values, LANES + 2 * i, weave(one, two, 0), None)
                    put(values, 2 * LANES + 2 * i, weave(one, two, 1), None)
            if level[FX] == 1:
                _close(u, even, odd, n)
                continue
            # Coarse cell -1 lies before the first one.
            if level[PX]:
                poke(values, LANES - 1, peek(values, LANES + nx - 1))
                poke(values, LANES + nx, peek(values, LANES))
            else:
                poke(values, LANES - 1, mirrors[2, 0] * peek(values, LANES))
                poke(values, LANES + nx, mirrors[2, 1] * peek(values, LANES + nx - 1))
            for i in range(0, n, LANES):
                _ask(asked, too, even + i + ahead, odd + i + ahead)
                centre = near * load(values, LANES + i, LANES)
                put(u, even + i, load(u, even + i, LANES) + (centre + quarter * load(values, LANES + i - 1, LANES)), None)
                put(u, odd + i, load(u, odd + i, LANES) + (centre + quarter * load(values, LANES + i + 1, LANES)), None)
            _close(u, even, odd, n)


@njit(cache=True, nogil=True)
def _pack(row, coarse, scratch):  # type: ignore[no-untyped-def]
    """A row in natural order, of which `row` is the address, becomes even cells first."""
    values = address(scratch, 0)
    half = coarse[HALF]
    for i in range(0, coarse[NX], LANES):
        put(values, i, load(row, i, LANES), None)
    # What follows the last cell must be finite.
    for i in range(coarse[NX], 2 * half + 2 * LANES):
        poke(values, i, np.float32(0.0))
    for i in range(0, half, LANES):
        one, two = load(values, 2 * i, LANES), load(values, 2 * i + LANES, LANES)
        put(row, i, every_other(one, two, 0), None)
        put(row, coarse[ODD] + i, every_other(one, two, 1), None)
