"""The local force: the operator that the generated module makes of the action's density on a grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from sftsolve.codegen import cache
from sftsolve.codegen.plan import Plan
from sftsolve.grid import AXES, SIDES, Grid
from sftsolve.kernels.protocol import Estimate
from sftsolve.kernels.wall_data import WallData
from sftsolve.loops import boxes
from sftsolve.parallel import slabs
from sftsolve.sources import BoundSources, rate_of
from sftsolve.state import Layout, State

# Forces of more bytes than this have left the cache when the next pass reads them: they are written past it.
LARGE = 1 << 25


class LocalForce:
    """-dC/dw of the local part of the cost, its energy and its Jacobian, as compiled sweeps.

    Parameters
    ----------
    plan : what was generated
    grid, layout : where it acts
    parameters : values by name
    sources, walls : on the grid, at a moment; the sweeps follow them to the time they are asked for

    Attributes
    ----------
    module : the compiled sweeps
    arrays : padded sources, as the sweeps take them
    wide : names of the sweeps in explicit vectors that this grid is large enough for
    """

    def __init__(
        self,
        plan: Plan,
        grid: Grid,
        layout: Layout,
        parameters: dict[str, float],
        sources: BoundSources,
        walls: WallData,
    ):
        self.plan, self.grid, self.layout, self.sources, self.walls = plan, grid, layout, sources, walls
        self.module: Any = cache.load(plan.text)
        self._scalars = self._values(parameters)
        self.arrays = layout.zeros(max(1, len(plan.names.arrays)))
        self._numbers = {name: number for number, name in enumerate(plan.names.arrays)}
        self.load(plan.names.arrays)
        region = boxes.whole(layout)
        self._domain = np.array([bound for pair in region for bound in pair], np.int64)
        self._reach = np.array([plan.reach if axis in grid.walls else 0 for axis in AXES], np.int64)
        core, shell = boxes.layers(region, tuple(int(r) for r in self._reach))  # type: ignore[arg-type]
        self._parts = slabs(grid.size)
        self._boxes = boxes.for_threads(core, self._parts, plan.least)
        # Vectors need boxes of a size that does not depend on the number of threads, so that results do not either.
        fits = all(stop - start >= n for (start, stop), n in zip(core, plan.least, strict=True))
        self.wide = plan.wide if fits else frozenset()
        self._ring = self._round(region)
        self._shell = [box for part in shell for box in boxes.for_threads(part, 1).tolist()]
        self._sum_boxes = boxes.for_sums(region)
        self._sums = np.zeros(len(self._sum_boxes))
        self._factor = self._factors()
        self._faces = [
            (f"face_{axis}_{side}{suffix}", walls.faces[axis, side], self._face_box(axis, side, layer), (axis, side))
            for axis, side in plan.faces
            for layer, suffix in enumerate([f"_{n}" for n in range(plan.layers)] or [""])
        ]
        self._moving: tuple[State, np.ndarray] | None = None
        self._nothing = np.zeros((len(plan.names.fields), 1, 1, 1))

    def set_force(self, state: State, out: State, t: float) -> None:
        """Write the force at (state, t) into `out`; changes ghosts of `state`."""
        if not self.rounds("force"):
            self.walls.fill(state, t)
        self._sweep("force", (state.storage,), out.storage, t)

    def set_jvp(self, state: State, direction: State, out: State, t: float) -> None:
        """Write F'(state) direction into `out`; changes ghosts of both; they may be one only without data."""
        if not self.rounds("jvp"):
            self.walls.fill(state, t)
            if direction is not state:
                self.walls.fill_still(direction)
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

    def rounds(self, name: str) -> bool:
        """Whether a sweep, "force" or "jvp", leads its fields round the grid by itself, so that no ghosts have to be filled."""
        return name in self.plan.rounds and name in self.wide and bool(self._ring[6] > 0)

    def _round(self, region: boxes.Region) -> np.ndarray:
        """How sweeps in vectors go round periodic axes (see `codegen.wide.sweep`): all, on boxes of whole rows, or none."""
        (z0, z1), (y0, y1), (x0, x1) = region
        if self.grid.walls or np.any(self._boxes[:, 4] != x0) or np.any(self._boxes[:, 5] != x1):
            nowhere = np.iinfo(np.int64).max
            return np.array([-nowhere, nowhere, 0, -nowhere, nowhere, 0, 0])
        return np.array([z0, z1, z1 - z0, y0, y1, y1 - y0, self.layout.halo[2]])

    def energy(self, state: State, t: float) -> float:
        """The discrete cost C_h = h^d sum_i c_i plus the boundary energies; fills ghosts of `state`."""
        self.walls.fill(state, t)
        arguments = (state.storage, self.arrays, self.at(t))
        self._driver("cost_wide" if "cost" in self.wide else "cost")(*arguments, self._sum_boxes, self._sums)
        total = float(np.sum(self._sums)) * self.grid.cell_volume
        for name, data, box, (axis, _) in self._faces:
            total += self._area(axis) * getattr(self.module, f"{name}_energy")(*arguments, data, self._nothing, *box)
        return total

    def power(self, state: State, t: float) -> float:
        """dC/dt with the fields held fixed, NaN where that is unknown (`codegen.plan`); fills ghosts of `state`."""
        if not (self.time_dependent or self.walls.time_dependent):
            return 0.0
        if self.plan.powers is None:
            return math.nan
        self.walls.fill(state, t)
        arguments, total = (state.storage, self.arrays, self._with_rates(t)), 0.0
        if "power" in self.plan.powers:
            self._driver("power")(*arguments, self._sum_boxes, self._sums)
            total += float(np.sum(self._sums)) * self.grid.cell_volume
        if "slope" in self.plan.powers and self.walls.time_dependent:
            total += self._ghosts_power(*arguments, t)
        for name, data, box, face in self._faces:
            if name in self.plan.powers:
                area, rates = self._area(face[0]), self.walls.rates.faces[face]
                total += area * getattr(self.module, f"{name}_power")(*arguments, data, rates, self._nothing, *box)
        return total

    def _ghosts_power(self, w: np.ndarray, arrays: np.ndarray, scalars: np.ndarray, t: float) -> float:
        """What ghosts that move do to the cost of the cells that see them."""
        if self._moving is None:
            region, walled = boxes.whole(self.layout), [axis in self.grid.walls for axis in AXES]
            _, shell = boxes.layers(region, tuple(h if wall else 0 for h, wall in zip(self.layout.halo, walled, strict=True)))  # type: ignore[arg-type]
            # Nothing but the ghosts of this field is ever touched.
            rates = State(self.layout, self.layout.zeros(len(w)), None)
            self._moving = rates, np.concatenate([boxes.for_sums(part) for part in shell])
        rates, cells = self._moving
        self.walls.rates.fill(rates, t)
        sums = np.zeros(len(cells))
        self.module.slope(w, rates.storage, arrays, scalars, cells, sums)
        return float(np.sum(sums)) * self.grid.cell_volume

    def symbol(self) -> None:
        """Not diagonalised (the linear split has its own room)."""
        return None

    def bound(self, t: float = 0.0) -> None:
        """Its Jacobian depends on the state: `System.spectral_radius` finds the radius by power iteration."""
        return None

    def estimate(self) -> Estimate:
        """One pass over fields, arrays and forces; the operations are not counted (NaN), memory limits the sweep."""
        return Estimate(float("nan"), float(self.plan.traffic(self.grid.size, self.arrays.itemsize)), float(self.arrays.nbytes))

    def _sweep(self, name: str, inputs: tuple[np.ndarray, ...], out: np.ndarray, t: float) -> None:
        arguments = (*inputs, self.arrays, self.at(t))
        if name in self.wide:
            self._driver(f"{name}_wide")(*arguments, out, True if out.nbytes > LARGE else None, self._ring, self._boxes)
        else:
            self._driver(name)(*arguments, out, self._boxes)
        if self.plan.reach:
            fold: Callable[..., None] = getattr(self.module, f"fold_{name}_box")
            for box in self._shell:
                fold(*arguments, out, self._domain, self._reach, self._factor, *box)
        if self.plan.reach or self.plan.layers:
            for face, data, box, _ in self._faces:
                getattr(self.module, f"{face}_{name}")(*arguments, data, out, *box)

    def _driver(self, name: str) -> Callable[..., None]:
        return getattr(self.module, name if self._parts == 1 else f"{name}_threads")

    @property
    def time_dependent(self) -> bool:
        """Whether the force at a state depends on the time."""
        return self.plan.time_dependent

    @property
    def drifting(self) -> bool:
        """Whether it does so within pieces of time."""
        return self.plan.drifting

    def switches(self, first: float, last: float) -> list[float]:
        """Times inside (first, last) where some source is not smooth."""
        return self.sources.switches(first, last)

    def enter(self, t: float) -> None:
        """Take up the pieces of the sources that hold t, the later ones where two meet."""
        self.load(self.sources.enter(t))

    def load(self, names: Iterable[str]) -> None:
        """Take up the values of these sources anew, as they are now."""
        mesh, interior = self.grid.mesh, self.layout.interior(self.arrays)
        for name in names:
            number = self._numbers.get(name)
            if number is None:  # a source that the density does not hold
                continue
            if name in mesh:
                interior[number] = mesh[name]
            else:
                self.sources.write(name, interior[number])
            self._surround(self.arrays[number])

    def at(self, t: float) -> np.ndarray:
        """The scalars that the sweeps take, as of time t, to which sources and walls are brought."""
        self._scalars[self._time] = t
        self.walls.at(t)
        for number, name in self._imposed:
            self._scalars[number] = self.walls.scalars[name]
        if self.sources.time_dependent:
            self.load(self.sources.follow(t))
            self._scalars[self._hidden] = self.sources.scalars(t)
        return self._scalars

    def _with_rates(self, t: float) -> np.ndarray:
        """`at`, with the rates of what moves by itself."""
        scalars = self.at(t)
        if len(self._hidden_rates):
            scalars[self._hidden_rates] = self.sources.rates(t)
        if self.walls.time_dependent:
            self.walls.rates.at(t)
            for number, name in self._imposed_rates:
                scalars[number] = self.walls.rates.scalars[name]
        return scalars

    def _area(self, axis: str) -> float:
        """Of a cell's face across an axis."""
        return self.grid.cell_volume / self.grid.spacing[self.grid.axes.index(axis)]

    def _values(self, parameters: dict[str, float]) -> np.ndarray:
        values = {f"1/h{axis}": 1.0 / h for axis, h in zip(self.grid.axes, self.grid.spacing, strict=True)}
        values |= {"t": 0.0, **parameters, **self.walls.scalars, **dict.fromkeys(self.sources.scalar_names, 0.0)}
        self._time = self.plan.scalars.index("t")
        self._imposed = [(self.plan.scalars.index(name), name) for name in self.plan.data]
        self._hidden = np.array([self.plan.scalars.index(name) for name in self.sources.scalar_names], np.int64)
        known = {name: number for number, name in enumerate(self.plan.scalars)}
        rates = {
            name: known[rate_of(name).name]
            for name in (*self.plan.data, *self.sources.scalar_names)
            if rate_of(name).name in known
        }
        self._imposed_rates = [(rates[name], name) for name in self.plan.data if name in rates]
        self._hidden_rates = np.array([rates[name] for name in self.sources.scalar_names if name in rates], np.int64)
        return np.array([values.get(name, 0.0) for name in self.plan.scalars])

    def _surround(self, array: np.ndarray) -> None:
        """Ghosts of a source in padded storage (Z, Y, X): copied round periodic axes, mirrored or extrapolated at walls."""
        for axis in range(3):
            start, n, halo = self.layout.offset[axis], self.layout.shape[axis], self.layout.halo[axis]
            lines = np.moveaxis(array, axis, 0)
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

    def _factors(self) -> np.ndarray:
        """Sign with which an image's contribution folds back, (axis, image, field)."""
        factors = np.ones((3, 3, len(self.plan.names.fields)))
        for axis in self.grid.walls:
            for image, side in enumerate(SIDES, start=1):
                for number, name in enumerate(self.plan.names.fields):
                    factors[AXES.index(axis), image, number] = self.grid.condition(axis, side, name).factor
        return factors

    def _face_box(self, axis: str, side: str, layer: int) -> tuple[int, ...]:
        """The cells `layer` cells away from those next to a face, and the step into the domain."""
        bounds = [list(pair) for pair in boxes.whole(self.layout)]
        step = [0, 0, 0]
        number = AXES.index(axis)
        start, stop = bounds[number]
        bounds[number] = [start + layer, start + layer + 1] if side == "lower" else [stop - 1 - layer, stop - layer]
        step[number] = 0 if stop - start < 2 else (1 if side == "lower" else -1)
        return (*(bound for pair in bounds for bound in pair), *step)
