"""The levels of a multigrid solver: which axes are coarsened, the coarse operators, and the eigenvectors of the coarsest one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from sftsolve.loops import multigrid as loops
from sftsolve.loops import multigrid_planes as planes

# A level of at most so many cells is solved exactly; more are allowed where the grid divides no further.
_EXACT, _LARGEST = 128, 1100
# An axis is coarsened where its coupling exceeds this part of the strongest one, so that point smoothing suffices.
_COMPARABLE = 0.5
_LINE = 16  # single-precision numbers of a cache line
# Numbers of one array in the rows that a sweep takes through all planes at once: four planes of five arrays are 700 kB. At least
# _ROWS, as stages lag by up to six rows.
_BLOCK, _ROWS = 8704, 12

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Coarsening:
    """The shapes of all levels, finest first, and the factors (1 or 2) from each to the next."""

    shapes: tuple[Shape, ...]
    factors: tuple[Shape, ...]

    @property
    def exact(self) -> bool:
        """Whether the coarsest level is small enough to be solved exactly."""
        return math.prod(self.shapes[-1]) <= _LARGEST


def coarsen(shape: Shape, periodic: Sequence[bool], coupling: Sequence[float]) -> Coarsening:
    """How a grid is coarsened.

    Parameters
    ----------
    shape : extents (nz, ny, nx), one for axes that the grid lacks
    periodic : by axis; a periodic axis of odd extent has no checkerboard, so such a level must be the coarsest
    coupling : mean face coefficient by axis
    """
    shapes: list[Shape] = [shape]
    factors: list[Shape] = []
    strength = list(coupling)
    while math.prod(shapes[-1]) > _EXACT:
        n = shapes[-1]
        if any(p and m > 1 and m % 2 for p, m in zip(periodic, n, strict=True)):
            break
        able = [axis for axis in range(3) if n[axis] % 2 == 0]
        if not able:
            break
        strongest = max(strength[axis] for axis in able)
        chosen = [axis for axis in able if strength[axis] >= _COMPARABLE * strongest]
        fz, fy, fx = (2 if axis in chosen else 1 for axis in range(3))
        factors.append((fz, fy, fx))
        shapes.append((n[0] // fz, n[1] // fy, n[2] // fx))
        strength = [s / f**2 for s, f in zip(strength, factors[-1], strict=True)]
    return Coarsening(tuple(shapes), tuple(factors))


def table_of(coarsening: Coarsening, periodic: Sequence[bool]) -> np.ndarray:
    """The table of levels that the loops read, (levels, 16); the coarsest one is last."""
    table = np.zeros((len(coarsening.shapes), 16), np.int64)
    start = 0
    for number, (nz, ny, nx) in enumerate(coarsening.shapes):
        half = (nx + 1) // 2
        odd = -(-half // _LINE) * _LINE + _LINE
        row = odd + -(-half // _LINE) * _LINE
        factors = coarsening.factors[number] if number < len(coarsening.factors) else (1, 1, 1)
        block, group = max(_ROWS, _BLOCK // row & ~1), max(1, _BLOCK // (ny * row))
        table[number] = (start, nz, ny, nx, half, odd, row, *factors, *(int(p) for p in periodic), 1, block, group)
        start += nz * ny * row
        start += -start % _LINE
    return table


# The stages of every kind of sweep, in the order of `loops.DESCEND` and the rest.
_STAGES = (
    (planes.ZERO, planes.BLACK_DOWN, planes.RED_DOWN),
    (planes.RED, planes.BLACK_DOWN, planes.RED_DOWN),
    (planes.PROLONG, planes.RED, planes.BLACK),
    (planes.RED, planes.BLACK),
    (planes.ZERO, planes.BLACK),
    (planes.PROLONG, planes.RED, planes.BLACK, planes.RED, planes.BLACK_DOWN, planes.RED_DOWN),
)


def plans_of(table: np.ndarray) -> np.ndarray:
    """The plans of all kinds of sweeps by level, (levels, kinds, 7, 6), see `planes.DOES`.

    Planes and rows that one coarse plane or row is summed from stay together. Every stage asks for a share of the arrays, so that
    memory is busy all the time.
    """
    plans = np.full((len(table), len(_STAGES), 7, 6), -1, np.int64)
    for level, kinds in zip(table, plans, strict=True):
        whole, group = level[planes.BLOCK] >= level[planes.NY], int(level[planes.GROUP])
        plane = int(level[planes.NY] * level[planes.ROW])
        rest = planes.R if level[planes.VARIES] else planes.KZ
        pairs = [(planes.U, planes.F), (planes.KX, planes.KY), (planes.KZ, rest)]
        singles = [(which, which) for which in (planes.U, planes.F, planes.KX, planes.KY, planes.KZ, rest)]
        for stages, plan in zip(_STAGES, kinds, strict=True):
            far, lag = 0, 0
            for number, does in enumerate(stages):
                if number:
                    far, lag = far + 1, lag + 1
                if does >= planes.BLACK_DOWN:
                    far, lag = far + -far % int(level[planes.FZ]), lag + -lag % int(level[planes.FY])
                rows = 0 if whole else lag
                asked = (singles if len(stages) == 6 else pairs)[number]
                plan[number] = (does, far, rows, *asked, (number + group) * plane + rows * int(level[planes.ROW]))
            plan[-1, planes.DOES], plan[-1, planes.PLANES] = int(stages[-1] == planes.RED_DOWN), len(stages)
    return plans


def _lines(table: np.ndarray) -> int:
    """Cache lines of one array of all levels."""
    last = table[-1]
    size = int(last[planes.OFFSET] + last[planes.NZ] * last[planes.NY] * last[planes.ROW])
    return -(-size // _LINE) | 1


def bytes_of(table: np.ndarray) -> float:
    """Bytes of all arrays of all levels."""
    return 6.0 * 4.0 * _LINE * _lines(table)


def store_of(table: np.ndarray) -> np.ndarray:
    """Zeros for all arrays of all levels, (6, cells), aligned; rows of the store lie an odd number of cache lines apart."""
    lines = _lines(table)
    raw = np.zeros(6 * lines * _LINE + _LINE, np.float32)
    skip = (-raw.ctypes.data % 64) // 4
    return raw[skip : skip + 6 * lines * _LINE].reshape(6, lines * _LINE)


def program(levels: int, sweeps: tuple[int, int], shared: int, cycles: int = 1) -> list[tuple[np.ndarray | None, int, int]]:
    """What cycles from zero do, in order: a sweep of a level that threads share as (None, level, mode), or serial ones as
    (rows, 0, 0).

    The first coarse level gets two V-cycles. For a tenth (in three dimensions) to a fifth more work, a cycle reduces the slowest
    errors to 0.04 ... 0.08 instead of 0.1 ... 0.18.
    """
    pre, post = sweeps
    steps: list[tuple[int, int]] = []

    def down(number: int, again: bool) -> None:
        if pre == 1 and not again:
            steps.append((number, loops.DESCEND))
            return
        steps.extend((number, loops.SMOOTH if step or again else loops.START) for step in range(pre - 1))
        steps.append((number, loops.AGAIN))

    def up(number: int) -> None:
        steps.extend((number, loops.SMOOTH if step else loops.ASCEND) for step in range(post))

    last = levels - 1
    for cycle in range(cycles):
        if last > 0:
            down(0, cycle > 0)
        for visit in range(2 if last > 1 else 1):
            for number in range(1, last):
                down(number, visit > 0 and number == 1)
            steps.append((last, loops.SOLVE))
            for number in range(last - 1, 0, -1):
                up(number)
        if last > 0:
            up(0)
    return _grouped(_joined(steps) if sweeps == (1, 1) else steps, shared)


def _joined(steps: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Steps with the end of a cycle and the start of the next one in one sweep."""
    joined: list[tuple[int, int]] = []
    for number, mode in steps:
        if mode == loops.AGAIN and joined and joined[-1] == (number, loops.ASCEND):
            joined[-1] = (number, loops.TURN)
        else:
            joined.append((number, mode))
    return joined


