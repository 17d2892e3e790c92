"""`rk4-friction`: Krogstad's exponential step with friction exact in every cell, the whole force explicit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sftsolve.friction import Span
from sftsolve.loops.combine import combine, combine_both
from sftsolve.loops.losses import lost_in_cells
from sftsolve.loops.responses import response
from sftsolve.state import State
from sftsolve.stepping.base import Dynamics, flat
from sftsolve.stepping.control import Tolerance
from sftsolve.stepping.exponential import ExponentialRungeKutta, drag_beside
from sftsolve.stepping.exponential_tableau import ERROR, MISSED, PARABOLA, STAGES, Row, parabola_at, parabola_over

# kappa h/eps below which friction changes little within a step.
_RESOLVED = 0.1


class FrictionExact(ExponentialRungeKutta):
    """`rk4-friction`: exact friction, the whole force explicit. For forces that are not stiff, at any friction; no solve.

    Gradient flow: the classical Runge-Kutta method with Krogstad's error estimate.
    """

    def __init__(self, system: Dynamics, method: str = "rk4-friction"):
        super().__init__(system)
        self.method = method
        self._forces = [self._start, *(State(self._layout, self._array(), None) for _ in range(STAGES))]
        self._stage_force = self._forces[1]
        if self._moving:
            self._at_between = State(self._layout, self._array(), self._array() if self._damped else None)
            self._seen = State(self._layout, self._array(), None)

    @staticmethod
    def registers(damped: bool) -> int:
        """Number of arrays as large as the fields that a stepper holds beside the state."""
        return STAGES + 1 + (2 if damped else 1)

    @staticmethod
    def watching(damped: bool) -> int:
        """Arrays that it holds more where forces move by themselves."""
        return 3 if damped else 2

    def accept(self, state: State) -> None:
        super().accept(state)
        first, last = self._forces[0], self._forces[STAGES]
        first.storage, last.storage = last.storage, first.storage

    def stable_step(self, radius: float) -> float:
        """Longest stable step in theta: |h lambda| of the slow root at most 2.5 (the limits on the axes are 2.78 and 2.83)."""
        clock, t = self.system.clock, self._proposal.t
        eps, kappa = clock.eps_at(t), clock.kappa_at(t)
        square = kappa**2 - 4 * eps * radius
        rate = 2 * radius / (kappa + square**0.5) if square > 0 else (radius / eps) ** 0.5
        return 2.5 / rate if rate > 0 else float("inf")

    def _begin(self, state: State) -> None:
        self.force(state)
        self._base = state
        self._stage_force = self._forces[1]

    def _propagator(self, span_length: float, span: Span) -> tuple[float, tuple[float, float, float, float]]:
        return span_length, response(span_length, span.eps, span.kappa(0.5), 0.0)

    def _form(self, row: Row, span: Span, target: State, final: bool) -> None:
        weights = tuple(tuple(float(w) for w in phi) for phi in row.weights)
        leave = span.leave if final else 1.0
        self._combine(weights, row.chosen, self._propagators[float(row.c)], span, self._base, target, leave)

    def _combine(
        self,
        weights: tuple[tuple[float, ...], ...],
        chosen: tuple[int, ...],
        propagator: tuple[float, tuple[float, float, float, float]],
        span: Span,
        base: State,
        target: State,
        leave: float,
    ) -> None:
        length, (g, p1, p2, p3) = propagator
        forces = tuple(self._forces[j].storage.reshape(-1) for j in chosen)
        moves = [p1 * weights[j][0] + p2 * weights[j][1] + p3 * weights[j][2] for j in chosen]
        if not self._damped:
            combine(flat(target)[0], flat(base)[0], forces, self._numbers(*moves), self._threads)
            return
        pushes = [g * weights[j][0] + (p1 * weights[j][1] + p2 * weights[j][2]) / length for j in chosen]
        # N_1 = F_1 - drag u: the first force is kept as it is, its drag goes with u.
        drag = drag_beside(span, 0.0)
        move = span.eps * g - (drag * moves[0] if chosen[0] == 0 else 0.0)
        keep = 1.0 - span.kappa(0.5) * g - (drag * pushes[0] if chosen[0] == 0 else 0.0)
        factors = (1.0, span.enter * move, *moves, 0.0, leave * span.enter * keep, *(leave * push for push in pushes))
        combine_both(flat(target), (*flat(base), *forces), self._numbers(*factors), self._threads)

    def _take(self, number: int, span: Span, c: float) -> None:
        if number == STAGES:
            return
        drag = drag_beside(span, c)
        if drag and self._proposal.momentum is not None:
            force = self._stage_force.storage.reshape(-1)
            combine(force, force, flat(self._proposal)[1:], self._numbers(-drag), self._threads)
        self._stage_force = self._forces[number + 1]

    def _look_between(self, span: Span, c: float) -> None:
        between, drag = self._at_between, drag_beside(span, c)
        self._combine(parabola_over(c), PARABOLA, self._propagator(c * span.h, span), span, self._base, between, 1.0)
        self._evaluate(between, self._seen, span.t(c))
        seen, *forces = (force.storage.reshape(-1) for force in (self._seen, *self._forces[:STAGES]))
        on_parabola = [MISSED * weight for weight in parabola_at(c)]
        terms, weights = (seen, *forces), [-MISSED, *on_parabola]
        if between.momentum is not None:
            # N = F - drag u, there and at the start.
            terms = (*terms, flat(between)[1], flat(self._base)[1])
            weights += [MISSED * drag, -on_parabola[0] * span.enter * drag_beside(span, 0.0)]
        combine(seen, forces[-1], terms, self._numbers(*weights), self._threads)

    def _error(self, state: State, span: Span, tolerance: Tolerance) -> float:
        length, (_, p1, p2, p3) = self._propagators[1.0]
        one = self._seen if self._moving else self._forces[STAGES - 1]
        terms = tuple(force.storage.reshape(-1) for force in (one, self._forces[STAGES]))
        move = ERROR[1] * p2 + ERROR[2] * p3
        if not self._damped:
            return self._weigh(state, span, tolerance, terms, self._numbers(move, -move))
        push = span.eps * (ERROR[1] * p1 + ERROR[2] * p2) / length
        # N(y_1) = F - drag u, and F is kept as it is.
        drag, velocity = drag_beside(span, 1.0) / span.leave, flat(self._proposal)[1]
        weights = self._numbers(move, -move, drag * move, push, -push, drag * push, 0.0, 0.0, 0.0)
        return self._weigh(state, span, tolerance, (*terms, velocity, *terms, velocity), weights)

    def tells(self, h: float) -> bool:
        """Whether `lost` tells of a step of length h: not where friction varies, nor where steps resolve what it does, and their
        ends tell as much.
        """
        clock = self.system.clock
        return self._damped and clock.constant and clock.kappa * h >= _RESOLVED * clock.eps

    def lost(self) -> float | None:
        """int kappa |u|^2 ds over the last accepted step, mean over fields and cells, in closed form (`loops.losses`)."""
        span = self._span
        assert span is not None, "a step comes first"
        if not self.tells(span.h):
            return None
        kappa = span.kappa(0.5)
        # `accept` exchanged the first force with the last.
        forcings = tuple(self._forces[number].storage.reshape(-1) for number in (STAGES, *PARABOLA[1:]))
        responses, rule = self._propagator(span.h, span)[1], (span.h, span.eps, kappa)
        total = lost_in_cells(flat(self._proposal)[1], forcings, responses, rule, self._sums, self._threads)
        return total / self._sums.count

    def _between(self, span: Span, c: float, out: State) -> None:
        # `accept` exchanged the first force with the last.
        forces, propagator = self._forces, self._propagator(c * span.h, span)
        forces[0], forces[STAGES] = forces[STAGES], forces[0]
        self._combine(parabola_over(c), PARABOLA, propagator, span, self._proposal, out, self._leave_at(span, c))
        forces[0], forces[STAGES] = forces[STAGES], forces[0]

    def _in_order(self, state: State) -> Iterator[np.ndarray]:
        yield state.storage
        yield from (force.storage for force in self._forces[:STAGES])
        yield from (array for array in (self._proposal.storage, self._proposal.momentum) if array is not None)
        yield self._forces[STAGES].storage
