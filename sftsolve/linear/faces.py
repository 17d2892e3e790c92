"""A quadratic form of order two as fluxes through the faces of cells: what geometric multigrid solves.

    (L w)_i = sum_faces k (w_neighbour - w_i) - r_i w_i

H/2 (dw/dx)^2 in the pair form has k = (H_i + H_{i+1}) / (2 h^2) between two cells. A wall with a value lies half a cell away and
adds 2 H_0/h^2 to r; one with dw/dn + a w = 0 adds H_wall a / (h (1 + a h/2)), with the sources extrapolated to the wall and
H_wall >= 0, as the generated code has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sftsolve.algebra import evaluate
from sftsolve.boundary import Dirichlet, Robin
from sftsolve.expression import Derivative
from sftsolve.grid import SIDES, Grid
from sftsolve.linear.form import Form, Term

Values = Mapping[str, Any]


class Faces:
    """Face coefficients and reactions of every field, from the squares of first derivatives in a form.

    Attributes
    ----------
    faces : by field: one array of the grid's shape per axis, the face behind cell i, the last one round the circle and zero at
        walls; None for a field without stiffness
    reaction : by field: what walls add, of the grid's shape; without the reaction of the form
    """

    def __init__(self, form: Form, fields: tuple[str, ...], grid: Grid, values: Values):
        self.faces: list[list[np.ndarray] | None] = [None] * len(fields)
        self.reaction = [np.zeros(grid.shape) for _ in fields]
        for (slot, other), term in form.stiffness.items():
            if slot != other or not isinstance(slot, Derivative) or len(slot.axes) > 1:
                continue
            number, axis = fields.index(slot.field), grid.axes.index(slot.axes[0])
            whole = self.faces[number]
            if whole is None:
                whole = self.faces[number] = [np.zeros(grid.shape) for _ in grid.axes]
            coefficient = np.broadcast_to(term.values, grid.shape)
            whole[axis] += _between(coefficient, axis, grid)
            if not grid.periodic(slot.axes[0]):
                for side in SIDES:
                    self.reaction[number][_at(axis, side)] += _wall(term, coefficient, axis, side, slot.field, grid, values)


def is_face_form(form: Form, order: int) -> bool:
    """Whether the stiffness of a form is made of squares of first derivatives, at order two."""
    slots = [(s, t) for s, t in form.stiffness]
    return order == 2 and all(s == t and isinstance(s, Derivative) and len(s.axes) == 1 for s, t in slots)


def _between(coefficient: np.ndarray, axis: int, grid: Grid) -> np.ndarray:
    found = 0.5 * (coefficient + np.roll(coefficient, -1, axis)) / grid.spacing[axis] ** 2
    if not grid.periodic(grid.axes[axis]):
        found[_at(axis, "upper")] = 0.0
    return np.asarray(found)


def _at(axis: int, side: str, depth: int = 0) -> tuple[slice, ...]:
    """The cells next to a wall, `depth` cells away from it."""
    first = depth if side == "lower" else -1 - depth
    return (slice(None),) * axis + (slice(first, first + 1 or None),)


def _wall(
    term: Term, coefficient: np.ndarray, axis: int, side: str, field: str, grid: Grid, values: Values
) -> np.ndarray | float:
    """What a wall adds to the reaction of the cells next to it."""
    condition, h = grid.condition(grid.axes[axis], side, field), grid.spacing[axis]
    if isinstance(condition, Dirichlet):
        return np.asarray(2.0 * coefficient[_at(axis, side)] / h**2)
    if not isinstance(condition, Robin):
        return 0.0
    depth = 1 if grid.shape[axis] > 1 else 0
    at_wall: dict[str, Any] = {}
    for name, value in values.items():
        cells = np.broadcast_to(value, grid.shape)
        at_wall[name] = 1.5 * cells[_at(axis, side)] - 0.5 * cells[_at(axis, side, depth)] if np.ndim(value) else value
    a = condition.coefficient if isinstance(condition.coefficient, float) else 0.0  # none that varies is in L
    return np.maximum(np.asarray(evaluate(term.tree, at_wall)), 0.0) * a / (h * (1.0 + 0.5 * a * h))