def _grouped(steps: list[tuple[int, int]], shared: int) -> list[tuple[np.ndarray | None, int, int]]:
    """Serial steps that follow each other, in one array."""
    parts: list[tuple[np.ndarray | None, int, int]] = []
    for serial, group in groupby(steps, lambda step: step[0] >= shared):
        if serial:
            parts.append((np.array(list(group), np.int64), 0, 0))
        else:
            parts.extend((None, number, mode) for number, mode in group)
    return parts


class Stencil:
    """The operator of one level in double precision, arrays (nz, ny, nx).

    Attributes
    ----------
    faces : k by axis
    base : the reaction without what walls add
    walls : by (axis, side): what the wall adds to the cells next to it, of extent one along the axis
    """

    def __init__(self, faces: list[np.ndarray], base: np.ndarray, walls: dict[tuple[int, int], np.ndarray]):
        self.faces, self.base, self.walls = faces, base, walls

    @classmethod
    def split(cls, faces: list[np.ndarray], reaction: np.ndarray, periodic: Sequence[bool]) -> Stencil:
        """Tell what walls add from the rest, by how much their cells exceed the next ones. Any split is right."""
        base, walls = reaction, {}
        for axis, n in enumerate(reaction.shape):
            if periodic[axis] or n < 3:
                continue
            for side, inner in ((0, 1), (n - 1, n - 2)):
                excess = np.maximum(np.take(reaction, [side], axis) - np.take(reaction, [inner], axis), 0.0)
                if excess.any():
                    base = base.copy() if base is reaction else base
                    excess = np.minimum(excess, base[_at(axis, side)])
                    base[_at(axis, side)] -= excess
                    walls[axis, int(side > 0)] = excess
        return cls(faces, base, walls)

    @property
    def reaction(self) -> np.ndarray:
        total = self.base.copy() if self.walls else self.base
        for (axis, side), value in self.walls.items():
            total[_at(axis, -side % total.shape[axis])] += value
        return total

    def mirrors(self) -> np.ndarray:
        """Factor of a mirror image by axis and side, (3, 2): 1 at a wall without flux, -1 at one with a value."""
        factors = np.ones((3, 2), np.float32)
        for (axis, side), value in self.walls.items():
            near = float(self._near(axis, side).mean())
            factors[axis, side] = max(-1.0, 1.0 - float(value.mean()) / near) if near > 0 else -1.0
        return factors

    def _near(self, axis: int, side: int) -> np.ndarray:
        """Face coefficients next to a wall."""
        n = self.base.shape[axis]
        return np.take(self.faces[axis], [0 if side == 0 else max(n - 2, 0)], axis)

    def coarsened(self, factors: Shape) -> Stencil:
        """The next level.

        A coarse face is the mean of the coincident fine ones, divided by the square of the coarsening factor of its axis; the
        reaction is the mean of the cells'. What a wall adds is 1/(1/(2 k) + 1/G), with G the transfer of the wall itself: only
        the way from the wall to the centre of the cell grows.
        """
        faces, walls = [], {}
        for axis, k in enumerate(self.faces):
            if factors[axis] == 2:
                k = k[(slice(None),) * axis + (slice(1, None, 2),)] / 4
            faces.append(_mean(k, [f if other != axis else 1 for other, f in enumerate(factors)]))
        for (axis, side), value in self.walls.items():
            if factors[axis] == 2:
                near = 2 * self._near(axis, side)
                total = value + near  # zero where the stiffness vanishes
                value = 0.5 * np.divide(value * near, total, out=np.zeros_like(total), where=total != 0)
            walls[axis, side] = _mean(value, [f if other != axis else 1 for other, f in enumerate(factors)])
        return Stencil(faces, _mean(self.base, factors), walls)


