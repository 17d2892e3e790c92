"""From an action to the linear part of its force on a grid: what is linear, how its coefficients vary, which solver serves."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sftsolve.action import Action
from sftsolve.algebra import ZERO, Leaf, Node, add, evaluate, multiply
from sftsolve.codegen.plan import discretised
from sftsolve.codegen.stencils import Offset, inverse_spacing
from sftsolve.codegen.terms import stencil
from sftsolve.expression import Derivative
from sftsolve.grid import AXES, Grid
from sftsolve.kernels.low_rank import BoundLowRank
from sftsolve.kernels.pointwise import PointwiseMatrix
from sftsolve.kernels.protocol import Operator
from sftsolve.linear.faces import Faces, is_face_form
from sftsolve.linear.form import Form, density_of, mean_of, projected, quadratic_form
from sftsolve.linear.modes import Modes
from sftsolve.linear.multigrid import Multigrid, can_coarsen
from sftsolve.linear.operators import Cells, Generated, is_mixed, reaction_of, still
from sftsolve.linear.part import DiagonalPart, LinearPart
from sftsolve.linear.split import Quadratic, quadratic
from sftsolve.linear.symbols import Bases, Table, bases_of, symbol, symbols
from sftsolve.linear.varying import CellPart, Decay, FacePart, VaryingPart
from sftsolve.linear.woodbury import LowRankPart, Nothing
from sftsolve.state import Layout

log = logging.getLogger("sftsolve")

# A kernel with constant coefficients joins varying ones where it is at least this stiff beside them: it costs transforms.
_STIFF = 0.1
# Stiffness that varies by more than this factor is preconditioned by multigrid rather than by the modes of its mean.
_CONTRAST = 2.0

Coefficients = dict[tuple[int, int, Offset], float]


def linear_part(action: Action, grid: Grid, order: int, layout: Layout, operators: Sequence[Operator]) -> LinearPart | None:
    """The linear part of an action's force on a grid; None where it vanishes or only grows.

    Parameters
    ----------
    operators : the bound kernels; those that are diagonal in the modes of their fields join
    """
    return Split(action, grid, order, layout, operators).part()


class Split:
    """What of an action is linear, and the kinds of coefficients in it."""

    def __init__(self, action: Action, grid: Grid, order: int, layout: Layout, operators: Sequence[Operator]):
        self.grid, self.order, self.layout, self.operators = grid, order, layout, operators
        self.fields, moving = action.fields, set(action.forms(grid))
        steady = {name: source for name, source in action.sources.items() if name not in moving}
        self.action = Action(action.fields, "0", action.parameters, steady, action.kernels)
        self.found = quadratic(action.density(grid.axes), self.fields, {*steady, *grid.axes}, {"t", *moving})
        self.notes = list(self.found.notes)
        self.still = still(grid, self.fields)
        self.bases = [bases_of(grid, name) for name in self.fields]

    def part(self) -> LinearPart | None:
        """The kind of part that serves."""
        matrices = any(isinstance(kernel, PointwiseMatrix) for kernel in self.action.kernels)
        mixed = is_mixed(self.grid, self.fields)
        part: LinearPart | None = None
        if self.found.varying != ZERO or matrices or mixed:
            part = self._varying(mixed)
        if part is None:
            part = self._constant()
        part = self._with_low_rank(part)
        for note in self.notes:
            log.info("linear part: %s", note)
        return part

    def _with_low_rank(self, part: LinearPart | None) -> LinearPart | None:
        """Stiff low-rank kernels join, one round the other."""
        for operator in self.operators:
            found = operator.damping() if isinstance(operator, BoundLowRank) else None
            if found is None:
                continue
            field, phi, strengths = found
            base: LinearPart | Nothing = Nothing(self._still_modes()) if part is None else part
            joined = LowRankPart(base, phi, strengths, field, self.grid.cell_volume, self.layout, len(self.fields))
            if joined.radius - base.radius > _STIFF * base.radius:
                part = joined
        return part

    def _still_modes(self) -> Modes:
        return Modes({(a, a): np.zeros(()) for a in range(len(self.fields))}, self.bases, self.layout)

    def _constant(self) -> LinearPart | None:
        table = self._symbols(self.found.constant)
        for operator in self.operators:
            add_operator(table, operator, self.bases, self.layout)
        if not table:
            return None
        modes = Modes(table, self.bases, self.layout)
        return DiagonalPart(modes) if modes.radius > 0.0 else None

    def _varying(self, mixed: bool) -> LinearPart | None:
        """The part with its varying coefficients; None where nothing that damps varies."""
        action, grid, layout, fields = self.action, self.grid, self.layout, self.fields
        values = {**grid.mesh, **action.parameters, **action.sources_at(grid)}
        form, reaction = damping(self.found, action, grid, values)
        self.notes += form.notes
        if not needs_cells(form, reaction, mixed):
            return None
        bounds = Bounds(self, form, reaction)
        table = self._symbols(density_of(form.stiffness, mean_of))
        add_reaction(table, reaction, self.bases)
        kernels: Table = {}
        for operator in self.operators:
            add_operator(kernels, operator, self.bases, layout)
        diagonal = Modes(kernels, self.bases, layout) if kernels else None
        if diagonal is not None and diagonal.radius > _STIFF * bounds.radius:
            for pair, symbol in kernels.items():
                table[pair] = table.get(pair, np.zeros(())) + symbol
            bounds.add(diagonal.radius, 0.0)
        else:
            diagonal = None
        modes = Modes(table, self.bases, layout)
        if diagonal is None and not form.stiffness:
            assert reaction is not None
            return CellPart(layout, reaction, modes, bounds.pair)
        whole = is_face_form(form, self.order)
        multigrids = None
        if diagonal is None and multigrid_serves(form, self.order, grid):
            multigrids = self._multigrids(form, reaction, values)
        if whole and multigrids is not None:
            if mixed:
                bounds.add(self._wall(form, values))
            return FacePart(layout, modes, bounds.pair, multigrids, self._coupling(reaction))
        local = self._generated(form) if form.stiffness else None
        if mixed and local is not None:
            bounds.add(self._wall(form, values))
        cells = None if reaction is None else Cells(reaction, fields, grid, layout)
        return VaryingPart(layout, modes, bounds.pair, local, cells, diagonal, multigrids)

    @property
    def _periodic(self) -> list[bool]:
        return [self.grid.periodic(axis) for axis in self.grid.axes]

    def _multigrids(self, form: Form, reaction: np.ndarray | None, values: Mapping[str, Any]) -> list[Multigrid | Decay]:
        """For every field the operator of the squares of its first derivatives, at order two, and of its reaction."""
        found = Faces(form, self.fields, self.still, values)
        parts: list[Multigrid | Decay] = []
        for number, faces in enumerate(found.faces):
            own = found.reaction[number]
            if reaction is not None:
                own = own + reaction[number, number]
            parts.append(Decay(self.layout, own) if faces is None else Multigrid(self.layout, self._periodic, faces, own))
        return parts

    def _coupling(self, reaction: np.ndarray | None) -> Cells | None:
        """The matrix between different fields in every cell."""
        if reaction is None:
            return None
        off = reaction.copy()
        off[np.arange(len(off)), np.arange(len(off))] = 0.0
        return Cells(off, self.fields, self.grid, self.layout) if off.any() else None

    def _generated(self, form: Form) -> Generated:
        density = density_of(form.stiffness, lambda term: term.tree)
        return Generated(density, self.action, self.still, self.order, self.layout)

    def _symbols(self, density: Node) -> Table:
        return symbols(self.constants(density), self.bases, self.grid)

    def constants(self, density: Node) -> Coefficients:
        """Stencils of a density that is quadratic in the fields with coefficients that do not vary."""
        discrete = discretised(self.action, self.still, self.order, density)
        if discrete is None:
            return {}
        values: dict[str, float] = dict(self.action.parameters)
        values |= {inverse_spacing(axis).name: 1.0 / h for axis, h in zip(self.grid.axes, self.grid.spacing, strict=True)}
        return {key: float(evaluate(node, values)) for key, node in stencil(discrete.variation.force()).items()}

    def _wall(self, form: Form, values: Mapping[str, Any]) -> float:
        """What walls add to the reaction of a cell, at most."""
        return max(float(walls.max()) for walls in Faces(form, self.fields, self.still, values).reaction)


def damping(
    found: Quadratic, action: Action, grid: Grid, values: Mapping[str, Any], cells: Any = ...
) -> tuple[Form, np.ndarray | None]:
    """The quadratic form that damps, and the matrix between fields in every cell, (field, field, *cells); None for zero.

    Parameters
    ----------
    found : the quadratic part of the density
    values : of parameters, coordinates and sources in the cells
    cells : index of the cells that are looked at, all by default
    """
    form = quadratic_form(add(found.constant, found.varying), action.fields, values)
    entries = reaction_of(action, grid, form.reaction, cells)
    shape = np.broadcast_to(0.0, grid.shape)[cells].shape
    reaction = projected(entries, len(action.fields), shape) if entries else None
    return form, None if reaction is None or not reaction.any() else reaction


def needs_cells(form: Form, reaction: np.ndarray | None, mixed: bool) -> bool:
    """Whether what damps is not the same in all cells; cells at walls of a mixed condition (`mixed`) differ from others."""
    varies = reaction is not None and bool(np.any(np.ptp(reaction.reshape(*reaction.shape[:2], -1), axis=2)))
    return varies or form.varies or (mixed and bool(form.stiffness))


def multigrid_serves(form: Form, order: int, grid: Grid) -> bool:
    """Whether the stiffness of a form is preconditioned by multigrid, kernels apart."""
    periodic = [grid.periodic(axis) for axis in grid.axes]
    return (is_face_form(form, order) or _contrast(form) > _CONTRAST) and can_coarsen(grid.shape, periodic)


def _contrast(form: Form) -> float:
    """By how much the stiffness of a form varies; 0 where second derivatives are stiff."""
    if any(isinstance(slot, Derivative) and len(slot.axes) > 1 for pair in form.stiffness for slot in pair):
        return 0.0
    ranges = [(float(term.values.min()), float(term.values.max())) for (s, t), term in form.stiffness.items() if s == t]
    return max((most / least if least > 0.0 else np.inf for least, most in ranges if most > 0.0), default=0.0)


class Bounds:
    """Bounds of the eigenvalues of a form that damps, by |H_st s t| <= |H_st| (s^2 + t^2) / 2."""

    def __init__(self, split: Split, form: Form, reaction: np.ndarray | None):
        # By field: what its slots come to at most, with the coefficients and with what they differ from their means.
        sizes = np.zeros((len(split.fields), 2))
        for (s, t), term in form.stiffness.items():
            rest = term.values - term.values.mean()
            for slot in {s, t}:
                unit, number = self._unit(split, slot)
                sizes[number] += unit * float(np.abs(term.values).max()), unit * float(np.abs(rest).max())
        self.radius, self.deviation = (float(size) for size in sizes.max(axis=0))
        if reaction is not None:
            flat = reaction.reshape(len(reaction), len(reaction), -1)
            off = flat - flat.mean(axis=2, keepdims=True)
            self.radius += float(np.abs(flat).sum(axis=1).max())
            self.deviation += float(np.abs(off).sum(axis=1).max())

    @property
    def pair(self) -> tuple[float, float]:
        """(radius, deviation)."""
        return self.radius, self.deviation

    def add(self, radius: float, deviation: float | None = None) -> None:
        """Add bounds of a further part."""
        self.radius += radius
        self.deviation += radius if deviation is None else deviation

    def _unit(self, split: Split, slot: Leaf) -> tuple[float, int]:
        """Largest eigenvalue of slot^2 / 2, and the number of its field."""
        name = slot.field if isinstance(slot, Derivative) else slot.text
        number = split.fields.index(name)
        stencil = {key[2]: value for key, value in split.constants(multiply(0.5, slot, slot)).items()}
        angles = np.ix_(*[np.linspace(0.0, np.pi, 17 if axis in split.grid.axes else 1) for axis in AXES])
        return float(np.abs(symbol(stencil, angles, hermitian=True)).max()), number


def add_reaction(table: Table, reaction: np.ndarray | None, bases: Sequence[Bases]) -> None:
    """Add the mean of a matrix between fields to the symbols."""
    for a in range(0 if reaction is None else len(reaction)):
        for b in range(a, len(bases)):
            assert reaction is not None
            mean = np.array(reaction[a, b].mean())
            if mean != 0.0 and bases[a] == bases[b]:
                table[a, b] = table.get((a, b), np.zeros(())) - mean


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
