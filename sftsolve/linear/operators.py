"""Linear operators with coefficients that vary from cell to cell, on padded storage and between walls without data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sftsolve.action import Action
from sftsolve.algebra import Node
from sftsolve.boundary import Robin
from sftsolve.codegen.plan import plan
from sftsolve.grid import SIDES, Grid
from sftsolve.kernels.local import LocalForce
from sftsolve.kernels.pointwise import PointwiseMatrix
from sftsolve.kernels.wall_data import WallData
from sftsolve.state import Layout, State


def still(grid: Grid, fields: Sequence[str]) -> Grid:
    """The same grid with walls that hold no data; a mixed condition that may feed growth becomes one without flux.

    That is one whose coefficient is negative, or varies.
    """
    boundary: dict[str, object] = dict.fromkeys(grid.axes, "periodic")
    for axis in grid.walls:
        boundary[axis] = {side: {name: _still(grid, axis, side, name) for name in fields} for side in SIDES}
    return Grid(grid.shape, grid.length, grid.origin, boundary)


def _still(grid: Grid, axis: str, side: str, name: str) -> object:
    condition = grid.condition(axis, side, name)
    if isinstance(condition, Robin) and not (isinstance(condition.coefficient, float) and condition.coefficient >= 0.0):
        return {"derivative": 0.0}
    return replace(condition, data=0.0)  # type: ignore[type-var]


def is_mixed(grid: Grid, fields: Sequence[str]) -> bool:
    """Whether any field has a mixed condition."""
    return any(grid.condition(axis, side, name).key == "mixed" for axis in grid.walls for side in SIDES for name in fields)


class Generated:
    """The force of a quadratic density, by the code generator that makes the whole one: the same stencils, the same walls.

    Parameters
    ----------
    density : quadratic in the fields
    grid : without data at its walls
    """

    def __init__(self, density: Node, action: Action, grid: Grid, order: int, layout: Layout):
        found = plan(action, grid, order, layout.dtype, density)
        assert found is not None and found.halo <= max(layout.halo)  # the caller asked: it is a part of the whole
        walls = WallData(grid, layout, action.fields, action.parameters, found.data, found.faces)
        self._force = LocalForce(found, grid, layout, action.parameters, action.bound_sources(grid), walls)
        self._layout = layout

    def apply(self, w: np.ndarray, out: np.ndarray) -> None:
        """out = L w; the ghosts of w are changed."""
        state = State(self._layout, w, None)
        self._force.set_jvp(state, state, State(self._layout, out, None), 0.0)


class Cells:
    """-R w with a symmetric matrix between fields in every cell.

    Parameters
    ----------
    matrix : R, (field, field, *shape), of all fields
    """

    def __init__(self, matrix: np.ndarray, fields: tuple[str, ...], grid: Grid, layout: Layout):
        self._layout = layout
        used = [a for a in range(len(fields)) if matrix[a].any()]
        names = [fields[a] for a in used]
        self._bound = PointwiseMatrix(names, matrix[np.ix_(used, used)]).bind(fields, grid, layout)

    def add(self, w: np.ndarray, out: np.ndarray) -> None:
        """out -= R w."""
        state = State(self._layout, w, None)
        self._bound.add_jvp(state, state, State(self._layout, out, None), 0.0)


def reaction_of(
    action: Action, grid: Grid, reaction: Mapping[tuple[int, int], np.ndarray], cells: Any = ...
) -> dict[tuple[int, int], np.ndarray]:
    """The matrix between fields in every cell, (a, b), a <= b: that of the local cost and those of the kernels.

    Parameters
    ----------
    cells : index of those that are asked for, all by default
    """
    total = dict(reaction)
    for kernel in action.kernels:
        if isinstance(kernel, PointwiseMatrix) and kernel.matrix.shape[2:] == grid.shape:
            index = [action.fields.index(name) for name in kernel.fields]
            for i, a in enumerate(index):
                for j, b in enumerate(index):
                    if a <= b:
                        entry = 0.5 * (kernel.matrix[i, j][cells] + kernel.matrix[j, i][cells])
                        total[a, b] = total.get((a, b), np.zeros(())) + entry
    return total