def _at(axis: int, place: int) -> tuple[slice, ...]:
    return (slice(None),) * axis + (slice(place, place + 1),)


def _mean(values: np.ndarray, factors: Sequence[int]) -> np.ndarray:
    """Mean over blocks of cells."""
    for axis, factor in enumerate(factors):
        if factor == 2:
            lead = (slice(None),) * axis
            values = 0.5 * (values[(*lead, slice(0, None, 2))] + values[(*lead, slice(1, None, 2))])
    return values


def fill(store: np.ndarray, level: np.ndarray, stencil: Stencil, factor: float) -> None:
    """Write the operator of a level into the store, even cells of a row first."""
    reaction = stencil.reaction
    level[planes.VARIES] = int((reaction != reaction[0, 0]).any())
    half, odd, nx = int(level[planes.HALF]), int(level[planes.ODD]), int(level[planes.NX])
    _view(store, planes.R, level)[...] = 1.0  # loops go on into the pads, which must not grow
    for which, values in zip((planes.KZ, planes.KY, planes.KX, planes.R), (*stencil.faces, reaction), strict=True):
        to = _view(store, which, level)
        np.multiply(values[..., 0::2], factor, out=to[..., :half], casting="unsafe")
        np.multiply(values[..., 1::2], factor, out=to[..., odd : odd + nx // 2], casting="unsafe")
        if which == planes.KX:
            # The face before cell 0 is that behind the last cell; it lies just before the odd cells.
            to[..., odd - 1] = to[..., odd + half - 1]


def _view(store: np.ndarray, which: int, level: np.ndarray) -> np.ndarray:
    """One array of a level, (nz, ny, row)."""
    nz, ny, row = (int(level[column]) for column in (planes.NZ, planes.NY, planes.ROW))
    start = int(level[planes.OFFSET])
    return store[which, start : start + nz * ny * row].reshape(nz, ny, row)


def spectrum(stencil: Stencil, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvectors (by rows) and eigenvalues of  r - sum k (u_n - u)  as a dense matrix."""
    reaction = stencil.reaction
    cells = np.arange(reaction.size).reshape(reaction.shape)
    matrix = np.diag(reaction.reshape(-1).astype(float))
    for axis, k in enumerate(stencil.faces):
        here, there, value = cells.reshape(-1), np.roll(cells, -1, axis).reshape(-1), k.reshape(-1).astype(float)
        for one, other in ((here, there), (there, here)):
            np.add.at(matrix, (one, one), value)
            np.subtract.at(matrix, (one, other), value)
    values, vectors = np.linalg.eigh(factor * matrix)
    return np.ascontiguousarray(vectors.T), np.maximum(values, 0.0)
