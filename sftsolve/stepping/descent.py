"""The recursions of machine learning as steppers: gradient descent, heavy ball and Nesterov, step for step.

With gradient g = -F at the weights (for Nesterov, at the point looked ahead to, which is what is stored):

    descent      w <- w + alpha F
    heavy-ball   m <- beta m + F,  w <- w + alpha m
    nesterov     m <- beta m + F,  w <- w + alpha (F + beta m)

They take steps of one length, and agree with a NumPy loop to rounding. A step is one force and one pass over the arrays, or one
sweep for both where the system has such (`kernels.strides`); mini-batches may change at every step, as they do so at whole steps.

(B.T. Polyak, USSR Comput. Math. Math. Phys. 4 (1964) 1-17; Nesterov's momentum as in I. Sutskever et al., ICML 2013, with the
buffer of torch.optim.SGD, dampening 0.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from sftsolve.errors import ConfigError
from sftsolve.friction import Span
from sftsolve.loops.combine import combine
from sftsolve.loops.kicks import kick_drift_into
from sftsolve.state import State
from sftsolve.stepping.base import OneStep, Stride, flat
from sftsolve.stepping.control import Tolerance

# A step that differs from the recursion's by less is the recursion's: times are sums of steps, with their rounding.
_SAME = 1e-6


class _Recursion(OneStep):
    """What the recursions share: steps of one length, no error estimate, and what is not finite is turned down."""

    method: ClassVar[str]
    order: ClassVar[int] = 1
    error_exponent = 2
    fixed_step: float
    system: Any

    def first_step(self, state: State, tolerance: Tolerance) -> float:
        """The step in theta, which the tolerance does not change."""
        clock = self.system.clock
        return clock.theta(state.t + self.fixed_step) - clock.theta(state.t)

    def accept(self, state: State) -> None:
        """Make the last proposal the state, by exchanging storage."""
        super().accept(state)
        self._known = False

    def _finite(self) -> float:
        """No error, or NaN where the proposal is not finite."""
        return 0.0 if math.isfinite(self._sums.mean_square(self._proposal.storage)) else math.nan


class Descent(_Recursion):
    """w <- w + eta F: gradient descent with the learning rate eta(t) = 1/gamma(t), a step being 1 in t.

    It is explicit Euler for the gradient flow, of order one. Under `Friction.matching_descent(eta)` a step is eta in tau. Two
    arrays beside the state.

    Raises
    ------
    ConfigError : a dynamics other than the gradient flow
    """

    method = "descent"
    domain: ClassVar[tuple[float, ...]] = (math.inf,)
    dynamics: ClassVar[tuple[str, ...]] = ("gradient-flow",)

    def __init__(self, system: Any):
        super().__init__(system)
        if system.dynamics != "gradient-flow":
            raise ConfigError(
                "descent is a step of the gradient flow, it has no velocity",
                expected='dynamics="gradient-flow"',
                given=f'dynamics="{system.dynamics}"',
                remedy='take dynamics="gradient-flow", or heavy-ball with Friction.matching_descent(eta, momentum=...)',
            )
        matched = getattr(getattr(system.action, "friction", None), "descent", None)
        self.fixed_step = 1.0 if matched is None else matched.eta * system.clock.gamma

    @staticmethod
    def registers(damped: bool) -> int:
        """Number of arrays as large as the fields that the stepper holds beside the state."""
        return 2

    def step(self, state: State, h: float, tolerance: Tolerance) -> float:
        """Propose a step of length h in theta; 0, or NaN where it is not finite."""
        self._taken = 1
        self._span, rate = self._rate(state.t, h)
        sweeps = getattr(self.system, "sweeps", None)
        self._proposal.t = self._span.t(1.0)
        if sweeps is not None and not self._known:  # a force that nobody else asks for need not be written
            self.force_evaluations += 1
            if np.isfinite(sweeps.flow(state, self._proposal, self._start, [rate])).all():
                return 0.0
        # Also for what was not finite, so that it is found where it arose.
        force = self.force(state)
        combine(flat(self._proposal)[0], flat(state)[0], flat(force), self._numbers(rate), self._threads)
        return self._finite()

    def stride(self, state: State, times: Sequence[float], lengths: Sequence[float]) -> Stride | None:
        """Propose several steps at once, if the system has sweeps for that: see `registry.Stepper`."""
        strides = getattr(self.system, "strides", None)
        if strides is None:
            return None
        steps = [self._rate(t, h) for t, h in zip(times[:-1], lengths, strict=True)]
        squares = strides.flow(state, self._proposal, self._start, [rate for _, rate in steps])
        self.force_evaluations += len(steps)
        return self._stride(steps[-1][0].t(1.0), squares, (0, 1))

    def _rate(self, t: float, h: float) -> tuple[Span, float]:
        """The step of length h in theta from physical time t, and the learning rate there."""
        clock = self.system.clock
        span = clock.span(clock.theta(t), h)
        steps = (span.t(1.0) - t) / self.fixed_step
        return span, self.fixed_step * (1.0 if abs(steps - 1.0) < _SAME else steps) / clock.gamma_at(t)


class HeavyBall(_Recursion):
    """m <- beta m + F, w <- w + alpha m, on the damped theory that follows it: `Friction.matching_descent(alpha, beta)`.

    A step is alpha/(1 - beta) in tau. The first takes the velocity of the state for that of the theory, so that the state which
    the system makes has an empty buffer; from then on the velocity holds the buffer, and is the last difference of w (for
    Nesterov, of the points looked ahead from). Three arrays beside the state.

    Raises
    ------
    ConfigError : a gradient flow, or a friction that matches no such descent
    """

    method = "heavy-ball"
    domain: ClassVar[tuple[float, ...]] = ()
    dynamics: ClassVar[tuple[str, ...]] = ("damped",)
    _ahead: ClassVar[bool] = False

    def __init__(self, system: Any):
        super().__init__(system)
        friction = getattr(system.action, "friction", None)
        matched = getattr(friction, "descent", None)
        if not self._damped or matched is None or matched.nesterov != self._ahead:
            ahead = ", nesterov=True" if self._ahead else ""
            raise ConfigError(
                f"{self.method} steps the damped theory that follows it",
                expected=f'friction=Friction.matching_descent(eta, momentum=...{ahead}) and dynamics="damped"',
                given=f'{friction!r} and dynamics="{system.dynamics}"',
                remedy="name them so, or take descent for the gradient flow",
            )
        self.fixed_step = matched.dtau * system.clock.gamma
        beta, h = matched.momentum, self.fixed_step / system.clock.scale
        push = matched.eta / h
        move, lead = (beta * h, matched.eta) if self._ahead else (h, 0.0)
        self._factors = self._numbers(beta, push, move, lead)
        # The theory's velocity u is that of a buffer of alpha m/h = (1 + beta)/(2 beta) [u - (1 - beta)/(1 + beta) F/kappa].
        self._first = self._numbers(0.5 * (1.0 + beta), push - 0.5 * (1.0 - beta) / system.clock.kappa, move, lead)

    @staticmethod
    def registers(damped: bool) -> int:
        """Number of arrays as large as the fields that the stepper holds beside the state."""
        return 3

    def step(self, state: State, h: float, tolerance: Tolerance) -> float:
        """Propose the step, whose length in theta is h up to rounding; 0, or NaN where it is not finite."""
        self._taken = 1
        force, clock = self.force(state), self.system.clock
        self._span = clock.span(clock.theta(state.t), h)
        factors = self._factors if state.step else self._first
        kick_drift_into(flat(self._proposal), flat(state), flat(force)[0], factors, self._threads)
        self._proposal.t = self._span.t(1.0)
        return self._finite()

    def stride(self, state: State, times: Sequence[float], lengths: Sequence[float]) -> Stride | None:
        """Propose several steps at once, if the system has sweeps for that: see `registry.Stepper`."""
        strides, clock, steps = getattr(self.system, "strides", None), self.system.clock, len(lengths)
        if strides is None or not strides.swings or self._ahead:
            return None
        rows = np.array([self._first if state.step + number == 0 else self._factors for number in range(steps)], np.float64)
        # A second kick of nothing: the velocity after the first is the step's.
        factors = np.column_stack((rows[:, :2], np.ones(steps), np.zeros(steps), rows[:, 2]))
        self._copy(state)
        squares = strides.swing(self._proposal, factors)
        self.force_evaluations += steps
        return self._stride(clock.span(clock.theta(times[-2]), lengths[-1]).t(1.0), squares, (1, 0))


class Nesterov(HeavyBall):
    """m <- beta m + F, w <- w + alpha (F + beta m), w being the points looked ahead to (as torch.optim.SGD stores them).

    F is -dC/dw alone, without the term that the damped theory adds to follow this descent.
    """

    method = "nesterov"
    _ahead = True

    def _evaluate(self, state: State, out: State, t: float) -> None:
        state.t = t
        self.system.bare_force_into(state, out, t)
        self.force_evaluations += 1
