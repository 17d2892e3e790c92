"""Additive Runge-Kutta steps: the linear part and friction implicitly, the rest explicitly, at any friction.

The pairs of C. A. Kennedy and M. H. Carpenter (Appl. Numer. Math. 44 (2003) 139-181) on (w, q), see `stepping.implicit`. Their
last stage is only of second order in N; where friction slaves w to q a step would end there. A closing move restores the order:
with dq = h sum (b - aE_s)_j N_j, theta = kappa a/(eps + kappa a), chi = [1 - (1 - theta)^3]^24 and
dn = N(W_s + theta^2 dq/kappa) - sum n_j N_j

    w_1 = W_s + chi (dq - eps dn)/kappa,     u_1 = U_s + ((1 - chi) dq + chi eps dn)/eps;

it vanishes for linear problems, leaves the classical order where friction is weak, and is exact where it is infinite.

The second stage takes N as it is at the start; where N moves with the time scale of stiff modes or of friction still shorter, as
by a wall that moves, all later stages suffer, and the step is of low order. So that stage is given the trend of N, from the
second stage of the step before: h^2/8 dN/dt beside h/2 N. To move a linear function of time from the explicit to the implicit
part leaves every order as it is. A first step takes the trend that the force has by itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from sftsolve.friction import Span
from sftsolve.state import State
from sftsolve.stepping.additive import AdditiveTableau, additive
from sftsolve.stepping.base import flat
from sftsolve.stepping.control import StepRule, Tolerance
from sftsolve.stepping.implicit import Implicit

_SHARPNESS = 24


class AdditiveRungeKutta(Implicit):
    """One additive pair; five solves and seven forces a step for six stages.

    The error is that of w after an implicit stage has filtered it, (eps e_w + a e_q)/(eps + kappa a); for gamma < 1 that of the
    velocity counts too.

    Parameters
    ----------
    system : gives the force, its linear part, the layout and the clock
    tableau : the coefficients
    """

    rule = StepRule(dead_band=1.1)

    def __init__(self, system: Any, tableau: AdditiveTableau | None = None):
        super().__init__(system)
        self.tableau = tableau or additive("ark436")
        self.method, self.order = self.tableau.method, self.tableau.order
        stages = self.tableau.stages
        self.remainders = [self._array() for _ in range(stages)]
        self.linears = [self._array() for _ in range(stages)]
        self._velocities = [self._array() for _ in range(stages - 1)] if self._damped else []
        self._stage = State(self._layout, self.remainders[0], None)  # of whichever register is to take a force
        # dN/dt, and how long ago in theta the second stage was that the next one will be taken from; 0 where there was none.
        self._trend, self._ago = self._array(), 0.0
        self._begun = self._resolved = self._layer = self._open = self._trending = False
        self._drag = 0.0
        self._momentum: np.ndarray | None = None

    @staticmethod
    def registers(damped: bool) -> int:
        """Number of arrays as large as the fields that a stepper holds beside the state."""
        return 13 + (5 if damped else 0) + (2 if damped else 1) + 1

    @property
    def error_exponent(self) -> int:
        """k of err ~ h^k."""
        return self.tableau.embedded + 1

    def reset(self) -> None:
        super().reset()
        self._begun = self._resolved = False
        self._ago = 0.0

    def begin(self, state: State) -> bool:
        """Split the force at the state into N and L w, held by the first of `remainders` and `linears`; False where they were."""
        if self._begun:
            return False
        force = self.force(state)
        self.linear.apply(state.storage, self.linears[0])
        self._sum(self.remainders[0], [force.storage, self.linears[0]], [1.0, -1.0])
        if self._ago:
            self._sum(self._trend, [self.remainders[0], self.remainders[1]], [1.0 / self._ago, -1.0 / self._ago])
        self._begun = True
        return True

    def moved(self) -> None:
        """Forget what belongs to the state, which another method has moved."""
        self._known = self._begun = False
        self._ago = 0.0

    def step(self, state: State, h: float, tolerance: Tolerance) -> float:
        """Propose a step of length h in theta; returns its error in units of the tolerance (NaN or inf where it failed)."""
        self.begin(state)
        clock = self.system.clock
        span = self._span = clock.span(clock.theta(state.t), h)
        # N at the start lacks the friction that varies within the step, which only the span knows: -drag u.
        self._drag = span.enter * (span.kappa(0.0) - span.kappa(0.5)) if self._damped else 0.0
        self._momentum = state.momentum
        self._trending = self._ago > 0.0 or self.system.drifting
        if self._trending and not self._ago:
            self._look_ahead(state, span)
        self._proposal.storage[...] = state.storage  # the first guess
        for number in range(1, self.tableau.stages):
            self._advance(state, number, span, tolerance)
        error = self._error(state, span, tolerance)
        self._open = True
        if error <= 1.0:
            self._close(span)
        self._proposal.t = span.t(1.0)
        return error

    def accept(self, state: State) -> None:
        """Make the last proposal the state, by exchanging storage."""
        if self._open and self._span is not None:
            self._close(self._span)
            self._proposal.t = self._span.t(1.0)
        super().accept(state)
        # The step just taken began with any velocity where it is the first.
        self._layer, self._resolved = not self._resolved, True
        self._known = self._begun = False
        if self._span is not None:
            self._ago = (1.0 - float(self.tableau.c[1])) * self._span.h

    def interpolate(self, state: State, c: float, out: State) -> None:
        """The fields at the fraction c of the last accepted step into `out`, order 3: the cubic of both ends.

        The velocity at the start of a run need not be the slaved one, which it takes after a layer that no step resolves: there
        the slope is that of an implicit step, (eps u + h F)/(eps + kappa h).
        """
        span = self._span
        assert span is not None, "a step comes first"
        force = [self.remainders[0], self.linears[0]]
        if state.momentum is None:
            slopes = force, [1.0, 1.0]
        else:
            assert self._proposal.momentum is not None
            mixed = span.eps + span.kappa(0.0) * span.h if self._layer else 1.0
            weights = [span.enter * span.eps / mixed, span.h / mixed, span.h / mixed] if self._layer else [span.enter, 0.0, 0.0]
            slopes = [self._proposal.momentum, *force], weights
        self._hermite(state, span, c, out, slopes)

    def _look_ahead(self, state: State, span: Span) -> None:
        """Take the trend from how the force moves at the state by itself, up to the second stage."""
        now, c = state.t, float(self.tableau.c[1])
        self._stage.storage = self._trend
        self._evaluate(state, self._stage, span.t(c))
        state.t = now
        force, apart = self.force(state), c * span.h
        self._sum(self._trend, [self._trend, force.storage], [1.0 / apart, -1.0 / apart])

    def _advance(self, state: State, number: int, span: Span, tolerance: Tolerance) -> None:
        """One stage: W into the proposal, its N, G and U into the registers."""
        table, h = self.tableau, span.h
        explicit, implicit = table.explicit[number], table.implicit[number]
        a, kappa = h * float(implicit[-1]), span.kappa(0.5)
        earlier = range(number)
        remainder, linear = self.remainders[number], self.linears[number]
        pushes = [h * float(explicit[j]) for j in earlier] + [h * float(implicit[j]) for j in earlier]
        terms = [*self.remainders[:number], *self.linears[:number]]
        if number == 1 and self._trending:
            pushes.append(h * h * self.tableau.trend[0])
            terms.append(self._trend)
        t = span.t(float(table.c[number]))
        if not self._damped:
            self._sum(linear, [state.storage, *terms], [1.0, *pushes])
            self._solve(linear, a, self._proposal.storage, tolerance)
            # R becomes G in place.
            self._sum(linear, [linear, self._proposal.storage], [-1.0 / a, 1.0 / a])
            self._stage.storage = remainder
            self._evaluate(self._proposal, self._stage, t)
            self._sum(remainder, [remainder, linear], [1.0, -1.0])
            return
        assert state.momentum is not None
        d = span.eps + kappa * a
        sigma = a * a / d
        velocity = self._velocities[number - 1]
        moves = [h * float(implicit[j]) for j in earlier]
        moves[0] *= span.enter
        sums = [
            span.enter * span.eps - kappa * moves[0] - self._drag * pushes[0],
            *pushes,
            *(-kappa * move for move in moves[1:]),
        ]
        rights = [moves[0], *(0.0 for _ in terms), *moves[1:]]
        rights = [right + a / d * total for right, total in zip(rights, sums, strict=True)]
        arrays = [state.storage, state.momentum, *terms, *self._velocities[: number - 1]]
        self._two_sums((linear, velocity), arrays, [1.0, *rights], [0.0, *sums])
        self._solve(linear, sigma, self._proposal.storage, tolerance)
        # R and M become G and U in place.
        fields = [linear, self._proposal.storage, velocity]
        self._two_sums((linear, velocity), fields, [-1.0 / sigma, 1.0 / sigma, 0.0], [-1.0 / a, 1.0 / a, 1.0 / d])
        self._stage.storage = remainder
        self._evaluate(self._proposal, self._stage, t)
        drag = span.kappa(float(table.c[number])) - kappa
        self._sum(remainder, [remainder, linear, velocity], [1.0, -1.0, -drag])

    def _error(self, state: State, span: Span, tolerance: Tolerance) -> float:
        h, a, kappa = span.h, span.h * self.tableau.diagonal, span.kappa(0.5)
        weights = [h * weight for weight in self.tableau.error_weights]
        chosen = [j for j, weight in enumerate(weights) if weight]
        forces = [array.reshape(-1) for family in (self.remainders, self.linears) for array in (family[j] for j in chosen)]
        pushes = [weights[j] for j in chosen] * 2
        ends = (flat(state)[0], flat(self._proposal)[0])
        rtol = self._numbers(tolerance.rtol)
        if not self._damped:
            return self._rms(ends, forces, pushes, rtol, tolerance)
        velocities = [flat(state)[1], *(velocity.reshape(-1) for velocity in self._velocities)]
        moves = [weights[0] * span.enter, *weights[1:]]
        drags = [moves[j] for j in chosen]
        terms = [*forces, *(velocities[j] for j in chosen)]
        d = span.eps + kappa * a
        dragged = [-self._drag * weights[0] if j == 0 else 0.0 for j in chosen]
        filtered = [a / d * push for push in pushes]
        filtered += [span.eps / d * move + a / d * drag for move, drag in zip(drags, dragged, strict=True)]
        error = self._rms(ends, terms, filtered, rtol, tolerance)
        if kappa >= 1:
            return error
        changed = pushes + [drag - kappa * move for move, drag in zip(drags, dragged, strict=True)]
        ends = (velocities[0], velocities[-1])
        return max(error, self._rms(ends, terms, [change / span.eps for change in changed], rtol, tolerance))

    def _rms(self, ends: Any, terms: list[np.ndarray], weights: list[float], rtol: Any, tolerance: Tolerance) -> float:
        return self._sums.error(ends, tuple(terms), self._numbers(*weights), rtol, tolerance.atol)

    def _close(self, span: Span) -> None:
        """The closing move; the new state into the proposal."""
        self._open = False
        h, kappa, last = span.h, span.kappa(0.5), self._proposal
        a = h * self.tableau.diagonal
        lacking, limit = [h * weight for weight in self.tableau.closing_weights], [*self.tableau.limit_weights]
        held = [*self.remainders]
        if self._trending:
            held.append(self._trend)
            lacking.append(0.0)
            limit.append(h * self.tableau.trend[1])
        if self._drag and self._momentum is not None:
            held.append(self._momentum)
            for weights in (lacking, limit):
                weights.append(-self._drag * weights[0])
        if not self._damped:
            self._sum(last.storage, [last.storage, *self.remainders], [1.0, *lacking[: self.tableau.stages]])
            return
        assert last.momentum is not None
        velocity = self._velocities[-1]
        theta = kappa * a / (span.eps + kappa * a)
        rest = (span.eps / (span.eps + kappa * a)) ** 3
        chi = math.exp(_SHARPNESS * math.log1p(-rest)) if rest < 1 else 0.0
        kept = -math.expm1(_SHARPNESS * math.log1p(-rest)) / span.eps if rest < 1 else 1.0 / span.eps
        if chi < 1e-17:
            self._sum(last.momentum, [velocity, *held], [span.leave, *(span.leave / span.eps * w for w in lacking)])
            return
        probe = self._stage
        probe.storage = self._velocities[0]  # no longer needed
        trial = State(self._layout, self._velocities[1], None)
        self._sum(trial.storage, [last.storage, *held], [1.0, *(theta**2 / kappa * w for w in lacking)])
        self._evaluate(trial, probe, span.t(1.0))
        # dn = F - L W - drag U - sum n_j N_j at the trial; L of the move is left to the next step.
        self.linear.apply(trial.storage, self._velocities[2])
        drag = span.kappa(1.0) - kappa
        terms = [last.storage, velocity, probe.storage, self._velocities[2], *held]
        pull = [0.0, -drag, 1.0, -1.0, *(-n for n in limit)]
        moved = [chi / kappa * (w - span.eps * n) for w, n in zip([0.0] * 4 + lacking, pull, strict=True)]
        changed = [kept * w + chi * n for w, n in zip([0.0] * 4 + lacking, pull, strict=True)]
        moved[0] += 1.0
        changed[1] += 1.0
        self._two_sums((last.storage, last.momentum), terms, moved, [span.leave * change for change in changed])

    def _in_order(self, state: State) -> Iterator[np.ndarray]:
        yield state.storage
        yield self._start.storage
        for number in range(self.tableau.stages):
            yield self.linears[number]
            yield self.remainders[number]
        yield self._proposal.storage
