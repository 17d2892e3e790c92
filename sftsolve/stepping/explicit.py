"""Explicit embedded Runge-Kutta steps, in place, for the scaled equation of both dynamics (`friction.Span`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np

from sftsolve.friction import Span
from sftsolve.loops.combine import Arrays, Numbers, combine, combine_pair
from sftsolve.state import State
from sftsolve.stepping.base import Dynamics, OneStep, flat
from sftsolve.stepping.control import Tolerance
from sftsolve.stepping.stiffness import stable_step
from sftsolve.stepping.tableaus import Tableau

_Row = tuple[tuple[int, ...], tuple[float, ...]]


class ExplicitRungeKutta(OneStep):
    """One explicit pair.

        W_i = w + h sum_j a_ij U_j,    U_i = u + (h/eps) sum_j a_ij (F_j - kappa_j U_j)        damped
        W_i = w + h sum_j a_ij F_j                                                              gradient flow

    The error of a damped step is that of w and of the momentum-carrying w + eps u, both in units of the tolerance of w, since u
    itself is meaningless to test where friction slaves it to the force; for gamma < 1 it is that of w and of the velocity, whose
    scale is ``atol + rtol |v| + gamma (atol + rtol |w|)``.

    Parameters
    ----------
    system : gives the force, the layout and the clock
    tableau : the coefficients
    """

    def __init__(self, system: Dynamics, tableau: Tableau):
        super().__init__(system)
        self.tableau = tableau
        layout = system.layout
        self._forces = [self._start, *(State(layout, self._array(), None) for _ in range(tableau.stages - 1))]
        # U of the stages between; that of the first is the state's, that of the last the proposal's.
        self._between = [self._array() for _ in range(tableau.stages - 2)] if self._damped else []
        self._rows = [_used(row) for row in tableau.a]
        self._abscissae = [float(abscissa) for abscissa in tableau.c]
        self._error_row = _used(tableau.error_weights)

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

    def step(self, state: State, h: float, tolerance: Tolerance) -> float:
        """Propose a step of length h in theta; returns its error in units of the tolerance (NaN or inf where it failed)."""
        self.force(state)
        clock = self.system.clock
        span = self._span = clock.span(clock.theta(state.t), h)
        base, out = flat(state), flat(self._proposal)
        forces = [force.storage.reshape(-1) for force in self._forces]
        velocities = self._velocities(state, self._proposal)
        last = self.tableau.stages - 1
        for stage in range(1, self.tableau.stages):
            target = (out[0], velocities[stage]) if self._damped else out
            self._combine(self._rows[stage], span, base, target, velocities, forces, span.leave if stage == last else 1.0)
            self._evaluate(self._proposal, self._forces[stage], span.t(self._abscissae[stage]))
        ends = tuple(array for pair in zip(base, out, strict=True) for array in pair)
        chosen, weights = self._error_row
        pushes = tuple(forces[stage] for stage in chosen)
        if not self._damped:
            scaled = self._numbers(*(h * weight for weight in weights))
            return self._sums.error(ends, pushes, scaled, self._numbers(tolerance.rtol), tolerance.atol)
        terms = (*(velocities[stage] for stage in chosen), *pushes)
        rule = self._numbers(tolerance.rtol, *error_rule(span.kappa(0.5)))
        return self._sums.error(ends, terms, self._weights(self._error_row, span, h, h), rule, tolerance.atol)

    def accept(self, state: State) -> None:
        """Make the last proposal the state, by exchanging storage."""
        super().accept(state)
        first, last = self._forces[0], self._forces[-1]
        first.storage, last.storage = last.storage, first.storage

    def interpolate(self, state: State, c: float, out: State) -> None:
        """The fields at the fraction c of the last accepted step into `out`: order 4, or 3 where the tableau has no more.

        `Tableau.dense(c)` gives the weights; the stages of the step are still there until the next one is proposed.
        """
        span = self._span
        assert span is not None, "a step comes first"
        row = _used(self.tableau.dense(c).tolist())
        # `accept` left the old state in the proposal, and its force last.
        forces = [force.storage.reshape(-1) for force in (self._forces[-1], *self._forces[1:-1], self._forces[0])]
        velocities = self._velocities(self._proposal, state)
        out.t = span.t(c)
        scale = self._leave_at(span, c)
        self._combine(row, span, flat(self._proposal), flat(out), velocities, forces, scale)

    def stable_step(self, radius: float) -> float:
        """Longest stable step in theta, the eigenvalues of the force's Jacobian lying in [-radius, 0]."""
        return stable_step(self.tableau, self.system.clock, radius, self._proposal.t)

    def _in_order(self, state: State) -> Iterator[np.ndarray]:
        yield state.storage
        for stage, force in enumerate(self._forces):
            yield force.storage
            yield from self._between[stage : stage + 1]
        yield from (array for array in (self._proposal.storage, self._proposal.momentum) if array is not None)

    def _velocities(self, start: State, end: State) -> list[np.ndarray]:
        """Flat U of every stage, those at the ends as the states hold them."""
        if start.momentum is None or end.momentum is None:
            return []
        return [array.reshape(-1) for array in (start.momentum, *self._between, end.momentum)]

    def _combine(
        self,
        row: _Row,
        span: Span,
        base: Arrays,
        out: Arrays,
        velocities: Sequence[np.ndarray],
        forces: Sequence[np.ndarray],
        leave: float,
    ) -> None:
        """Fields (and velocities, times `leave`) of a stage from those of the stages that its row names."""
        chosen, weights = row
        terms = tuple(forces[stage] for stage in chosen)
        if self._damped:
            chosen_velocities = tuple(velocities[stage] for stage in chosen)
            scaled = self._weights(row, span, span.h, span.h / span.eps * leave)
            combine_pair(out, base, chosen_velocities, terms, scaled, self._scalar(span.enter * leave), self._threads)
        else:
            combine(out[0], base[0], terms, self._numbers(*(span.h * weight for weight in weights)), self._threads)

    def _weights(self, row: _Row, span: Span, h: float, r: float) -> Numbers:
        """Weights h a_j of the U_j, r a_j of the F_j and r a_j kappa_j of the U_j, as `combine_pair` takes them."""
        moves, pushes, drags = [], [], []
        for stage, weight in zip(*row, strict=True):
            scale = self._to_step(span, stage)
            moves.append(h * weight * scale)
            pushes.append(r * weight)
            drags.append(r * weight * scale * span.kappa(self._abscissae[stage]))
        return self._numbers(*moves, *pushes, *drags)

    def _to_step(self, span: Span, stage: int) -> float:
        """What turns the stored U of a stage into that of the step: those at the ends are on the state's scale."""
        return {0: span.enter, self.tableau.stages - 1: 1.0 / span.leave}.get(stage, 1.0)


def error_rule(kappa: float) -> Numbers:
    """(mix, own, share) of `CellSums.error`: how the errors of a damped step are weighed (docstring of `ExplicitRungeKutta`)."""
    return (1.0, 0.0, 1.0) if kappa >= 1 else (0.0, 1.0, kappa)


def _used(row: Sequence[Fraction | float]) -> _Row:
    """Numbers of the stages with a weight, and their weights."""
    chosen = tuple(stage for stage, weight in enumerate(row) if weight)
    return chosen, tuple(float(row[stage]) for stage in chosen)
