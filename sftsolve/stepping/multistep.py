"""Semi-implicit backward differentiation with variable steps: one solve and one force a step, at any friction.

    sum_j alpha_j w_j = a^-1 (W - W*) ,   W* = -a sum_j alpha_j w_j,   a = 1/alpha_new        (and so for q = kappa w + eps u)

with N extrapolated, sum_j beta_j N_j; alpha are the weights of the derivative at the new time of the Lagrange interpolant through
it and the k times before, beta those of extrapolation (U. Ascher, S. Ruuth, B. Wetton, SIAM J. Numer. Anal. 32 (1995) 797-823;
variable steps: D. Wang, S. Ruuth, J. Comput. Math. 26 (2008) 838-855). Multistep methods have no stages whose order friction
could lower.

N is seen at the ends of steps only: of a pulse of a source that is shorter than a step, some is missed.

Underdamped modes are damped unconditionally by orders 1 and 2 only. Where eps lambda_max is too large for a higher order, and for
the first steps after the start and after every switch, the steps are those of the additive Runge-Kutta method of order 4.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sftsolve.friction import Span
from sftsolve.state import State
from sftsolve.stepping.base import flat
from sftsolve.stepping.control import StepRule, Tolerance
from sftsolve.stepping.imex import AdditiveRungeKutta
from sftsolve.stepping.implicit import Implicit

# Largest eps lambda_max / kappa^2 at which order 4 and 3 still damp underdamped modes.
_CAPS = {4: 2.9, 3: 51.0}
# Share of the distance between new state and predictor that is taken for the error. Steps of second order are many, and what they
# all miss in the same direction adds up.
_SHARE = {2: 1.5, 3: 0.5, 4: 0.5}
# While the history is young, steps that differ by more than this factor start it anew.
_EVEN = 2.0


@dataclass
class Level:
    """A state of the past: where it stood, and what is kept of it."""

    w: np.ndarray
    u: np.ndarray | None
    remainder: np.ndarray
    t: float = 0.0
    theta: float = 0.0


class Multistep(Implicit):
    """SBDF of order up to k.

    Parameters
    ----------
    system : gives the force, its linear part, the layout and the clock
    order : 2, 3 or 4
    """

    def __init__(self, system: Any, order: int):
        super().__init__(system)
        self.order, self.method = order, f"sbdf{order}"
        self._starter = AdditiveRungeKutta(system)
        # R, then G = L w of the new state; M; N of the state.
        self._right, self._remainder = self._array(), self._array()
        self._other = self._array() if self._damped else self._right
        self._free = [Level(self._array(), self._array() if self._damped else None, self._array()) for _ in range(order)]
        self._history: list[Level] = []  # the state before first
        self._split = False
        self._by_starter = True
        self._underdamped = False

    @staticmethod
    def registers(order: int, damped: bool) -> int:
        """Number of arrays as large as the fields that a stepper holds beside the state."""
        return order * (3 if damped else 2) + (6 if damped else 4) + AdditiveRungeKutta.registers(damped)

    @property
    def starting(self) -> bool:
        """Whether steps are those of the Runge-Kutta method: the history is too short, or underdamped modes ask for it."""
        return self._underdamped or len(self._history) < self.order

    @property
    def error_exponent(self) -> int:
        """k of err ~ h^k."""
        return self._starter.error_exponent if self.starting else self.order + 1

    @property
    def rule(self) -> StepRule:  # type: ignore[override]
        """Steps of a multistep method grow slowly."""
        return self._starter.rule if self.starting else StepRule(growth=1.5, dead_band=1.15)

    def reset(self) -> None:
        self._starter.reset()
        self._forget()
        self._split = False

    def force(self, state: State) -> State:
        """The force at `state`, evaluated only where the last step did not leave it; read `.w` of what comes back."""
        force = self._starter.force(state)
        self.force_evaluations = self._starter.force_evaluations
        return force

    def step(self, state: State, h: float, tolerance: Tolerance) -> float:
        """Propose a step of length h in theta; returns its error in units of the tolerance (NaN or inf where it failed)."""
        clock = self.system.clock
        self._span = clock.span(clock.theta(state.t), h)
        kappa = self._span.kappa(0.5)
        cap = _CAPS.get(self.order, math.inf)
        # Without friction nothing damps what is extrapolated.
        undamped = kappa == 0.0 or self._span.eps * self.linear.radius > cap * kappa * kappa
        self._underdamped = self._damped and self.order > 2 and undamped
        self._by_starter = self.starting
        if not self._by_starter:
            return self._propose(state, self._span, tolerance)
        before = self._starter.linear_solves
        error = self._starter.step(state, h, tolerance)
        self.linear_solves += self._starter.linear_solves - before
        self.force_evaluations = self._starter.force_evaluations
        return error

    def accept(self, state: State) -> None:
        """Make the last proposal the state, by exchanging storage; the state goes into the history."""
        span = self._span
        assert span is not None, "a step comes first"
        theta, t = self.system.clock.theta(state.t), state.t
        if self._underdamped:
            self._forget()
            self._starter.accept(state)
            self.force_evaluations = self._starter.force_evaluations
            return
        if self._by_starter:
            last = theta - self._history[0].theta if self._history else span.h
            if not 1 / _EVEN <= span.h / last <= _EVEN:
                self._forget()
            level = self._free.pop()
            level.w[...], level.remainder[...] = state.storage, self._starter.remainders[0]
            if level.u is not None:
                level.u[...] = state.momentum
            self._starter.accept(state)
            self.force_evaluations = self._starter.force_evaluations
        else:
            self._finish(span)
            level = self._history.pop()
            recycled = level.w, level.u, level.remainder
            level.w, level.u, level.remainder = state.storage, state.momentum, self._remainder
            super().accept(state)
            self._proposal.storage, self._proposal.momentum, self._remainder = recycled
            self._starter.moved()
        self._split = not self._by_starter
        level.t, level.theta = t, theta
        self._history.insert(0, level)

    def interpolate(self, state: State, c: float, out: State) -> None:
        """The fields at the fraction c of the last accepted step into `out`: the interpolant of the last k + 1 states."""
        if self._by_starter:
            self._starter.interpolate(state, c, out)
            return
        span = self._span
        assert span is not None
        levels = self._history[: self.order]
        times = [span.h, *self._times(span, levels)]
        weights = lagrange(times, c * span.h)
        self._sum(out.storage, [state.storage, *(level.w for level in levels)], weights)
        if out.momentum is not None and state.momentum is not None:
            scales = [1.0 / span.leave, *self._scales(span, levels)]
            scaled = [self._leave_at(span, c) * weight * scale for weight, scale in zip(weights, scales, strict=True)]
            arrays = [level.u for level in levels if level.u is not None]
            self._sum(out.momentum, [state.momentum, *arrays], scaled)

    def _propose(self, state: State, span: Span, tolerance: Tolerance) -> float:
        self._begin(state)
        k = self.order
        start = Level(state.storage, state.momentum, self._remainder, state.t, self.system.clock.theta(state.t))
        levels = [start, *self._history[: k - 1]]
        times = self._times(span, levels)
        slopes = derivative([span.h, *times], span.h)
        a = 1.0 / slopes[0]
        extrapolated = lagrange(times, span.h)
        self._form(levels, [-a * slope for slope in slopes[1:]], [a * beta for beta in extrapolated], a, span)

        past = [start, *self._history[:k]]
        predictor = lagrange(self._times(span, past), span.h)
        self._sum(self._proposal.storage, [level.w for level in past], predictor)
        kappa = span.kappa(0.5)
        self._solve(self._right, a * a / (span.eps + kappa * a), self._proposal.storage, tolerance)
        self._a, self._proposal.t = a, span.t(1.0)

        terms = [self._proposal.storage, *(level.w for level in past)]
        share = _SHARE[self.order]
        padded, weights = self._padded(terms, [share, *(-share * weight for weight in predictor)])
        ends = (flat(state)[0], flat(self._proposal)[0])
        return self._sums.error(ends, padded, self._numbers(*weights), self._numbers(tolerance.rtol), tolerance.atol)

    def _begin(self, state: State) -> None:
        """N of the state into its register: F less the L w that the solve left, or that is applied."""
        if self._split:
            force = self.force(state).storage
            self._sum(self._remainder, [force, self._right], [1.0, -1.0])
            self._split = False
        elif self._starter.begin(state):
            self.force_evaluations = self._starter.force_evaluations
            self._remainder[...] = self._starter.remainders[0]

    def _form(self, levels: list[Level], fields: list[float], pushes: list[float], a: float, span: Span) -> None:
        """R (and M) of the step from the weights a alpha of the past fields and a beta of their N."""
        ws, remainders = [level.w for level in levels], [level.remainder for level in levels]
        if not self._damped:
            self._sum(self._right, [*ws, *remainders], [*fields, *pushes])
            return
        kappa, clock = span.kappa(0.5), self.system.clock
        scales = self._scales(span, levels)
        drags = [0.0 if clock.constant else clock.gamma_at(level.t) / span.scale - kappa for level in levels]
        moves = [
            (span.eps * field - push * drag) * scale
            for field, push, drag, scale in zip(fields, pushes, drags, scales, strict=True)
        ]
        sums = [*(0.0 for _ in ws), *moves, *pushes]
        share = a / (span.eps + kappa * a)
        us = [level.u for level in levels if level.u is not None]
        rights = [share * total + own for total, own in zip(sums, [*fields, *(0.0 for _ in sums[len(ws) :])], strict=True)]
        self._two_sums((self._right, self._other), [*ws, *us, *remainders], rights, sums)

    def _finish(self, span: Span) -> None:
        """G and U of the new state from its solve; G takes the place of R."""
        a, kappa, last = self._a, span.kappa(0.5), self._proposal
        d = span.eps + kappa * a
        sigma = a * a / d
        if last.momentum is None:
            self._sum(self._right, [self._right, last.storage], [-1.0 / sigma, 1.0 / sigma])
            return
        fields = [self._right, last.storage, self._other]
        changed = [span.leave * weight for weight in (-1.0 / a, 1.0 / a, 1.0 / d)]
        self._two_sums((self._right, last.momentum), fields, [-1.0 / sigma, 1.0 / sigma, 0.0], changed)

    def _times(self, span: Span, levels: list[Level]) -> list[float]:
        """Where levels stand in the step's own time, zero at its start."""
        if not self._damped:
            start = self.system.clock.theta(span.t(0.0))
            return [level.theta - start for level in levels]
        return [(level.t - span.t(0.0)) / span.scale for level in levels]

    def _scales(self, span: Span, levels: list[Level]) -> list[float]:
        """What turns u of a level into that of the step."""
        clock = self.system.clock
        return [1.0 if clock.constant else span.scale / clock.scale_at(level.t) for level in levels]

    def _forget(self) -> None:
        self._free += self._history
        self._history = []

    def _in_order(self, state: State) -> Iterator[np.ndarray]:
        if self._by_starter:
            yield from self._starter._in_order(state)
            return
        yield state.storage
        yield self._remainder
        yield self._right
        yield self._proposal.storage


def lagrange(points: Sequence[float], at: float) -> list[float]:
    """Weights of the values at `points` in their interpolant at `at`."""
    return [
        math.prod((at - other) / (point - other) for m, other in enumerate(points) if m != n) for n, point in enumerate(points)
    ]


def derivative(points: Sequence[float], at: float) -> list[float]:
    """Weights of the values at `points` in the derivative of their interpolant at the point `at` among them."""
    weights = []
    for n, point in enumerate(points):
        others = [other for m, other in enumerate(points) if m != n]
        if point == at:
            weights.append(sum(1.0 / (at - other) for other in others))
        else:
            rest = [(at - other) / (point - other) for other in others if other != at]
            weights.append(math.prod(rest) / (point - at))
    return weights
