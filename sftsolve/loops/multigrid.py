"""Sweeps of geometric multigrid over a level, and cycles of them, in single precision for cells of one field.

Planes go through the stages of a sweep one behind the other, so that a level is read once a sweep: stage 0 on plane z, 1 on
z - 1, 2 on z - 2; large planes in blocks of rows, so that what the stages share stays in a core's own cache, small ones some at a
time. Threads own slabs of planes; what depends on a neighbour's planes waits for its phase. The result is that of whole sweeps
one after the other, whatever the number of threads. See `loops.multigrid_planes` for what is done in a plane.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from sftsolve.loops.multigrid_planes import (
    BLOCK,
    DOES,
    FY,
    FZ,
    GROUP,
    NX,
    NY,
    NZ,
    ODD,
    PLANES,
    PROLONG,
    ROWS,
    ZERO,
    F,
    U,
    array_of,
    clear,
    colour,
    on_its_own,
    prolong,
    start,
)

# What a sweep does: zero guess, one red-black step, restricted residual; the same from the guess that is there; prolongation and
# one step; one step; zero guess and one step; ASCEND and AGAIN. SOLVE is for the coarsest level.
DESCEND, AGAIN, ASCEND, SMOOTH, START, TURN, SOLVE = range(7)


@njit(cache=True, nogil=True, inline="always")
def _stage(store, level, coarse, plan, mirrors, number, z0, z1, first, last, shift, omega, scratch):  # type: ignore[no-untyped-def]
    """One stage of a sweep in the rows first ... last - 1, which may lie round the circle, of the planes z0 ... z1 - 1."""
    stage = plan[number]
    if number == 0 and plan[-1, DOES] == 1:
        for z in range(z0 + (z0 & (level[FZ] - 1)), z1, level[FZ]):
            clear(store, coarse, z >> (level[FZ] - 1), first >> (level[FY] - 1), last >> (level[FY] - 1))
    if stage[DOES] == ZERO:
        start(store, level, stage, z0, z1, first, last, shift, omega)
    elif stage[DOES] == PROLONG:
        prolong(store, level, coarse, mirrors, stage, z0, z1, first, last, scratch)
    else:
        colour(store, level, coarse, stage, z0, z1, first, last, shift, omega, scratch)


@njit(cache=True, nogil=True)
def _slab(store, level, coarse, plan, mirrors, phase, z0, z1, shift, omega, scratch):  # type: ignore[no-untyped-def]
    """A phase of a sweep over the planes z0 ... z1 of a thread.

    In phase 0 every stage stays within reach of this thread's planes; a later phase does what is left of the stage of its number.
    Phase 0 takes block after block of rows through all planes; there a stage lags behind the one before by rows too, and the last
    block brings the rows round the circle. Small planes are taken some at a time. The order of sums into the coarse level depends
    on none of this.
    """
    on_its_own()
    ny, group, reach = level[NY], level[GROUP], plan[phase, PLANES]
    if phase > 0:
        low, high = min(z0 + reach, z1), max(z1 - reach, min(z0 + reach, z1))
        _stage(store, level, coarse, plan, mirrors, phase, z0, low, 0, ny, shift, omega, scratch)
        _stage(store, level, coarse, plan, mirrors, phase, high, z1, 0, ny, shift, omega, scratch)
        return
    stages = plan[-1, PLANES]
    for y0 in range(0, ny, level[BLOCK]):
        y1 = min(y0 + level[BLOCK], ny)
        for plane in range(z0, z1 + stages - 1, group):
            for number in range(stages):
                reach, lag = plan[number, PLANES], plan[number, ROWS]
                low, high = max(plane - number, z0 + reach), min(plane - number + group, z1 - reach)
                if low < high:
                    first, last = y0 - lag if y0 > 0 else lag, y1 - lag if y1 < ny else ny + lag
                    _stage(store, level, coarse, plan, mirrors, number, low, high, first, last, shift, omega, scratch)


@njit(cache=True, nogil=True, parallel=True)
def sweep_threads(store, level, coarse, plan, mirrors, shift, omega, scratch):  # type: ignore[no-untyped-def]
    """One sweep over a level, a slab of planes a thread.

    Parameters
    ----------
    store : (6, cells of all levels) float32
    level, coarse : rows of the table: this level and the next one
    plan : stages of the sweep, see `loops.multigrid_planes`; the last row holds how many there are, and whether they restrict
    mirrors : (3, 2) float32, by axis and side of the coarse level: what a mirror image in a wall is multiplied by
    shift, omega : float32
    scratch : (threads, 4, 2 row + 16) float32, of the finest level's rows
    """
    threads = scratch.shape[0]
    pairs = level[NZ] // level[FZ]
    for phase in range(plan[-1, PLANES]):
        for thread in prange(threads):
            t = np.int64(thread)
            z0, z1 = t * pairs // threads * level[FZ], (t + 1) * pairs // threads * level[FZ]
            _slab(store, level, coarse, plan, mirrors, phase, z0, z1, shift, omega, scratch[t])


@njit(cache=True, nogil=True)
def _solve_coarsest(store, level, shift, vectors, values, work):  # type: ignore[no-untyped-def]
    """u = Q (shift + Lambda)^-1 Q^T f on the coarsest level in double precision; `vectors` holds Q^T by rows."""
    on_its_own()
    u, f = array_of(store, U, level), array_of(store, F, level)
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
def run(program, store, table, plans, mirrors, shift, omega, scratch, vectors, values, work):  # type: ignore[no-untyped-def]
    """Sweeps one after the other, serial; rows of `program` are (number of a level, what to do there)."""
    for step in range(program.shape[0]):
        number, mode = program[step, 0], program[step, 1]
        if mode == SOLVE:
            _solve_coarsest(store, table[number], shift, vectors, values, work)
            continue
        level, plan = table[number], plans[number, mode]
        for phase in range(plan[-1, PLANES]):
            _slab(store, level, table[number + 1], plan, mirrors[number], phase, 0, level[NZ], shift, omega, scratch[0])
