"""What the linear part of an action will take of memory: its kind is told from some cells of the grid, nothing is built."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from sftsolve.action import Action
from sftsolve.algebra import ZERO
from sftsolve.expression import Derivative
from sftsolve.grid import Grid
from sftsolve.kernels.convolution import Convolution
from sftsolve.kernels.fractional import Fractional
from sftsolve.kernels.low_rank import LowRank
from sftsolve.kernels.pointwise import PointwiseMatrix
from sftsolve.kernels.stencil import ends_of
from sftsolve.kernels.transforms import Transform
from sftsolve.linear.build import damping, multigrid_serves, needs_cells
from sftsolve.linear.faces import is_face_form
from sftsolve.linear.form import Form, quadratic_form
from sftsolve.linear.krylov import ConjugateGradients
from sftsolve.linear.multigrid import Multigrid
from sftsolve.linear.operators import is_mixed
from sftsolve.linear.split import Quadratic, quadratic
from sftsolve.linear.symbols import bases_of
from sftsolve.loops.convolution import MIRROR, PERIODIC
from sftsolve.memory import Need, in_turn
from sftsolve.sources import on_grid
from sftsolve.state import Layout

# The modes in which a convolution with such ends is diagonal.
_KINDS = {PERIODIC: "fourier", MIRROR: "cosine"}
_SAMPLES = 1 << 12  # cells whose coefficients are looked at


@dataclass(frozen=True)
class Foresight:
    """What is known of a linear part before it is built.

    Attributes
    ----------
    kind : "none", "diagonal", "cells", "faces" or "varying", as the classes of parts are called; "none" has its modes, too
    building : memory of its making, and what it holds from then on
    solving : bytes that its solves hold from the first one on
    table : bytes of a real table over its modes
    """

    kind: str
    building: Need
    solving: float
    table: float


class _Looking:
    """An action whose linear part is to be told."""

    def __init__(self, action: Action, grid: Grid, order: int, layout: Layout):
        self.action, self.grid, self.order, self.layout = action, grid, order, layout
        self.count, self.cells = len(action.fields), 8.0 * grid.size
        self.moving = set(action.forms(grid))
        self.steady = [name for name in action.sources if name not in self.moving]
        self.transform = Transform(bases_of(grid, action.fields[0]), layout.dtype, 1)
        modes = float(math.prod(self.transform.modes))
        self.spectrum = self.count * modes * np.dtype(self.transform.spectrum_dtype).itemsize
        self.table = 8.0 * self.count * modes * self._folded

    def look(self) -> Foresight | None:
        """What `linear_part` will make; None where there is nothing linear."""
        action = self.action
        density, arrays = action.density(self.grid.axes), {*self.steady, *self.grid.axes}
        found = quadratic(density, action.fields, arrays, {"t", *self.moving})
        matrices = any(isinstance(kernel, PointwiseMatrix) for kernel in self.action.kernels)
        mixed = is_mixed(self.grid, self.action.fields)
        part = self._varying(found, mixed) if found.varying != ZERO or matrices or mixed else None
        if part is None and (found.constant != ZERO or any(self._joins(kernel) for kernel in self.action.kernels)):
            form = quadratic_form(found.constant, action.fields, dict(action.parameters))
            modes = self._modes(self._couples(form) or bool(action.kernels))
            part = Foresight("diagonal", modes, self.spectrum + self._cells_to_transform, self.table)
        return self._with_low_rank(part)

    def _joins(self, kernel: Any) -> bool:
        """Whether a kernel is diagonal in the modes of its fields."""
        if isinstance(kernel, Fractional):
            return True
        if not isinstance(kernel, Convolution):
            return False
        ends = ends_of("Convolution", kernel.walls, self.grid)
        kinds = [basis.kind for basis in self.transform.bases[3 - self.grid.dimension :]]
        return all(kind == _KINDS.get(end) for end, kind in zip(ends, kinds, strict=True))

    @property
    def _folded(self) -> float:
        """Share of the rows along x of a table that differ (`loops.folding`): waves that run up and down an axis are alike."""
        even = np.ones(3, bool)
        alike = self.transform.alike and math.isclose(*self.grid.spacing[:2])
        for kernel in self.action.kernels:
            if isinstance(kernel, Convolution) and self._joins(kernel):
                along, exchanged = kernel.symmetry(self.grid)
                even[3 - len(along) :] &= along
                alike = alike and exchanged
        share = 1.0
        for axis in self.transform.mirrored:
            n = self.transform.modes[axis]
            share *= (n // 2 + 1) / n if even[axis] else 1.0
        return 0.5 * share if alike else share

    @property
    def _cells_to_transform(self) -> float:
        """Bytes of the array in which cells are put in order for a transform that changes them."""
        plain = self.transform.plain or self.transform.spectrum_dtype == self.transform.dtype
        return 0.0 if plain else float(math.prod(self.transform.work_shape)) * np.dtype(self.layout.dtype).itemsize

    def _couples(self, form: Form) -> bool:
        """Whether a form couples two fields."""
        slots = {slot: slot.field if isinstance(slot, Derivative) else slot.text for pair in form.stiffness for slot in pair}
        pairs = [*form.reaction, *((slots[s], slots[t]) for s, t in form.stiffness)]
        return any(a != b for a, b in pairs)

    def _modes(self, coupled: bool) -> Need:
        """Eigenvalues, and unitary matrices between coupled fields.

        Symbols are made in double precision, one mode after the other, before equal rows are joined.
        """
        values, mixing = 8.0 * math.prod(self.transform.modes), self.count if coupled and self.count > 1 else 0
        return Need.of((1 + mixing) * self.table, (self.count + 2 + self.count * mixing) * values)

    def _varying(self, found: Quadratic, mixed: bool) -> Foresight | None:
        """As `build.Split` decides, from the coefficients in some cells."""
        form, reaction = self._sampled(found)
        if not needs_cells(form, reaction, mixed):
            return None
        entries = 0 if reaction is None else self.count * (self.count + 1) // 2
        matrix = Need.of(0.0, self.cells * (self.count**2 if entries else 0))
        values = self.cells * (len(self.steady) + len(form.stiffness) + len(form.reaction))
        modes = self._modes(self._couples(form))
        item = np.dtype(self.layout.dtype).itemsize / 8.0
        if not form.stiffness:
            held = entries * self.cells * item
            return Foresight("cells", in_turn([matrix, modes, Need.of(held, values)]), 0.0, self.table)
        whole = is_face_form(form, self.order)
        multigrid = multigrid_serves(form, self.order, self.grid)
        reacts = reaction is not None or bool(self.grid.walls)
        stiff = len({slot.text.split(",")[0] for pair in form.stiffness for slot in pair})
        grids = in_turn([Multigrid.need(self.layout, self._periodic, reacts)] * min(stiff, self.count)) if multigrid else Need()
        grids = Need.of(grids.held, grids.most - grids.held + values + matrix.most)
        iterating = ConjugateGradients.bytes_of(self.layout, self.count)
        if whole and multigrid:
            coupled = reaction is not None and any(reaction[a, b].any() for a in range(self.count) for b in range(a))
            own = self.cells * (entries + self.count) if coupled else 0.0
            return Foresight("faces", modes + grids + Need.of(own), iterating if coupled else 0.0, self.table)
        local = float(self.layout.bytes_of(max(1, len(self.steady)))) + self.cells * (entries + self.count if entries else 0)
        solving = iterating + (0.0 if multigrid else self.spectrum + self._cells_to_transform)
        return Foresight("varying", modes + grids + Need.of(local, values), solving, self.table)

    @property
    def _periodic(self) -> list[bool]:
        return [self.grid.periodic(axis) for axis in self.grid.axes]

    def _sampled(self, found: Quadratic) -> tuple[Form, np.ndarray | None]:
        """The form that damps and the matrix between fields, in some cells."""
        grid, size = self.grid, self.grid.size
        chosen = np.unique(np.linspace(0, size - 1, min(size, _SAMPLES)).astype(np.int64))
        index = np.unravel_index(chosen, grid.shape)
        values: dict[str, Any] = {name: np.broadcast_to(mesh, grid.shape)[index] for name, mesh in grid.mesh.items()}
        for name in self.steady:
            source = self.action.sources[name]
            values[name] = on_grid(grid, name, source.values(grid, self.action.parameters))[index]
        return damping(found, self.action, grid, {**values, **self.action.parameters}, index)

    def _with_low_rank(self, part: Foresight | None) -> Foresight | None:
        """Kernels of low rank that damp are taken for stiff."""
        for kernel in self.action.kernels:
            if not isinstance(kernel, LowRank) or len(kernel.fields) > 1 or kernel.psi is not None:
                continue
            iterating = ConjugateGradients.bytes_of(self.layout, self.count)
            if part is None:
                part = Foresight("none", self._modes(False), 0.0, self.table)
            elif part.kind != "none":
                # The solutions for all functions, and the iterations that come before them.
                more = float(self.cells * kernel.rank) + iterating
                part = Foresight("low rank", part.building, part.solving + more, self.table)
        return part


def foresee(action: Action, grid: Grid, order: int, layout: Layout) -> Foresight | None:
    """What is known of the linear part of an action on a grid before it is built; None where there is none."""
    return _Looking(action, grid, order, layout).look()
