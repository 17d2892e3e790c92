"""`etdrk4`: Krogstad's exponential step with friction and a constant-coefficient linear part exact, mode by mode."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any

import numpy as np

from sftsolve.friction import Span
from sftsolve.loops.combine import Arrays, combine
from sftsolve.loops.exponential import advance, estimate, implicit_part
from sftsolve.loops.folding import Folded
from sftsolve.loops.losses import lost
from sftsolve.loops.responses import tabulate
from sftsolve.state import State
from sftsolve.stepping.control import StepRule, Tolerance
from sftsolve.stepping.exponential import ExponentialRungeKutta, drag_beside
from sftsolve.stepping.exponential_tableau import ERROR, MISSED, PARABOLA, STAGES, Row, parabola_at, parabola_over
from sftsolve.stepping.friction_exact import FrictionExact

# Tables of steps are kept for when a step comes back, up to this size, but some at least. Numbers that a mode has in a table, and
# tables that most runs come to need.
_TABLE_BYTES, _FEWEST = 1 << 25, 3
_RESPONSES, _MANY = 4, 8


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
        self._remainders = [modes.empty() for _ in range(STAGES + 1)]
        real = self._scratch[0].real.dtype
        self._eigenvalues = Folded(modes.table.values.astype(real, copy=False), modes.table.place)
        self._tables: OrderedDict[tuple[float, float, float], np.ndarray] = OrderedDict()
        self._shape = (_RESPONSES, self._eigenvalues.values.size)
        self._most = max(_FEWEST, int(_TABLE_BYTES // max(_RESPONSES * self._eigenvalues.values.nbytes, 1)))
        self._real = real
        self._squares = *modes.squares(), np.empty(math.prod(modes.shape[:3]))
        self._at_hand = self._accepted = False
        self._drag = 0.0
        if self._moving:
            # The fields between the stages stand where the first of the errors will, their force in that of the velocities.
            self._between_force = self._errors[1] if self._damped else self._array()
            self._seen = modes.empty()

    @staticmethod
    def registers(damped: bool) -> int:
        """Arrays as large as the fields that a stepper holds beside the state, and spectra, but for the tables of its steps."""
        return 17 if damped else 12

    @staticmethod
    def watching(damped: bool) -> int:
        """Arrays and spectra that it holds more where forces move by themselves."""
        return 1 if damped else 2

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
            self._remainders[0], self._remainders[STAGES] = self._remainders[STAGES], self._remainders[0]
            self._accepted, self._drag = False, 0.0
        elif not self._at_hand:
            for storage, spectrum in zip((state.storage, state.momentum), self._base, strict=False):
                self._modes.forward(storage, spectrum)
            implicit_part(_flat(self._remainders[0]), self._fields(self._base), self._eigenvalues, 0.0, self._threads)
            self._add_force(self._start.storage, self._remainders[0])
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
        drag = 0.0 if final else drag_beside(span, float(row.c))
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
        self._add_force(self._stage_force.storage, self._remainders[number])

    def _add_force(self, force: np.ndarray, remainder: np.ndarray) -> None:
        """Add a force, whose storage is given, to what is in a remainder."""
        self._modes.forward(force, self._scratch[0])
        total = _flat(remainder)
        combine(total, total, (_flat(self._scratch[0]),), (self._real.type(1.0),), self._threads)

    def _take_drag(self, span: Span) -> None:
        """N_1 = F_1 - l w - drag u for the drag of the step at hand, which may be another try than the last."""
        drag = span.enter * drag_beside(span, 0.0)
        if drag != self._drag and self._damped:
            first = _flat(self._remainders[0])
            combine(first, first, (_flat(self._base[1]),), (self._real.type(self._drag - drag),), self._threads)
            self._drag = drag

    def _look_between(self, span: Span, c: float) -> None:
        between = self._scratch
        self._advance(parabola_over(c), PARABOLA, self._propagator(c * span.h, span), span, self._base, between, 1.0)
        seen, *terms = (_flat(spectrum) for spectrum in (self._seen, *self._remainders[:STAGES]))
        implicit_part(seen, self._fields(between), self._eigenvalues, drag_beside(span, c), self._threads)
        self._modes.backward(between[0], self._errors[0])
        force = State(self._layout, self._between_force, None)
        self._evaluate(State(self._layout, self._errors[0], None), force, span.t(c))
        self._add_force(force.storage, self._seen)
        weights = (self._real.type(weight) for weight in (-MISSED, *(MISSED * part for part in parabola_at(c))))
        combine(seen, terms[-1], (seen, *terms), tuple(weights), self._threads)

    def _error(self, state: State, span: Span, tolerance: Tolerance) -> float:
        length, table = self._propagators[1.0]
        rule = (ERROR[1], ERROR[2], drag_beside(span, 1.0) / span.leave if self._damped else 0.0, span.eps / length)
        one = _flat(self._seen if self._moving else self._remainders[STAGES - 1])
        other = _flat(self._remainders[STAGES])
        numbers = tuple(self._real.type(value) for value in rule)
        place = self._eigenvalues.place
        estimate(self._fields(self._scratch), one, other, self._fields(self._next), table, place, numbers, self._threads)
        for spectrum, error in zip(self._scratch, self._errors, strict=True):
            self._modes.backward(spectrum, error)
        terms = tuple(error.reshape(-1) for error in self._errors)
        weights = (1.0, 1.0, 0.0) if self._damped else (1.0,)
        return self._weigh(state, span, tolerance, terms, self._numbers(*weights))

    def _between(self, span: Span, c: float, out: State) -> None:
        # `accept` exchanged the spectra at both ends.
        propagator = self._propagator(c * span.h, span)
        self._advance(parabola_over(c), PARABOLA, propagator, span, self._next, self._scratch, self._leave_at(span, c))
        self._modes.backward(self._scratch[0], out.storage)
        if out.momentum is not None:
            self._modes.backward(self._scratch[1], out.momentum)

    def tells(self, h: float) -> bool:
        """Whether `lost` will tell of a step of length h."""
        return not self._damped or self.system.clock.constant

    def lost(self) -> float | None:
        """int kappa |dw/ds|^2 ds over the last accepted step, mean over fields and cells; None where friction varies.

        Of the very fields that `interpolate` tells, in closed form (`loops.losses`): no step is too long.
        """
        span = self._span
        assert span is not None, "a step comes first"
        if not self.tells(span.h):
            return None
        # `accept` exchanged the spectra at both ends.
        begin, forcings = self._fields(self._next), self._fields(self._remainders[:STAGES])
        rule, table = (span.h, span.eps, span.kappa(0.5)), self._propagator(span.h, span)[1]
        total = lost(begin, forcings, self._eigenvalues, table, rule, self._squares, self._threads)
        return total / self._sums.count

    def _fields(self, spectra: list[np.ndarray]) -> Arrays:
        return tuple(_flat(spectrum) for spectrum in spectra)


def _flat(spectrum: np.ndarray) -> np.ndarray:
    return spectrum.reshape(-1)


def exponential(system: Any) -> ExponentialRungeKutta:
    """`etdrk4` in the modes of a system's linear part, or of the mean of it; without a linear part friction alone is exact."""
    linear = getattr(system, "linear", None)
    modes = None if linear is None else linear.modes or linear.mean_modes
    return FrictionExact(system, "etdrk4") if modes is None else ModeExact(system, modes)
