"""Explicit embedded Runge-Kutta steps, in place, for the scaled equation of both dynamics (`friction.Clock`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Protocol

import numpy as np

from sftsolve.friction import Clock
from sftsolve.loops.combine import Arrays, Numbers, combine, combine_pair
from sftsolve.loops.norms import CellSums
from sftsolve.parallel import slabs
from sftsolve.state import Layout, State
from sftsolve.stepping.control import Tolerance
from sftsolve.stepping.stiffness import stable_step
from sftsolve.stepping.tableaus import Tableau


class Dynamics(Protocol):
    """What a stepper sees of a `System`."""

    @property
    def layout(self) -> Layout: ...

    @property
    def fields(self) -> tuple[str, ...]: ...

    @property
    def clock(self) -> Clock: ...

    def force_into(self, state: State, out: Any, t: float | None = None) -> None:
        """F at (state, t) into `out.storage`; nothing of field size is allocated."""
        ...


class ExplicitRungeKutta:
    """One explicit pair on  w_theta = u, eps u_theta = F - kappa u  (damped)  or  w_theta = F  (gradient flow, eps = 0).

    `step` proposes and measures; the caller accepts, or calls `step` again with another length: the state changes on `accept`
    only, and the force at its start is kept. All storage is made here, none in a step.

    The error of a damped step is that of w and of the momentum-carrying w + eps u, both in units of the tolerance of w, since u
    itself is meaningless to test where friction slaves it to the force; for gamma < 1 it is that of w and of the velocity, whose
    scale is ``atol + rtol |v| + gamma (atol + rtol |w|)``.

    Parameters
    ----------
    system : gives the force, the layout and the clock
    tableau : the coefficients

    Attributes
    ----------
    force_evaluations, linear_solves : work done so far
    """

    linear_solves = 0

    def __init__(self, system: Dynamics, tableau: Tableau):
        self.system = system
        self.tableau = tableau
        layout, count = system.layout, len(system.fields)
        self._damped = system.clock.eps > 0
        # Python floats for float64: they are what compiled code takes fastest.
        self._scalar = float if layout.dtype == "float64" else np.dtype(layout.dtype).type
        self._forces = [State(layout, layout.zeros(count), None) for _ in range(tableau.stages)]
        self._proposal = State(layout, layout.zeros(count), layout.zeros(count) if self._damped else None)
        # U of the stages between; that of the first is the state's, that of the last the proposal's.
        self._between = [layout.zeros(count) for _ in range(tableau.stages - 2)] if self._damped else []
        self._rows = [_used(row, self._scalar) for row in tableau.a]
        self._abscissae = [float(abscissa) for abscissa in tableau.c]
        self._error_row = _used(tableau.error_weights, self._scalar)
        self._sums = CellSums(layout, count)
        self._threads = slabs(self._proposal.storage.size)
        self._known = False
        self.force_evaluations = 0

    @staticmethod
    def registers(tableau: Tableau, damped: bool) -> int:
        """Number of arrays as large as the fields that a stepper holds beside the state."""
        return tableau.stages + 1 + (tableau.stages - 1 if damped else 0)

    @property
    def method(self) -> str:
        return self.tableau.method

    @property
    def error_exponent(self) -> int:
        """k of err ~ h^k."""
        return self.tableau.embedded + 1

    def reset(self) -> None:
        """Forget the force at the state's place: call it when the state was changed from outside."""
        self._known = False

    def force(self, state: State) -> State:
        """The force at `state`, which is evaluated only where the last step did not leave it; read `.w` of what comes back."""
        if not self._known:
            self._evaluate(state, self._forces[0], state.t)
            self._known = True
        return self._forces[0]

    def step(self, state: State, h: float, tolerance: Tolerance) -> float:
        """Propose a step of length h in theta; returns its error in units of the tolerance (NaN or inf where it failed)."""
        self.force(state)
        clock = self.system.clock
        theta = clock.theta(state.t)
        base, out = _flat(state), _flat(self._proposal)
        forces = [force.storage.reshape(-1) for force in self._forces]
        velocities = [*base[1:], *(u.reshape(-1) for u in self._between), *out[1:]]
        for stage in range(1, self.tableau.stages):
            target = (out[0], velocities[stage]) if self._damped else out
            self._combine(self._rows[stage], h, base, target, velocities, forces)
            self._evaluate(self._proposal, self._forces[stage], clock.t(theta + self._abscissae[stage] * h))
        self._proposal.t = clock.t(theta + h)
        chosen, weights = self._error_row
        families = (velocities, forces) if self._damped else (forces,)
        terms = tuple(family[stage] for family in families for stage in chosen)
        ends = tuple(array for pair in zip(base, out, strict=True) for array in pair)
        return self._sums.error(ends, terms, weights, self._rule(h, tolerance.rtol), tolerance.atol)

    def accept(self, state: State) -> None:
        """Make the last proposal the state, by exchanging storage."""
        proposal, forces = self._proposal, self._forces
        state.storage, proposal.storage = proposal.storage, state.storage
        state.momentum, proposal.momentum = proposal.momentum, state.momentum
        forces[0], forces[-1] = forces[-1], forces[0]
        state.t = proposal.t
        state.step += 1

    def first_step(self, state: State, tolerance: Tolerance) -> float:
        """A cautious first step in theta, 1/100 of the time in which w changes by its own size; infinite at equilibrium."""
        size = math.sqrt(self._sums.mean_square(state.storage)) + float(tolerance.atol.mean()) / tolerance.rtol
        rate = math.sqrt(self._sums.mean_square(self.force(state).storage)) / size
        if state.momentum is not None:
            rate = max(math.sqrt(self._sums.mean_square(state.momentum)) / size, math.sqrt(rate / self.system.clock.eps))
        return 0.01 / rate if rate > 0 else math.inf

    def stable_step(self, radius: float) -> float:
        """Longest stable step in theta, the eigenvalues of the force's Jacobian lying in [-radius, 0]."""
        return stable_step(self.tableau, self.system.clock, radius)

    def not_finite(self, state: State) -> tuple[int, tuple[int, ...]] | None:
        """Field and cell of the first value of the last proposal that is not finite, in the order in which it arose."""
        stages = [state.storage]
        for stage, force in enumerate(self._forces):
            stages += [force.storage, *self._between[stage : stage + 1]]
        stages += [array for array in (self._proposal.storage, self._proposal.momentum) if array is not None]
        for storage in stages:
            bad = np.argwhere(~np.isfinite(self.system.layout.interior(storage)))
            if len(bad):
                return int(bad[0, 0]), tuple(int(i) for i in bad[0, 1:])
        return None

    def _evaluate(self, state: State, out: State, t: float) -> None:
        state.t = t
        self.system.force_into(state, out, t)
        self.force_evaluations += 1

    def _combine(
        self, row: _Row, h: float, base: Arrays, out: Arrays, velocities: Sequence[np.ndarray], forces: Sequence[np.ndarray]
    ) -> None:
        """Fields (and velocities) of a stage from those of the stages that its row names."""
        chosen, weights = row
        terms = tuple(forces[stage] for stage in chosen)
        if self._damped:
            clock = self.system.clock
            factors = self._numbers(h, h / clock.eps, clock.kappa)
            combine_pair(out, base, tuple(velocities[stage] for stage in chosen), terms, weights, factors, self._threads)
        else:
            combine(out[0], base[0], terms, self._numbers(*(h * weight for weight in weights)), self._threads)

    def _rule(self, h: float, rtol: float) -> Numbers:
        """How `CellSums.error` weighs the errors; the choice is explained above (class docstring)."""
        if not self._damped:
            return self._numbers(h, rtol)
        kappa = self.system.clock.kappa
        mix, own, share = (1.0, 0.0, 1.0) if kappa >= 1 else (0.0, 1.0, kappa)
        return self._numbers(h, rtol, kappa, mix, own, share)

    def _numbers(self, *values: float) -> Numbers:
        return tuple(self._scalar(value) for value in values)


_Row = tuple[tuple[int, ...], Numbers]


def _used(row: Sequence[Fraction | float], scalar: type) -> _Row:
    """Numbers of the stages with a weight, and their weights."""
    chosen = tuple(stage for stage, weight in enumerate(row) if weight)
    return chosen, tuple(scalar(float(row[stage])) for stage in chosen)


def _flat(state: State) -> Arrays:
    """Flat views of the fields and, where there are any, the velocities."""
    arrays = (state.storage,) if state.momentum is None else (state.storage, state.momentum)
    return tuple(array.reshape(-1) for array in arrays)
