"""What every stepper shares that moves the state in place: the proposal, the known force, counters, exchange on acceptance."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from sftsolve.friction import Clock, Span
from sftsolve.loops.combine import Arrays, Numbers, combine
from sftsolve.loops.norms import CellSums
from sftsolve.parallel import slabs
from sftsolve.state import Layout, State
from sftsolve.stepping.control import StepRule, Tolerance


class Dynamics(Protocol):
    """What a stepper sees of a `System`."""

    @property
    def layout(self) -> Layout: ...

    @property
    def fields(self) -> tuple[str, ...]: ...

    @property
    def clock(self) -> Clock: ...

    @property
    def drifting(self) -> bool:
        """Whether F moves in time by itself, other than from one piece of time to the next."""
        ...

    def force_into(self, state: State, out: Any, t: float | None = None) -> None:
        """F at (state, t) into `out.storage`; nothing of field size is allocated."""
        ...


@dataclass(frozen=True)
class Stride:
    """Several steps taken at once, as a proposal.

    Attributes
    ----------
    finite : whether everything was, at all of the steps; else there is nothing to accept
    squares : sums over fields and cells of F^2 (gradient flow) or of u^2 (damped), which tell the loss of energy, at the start
        and after every step, (n + 1,); NaN where they were not met
    """

    finite: bool
    squares: np.ndarray


class OneStep:
    """A stepper on  w_theta = u, eps u_theta = F - kappa u  (damped)  or  w_theta = F  (gradient flow, eps = 0).

    `step` (of the subclass) proposes and measures; the caller accepts, or calls `step` again with another length: the state
    changes on `accept` only, and the force at its start is kept. All storage is made in the constructor, none in a step.

    Parameters
    ----------
    system : gives the force, the layout and the clock

    Attributes
    ----------
    force_evaluations, linear_solves : work done so far
    rule : how the controller treats this method
    """

    rule = StepRule()

    def __init__(self, system: Dynamics):
        self.system = system
        layout, self._count = system.layout, len(system.fields)
        self._layout = layout
        self._damped = system.clock.damped
        # Python floats for float64: they are what compiled code takes fastest.
        self._scalar = float if layout.dtype == "float64" else np.dtype(layout.dtype).type
        self._proposal = State(layout, self._array(), self._array() if self._damped else None)
        self._sums = CellSums(layout, self._count)
        self._threads = slabs(self._proposal.storage.size)
        self._known = False
        self._taken = 1
        self._start = State(layout, self._array(), None)
        self._span: Span | None = None
        self.force_evaluations = 0
        self.linear_solves = 0

    @property
    def error_exponent(self) -> int:
        """k of err ~ h^k."""
        raise NotImplementedError

    def reset(self) -> None:
        """Forget what was kept from steps before: call it when the state was changed from outside, or the force jumped."""
        self._known = False

    def force(self, state: State) -> State:
        """The force at `state`, which is evaluated only where the last step did not leave it; read `.w` of what comes back."""
        if not self._known:
            self._evaluate(state, self._start, state.t)
            self._known = True
        return self._start

    def accept(self, state: State) -> None:
        """Make the last proposal the state, by exchanging storage; the old state is left in the proposal."""
        proposal = self._proposal
        state.storage, proposal.storage = proposal.storage, state.storage
        state.momentum, proposal.momentum = proposal.momentum, state.momentum
        state.t = proposal.t
        state.step += self._taken
        self._taken = 1

    def first_step(self, state: State, tolerance: Tolerance) -> float:
        """A cautious first step in theta, 1/100 of the time in which w changes by its own size; infinite at equilibrium."""
        size = math.sqrt(self._sums.mean_square(state.storage)) + float(tolerance.atol.mean()) / tolerance.rtol
        rate = math.sqrt(self._sums.mean_square(self.force(state).storage)) / size
        if state.momentum is not None:
            inertia = self.system.clock.eps_at(state.t)
            rate = max(math.sqrt(self._sums.mean_square(state.momentum)) / size, math.sqrt(rate / inertia))
        return 0.01 / rate if rate > 0 else math.inf

    def stable_step(self, radius: float) -> float:
        """Longest stable step in theta, the eigenvalues of the force's Jacobian lying in [-radius, 0]; infinite by default.

        Where friction varies it is that of the time which the last step has reached.
        """
        return math.inf

    def _stride(self, t: float, found: np.ndarray, unknown: tuple[int, int] = (0, 0)) -> Stride:
        """The proposal of a stride that ends at physical time t.

        Parameters
        ----------
        found : the squares that were met
        unknown : how many were not, before and after these
        """
        self._span = None  # what lies within a stride is not known
        squares = np.pad(found, unknown, constant_values=math.nan)
        self._proposal.t, self._taken, self._known = t, len(squares) - 1, False
        return Stride(bool(np.isfinite(found).all()), squares)

    def not_finite(self, state: State) -> tuple[int, tuple[int, ...]] | None:
        """Field and cell of the first value of the last proposal that is not finite, in the order in which it arose."""
        for storage in self._in_order(state):
            bad = np.argwhere(~np.isfinite(self._layout.interior(storage)))
            if len(bad):
                return int(bad[0, 0]), tuple(int(i) for i in bad[0, 1:])
        return None

    def _in_order(self, state: State) -> Iterator[np.ndarray]:
        """Padded arrays of the last step in the order in which they were computed."""
        yield state.storage
        yield self._start.storage
        for array in (self._proposal.storage, self._proposal.momentum):
            if array is not None:
                yield array

    def _array(self) -> np.ndarray:
        return self._layout.zeros(self._count)

    def _evaluate(self, state: State, out: State, t: float) -> None:
        state.t = t
        self.system.force_into(state, out, t)
        self.force_evaluations += 1

    def _leave_at(self, span: Span, c: float) -> float:
        """What turns u of the step at its fraction c into that of a state there, 0 < c < 1."""
        if not self._damped or self.system.clock.constant:
            return 1.0
        return self.system.clock.scale_at(span.t(c)) * math.sqrt(span.eps)

    def _numbers(self, *values: float) -> Numbers:
        return tuple(self._scalar(value) for value in values)

    def _copy(self, state: State) -> None:
        """Make the proposal a copy of the state."""
        for target, source in zip(flat(self._proposal), flat(state), strict=True):
            combine(target, source, (source,), self._numbers(0.0), self._threads)


def flat(state: State) -> Arrays:
    """Flat views of the fields and, where there are any, the velocities."""
    arrays = (state.storage,) if state.momentum is None else (state.storage, state.momentum)
    return tuple(array.reshape(-1) for array in arrays)
