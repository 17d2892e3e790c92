"""The local force: the operator that the generated module makes of the action's density on a grid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sftsolve.codegen import cache
from sftsolve.codegen.plan import Plan
from sftsolve.grid import AXES, SIDES, Grid
from sftsolve.kernels.protocol import Estimate
from sftsolve.loops import boxes
from sftsolve.parallel import slabs
from sftsolve.state import Layout, State


class LocalForce:
    """-dC/dw of the local part of the cost, its energy and its Jacobian, as compiled sweeps.

    Parameters
    ----------
    plan : what was generated
    grid, layout : where it acts
    parameters : values by name
    sources : values by name on the grid, (field-free arrays of shape grid.shape)
    """

    def __init__(self, plan: Plan, grid: Grid, layout: Layout, parameters: dict[str, float], sources: dict[str, np.ndarray]):
        self.plan, self.grid, self.layout = plan, grid, layout
        self.module: Any = cache.load(plan.text)
        self._scalars = self._values(parameters)
        self._arrays = self._padded(sources)
        region = boxes.whole(layout)
        self._domain = np.array([bound for pair in region for bound in pair], np.int64)
        self._reach = np.array([plan.reach if axis in grid.walls else 0 for axis in AXES], np.int64)
        core, shell = boxes.layers(region, tuple(int(r) for r in self._reach))  # type: ignore[arg-type]
        self._parts = slabs(grid.size)
        self._boxes = boxes.for_threads(core, self._parts)
        self._shell = [box for part in shell for box in boxes.for_threads(part, 1).tolist()]
        self._sum_boxes = boxes.for_sums(region)
        self._sums = np.zeros(len(self._sum_boxes))
        self._factor = self._factors()
        self._faces = [(f"face_{axis}_{side}", self._face_box(axis, side), axis) for axis, side in plan.faces]
        self._nothing = np.zeros((len(plan.names.fields), 1, 1, 1))

    def set_force(self, state: State, out: State, t: float) -> None:
        """Write the force at (state, t) into `out`; the ghosts of `state` must be filled."""
        self._sweep("force", (state.storage,), out.storage, t)

    def set_jvp(self, state: State, direction: State, out: State, t: float) -> None:
        """Write F'(state) direction into `out`; the ghosts of both must be filled, those of the direction without data."""
        self._sweep("jvp", (state.storage, direction.storage), out.storage, t)

    def add_force(self, state: State, out: State, t: float) -> None:
        """Add the force at (state, t) to `out`, by way of another array: a system sets it instead."""
        own = out.like()
        self.set_force(state, own, t)
        out.storage += own.storage

    def add_jvp(self, state: State, direction: State, out: State, t: float) -> None:
        """Add F'(state) direction to `out`, by way of another array: a system sets it instead."""
        own = out.like()
        self.set_jvp(state, direction, own, t)
        out.storage += own.storage

    def energy(self, state: State, t: float) -> float:
        """The discrete cost C_h = h^d sum_i c_i plus the boundary energies; the ghosts of `state` must be filled."""
        arguments = (state.storage, self._arrays, self._at(t))
        self._driver("cost")(*arguments, self._sum_boxes, self._sums)
        total = float(np.sum(self._sums)) * self.grid.cell_volume
        for name, box, axis in self._faces:
            area = self.grid.cell_volume / self.grid.spacing[self.grid.axes.index(axis)]
            total += area * getattr(self.module, f"{name}_energy")(*arguments, self._nothing, *box)
        return total

    def symbol(self) -> None:
        """Not diagonalised (the linear split has its own room)."""
        return None

    def bound(self, t: float = 0.0) -> None:
        """Its Jacobian depends on the state: `System.spectral_radius` finds the radius by power iteration."""
        return None

    def estimate(self) -> Estimate:
        """One pass over fields, arrays and forces; the operations are not counted (NaN), memory limits the sweep."""
        return Estimate(float("nan"), float(self.plan.traffic(self.grid.size, self._arrays.itemsize)), float(self._arrays.nbytes))

    def _sweep(self, name: str, inputs: tuple[np.ndarray, ...], out: np.ndarray, t: float) -> None:
        arguments = (*inputs, self._arrays, self._at(t))
        self._driver(name)(*arguments, out, self._boxes)
        if self.plan.reach:
            fold: Callable[..., None] = getattr(self.module, f"fold_{name}_box")
            for box in self._shell:
                fold(*arguments, out, self._domain, self._reach, self._factor, *box)
            for face, box, _ in self._faces:
                getattr(self.module, f"{face}_{name}")(*arguments, out, *box)

    def _driver(self, name: str) -> Callable[..., None]:
        return getattr(self.module, name if self._parts == 1 else f"{name}_threads")

    def _at(self, t: float) -> np.ndarray:
        self._scalars[self._time] = t
        return self._scalars

    def _values(self, parameters: dict[str, float]) -> np.ndarray:
        values = {f"1/h{axis}": 1.0 / h for axis, h in zip(self.grid.axes, self.grid.spacing, strict=True)}
        values |= {"t": 0.0, **parameters, **self.plan.data}
        self._time = self.plan.scalars.index("t")
        return np.array([values[name] for name in self.plan.scalars])

    def _padded(self, sources: dict[str, np.ndarray]) -> np.ndarray:
        """Sources in the storage's layout; ghosts copied round periodic axes, mirrored or extrapolated at walls."""
        storage = self.layout.zeros(max(1, len(self.plan.names.arrays)))
        mesh = self.grid.mesh
        interior = self.layout.interior(storage)
        for number, name in enumerate(self.plan.names.arrays):
            interior[number] = sources[name] if name in sources else mesh[name]
        for axis in range(3):
            start, n, halo = self.layout.offset[axis], self.layout.shape[axis], self.layout.halo[axis]
            lines = np.moveaxis(storage, axis + 1, 0)
            for m in range(1, halo + 1):
                if AXES[axis] not in self.grid.walls:
                    lines[start - m], lines[start + n - 1 + m] = lines[start + n - m], lines[start + m - 1]
                elif self.plan.reach == 0:
                    lines[start - m], lines[start + n - 1 + m] = lines[start + m - 1], lines[start + n - m]
                else:
                    inner = 1 if n > 1 else 0
                    first, last = lines[start].copy(), lines[start + n - 1].copy()
                    lines[start - m] = first + m * (first - lines[start + inner])
                    lines[start + n - 1 + m] = last + m * (last - lines[start + n - 1 - inner])
        return storage

    def _factors(self) -> np.ndarray:
        """Sign with which an image's contribution folds back, (axis, image, field)."""
        factors = np.ones((3, 3, len(self.plan.names.fields)))
        for axis in self.grid.walls:
            for image, side in enumerate(SIDES, start=1):
                for number, name in enumerate(self.plan.names.fields):
                    factors[AXES.index(axis), image, number] = self.grid.condition(axis, side, name).factor
        return factors

    def _face_box(self, axis: str, side: str) -> tuple[int, ...]:
        bounds = [list(pair) for pair in boxes.whole(self.layout)]
        step = [0, 0, 0]
        number = AXES.index(axis)
        start, stop = bounds[number]
        bounds[number] = [start, start + 1] if side == "lower" else [stop - 1, stop]
        step[number] = 0 if stop - start < 2 else (1 if side == "lower" else -1)
        return (*(bound for pair in bounds for bound in pair), *step)
