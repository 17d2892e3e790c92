"""Symplectic steps for weak friction: compositions of kicks and drifts, with the factor of the friction exact.

The equation  w_theta = u, eps u_theta = F(w, t) - kappa(t) u  is split into two flows, both solved exactly:

    drift a    w <- w + a h u,  t moves on by a h
    kick b     u <- e^{-z} u + (1 - e^{-z})/kappa F(w, t),    z = kappa b h/eps        (w and t stand still)

A kick contracts the symplectic form dw ^ du by e^{-z} whatever the force, so that a step contracts it by e^{-kappa h/eps};
at gamma = 0 it is symplectic, and with constant steps the energy oscillates but does not drift. All compositions are symmetric.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sftsolve.errors import ConfigError, is_number
from sftsolve.friction import Span
from sftsolve.loops.combine import combine
from sftsolve.loops.kicks import kick, kick_drift, kick_drift_into
from sftsolve.state import State
from sftsolve.stepping.base import Dynamics, OneStep, Stride, flat
from sftsolve.stepping.control import Tolerance
from sftsolve.stepping.hermite import hermite

# How finely, and how far in units of 1/frequency, the limit of stability is looked for.
_RESOLUTION, _FARTHEST = 0.01, 8.0
# Eigenvalues of modulus one are computed to half the digits where two of them meet.
_GROWTH = 1e-6
# Largest exponent of a negative kick: what it makes of any rounding is turned down as an error, and all products stay finite.
_STEEPEST = 300.0
# How the share of Hermite's defect that is the error of leapfrog4 grows with kappa h/eps.
_SLOWED = 4.0


# A kick backwards undoes friction and amplifies what is left: by no more than this, since the error estimate does not see it.
_AMPLIFIED = math.e


@dataclass(frozen=True)
class Composition:
    """Kicks b_0 ... b_s and the drifts a_1 ... a_s between them, in units of the step.

    Symmetric compositions are of even order. Order 4 asks for

        sum b_i c_i^2 = 1/3,    sum a_i d_i^2 = 1/3,    c_i = a_1 + ... + a_i,    d_i = b_0 + ... + b_{i-1}

    (the two commutators of third order); the last force of a step is the first of the next.
    """

    kicks: tuple[float, ...]
    drifts: tuple[float, ...]

    @property
    def abscissae(self) -> tuple[float, ...]:
        """Times of the kicks as fractions of the step; the last is exactly one."""
        return (*(math.fsum(self.drifts[:number]) for number in range(len(self.drifts))), 1.0)

    def amplification(self, h: float, eps: float, kappa: float, stiffness: float) -> np.ndarray:
        """Matrix (2, 2) that takes (w, u) over one step where F = -stiffness w."""
        matrix = np.eye(2)
        for b, a in zip(self.kicks, (*self.drifts, 0.0), strict=True):
            keep, push = friction_kick(b * h / eps, kappa)
            matrix = np.array([[1.0, a * h], [0.0, 1.0]]) @ np.array([[1.0, 0.0], [-push * stiffness, keep]]) @ matrix
        return matrix


def friction_kick(length: float, kappa: float) -> tuple[float, float]:
    """(keep, push) of the exact solution u <- keep u + push F of  u' = F - kappa u  after `length`, which may be negative.

    Growth stops at e^300.
    """
    z = max(kappa * length, -_STEEPEST)
    return math.exp(-z), length * (-math.expm1(-z) / z if z else 1.0)


def _symmetric(outer: tuple[float, ...], middle: tuple[float, ...] = ()) -> tuple[float, ...]:
    return (*outer, *middle, *reversed(outer))


_A1, _A2 = 0.245298957184271, 0.604872665711080
_B1, _B2, _B3 = 0.0829844064174052, 0.396309801498368, -0.0390563049223486
LEAPFROG = Composition((0.5, 0.5), (1.0,))
BLANES_MOAN = Composition(
    _symmetric((_B1, _B2, _B3), (1.0 - 2.0 * (_B1 + _B2 + _B3),)), _symmetric((_A1, _A2, 0.5 - (_A1 + _A2)))
)


class Splitting(OneStep):
    """One composition, with steps that follow the tolerance, or of a fixed length.

    The error of a step is measured by how far it is from the Hermite interpolant of its own ends, whose defect is of the order of
    the method's own error; `_share` is the ratio of the two, for the harmonic oscillator, with a margin. Only with
    constant steps does the energy not drift.

    Parameters
    ----------
    system : gives the force, the layout and the clock
    fixed_step : length of all steps in t; None lets the tolerance choose them

    Raises
    ------
    ConfigError : a dynamics other than "damped", or a step that is not a finite number > 0
    """

    composition: ClassVar[Composition]
    method: ClassVar[str]
    order: ClassVar[int]
    # (0, 1, 10) of the friction coefficients at which orders are measured: beyond, kappa h/eps is no longer small.
    domain: ClassVar[tuple[float, ...]] = (0.0, 1.0, 10.0)
    dynamics: ClassVar[tuple[str, ...]] = ("damped",)
    _share: ClassVar[float]
    _derivatives: ClassVar[int]

    def __init__(self, system: Dynamics, fixed_step: float | None = None):
        super().__init__(system)
        if not self._damped:
            raise ConfigError(
                f"{self.method} needs velocities, which only the damped theory has",
                expected='dynamics="damped"',
                given='dynamics="gradient-flow" or "slow-manifold"',
                remedy="take rkc2 or etdrk4 for them",
            )
        if fixed_step is not None and not (is_number(fixed_step) and fixed_step > 0):
            raise ConfigError("the fixed step is out of range", expected="a finite number > 0", given=repr(fixed_step))
        self.fixed_step = None if fixed_step is None else float(fixed_step)
        # Where the system can, it takes force, kick and drift in one sweep.
        self._one_sweep: Callable[..., bool] | None = getattr(system, "kick_drift", None)
        # Whether the force in `_start` is that of the proposal.
        self._ahead = False

    @property
    def error_exponent(self) -> int:
        return self.order + 1

    def stable_step(self, radius: float) -> float:
        """Longest stable step in theta, the eigenvalues of the force's Jacobian lying in [-radius, 0]."""
        if radius <= 0:
            return math.inf
        clock, t = self.system.clock, self._proposal.t
        eps, kappa = clock.eps_at(t), clock.kappa_at(t)
        unit = math.sqrt(eps / radius)
        for number in range(1, round(_FARTHEST / _RESOLUTION) + 1):
            matrix = self.composition.amplification(number * _RESOLUTION * unit, eps, kappa, radius)
            if np.abs(np.linalg.eigvals(matrix)).max() > 1 + _GROWTH:
                return (number - 1) * _RESOLUTION * unit
        return _FARTHEST * unit

    def step(self, state: State, h: float, tolerance: Tolerance) -> float:
        """Propose a step of length h in theta; returns its error in units of the tolerance (NaN or inf where it failed)."""
        self._taken = 1
        force = self.force(state).storage.reshape(-1)
        clock = self.system.clock
        span = self._span = clock.span(clock.theta(state.t), h)
        kicks = self._kicks(span)
        if self.fixed_step is None and max(keep for keep, _ in kicks) > _AMPLIFIED:
            return math.inf
        proposal, place, latest = self._proposal, flat(self._proposal), self._latest()
        (keep, push), *within, (last_keep, last_push) = kicks
        drifts, times = self.composition.drifts, self.composition.abscissae
        self._known, self._ahead = latest is not self._start, True
        factors = self._numbers(keep * span.enter, push, drifts[0] * h, 0.0)
        kick_drift_into(place, flat(state), force, factors, self._threads)
        for (keep, push), a, c in zip(within, drifts[1:], times[1:], strict=False):
            if self._one_sweep is not None and self._one_sweep(proposal, keep, push, a * h, span.t(c)):
                self.force_evaluations += 1
                continue
            self._evaluate(proposal, latest, span.t(c))
            kick_drift(place, latest.storage.reshape(-1), self._numbers(keep, push, a * h), self._threads)
        self._evaluate(proposal, latest, span.t(1.0))
        factors = self._numbers(last_keep * span.leave, last_push * span.leave)
        kick(place[1], latest.storage.reshape(-1), factors, self._threads)
        if self.fixed_step is not None:
            # What is not finite anywhere in the step has reached the last kick.
            return 0.0 if math.isfinite(self._sums.mean_square(place[1])) else math.nan
        terms, weights = self._defect(state, span)
        ends = (state.storage.reshape(-1), place[0])
        return self._sums.error(ends, terms, self._numbers(*weights), self._numbers(tolerance.rtol), tolerance.atol)

    def stride(self, state: State, times: Sequence[float], lengths: Sequence[float]) -> Stride | None:
        """Propose several steps at once, if the system has sweeps for that: see `registry.Stepper`.

        The kick that ends a step and that which begins the next are one sweep, so that a step of leapfrog is one.
        """
        strides, clock = getattr(self.system, "strides", None), self.system.clock
        if strides is None or not strides.swings:
            return None
        spans = [clock.span(clock.theta(t), h) for t, h in zip(times[:-1], lengths, strict=True)]
        # Each row a kick, another with the same force, and the drift after them.
        rows: list[list[float]] = [[1.0, 0.0]]
        for span in spans:
            (keep, push), *within, (last_keep, last_push) = self._kicks(span)
            first, *drifts = self.composition.drifts
            rows[-1] += [keep * span.enter, push, first * span.h]
            rows += [[keep, push, 1.0, 0.0, a * span.h] for (keep, push), a in zip(within, drifts, strict=True)]
            rows.append([last_keep * span.leave, last_push * span.leave])
        rows[-1] += [1.0, 0.0, 0.0]
        self._copy(state)
        squares = strides.swing(self._proposal, np.array(rows))
        self.force_evaluations += len(rows)
        self._ahead = False
        # The squares within a step serve only to see whether they are finite.
        whole = squares[:: len(self.composition.drifts)]
        whole = whole if np.isfinite(squares).all() else np.full_like(whole, math.nan)
        return self._stride(spans[-1].t(1.0), whole)

    def _kicks(self, span: Span) -> list[tuple[float, float]]:
        """(keep, push) of every kick, friction taken at the time of the kick."""
        table = self.composition
        return [friction_kick(b * span.h / span.eps, span.kappa(c)) for b, c in zip(table.kicks, table.abscissae, strict=True)]

    def accept(self, state: State) -> None:
        """Make the last proposal the state, by exchanging storage; its force is known, but after a stride."""
        super().accept(state)
        latest = self._latest()
        self._start.storage, latest.storage = latest.storage, self._start.storage
        self._known, self._ahead = self._ahead, False

    def force(self, state: State) -> State:
        """The force at `state`, which is evaluated only where the last step did not leave it; read `.w` of what comes back."""
        if not self._known:
            self._ahead = False
        return super().force(state)

    def interpolate(self, state: State, c: float, out: State) -> None:
        """The fields at the fraction c of the last accepted step into `out`, from the Hermite polynomial of its ends."""
        span = self._span
        assert span is not None, "a step comes first"
        out.t = span.t(c)
        before, (w, u) = self._proposal, flat(out)
        scale = self._leave_at(span, c)
        for target, base, row in zip((w, u), flat(before), hermite(c, self._derivatives), strict=True):
            terms, weights = self._data(before, state, span, row)
            if target is u:
                weights = [scale * weight / span.h for weight in weights]
            # The base counts once by itself.
            weights[0 if target is w else 1] -= 1.0
            combine(target, base, terms, self._numbers(*weights), self._threads)

    def _data(self, start: State, end: State, span: Span, row: Sequence[float]) -> tuple[tuple[np.ndarray, ...], list[float]]:
        """w and u (and forces) at both ends of a step, and their weights where the data of `hermite` have those of `row`.

        The first two are w and u at the start.
        """
        (w_0, u_0), (w_1, u_1), h = flat(start), flat(end), span.h
        return (w_0, u_0, w_1, u_1), [row[0], row[1] * h * span.enter, row[2], row[3] * h / span.leave]

    def _latest(self) -> State:
        """Where the forces after the first go."""
        raise NotImplementedError

    def _defect(self, state: State, span: Span) -> tuple[tuple[np.ndarray, ...], tuple[float, ...]]:
        """Terms and weights of the error of w."""
        raise NotImplementedError


