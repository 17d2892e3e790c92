"""Exponential Runge-Kutta steps: friction and the diagonal linear part exactly, everything else explicitly.

    w' = u,   eps u' = l w + N - kappa u     mode by mode (`etdrk4`), or with l = 0 in every cell (`rk4-friction`)

Both are S. Krogstad's method (J. Comput. Phys. 203 (2005) 72-88) on the 2 x 2 block of friction and stiffness, whose exponential
and phi functions are closed forms (`loops.responses`), so that no order is lost and no step is cut as gamma grows. The fifth
force, at the new state, serves the error estimate and the next step. Where the force moves in time by itself a sixth, between the
stages, serves the estimate: those of the stages are at three times only.
"""

from __future__ import annotations

from typing import Any

from sftsolve.friction import Span
from sftsolve.loops.combine import Arrays, Numbers
from sftsolve.state import State
from sftsolve.stepping.base import Dynamics, OneStep, flat
from sftsolve.stepping.control import Tolerance
from sftsolve.stepping.explicit import error_rule
from sftsolve.stepping.exponential_tableau import BETWEEN, KROGSTAD, STAGES, ExponentialTableau, Row


class ExponentialRungeKutta(OneStep):
    """Krogstad's step; subclasses know in which space the linear part is diagonal.

    Attributes
    ----------
    tableau : the coefficients
    order : 4 in the step; the error estimate is of order 3
    """

    tableau: ExponentialTableau = KROGSTAD
    method: str
    _stage_force: State
    order = KROGSTAD.order
    error_exponent = 4

    def __init__(self, system: Dynamics):
        super().__init__(system)
        # N moves by itself with the force, and with what the drag has beside its value in the middle of the step.
        self._moving = system.drifting or (self._damped and not system.clock.constant)

    def step(self, state: State, h: float, tolerance: Tolerance) -> float:
        """Propose a step of length h in theta; returns its error in units of the tolerance (NaN or inf where it failed)."""
        self._begin(state)
        clock = self.system.clock
        span = self._span = clock.span(clock.theta(state.t), h)
        self._propagators = {c: self._propagator(c * h, span) for c in (0.5, 1.0)}
        for number in range(1, STAGES):
            row = self.tableau.rows[number]
            self._form(row, span, self._proposal, final=False)
            self._evaluate(self._proposal, self._stage_force, span.t(float(row.c)))
            self._take(number, span, float(row.c))
        self._form(self.tableau.rows[-1], span, self._proposal, final=True)
        self._evaluate(self._proposal, self._stage_force, span.t(1.0))
        self._take(STAGES, span, 1.0)
        if self._moving:
            self._look_between(span, BETWEEN)
        return self._error(state, span, tolerance)

    def interpolate(self, state: State, c: float, out: State) -> None:
        """The fields at the fraction c of the last accepted step into `out`, order 4.

        The same propagators over c h, with N the parabola through N_1, (N_2 + N_3)/2 and N_4 that the step itself rests on:

            y(c) = phi_0 y + c h [phi_1 N_1 + c phi_2 (-3 N_1 + 2 (N_2 + N_3) - N_4) + 4 c^2 phi_3 (N_1 - (N_2 + N_3) + N_4)]
        """
        span = self._span
        assert span is not None, "a step comes first"
        out.t = span.t(c)
        self._between(span, c, out)

    def _begin(self, state: State) -> None:
        """Have the state and its force where stages need them."""
        raise NotImplementedError

    def _propagator(self, span_length: float, span: Span) -> Any:
        """What `_form` needs over a part of the step."""
        raise NotImplementedError

    def _form(self, row: Row, span: Span, target: State, final: bool) -> None:
        """Fields of a stage, and its velocities where they are needed, into `target`."""
        raise NotImplementedError

    def _take(self, number: int, span: Span, c: float) -> None:
        """Keep N of the stage whose force has just been evaluated."""
        raise NotImplementedError

    def _look_between(self, span: Span, c: float) -> None:
        """N_4 less `MISSED` times what N at the fraction c has beside the parabola of the stages, into `_seen`."""
        raise NotImplementedError

    def _error(self, state: State, span: Span, tolerance: Tolerance) -> float:
        raise NotImplementedError

    def _between(self, span: Span, c: float, out: State) -> None:
        raise NotImplementedError

    def _weigh(self, state: State, span: Span, tolerance: Tolerance, terms: Arrays, weights: Numbers) -> float:
        """`CellSums.error` of a step from `state` to the proposal; terms as it takes them."""
        ends = tuple(array for pair in zip(flat(state), flat(self._proposal), strict=True) for array in pair)
        rule = (tolerance.rtol, *error_rule(span.kappa(0.5))) if self._damped else (tolerance.rtol,)
        return self._sums.error(ends, terms, weights, self._numbers(*rule), tolerance.atol)


def drag_beside(span: Span, c: float) -> float:
    """What kappa has beside its value in the middle of the step, which the propagators hold; zero where gamma is constant."""
    return span.kappa(c) - span.kappa(0.5)
