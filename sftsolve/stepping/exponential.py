"""Exponential Runge-Kutta steps: friction and the diagonal linear part exactly, everything else explicitly.

    w' = u,   eps u' = l w + N - kappa u     mode by mode (`etdrk4`), or with l = 0 in every cell (`rk4-friction`)

Both are S. Krogstad's method (J. Comput. Phys. 203 (2005) 72-88) on the 2 x 2 block of friction and stiffness, whose exponential
and phi functions are closed forms (`loops.responses`), so that no order is lost and no step is cut as gamma grows. The fifth
force, at the new state, serves the error estimate and the next step.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import numpy as np

from sftsolve.friction import Span
from sftsolve.loops.combine import Arrays, Numbers, combine, combine_both
from sftsolve.loops.exponential import advance, estimate, implicit_part
from sftsolve.loops.folding import Folded
from sftsolve.loops.responses import response, tabulate
from sftsolve.state import State
from sftsolve.stepping.base import Dynamics, OneStep, flat
from sftsolve.stepping.control import StepRule, Tolerance
from sftsolve.stepping.explicit import error_rule
from sftsolve.stepping.exponential_tableau import KROGSTAD, ExponentialTableau, Row

# Tables of steps are kept for when a step comes back, up to this size, but some at least. Numbers that a mode has in a table, and
# tables that most runs come to need.
_TABLE_BYTES, _FEWEST = 1 << 25, 3
_RESPONSES, _MANY = 4, 8
_STAGES = len(KROGSTAD.rows) - 1
# Error estimate h (4 phi_3 - phi_2)(N_4 - N(y_1)): the weights of phi_1, phi_2, phi_3. Three times it, because steps are long:
# where the linear part is exact, a run may take ten of them, each with its whole error.
_ERROR = (0.0, -3.0, 12.0)


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

    def step(self, state: State, h: float, tolerance: Tolerance) -> float:
        """Propose a step of length h in theta; returns its error in units of the tolerance (NaN or inf where it failed)."""
        self._begin(state)
        clock = self.system.clock
        span = self._span = clock.span(clock.theta(state.t), h)
        self._propagators = {c: self._propagator(c * h, span) for c in (0.5, 1.0)}
        for number in range(1, _STAGES):
            row = self.tableau.rows[number]
            self._form(row, span, self._proposal, final=False)
            self._evaluate(self._proposal, self._stage_force, span.t(float(row.c)))
            self._take(number, span, float(row.c))
        self._form(self.tableau.rows[-1], span, self._proposal, final=True)
        self._evaluate(self._proposal, self._stage_force, span.t(1.0))
        self._take(_STAGES, span, 1.0)
        return self._error(state, span, tolerance)

    def interpolate(self, state: State, c: float, out: State) -> None:
        """The fields at the fraction c of the last accepted step into `out`, order 4.

        The same propagators over c h, with N the parabola through N_1, (N_2 + N_3)/2 and N_4 that the step itself rests on:

            y(c) = phi_0 y + c h [phi_1 N_1 + c phi_2 (-3 N_1 + 2 (N_2 + N_3) - N_4) + 4 c^2 phi_3 (N_1 - (N_2 + N_3) + N_4)]
        """
        span = self._span
        assert span is not None, "a step comes first"
        weights = ((1.0, -3.0 * c, 4.0 * c * c), *2 * ((0.0, 2.0 * c, -4.0 * c * c),), (0.0, -c, 4.0 * c * c))
        out.t = span.t(c)
        self._between(weights, span, c, out)

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

    def _error(self, state: State, span: Span, tolerance: Tolerance) -> float:
        raise NotImplementedError

    def _between(self, weights: tuple[tuple[float, float, float], ...], span: Span, c: float, out: State) -> None:
        raise NotImplementedError

    def _weigh(self, state: State, span: Span, tolerance: Tolerance, terms: Arrays, weights: Numbers) -> float:
        """`CellSums.error` of a step from `state` to the proposal; terms as it takes them."""
        ends = tuple(array for pair in zip(flat(state), flat(self._proposal), strict=True) for array in pair)
        rule = (tolerance.rtol, *error_rule(span.kappa(0.5))) if self._damped else (tolerance.rtol,)
        return self._sums.error(ends, terms, weights, self._numbers(*rule), tolerance.atol)


class FrictionExact(ExponentialRungeKutta):
    """`rk4-friction`: exact friction, the whole force explicit. For forces that are not stiff, at any friction; no solve.

    Gradient flow: the classical Runge-Kutta method with Krogstad's error estimate.
    """

    def __init__(self, system: Dynamics, method: str = "rk4-friction"):
        super().__init__(system)
        self.method = method
        self._forces = [self._start, *(State(self._layout, self._array(), None) for _ in range(_STAGES))]
        self._stage_force = self._forces[1]

    @staticmethod
    def registers(damped: bool) -> int:
        """Number of arrays as large as the fields that a stepper holds beside the state."""
        return _STAGES + 1 + (2 if damped else 1)

    def accept(self, state: State) -> None:
        super().accept(state)
        first, last = self._forces[0], self._forces[_STAGES]
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
        drag = _drag(span, 0.0)
        move = span.eps * g - (drag * moves[0] if chosen[0] == 0 else 0.0)
        keep = 1.0 - span.kappa(0.5) * g - (drag * pushes[0] if chosen[0] == 0 else 0.0)
        factors = (1.0, span.enter * move, *moves, 0.0, leave * span.enter * keep, *(leave * push for push in pushes))
        combine_both(flat(target), (*flat(base), *forces), self._numbers(*factors), self._threads)

    def _take(self, number: int, span: Span, c: float) -> None:
        if number == _STAGES:
            return
        drag = _drag(span, c)
        if drag and self._proposal.momentum is not None:
            force = self._stage_force.storage.reshape(-1)
            combine(force, force, flat(self._proposal)[1:], self._numbers(-drag), self._threads)
        self._stage_force = self._forces[number + 1]

    def _error(self, state: State, span: Span, tolerance: Tolerance) -> float:
        length, (_, p1, p2, p3) = self._propagators[1.0]
        terms = tuple(self._forces[j].storage.reshape(-1) for j in (_STAGES - 1, _STAGES))
        move = _ERROR[1] * p2 + _ERROR[2] * p3
        if not self._damped:
            return self._weigh(state, span, tolerance, terms, self._numbers(move, -move))
        push = span.eps * (_ERROR[1] * p1 + _ERROR[2] * p2) / length
        # N(y_1) = F - drag u, and F is kept as it is.
        drag, velocity = _drag(span, 1.0) / span.leave, flat(self._proposal)[1]
        weights = self._numbers(move, -move, drag * move, push, -push, drag * push, 0.0, 0.0, 0.0)
        return self._weigh(state, span, tolerance, (*terms, velocity, *terms, velocity), weights)

    def _between(self, weights: tuple[tuple[float, float, float], ...], span: Span, c: float, out: State) -> None:
        # `accept` exchanged the first force with the last.
        forces = self._forces
        forces[0], forces[_STAGES] = forces[_STAGES], forces[0]
        length = c * span.h
        self._combine(weights, (0, 1, 2, 3), self._propagator(length, span), span, self._proposal, out, self._leave_at(span, c))
        forces[0], forces[_STAGES] = forces[_STAGES], forces[0]

    def _in_order(self, state: State) -> Iterator[np.ndarray]:
        yield state.storage
        yield from (force.storage for force in self._forces[:_STAGES])
        yield from (array for array in (self._proposal.storage, self._proposal.momentum) if array is not None)
        yield self._forces[_STAGES].storage


class ModeExact(ExponentialRungeKutta):
    """`etdrk4`: friction and the constant-coefficient linear part exact, mode by mode; ten transforms a step.

    Parameters
    ----------
    system : gives the force, the layout and the clock
    modes : the modes of its linear part with their eigenvalues l <= 0
    """

    method = "etdrk4"
    # What was tabulated for a step is used again where the step comes back.
    rule = StepRule(per_octave=4, dead_band=1.1)

    def __init__(self, system: Any, modes: Any):
        super().__init__(system)
        self._modes = modes
        self._stage_force = State(self._layout, self._array(), None)
        kinds = 2 if self._damped else 1
        self._errors = [self._array() for _ in range(kinds)]
        self._base, self._next, self._scratch = ([modes.empty() for _ in range(kinds)] for _ in range(3))
        self._remainders = [modes.empty() for _ in range(_STAGES + 1)]
        real = self._scratch[0].real.dtype
        self._eigenvalues = Folded(modes.table.values.astype(real, copy=False), modes.table.place)
        self._tables: OrderedDict[tuple[float, float, float], np.ndarray] = OrderedDict()
        self._shape = (_RESPONSES, self._eigenvalues.values.size)
        self._most = max(_FEWEST, int(_TABLE_BYTES // max(_RESPONSES * self._eigenvalues.values.nbytes, 1)))
        self._real = real
        self._at_hand = self._accepted = False
        self._drag = 0.0

    @staticmethod
    def registers(damped: bool) -> int:
        """Arrays as large as the fields that a stepper holds beside the state, and spectra, but for the tables of its steps."""
        return 17 if damped else 12

    @staticmethod
    def tables_of(table: float) -> float:
        """Bytes of the tables of as many steps as most runs take, where a table with a number a mode takes so many."""
        return max(_FEWEST * _RESPONSES * table, min(_TABLE_BYTES, _MANY * _RESPONSES * table))

    def reset(self) -> None:
        super().reset()
        self._at_hand = self._accepted = False

    def accept(self, state: State) -> None:
        """Make the last proposal the state, by exchanging storage; its spectrum and force are known already."""
        super().accept(state)
        self._start.storage, self._stage_force.storage = self._stage_force.storage, self._start.storage
        self._base, self._next = self._next, self._base
        self._accepted = True

    def _begin(self, state: State) -> None:
        self.force(state)
        if self._accepted:
            # Until now the first remainder served `interpolate`.
            self._remainders[0], self._remainders[_STAGES] = self._remainders[_STAGES], self._remainders[0]
            self._accepted, self._drag = False, 0.0
        elif not self._at_hand:
            for storage, spectrum in zip((state.storage, state.momentum), self._base, strict=False):
                self._modes.forward(storage, spectrum)
            implicit_part(_flat(self._remainders[0]), self._fields(self._base), self._eigenvalues, 0.0, self._threads)
            self._add_force(self._start, 0)
            self._drag = 0.0
        self._at_hand = True

    def _propagator(self, span_length: float, span: Span) -> tuple[float, np.ndarray]:
        key = (span_length, span.eps, span.kappa(0.5))
        table = self._tables.pop(key, None)
        if table is None:
            full = len(self._tables) >= self._most
            table = self._tables.popitem(last=False)[1] if full else np.empty(self._shape, self._real)
            tabulate(*key, self._eigenvalues.values.reshape(-1), table, self._threads)
        self._tables[key] = table
        return span_length, table

    def _form(self, row: Row, span: Span, target: State, final: bool) -> None:
        self._take_drag(span)
        weights = tuple(tuple(float(w) for w in phi) for phi in row.weights)
        out = self._next if final else self._scratch
        self._advance(weights, row.chosen, self._propagators[float(row.c)], span, self._base, out, span.leave if final else 1.0)
        number = self.tableau.rows.index(row)
        drag = 0.0 if final else _drag(span, float(row.c))
        implicit_part(_flat(self._remainders[number]), self._fields(out), self._eigenvalues, drag, self._threads)
        if final:
            for spectrum, copy in zip(self._next, self._scratch, strict=True):
                copy[...] = spectrum
        self._modes.backward(self._scratch[0], target.storage)
        if final and target.momentum is not None:
            self._modes.backward(self._scratch[1], target.momentum)

    def _advance(
        self,
        weights: tuple[tuple[float, ...], ...],
        chosen: tuple[int, ...],
        propagator: tuple[float, np.ndarray],
        span: Span,
        base: list[np.ndarray],
        out: list[np.ndarray],
        leave: float,
    ) -> None:
        length, table = propagator
        terms = tuple(_flat(self._remainders[j]) for j in chosen)
        factors = tuple(self._real.type(weights[j][k]) for k in range(3) for j in chosen)
        rule = tuple(self._real.type(value) for value in (length, span.eps, span.kappa(0.5), span.enter, leave))
        advance(self._fields(out), self._fields(base), terms, factors, self._eigenvalues, table, rule, self._threads)

    def _take(self, number: int, span: Span, c: float) -> None:
        self._add_force(self._stage_force, number)

    def _add_force(self, force: State, number: int) -> None:
        """Add a force to what is in a remainder."""
        self._modes.forward(force.storage, self._scratch[0])
        remainder = _flat(self._remainders[number])
        combine(remainder, remainder, (_flat(self._scratch[0]),), (self._real.type(1.0),), self._threads)

    def _take_drag(self, span: Span) -> None:
        """N_1 = F_1 - l w - drag u for the drag of the step at hand, which may be another try than the last."""
        drag = span.enter * _drag(span, 0.0)
        if drag != self._drag and self._damped:
            first = _flat(self._remainders[0])
            combine(first, first, (_flat(self._base[1]),), (self._real.type(self._drag - drag),), self._threads)
            self._drag = drag

    def _error(self, state: State, span: Span, tolerance: Tolerance) -> float:
        length, table = self._propagators[1.0]
        rule = (_ERROR[1], _ERROR[2], _drag(span, 1.0) / span.leave if self._damped else 0.0, span.eps / length)
        one, other = (_flat(self._remainders[j]) for j in (_STAGES - 1, _STAGES))
        numbers = tuple(self._real.type(value) for value in rule)
        place = self._eigenvalues.place
        estimate(self._fields(self._scratch), one, other, self._fields(self._next), table, place, numbers, self._threads)
        for spectrum, error in zip(self._scratch, self._errors, strict=True):
            self._modes.backward(spectrum, error)
        terms = tuple(error.reshape(-1) for error in self._errors)
        weights = (1.0, 1.0, 0.0) if self._damped else (1.0,)
        return self._weigh(state, span, tolerance, terms, self._numbers(*weights))

    def _between(self, weights: tuple[tuple[float, float, float], ...], span: Span, c: float, out: State) -> None:
        # `accept` exchanged the spectra at both ends.
        propagator = self._propagator(c * span.h, span)
        self._advance(weights, (0, 1, 2, 3), propagator, span, self._next, self._scratch, self._leave_at(span, c))
        self._modes.backward(self._scratch[0], out.storage)
        if out.momentum is not None:
            self._modes.backward(self._scratch[1], out.momentum)

    def _fields(self, spectra: list[np.ndarray]) -> Arrays:
        return tuple(_flat(spectrum) for spectrum in spectra)


def _flat(spectrum: np.ndarray) -> np.ndarray:
    return spectrum.reshape(-1)


def exponential(system: Any) -> ExponentialRungeKutta:
    """`etdrk4` in the modes of a system's linear part, or of the mean of it; without a linear part friction alone is exact."""
    linear = getattr(system, "linear", None)
    modes = None if linear is None else linear.modes or linear.mean_modes
    return FrictionExact(system, "etdrk4") if modes is None else ModeExact(system, modes)


def _drag(span: Span, c: float) -> float:
    """What kappa has beside its value in the middle of the step, which the propagators hold; zero where gamma is constant."""
    return span.kappa(c) - span.kappa(0.5)
