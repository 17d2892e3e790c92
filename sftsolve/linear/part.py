"""The linear part of a system's force that implicit and exponential steppers take out of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from sftsolve.action import Action
from sftsolve.algebra import ZERO, evaluate
from sftsolve.codegen.plan import discretised
from sftsolve.codegen.stencils import Offset, inverse_spacing
from sftsolve.codegen.terms import stencil
from sftsolve.grid import Grid
from sftsolve.kernels.protocol import Operator
from sftsolve.linear.modes import Modes
from sftsolve.linear.split import quadratic
from sftsolve.linear.symbols import Bases, Table, bases_of, symbols
from sftsolve.loops import modes as loops
from sftsolve.state import Layout

log = logging.getLogger("sftsolve")

Coefficients = dict[tuple[int, int, Offset], float]


class LinearPart(Protocol):
    """A symmetric negative semidefinite L; N = F - L w is everything else, data of the walls included.

    Fields are padded storage (field, Z, Y, X), of which interiors count; nothing is allocated after the first calls.
    """

    @property
    def radius(self) -> float:
        """Upper bound of -eigenvalues."""
        ...

    @property
    def modes(self) -> Modes | None:
        """The modes in which L is diagonal; None where there are none."""
        ...

    @property
    def mean_modes(self) -> Modes:
        """Modes of the nearest L with constant coefficients; `modes` itself where L is that."""
        ...

    def apply(self, w: np.ndarray, out: np.ndarray) -> None:
        """out = L w."""
        ...

    def solve(self, right: np.ndarray, sigma: float, out: np.ndarray, guess: bool, rtol: float) -> int:
        """(I - sigma L) out = right; returns the number of iterations.

        Parameters
        ----------
        sigma : >= 0
        out : on entry the first guess, if `guess`
        rtol : norm of the residual that is enough, relative to that of `right`
        """
        ...


class DiagonalPart:
    """L with constant coefficients: everything is exact, by transforms."""

    def __init__(self, modes: Modes):
        self.modes = self.mean_modes = modes
        self._spectrum: np.ndarray | None = None

    @property
    def radius(self) -> float:
        return self.modes.radius

    def apply(self, w: np.ndarray, out: np.ndarray) -> None:
        spectrum = self._forward(w)
        loops.multiply(spectrum, self.modes.eigenvalues, self.modes.threads)
        self.modes.backward(spectrum, out)

    def solve(self, right: np.ndarray, sigma: float, out: np.ndarray, guess: bool = False, rtol: float = 0.0) -> int:
        spectrum = self._forward(right)
        loops.divide(spectrum, self.modes.eigenvalues, sigma, self.modes.threads)
        self.modes.backward(spectrum, out)
        return 1

    def _forward(self, storage: np.ndarray) -> np.ndarray:
        if self._spectrum is None:
            self._spectrum = self.modes.empty()
        self.modes.forward(storage, self._spectrum)
        return self._spectrum


def linear_part(action: Action, grid: Grid, order: int, layout: Layout, operators: Sequence[Operator]) -> LinearPart | None:
    """The linear part of an action's force on a grid; None where it vanishes or only grows.

    Parameters
    ----------
    operators : the bound kernels; those that are diagonal in the modes of their fields join
    """
    found = quadratic(action.density(grid.axes), action.fields, {*action.sources, *grid.axes})
    for note in found.notes:
        log.info("%s", note)
    bases = [bases_of(grid, name) for name in action.fields]
    table: Table = {}
    if found.constant != ZERO:
        table = symbols(constants(action, grid, order, found.constant), bases, grid)
    for operator in operators:
        add_operator(table, operator, bases, layout)
    if not table:
        return None
    modes = Modes(table, bases, layout)
    return DiagonalPart(modes) if modes.radius > 0.0 else None


def constants(action: Action, grid: Grid, order: int, density) -> Coefficients:  # type: ignore[no-untyped-def]
    """Stencils of a density that is quadratic in the fields with coefficients that do not vary."""
    discrete = discretised(action, grid, order, density)
    if discrete is None:
        return {}
    values: dict[str, float] = dict(action.parameters)
    values |= {inverse_spacing(axis).name: 1.0 / h for axis, h in zip(grid.axes, grid.spacing, strict=True)}
    return {key: float(evaluate(node, values)) for key, node in stencil(discrete.variation.force()).items()}


def add_operator(table: Table, operator: Operator, bases: Sequence[Bases], layout: Layout) -> None:
    """Add an operator's symbol to the table, as far as it has one in the modes of the fields."""
    own = getattr(operator, "bases", None)
    values = None if own is None else operator.symbol()
    if values is None:
        return
    count, missing = len(bases), 3 - layout.dimension
    for a in range(count):
        for b in range(a, count):
            entry = values[(a, b, *(None,) * missing)]
            if bases[a] == own and bases[b] == own and np.any(entry):
                entry = entry.real if a == b or not np.any(entry.imag) else entry
                table[a, b] = table.get((a, b), np.zeros(())) + entry