class Leapfrog(Splitting):
    """Kick, drift, kick: second order, one force a step.

        e_w = 8 [ w_1 - w_0 - h/2 (u_0 + u_1) ]  =  2 h^2 (a_1 - a_0) at gamma = 0,    a = w_thetatheta

    which is twelve times the local error of w: steps are many, the more so with friction, and what they all miss in the same
    direction adds up. Three arrays beside the state: the force at the start is overwritten by that at the end, and evaluated
    again after a rejected step.

    (L. Verlet, Phys. Rev. 159 (1967) 98-103; the friction as in R.I. McLachlan, M. Perlmutter, J. Geom. Phys. 39 (2001) 276-300.)
    """

    composition = LEAPFROG
    method = "leapfrog"
    order = 2
    _share, _derivatives = 8.0, 1

    @staticmethod
    def registers(damped: bool) -> int:
        """Number of arrays as large as the fields that the stepper holds beside the state."""
        return 3

    def _latest(self) -> State:
        return self._start

    def _in_order(self, state: State) -> Iterator[np.ndarray]:
        # The force is that at the end: it comes after the fields there.
        yield state.storage
        yield self._proposal.storage
        yield from super()._in_order(state)

    def _defect(self, state: State, span: Span) -> tuple[tuple[np.ndarray, ...], tuple[float, ...]]:
        (w_0, u_0), (w_1, u_1) = flat(state), flat(self._proposal)
        half = self._share * span.h / 2
        return (w_1, w_0, u_0, u_1), (self._share, -self._share, -half * span.enter, -half / span.leave)


