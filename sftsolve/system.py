"""discretise(action, grid) -> System: the sum of all operators on one grid, and the only thing that steppers see."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from sftsolve.action import Action
from sftsolve.codegen.plan import plan
from sftsolve.correction import Correction
from sftsolve.errors import ActionError, ConfigError, GridError, nearest
from sftsolve.friction import make_clock
from sftsolve.grid import Grid
from sftsolve.kernels.local import LocalForce
from sftsolve.kernels.protocol import Operator, Switching, changes_in_time, drifts, merged, power_of
from sftsolve.kernels.strides import Strides
from sftsolve.kernels.wall_data import WallData
from sftsolve.linear import LinearPart, linear_part
from sftsolve.sources import evaluate_on, on_grid
from sftsolve.state import Layout, State

log = logging.getLogger("sftsolve")


def discretise(action: Action, grid: Grid, order: int = 2, dynamics: str = "damped", dtype: str = "float64") -> System:
    """Bring an action onto a grid.

    Parameters
    ----------
    order : order of accuracy in space, 2, 4, 6 or 8 (walls: 2, and 4 for K/2*grad2(w) with constant K and a potential)
    dynamics : "damped" (w_tt + gamma w_t = F), "gradient-flow" (gamma w_t = F) or "slow-manifold" (gamma w_t = F and what inertia
        adds to it to first order, see `correction`)
    dtype : "float64" or "float32", of states and forces; scalars and sums are in double precision

    Raises
    ------
    ActionError : the action has no discretisation on this grid that is exact and of full order
    GridError : sources, kernels or boundary conditions do not fit
    ConfigError : unknown dynamics or dtype, friction missing
    """
    return System(action, grid, order, dynamics, dtype)


class System:
    """An action on a grid: force, cost and Jacobian of the discrete theory.

    The discrete cost C_h is a function of the cell values, and the force is its exact gradient, F = -h^-d dC_h/dw, so that every
    Jacobian is symmetric and gradient flow lowers C_h.

    Attributes
    ----------
    action, grid, order, dynamics, dtype : as given to `discretise`
    fields : names of the fields
    layout : padded storage of every state
    clock : friction bound to the dynamics
    operators : the parts of the cost
    """

    def __init__(self, action: Action, grid: Grid, order: int, dynamics: str, dtype: str):
        if dtype not in ("float64", "float32"):
            raise ConfigError("this dtype is not available", expected='"float64" or "float32"', given=repr(dtype))
        self.action, self.grid, self.order, self.dynamics, self.dtype = action, grid, order, dynamics, dtype
        self.fields = action.fields
        self.clock = make_clock(action.friction, grid.dimension, dynamics)
        self._check_boundary()
        found = plan(action, grid, order, dtype)
        halo = found.halo if found else 0
        if any(n < halo for n in grid.shape):
            raise GridError(
                "the grid is too small for this cost", expected=f"at least {halo} cells on every axis", given=grid.shape
            )
        self.layout = Layout.of(grid, halo, dtype)
        self.sources = action.bound_sources(grid)
        data, faces, layers = (found.data, found.faces, found.layers) if found else ({}, {}, 0)
        self.walls = WallData(grid, self.layout, self.fields, action.parameters, data, faces, layers, self.clock)
        self.local: LocalForce | None = None
        if found:
            self.local = LocalForce(found, grid, self.layout, action.parameters, self.sources, self.walls)
            for note in found.notes:
                log.warning("%s", note)
        self.kernels: tuple[Operator, ...] = merged([self._bind(kernel) for kernel in action.kernels])
        self._correction = self._make_correction()

    @property
    def operators(self) -> tuple[Operator, ...]:
        """The parts of the cost, the local one first."""
        return self.kernels if self.local is None else (self.local, *self.kernels)

    @cached_property
    def linear(self) -> LinearPart | None:
        """The linear part of the force that implicit and exponential steppers take out of it; None where there is none."""
        return linear_part(self.action, self.grid, self.order, self.layout, self.kernels)

    @property
    def corrected(self) -> bool:
        """Whether the force is more than -dC/dw: on the slow manifold, or where it matches descent with Nesterov's momentum."""
        return self._correction is not None

    @property
    def time_dependent(self) -> bool:
        """Whether the force at a state depends on t explicitly."""
        return self.walls.time_dependent or any(changes_in_time(operator) for operator in self.operators)

    @property
    def drifting(self) -> bool:
        """Whether it does so between `switches`, too."""
        return self.walls.time_dependent or any(drifts(operator) for operator in self.operators)

    def switches(self, first: float, last: float) -> list[float]:
        """Physical times inside (first, last), sorted, where the force or the friction jumps or has a kink: steps end there."""
        times = [operator.switches(first, last) for operator in self.operators if isinstance(operator, Switching)]
        return sorted({*self.clock.jumps(first, last)}.union(*times))

    def enter(self, t: float) -> None:
        """Let all that is smooth in pieces of time take up the piece that starts at t or holds it.

        Forces at times inside these pieces, their ends included, are smooth, so that a step that ends at a switch sees the limit
        from before; a force at any other time takes up the pieces of that time.
        """
        for operator in self.operators:
            if isinstance(operator, Switching):
                operator.enter(t)
        if self._correction is not None:
            self._correction.entered = t

    def cross(self, state: State, t: float) -> None:
        """Carry a state over a switch at physical time t, and `enter` what begins there: w and w_t are continuous.

        Where the scale of u jumps, so does u. On the slow manifold w_t is not free: w moves to where the initial layer would end
        that w_t makes behind the switch, w + eta (w_t - eta F), F with its correction.
        """
        factor, slow = self.clock.jump_factor(t), self.dynamics == "slow-manifold"
        if slow:
            before, after = self._sides
            self.force_into(state, before, t)
        self.enter(t)
        if slow:
            self.force_into(state, after, t)
            before.storage *= factor
            before.storage -= after.storage
            before.storage *= self.clock.gamma_at(t) ** -2
            state.storage += before.storage
        elif state.momentum is not None and factor != 1.0:
            state.momentum *= factor

    @cached_property
    def _sides(self) -> tuple[State, State]:
        """Room for the force on both sides of a switch."""
        return self._blank(), self._blank()

    def check_times(self, first: float, last: float) -> None:
        """See that everything from outside has a value at all physical times of a run from `first` to `last`.

        Raises
        ------
        GridError : a source or wall data that are not finite at the start
        ConfigError : a time series that is too short
        """
        self.sources.check(first, last)
        self.walls.check(first)

    def state(self, initial: Mapping[str, Any], velocity: Mapping[str, Any] | None = None, t: float = 0.0) -> State:
        """A state from values by field name: arrays of the grid's shape, numbers, or expressions of the coordinates.

        Parameters
        ----------
        initial : w of every field
        velocity : w_t of some or all fields (per unit of t whatever the clock), the others being at rest. None is at rest; the
            first step of the descent under `Friction.matching_descent`; on the slow manifold where the dynamics is that. There
            a velocity moves w to where its initial layer ends, w + eta (v - eta F)
        t : physical time

        Raises
        ------
        GridError : a field without value, of another shape or not finite
        """
        values = field_values(self.action, self.grid, initial, "initial value")
        speeds = None if velocity is None else field_values(self.action, self.grid, velocity, "velocity")
        missing = [name for name in self.fields if name not in initial]
        if missing:
            raise GridError(
                "every field needs an initial value", expected=", ".join(self.fields), given=f"none for {', '.join(missing)}"
            )
        if speeds and self.dynamics == "gradient-flow":
            raise ConfigError("a gradient flow has no velocity", given="velocity", remedy='drop it, or take dynamics="damped"')
        count = len(self.fields)
        momentum = self.layout.zeros(count) if self.dynamics == "damped" else None
        state = State(self.layout, self.layout.zeros(count), momentum, float(t))
        for number, name in enumerate(self.fields):
            state.w[number] = values[name]
        if self.dynamics != "gradient-flow":
            self._set_velocity(state, speeds)
        return state

    def _set_velocity(self, state: State, speeds: Mapping[str, np.ndarray] | None) -> None:
        """Give a state its velocity w_t: u where there is inertia, the shift of w by the initial layer on the slow manifold."""
        descent, t = self.action.friction.descent if self.action.friction else None, state.t
        eta = 1.0 / self.clock.gamma_at(t) if self.clock.gamma_at(t) > 0.0 else math.inf
        v = state.like().w
        for number, name in enumerate(self.fields):
            v[number] = (speeds or {}).get(name, 0.0)
        matching = speeds is None and descent is not None
        if matching or (self.dynamics == "slow-manifold" and speeds is not None):
            force = state.like()
            self.bare_force_into(state, force, t)
            if matching:
                v[...] = descent.start * eta * force.w  # type: ignore[union-attr]
            if self.dynamics == "slow-manifold":
                state.w[...] += eta * (v - eta * force.w)
        if state.u is not None:
            state.u[...] = v * self.clock.scale_at(t)

    def force_into(self, state: State, out: State, t: float | None = None) -> None:
        """Write F at (state, t), with what the dynamics adds to it, into ``out.w``; t is the state's own by default.

        Changes nothing but ghosts of the state, and allocates nothing.
        """
        time = state.t if t is None else t
        self.bare_force_into(state, out, time)
        if self._correction is not None:
            self._correction.add(state, out, time)

    def bare_force_into(self, state: State, out: State, time: float) -> None:
        """Write -dC/dw at (state, time) into ``out.w``, without what the dynamics adds to it."""
        if self.local is None:
            out.storage.fill(0.0)
        else:
            self.local.set_force(state, out, time)
        for operator in self.kernels:
            operator.add_force(state, out, time)

    @cached_property
    def sweeps(self) -> Strides | None:
        """Sweeps that change the fields themselves by -dC/dw, where the local cost is all there is, and arithmetic alone."""
        if self.local is None or self.kernels or self.corrected or "flow" not in self.local.wide:
            return None
        return Strides(self.local, self.walls.fill)

    @property
    def strides(self) -> Strides | None:
        """Whole steps of fixed-step methods, several at once, where there are such sweeps and forces do not depend on time."""
        return None if self.time_dependent else self.sweeps

    def kick_drift(self, state: State, a: float, b: float, c: float, t: float | None = None) -> bool:
        """u = a u + b F(w, t), then w += c u with the new u, in one sweep: 32 bytes a cell, where force and update take 56.

        A step of leapfrog is one, a stage of a low-storage Runge-Kutta method too. It is done where the local force is all there
        is, on two or three axes without folded walls, for costs that are arithmetic alone; t is the state's own by default.

        Returns
        -------
        Whether it was done; fields and velocities are untouched if not.
        """
        if self.sweeps is None or not self.sweeps.swings:
            return False
        self.sweeps.swing(state, np.array([[a, b, 1.0, 0.0, c]]), t)
        return True

    def cost_of(self, state: State, t: float | None = None) -> float:
        """The discrete cost of a state."""
        time = state.t if t is None else t
        return sum((operator.energy(state, time) for operator in self.operators), 0.0)

    def power_of(self, state: State, t: float | None = None) -> float:
        """dC/dt with the fields held fixed, within the piece of time at hand; NaN where it is not known."""
        time = state.t if t is None else t
        own = 0.0 if self.local is None else self.local.power(state, time)
        return sum((power_of(kernel, state, time) for kernel in self.kernels), own)

    def jvp_into(self, state: State, direction: State, out: State, t: float | None = None) -> None:
        """Write F'(state) direction into ``out.w``; `direction` is another state than `state`, since ghosts of the two differ."""
        time = state.t if t is None else t
        if self.local is None:
            out.storage.fill(0.0)
        else:
            self.local.set_jvp(state, direction, out, time)
        for operator in self.kernels:
            operator.add_jvp(state, direction, out, time)

    def fill_ghosts(self, state: State) -> None:
        """Set the ghost cells of w from the boundary conditions at the state's time."""
        self.walls.fill(state, state.t)

    def force(self, w: np.ndarray, t: float = 0.0) -> np.ndarray:
        """F = -dC/dw of plain arrays (field, *shape), copied in and out; where something jumps at t, the later value."""
        state = self._wrap(w, t)
        self.enter(t)
        out = state.like()
        self.bare_force_into(state, out, t)
        return out.w.copy()

    def cost(self, w: np.ndarray, t: float = 0.0) -> float:
        """The discrete cost of plain arrays (field, *shape)."""
        self.enter(t)
        return self.cost_of(self._wrap(w, t))

    def jvp(self, w: np.ndarray, dw: np.ndarray, t: float = 0.0) -> np.ndarray:
        """F'(w) dw of plain arrays (field, *shape)."""
        state, direction = self._wrap(w, t), self._wrap(dw, t)
        self.enter(t)
        out = state.like()
        self.jvp_into(state, direction, out)
        return out.w.copy()

    def spectral_radius(self, state: State, iterations: int = 30, less: LinearPart | None = None) -> float:
        """Estimate of the largest |eigenvalue| of F' at a state by power iteration on the Jacobian.

        It comes from below, within a few per cent for a discrete Laplacian; the start vector is fixed, so it is reproducible.

        Parameters
        ----------
        less : a linear part L that is taken away, for the radius of F' - L
        """
        radius = self._radius(state, iterations, less)
        if self._correction is None:
            return radius
        # The correction is f F'F', whatever is taken from F'.
        whole = radius if less is None else self._radius(state, iterations, None)
        return radius + abs(self._correction.factor(state.t)) * whole * whole

    def _radius(self, state: State, iterations: int, less: LinearPart | None) -> float:
        direction, image, part = self._blank(), self._blank(), self._blank()
        direction.w[...] = np.random.default_rng(0).standard_normal(direction.w.shape)
        radius = 0.0
        for _ in range(iterations):
            norm = float(np.sqrt(np.sum(direction.w**2)))
            if norm == 0.0 or not np.isfinite(norm):
                return radius if norm == 0.0 else norm
            direction.w[...] /= norm
            self.jvp_into(state, direction, image)
            if less is not None:
                less.apply(direction.storage, part.storage)
                image.storage -= part.storage
            radius = float(np.sqrt(np.sum(image.w**2)))
            direction, image = image, direction
        return radius

    def _blank(self) -> State:
        return State(self.layout, self.layout.zeros(len(self.fields)), None)

    def _make_correction(self) -> Correction | None:
        """What the dynamics adds to the force; None where it is nothing."""
        slow, descent = self.dynamics == "slow-manifold", self.action.friction.descent if self.action.friction else None
        hessian = descent.hessian if descent and self.dynamics != "gradient-flow" else 0.0
        if not slow and not hessian:
            return None
        zero = self._blank()
        switches = self.switches if self.time_dependent else None
        return Correction(zero, self.clock, self.bare_force_into, self.jvp_into, slow, hessian, switches)

    def _wrap(self, w: np.ndarray, t: float) -> State:
        array = np.asarray(w)
        if array.shape != (len(self.fields), *self.grid.shape):
            raise GridError(
                "the fields' array has the wrong shape",
                expected=f"shape {(len(self.fields), *self.grid.shape)}",
                given=array.shape,
            )
        return State(self.layout, self.layout.pad(array.astype(self.dtype, copy=False)), None, float(t))

    def _bind(self, kernel: Any) -> Operator:
        unknown = [name for name in kernel.fields if name not in self.fields]
        if unknown:
            raise ActionError(f"a kernel acts on unknown field {unknown[0]!r}", remedy=nearest(unknown[0], self.fields))
        return kernel.bind(self.fields, self.grid, self.layout)

    def _check_boundary(self) -> None:
        unknown = sorted(self.grid.named_fields() - set(self.fields))
        if unknown:
            raise GridError(f"the boundary names unknown field {unknown[0]!r}", remedy=nearest(unknown[0], self.fields))


def field_values(action: Action, grid: Grid, given: Mapping[str, Any], what: str = "initial value") -> dict[str, np.ndarray]:
    """Values by field name as arrays of the grid's shape, from arrays, numbers or expressions of the coordinates.

    Raises
    ------
    GridError : not a mapping, an unknown field, a value of another shape or not finite
    """
    if not isinstance(given, Mapping):
        form = f'a mapping from field names to values, such as {{"{action.fields[0]}": 0.0}}'
        raise GridError(f"the {what} is not understood", expected=form, given=repr(given)[:80])
    values = {}
    for name, value in given.items():
        if name not in action.fields:
            raise GridError(f"{what} for unknown field {name!r}", remedy=nearest(str(name), action.fields))
        if isinstance(value, str):
            value = evaluate_on(grid, value, action.parameters, f"the {what} of {name!r}")
        values[name] = on_grid(grid, name, value, f"{what} of field")
    return values
