"""Stabilised explicit steps for stiff gradient flows: no solve, a number of stages that grows with the root of the stiffness."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from sftsolve.errors import ConfigError
from sftsolve.friction import Span
from sftsolve.loops.combine import combine
from sftsolve.loops.recurrence import recur
from sftsolve.state import State
from sftsolve.stepping.base import OneStep
from sftsolve.stepping.control import Tolerance
from sftsolve.stepping.hermite import hermite

# Accepted steps between two estimates of the spectral radius.
_SOMETIMES = 25
# The power iteration comes from below, and stops when it gains less than this; the margin makes up for both.
_GAIN, _MARGIN, _ITERATIONS = 0.01, 1.1, 50
# Rounding errors of a step grow as stages^2; more stages than that would let them reach the tolerance.
_ROUNDING = 10.0


@dataclass(frozen=True)
class Chebyshev:
    """Coefficients of the second-order method of s stages, with damping 2/13.

        Y_1 = Y_0 + first h F_0
        Y_j = (1 - mu_j - nu_j) Y_0 + mu_j Y_{j-1} + nu_j Y_{j-2} + f_j h F_{j-1} + g_j h F_0,    j = 2 ... s

    Attributes
    ----------
    first : weight of the first stage
    rows : (mu, nu, f, g) of the stages after
    abscissae : c_0 ... c_s, the last exactly 1
    """

    first: float
    rows: tuple[tuple[float, float, float, float], ...]
    abscissae: tuple[float, ...]

    @property
    def stages(self) -> int:
        return len(self.rows) + 1


@lru_cache(maxsize=256)
def chebyshev(stages: int) -> Chebyshev:
    """The coefficients for s >= 2 stages (Sommeijer, Shampine, Verwer 1997, equations 2.4 to 2.8)."""
    w0 = 1.0 + 2.0 / 13.0 / stages**2
    # T_j, T_j' and T_j'' at w0, by their recurrences.
    values, slopes, curvatures = [1.0, w0], [0.0, 1.0], [0.0, 0.0]
    for _ in range(2, stages + 1):
        values.append(2 * w0 * values[-1] - values[-2])
        slopes.append(2 * w0 * slopes[-1] - slopes[-2] + 2 * values[-2])
        curvatures.append(2 * w0 * curvatures[-1] - curvatures[-2] + 4 * slopes[-2])
    w1 = slopes[stages] / curvatures[stages]
    b = [curvatures[j] / slopes[j] ** 2 if j >= 2 else 0.0 for j in range(stages + 1)]
    b[0] = b[1] = b[2]
    rows = []
    for j in range(2, stages + 1):
        f = 2 * b[j] * w1 / b[j - 1]
        rows.append((2 * b[j] * w0 / b[j - 1], -b[j] / b[j - 2], f, -(1 - b[j - 1] * values[j - 1]) * f))
    abscissae = [0.0, b[1] * w1]
    for mu, nu, f, g in rows:
        abscissae.append(mu * abscissae[-1] + nu * abscissae[-2] + f + g)
    abscissae[-1] = 1.0
    return Chebyshev(b[1] * w1, tuple(rows), tuple(abscissae))


def stages_for(length: float) -> int:
    """Stages that keep a step of h radius = `length` stable, to 2/3 (s^2 - 1)(1 - 2/15 * 2/13)."""
    return max(2, 1 + math.floor(math.sqrt(1.0 + 1.54 * length)))


class RungeKuttaChebyshev(OneStep):
    """Second order for gradient flows and slow manifolds w_theta = F, stable to h radius = 0.65 s^2 with s force evaluations.

        error = 4/5 (w_0 - w_1) + 2/5 h (F_0 + F_1)

    The radius of F' is found by power iteration, started from the vector found before: at the start, after 25 accepted steps and
    after a rejection. Five arrays beside the state: two stages, two forces and that vector.

    (B.P. Sommeijer, L.F. Shampine, J.G. Verwer, J. Comput. Appl. Math. 88 (1998) 315-326.)

    Parameters
    ----------
    system : gives the force, its Jacobian, the layout and the clock

    Raises
    ------
    ConfigError : dynamics "damped"
    """

    method = "rkc2"
    order: ClassVar[int] = 2
    domain: ClassVar[tuple[float, ...]] = (math.inf,)
    system: Any
    dynamics: ClassVar[tuple[str, ...]] = ("gradient-flow", "slow-manifold")
    error_exponent = 3

    def __init__(self, system: Any):
        super().__init__(system)
        if self._damped:
            raise ConfigError(
                "rkc2 serves gradient flows only: with friction gamma a step of h would take sqrt(h/eps/0.65) stages, "
                "eps = 1/gamma^2, because the friction itself is stiff",
                expected='dynamics="gradient-flow"',
                given='dynamics="damped"',
                remedy="take etdrk4, sbdf2 or ark436, whose steps do not see the friction",
            )
        layout = self._layout
        self._end = State(layout, self._array(), None)
        self._stage = State(layout, self._array(), None)
        self._direction = State(layout, self._array(), None)
        cells = layout.interior(self._direction.storage)
        cells[...] = np.random.default_rng(0).standard_normal(cells.shape)
        self._radius, self._age = 0.0, _SOMETIMES

    @staticmethod
    def registers(damped: bool) -> int:
        """Number of arrays as large as the fields that the stepper holds beside the state."""
        return 5

    def reset(self) -> None:
        """Forget force and radius: call it when the state was changed from outside, or the force jumped."""
        super().reset()
        self._age = _SOMETIMES

    def step(self, state: State, h: float, tolerance: Tolerance) -> float:
        """Propose a step of length h in theta; returns its error in units of the tolerance (NaN or inf where it failed)."""
        force = self.force(state)
        if self._age >= _SOMETIMES:
            self._radius, self._age = _MARGIN * self._power_iteration(state), 0
            if self.system.dynamics == "slow-manifold":
                # Its force is F - F'[F]/gamma^2 and less.
                self._radius *= 1.0 + self._radius / self.system.clock.gamma_at(state.t) ** 2
        clock = self.system.clock
        self._span = clock.span(clock.theta(state.t), h)
        stages = stages_for(h * self._radius)
        most = max(2, math.floor(math.sqrt(tolerance.rtol / (_ROUNDING * np.finfo(self._layout.dtype).eps))))
        if stages > most:
            return float((stages / most) ** (2 * self.error_exponent))
        self._stages(state, force, self._span, chebyshev(stages))
        w_0, w_1 = state.storage.reshape(-1), self._proposal.storage.reshape(-1)
        terms = (w_0, w_1, force.storage.reshape(-1), self._end.storage.reshape(-1))
        weights = self._numbers(0.8, -0.8, 0.4 * h, 0.4 * h)
        error = self._sums.error((w_0, w_1), terms, weights, self._numbers(tolerance.rtol), tolerance.atol)
        if not error <= 1.0 and self._age > 0:
            self._age = _SOMETIMES
        return error

    def accept(self, state: State) -> None:
        """Make the last proposal the state, by exchanging storage; its force is known."""
        super().accept(state)
        self._start.storage, self._end.storage = self._end.storage, self._start.storage
        self._age += 1

    def interpolate(self, state: State, c: float, out: State) -> None:
        """The fields at the fraction c of the last accepted step into `out`, from the cubic Hermite polynomial of its ends."""
        span = self._span
        assert span is not None, "a step comes first"
        out.t = span.t(c)
        (value_0, slope_0, value_1, slope_1), _ = hermite(c, 1)
        first, last = self._proposal.storage.reshape(-1), state.storage.reshape(-1)
        # After `accept` the force at the start is the older one.
        terms = (first, self._end.storage.reshape(-1), last, self._start.storage.reshape(-1))
        weights = self._numbers(value_0 - 1.0, slope_0 * span.h, value_1, slope_1 * span.h)
        combine(out.storage.reshape(-1), first, terms, weights, self._threads)

    def _stages(self, state: State, force: State, span: Span, table: Chebyshev) -> None:
        """All stages, the last of them into the proposal, and its force into `_end`."""
        h, first, pushed = span.h, state.storage.reshape(-1), force.storage.reshape(-1)
        # The stages take turns in two arrays; who starts is chosen so that the last falls on the proposal.
        newer, older = (self._proposal, self._stage) if table.stages % 2 else (self._stage, self._proposal)
        combine(newer.storage.reshape(-1), first, (pushed,), self._numbers(table.first * h), self._threads)
        for number, (mu, nu, f, g) in enumerate(table.rows):
            self._evaluate(newer, self._end, span.t(table.abscissae[number + 1]))
            previous, latest = newer.storage.reshape(-1), self._end.storage.reshape(-1)
            if number == 0:
                # Y_{j-2} is Y_0 here, which stays.
                terms, weights = (first, previous, latest, pushed), self._numbers(-mu, mu, f * h, g * h)
                combine(older.storage.reshape(-1), first, terms, weights, self._threads)
            else:
                weights = self._numbers(1.0 - mu - nu, mu, nu, f * h, g * h)
                recur(older.storage.reshape(-1), previous, first, latest, pushed, weights, self._threads)
            newer, older = older, newer
        self._evaluate(newer, self._end, span.t(1.0))

    def _power_iteration(self, state: State) -> float:
        """Largest |eigenvalue| of F' at the state, from below within about a per cent; allocates nothing."""
        direction, image, found = self._direction, self._stage, 0.0
        for _ in range(_ITERATIONS):
            size = math.sqrt(self._sums.mean_square(direction.storage))
            if size == 0.0 or not math.isfinite(size):
                break
            direction.storage *= self._scalar(1.0 / size)
            self.system.jvp_into(state, direction, image, state.t)
            before, found = found, math.sqrt(self._sums.mean_square(image.storage))
            direction.storage, image.storage = image.storage, direction.storage
            if abs(found - before) <= _GAIN * found:
                break
        if not math.isfinite(found) or found == 0.0:
            cells = self._layout.interior(direction.storage)
            cells[...] = np.random.default_rng(0).standard_normal(cells.shape)
        return found if math.isfinite(found) else 0.0

    def _in_order(self, state: State) -> Iterator[np.ndarray]:
        yield from super()._in_order(state)
        yield self._stage.storage
        yield self._end.storage