class Leapfrog4(Splitting):
    """Seven kicks and six drifts, six forces a step: fourth order, with an error constant 90 times below Hermite's.

        e_w = s [ w_1 - w_0 - h/2 (u_0 + u_1) + h^2/12 (a_1 - a_0) ],    eps a = F - kappa u,    s = min(1, 1/20 + 4 kappa h/eps)

    s being five times what it has to be without friction, and the least that serves modes that friction slows down.
    The one negative kick, b_3 = -0.039, is so short that friction hardly grows in it; four arrays beside the state.

    (S. Blanes, P.C. Moan, J. Comput. Appl. Math. 142 (2002) 313-330, table 3, the six-stage Nystrom splitting of order 4.)
    """

    composition = BLANES_MOAN
    method = "leapfrog4"
    order = 4
    _share, _derivatives = 1.0 / 20.0, 2

    def __init__(self, system: Dynamics, fixed_step: float | None = None):
        super().__init__(system, fixed_step)
        self._end = State(self._layout, self._array(), None)

    @staticmethod
    def registers(damped: bool) -> int:
        """Number of arrays as large as the fields that the stepper holds beside the state."""
        return 4

    def _latest(self) -> State:
        return self._end

    def _defect(self, state: State, span: Span) -> tuple[tuple[np.ndarray, ...], tuple[float, ...]]:
        (w_0, u_0), (w_1, u_1) = flat(state), flat(self._proposal)
        h = span.h
        share = min(1.0, self._share + _SLOWED * span.kappa(0.5) * h / span.eps)
        curve = share * h * h / (12.0 * span.eps)
        weights = (
            share,
            -share,
            (-share * h / 2 + curve * span.kappa(0.0)) * span.enter,
            (-share * h / 2 - curve * span.kappa(1.0)) / span.leave,
            curve,
            -curve,
        )
        return (w_1, w_0, u_0, u_1, self._end.storage.reshape(-1), self._start.storage.reshape(-1)), weights

    def _data(self, start: State, end: State, span: Span, row: Sequence[float]) -> tuple[tuple[np.ndarray, ...], list[float]]:
        (w_0, u_0), (w_1, u_1), h = flat(start), flat(end), span.h
        # After `accept` the force at the start is the older one.
        forces = self._end.storage.reshape(-1), self._start.storage.reshape(-1)
        first, last = row[2] * h * h / span.eps, row[5] * h * h / span.eps
        enter = (row[1] * h - first * span.kappa(0.0)) * span.enter
        leave = (row[4] * h - last * span.kappa(1.0)) / span.leave
        return (w_0, u_0, w_1, u_1, *forces), [row[0], enter, row[3], leave, first, last]

    def _in_order(self, state: State) -> Iterator[np.ndarray]:
        yield from super()._in_order(state)
        yield self._end.storage
