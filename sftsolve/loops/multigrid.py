"""Sweeps of geometric multigrid over a level, and cycles of them, in single precision for cells of one field.

Planes go through the stages of a sweep one behind the other, so that a level is read once a sweep: stage 0 on plane z, 1 on
z - 1, 2 on z - 2; large planes in blocks of rows, so that what the stages share stays in a core's own cache. Threads own slabs of
planes; what depends on a neighbour's planes waits for its phase. The result is that of whole sweeps one after the other, whatever
the number of threads. See `loops.multigrid_planes` for what is done in a plane.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from sftsolve.loops.lanes import address
from sftsolve.loops.multigrid_planes import (
    BLACK,
    BLOCK,
    FX,
    FY,
    FZ,
    KX,
    KY,
    KZ,
    NX,
    NY,
    NZ,
    ODD,
    OFFSET,
    RED,
    ROW,
    VARIES,
    F,
    R,
    U,
    array_of,
    colour_plane,
    on_its_own,
    pack,
    prolong_plane,
    start_plane,
)

# What a sweep does: zero guess, one red-black step, restricted residual; the same from the guess that is there; prolongation and
# one step; one step; zero guess and one step; ASCEND and AGAIN. SOLVE is for the coarsest level.
DESCEND, AGAIN, ASCEND, SMOOTH, START, TURN, SOLVE = range(7)
# Stages of sweeps: red cells from zero, prolongation, steps, a step with residuals restricted, restricted residuals.
_ZERO, _PROLONG, _RED, _BLACK, _BLACK_DOWN, _RED_DOWN = range(6)
_STAGES = (
    (_ZERO, _BLACK_DOWN, _RED_DOWN, 0, 0, 0, 3),
    (_RED, _BLACK_DOWN, _RED_DOWN, 0, 0, 0, 3),
    (_PROLONG, _RED, _BLACK, 0, 0, 0, 3),
    (_RED, _BLACK, 0, 0, 0, 0, 2),
    (_ZERO, _BLACK, 0, 0, 0, 0, 2),
    (_PROLONG, _RED, _BLACK, _RED, _BLACK_DOWN, _RED_DOWN, 6),
)


@njit(cache=True, nogil=True)
def _reach(mode, stage, factor):  # type: ignore[no-untyped-def]
    """By how many planes, or rows, a stage of a sweep keeps away from what is not ready. Those that one coarse plane or row is
    summed from stay together."""
    reach = 0
    for number in range(1, stage + 1):
        reach += 1
        if _STAGES[mode][number] >= _BLACK_DOWN:
            reach += -reach % factor
    return reach


@njit(cache=True, nogil=True)
def _wanted(stage, stages, varies):  # type: ignore[no-untyped-def]
    """The two arrays that a stage of a sweep asks for, so that memory is busy all the time."""
    rest = R if varies else KZ
    if stages < 6:
        return (U, F) if stage == 0 else (KX, KY) if stage == 1 else (KZ, rest)
    which = stage if stage < 5 else rest
    return which, which


@njit(cache=True, nogil=True, inline="always")
def _stage(store, level, coarse, mirrors, z, first, last, stage, mode, shift, omega, scratch):  # type: ignore[no-untyped-def]
    """One stage of a sweep in the rows first ... last - 1 of a plane, which may lie round the circle."""
    kind, stages, plane = _STAGES[mode][stage], _STAGES[mode][6], level[NY] * level[ROW]
    if stage == 0 and _STAGES[mode][stages - 1] == _RED_DOWN and z % level[FZ] == 0:
        for line in range(first // level[FY], last // level[FY]):
            array_of(store, F, coarse)[z // level[FZ], line] = np.float32(0.0)
    wanted = _wanted(stage, stages, level[VARIES])
    ahead = (stage + 1) * plane + _reach(mode, stage, level[FY]) * level[ROW]
    if kind == _ZERO:
        start_plane(store, level, z, first, last, wanted, ahead, shift, omega)
    elif kind == _PROLONG:
        prolong_plane(store, level, coarse, mirrors, z, first, last, wanted, ahead, scratch)
    else:
        colour = RED if kind == _RED or kind == _RED_DOWN else BLACK
        step, restrict = kind != _RED_DOWN, kind >= _BLACK_DOWN
        colour_plane(store, level, coarse, z, first, last, colour, step, restrict, wanted, ahead, shift, omega)


@njit(cache=True, nogil=True)
def _slab(store, level, coarse, mirrors, mode, first, last, z0, z1, shift, omega, scratch):  # type: ignore[no-untyped-def]
    """Phases first ... last - 1 of a sweep over the planes z0 ... z1 of a thread.

    In phase 0 every stage stays within reach of this thread's planes; a later phase does what is left of the stage of its number.
    Phase 0 takes block after block of rows through all planes; there a stage lags behind the one before by rows too, and the last
    block brings the rows round the circle. The order of sums into the coarse level depends on neither.
    """
    on_its_own()
    stages, ny = _STAGES[mode][6], level[NY]
    for phase in range(first, min(last, stages)):
        block = level[BLOCK] if phase == 0 else ny
        for y0 in range(0, ny, block):
            y1 = min(y0 + block, ny)
            for plane in range(z0, z1 + stages - 1):
                for stage in range(stages):
                    z, margin = plane - stage if phase == 0 else plane, _reach(mode, stage, level[FZ])
                    inside = z0 + margin <= z < z1 - margin
                    if (phase == 0 and inside) or (phase > 0 and stage == phase and z < z1 and not inside):
                        lag = _reach(mode, stage, level[FY])
                        low, high = y0 - lag if y0 > 0 else lag, y1 - lag if y1 < ny else ny + lag
                        _stage(store, level, coarse, mirrors, z, low, high, stage, mode, shift, omega, scratch)
    if last == stages and _STAGES[mode][stages - 1] == _RED_DOWN and level[FX] == 2:
        for line in range(z0 // level[FZ] * coarse[NY], z1 // level[FZ] * coarse[NY]):
            pack(address(store, F * store.shape[1] + coarse[OFFSET] + line * coarse[ROW]), coarse, scratch)


@njit(cache=True, nogil=True, parallel=True)
def sweep_threads(store, level, coarse, mirrors, mode, shift, omega, scratch):  # type: ignore[no-untyped-def]
    """One sweep over a level, a slab of planes a thread.

    Parameters
    ----------
    store : (6, cells of all levels) float32
    level, coarse : rows of the table: this level and the next one
    mirrors : (3, 2) float32, by axis and side of the coarse level: what a mirror image in a wall is multiplied by
    mode : DESCEND, AGAIN, ASCEND, SMOOTH, START or TURN
    shift, omega : float32
    scratch : (threads, 4, row) float32
    """
    threads = scratch.shape[0]
    pairs = level[NZ] // level[FZ]
    for phase in range(_STAGES[mode][6]):
        for thread in prange(threads):
            t = np.int64(thread)
            z0, z1 = t * pairs // threads * level[FZ], (t + 1) * pairs // threads * level[FZ]
            _slab(store, level, coarse, mirrors, mode, phase, phase + 1, z0, z1, shift, omega, scratch[t])


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
def run(program, store, table, mirrors, shift, omega, scratch, vectors, values, work):  # type: ignore[no-untyped-def]
    """Sweeps one after the other, serial; rows of `program` are (number of a level, what to do there)."""
    for step in range(program.shape[0]):
        number, mode = program[step, 0], program[step, 1]
        if mode == SOLVE:
            _solve_coarsest(store, table[number], shift, vectors, values, work)
        else:
            level, coarse = table[number], table[number + 1]
            _slab(store, level, coarse, mirrors[number], mode, 0, _STAGES[mode][6], 0, level[NZ], shift, omega, scratch[0])
