"""The clock of a friction that varies in time."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

from sftsolve.errors import ConfigError
from sftsolve.friction.clock import Clock, Span
from sftsolve.friction.pieces import Law, Piece

# Gauss-Legendre points and weights on [0, 1], for means of eta over short steps.
_POINTS = (0.04691007703066800, 0.23076534494715845, 0.5, 0.76923465505284155, 0.95308992296933200)
_WEIGHTS = (0.11846344252809454, 0.23931433524968324, 0.28444444444444444, 0.23931433524968324, 0.11846344252809454)
_SHORT = 1e-3
_ROUNDING = 1e-15
_SAME = 1e-12
_IDLE = 64  # pieces that add nothing to a clock before it is said to stand still


@dataclass(frozen=True)
class _Segment:
    """Part of a piece on one side of gamma = 1, and what the clocks show at its start.

    `unit`: the scale is one; `stretch`: number of the part of time, between points where something is not smooth; `offset`: the
    piece's own tau at the start.
    """

    piece: Piece
    start: float
    end: float
    unit: bool
    theta: float
    tau: float
    stretch: int
    offset: float

    def tau_at(self, t: float) -> float:
        return self.tau + (self.piece.tau(t) - self.offset)

    def theta_at(self, t: float) -> float:
        return self.theta + (t - self.start if self.unit else self.piece.tau(t) - self.offset)

    def t_of_tau(self, tau: float) -> float:
        return self._after(tau - self.tau)

    def t_of_theta(self, theta: float) -> float:
        return min(self.start + (theta - self.theta), self.end) if self.unit else self._after(theta - self.theta)

    def _after(self, passed: float) -> float:
        return self.start if passed <= 0.0 else min(max(self.piece.t_of_tau(passed + self.offset), self.start), self.end)

    def scale(self, t: float) -> float:
        return 1.0 if self.unit else self.piece.gamma(t)


class VaryingClock(Clock):
    """The clock of a gamma that varies, from t = 0 on; its pieces are made as far as they are asked for.

    Parameters
    ----------
    law : makes the pieces
    damped : whether the dynamics has inertia
    """

    constant = False

    def __init__(self, law: Law, damped: bool):
        self.damped = damped
        self._pieces = law()
        self._segments: list[_Segment] = []
        self._starts: list[float] = []
        self._thetas: list[float] = []
        self._taus: list[float] = []
        self._stretches: list[float] = []
        self._extend()

    def theta(self, t: float) -> float:
        return self._at(t).theta_at(t)

    def t(self, theta: float) -> float:
        return self._segments[self._reading(theta, "theta", self._thetas, _Segment.theta_at)].t_of_theta(theta)

    def tau(self, t: float) -> float:
        return self._at(t).tau_at(t)

    def t_of_tau(self, tau: float) -> float:
        return self._segments[self._reading(tau, "tau", self._taus, _Segment.tau_at)].t_of_tau(tau)

    def gamma_at(self, t: float) -> float:
        return self._at(t).piece.gamma(t)

    def scale_at(self, t: float) -> float:
        return self._at(t).scale(t)

    def eta_slope(self, t: float) -> float:
        return self._at(t).piece.eta_slope(t)

    def jumps(self, t0: float, t1: float) -> list[float]:
        self._extend_to(t1)
        return [t for t in self._stretches[1:] if t0 < t < t1]

    def jump_factor(self, t: float) -> float:
        self._extend_to(t)
        for number in (bisect.bisect_right(self._starts, t) - 1, bisect.bisect_right(self._starts, t)):
            if 0 < number < len(self._starts) and abs(self._starts[number] - t) <= _SAME * t:
                place = self._starts[number]
                return self._segments[number].scale(place) / self._segments[number - 1].scale(place)
        return 1.0

    @property
    def trains(self) -> bool:
        return not any(math.isnan(tau) for tau in (*self._taus, self._segments[-1].tau_at(self._known)))

    def span(self, theta: float, h: float) -> Span:
        number = self._reading(theta + 0.5 * h, "theta", self._thetas, _Segment.theta_at)
        middle = self._segments[number]
        stretch = middle.stretch
        t1 = self.t(theta + h) if self._theta_end() > theta + h or self._more(theta + h) else self._segments[-1].end
        t0 = max(self.t(theta), self._stretches[stretch])
        t1 = min(t1, self._stretches[stretch + 1]) if stretch + 1 < len(self._stretches) else t1
        if not self.damped:
            return VaryingSpan(h, 0.0, 1.0, 1.0, (t1 - t0) / h, self, theta, t0, t1, stretch)
        before, after = self.within(stretch, t0).scale(t0), self.within(stretch, t1).scale(t1)
        scale = middle.scale(t0) if middle.unit or middle.piece.constant else self._mean_scale(t0, t1, h, stretch)
        return VaryingSpan(h, scale**-2, scale / before, after / scale, scale, self, theta, t0, t1, stretch)

    def within(self, stretch: int, t: float) -> _Segment:
        """The segment of a stretch that holds at t: at the ends of the stretch its own limits, not its neighbours'."""
        number = max(bisect.bisect_right(self._starts, t) - 1, 0)
        while self._segments[number].stretch > stretch:
            number -= 1
        while self._segments[number].stretch < stretch:
            number += 1
        return self._segments[number]

    def _mean_scale(self, t0: float, t1: float, h: float, stretch: int) -> float:
        """(t1 - t0) / h; for short steps by the mean of eta, as the difference of two large times loses digits."""
        length = t1 - t0
        if length < _SHORT * t1:
            points = [t0 + place * length for place in _POINTS]
            rates = [1.0 / self.within(stretch, t).scale(t) for t in points]
            eta = sum(weight * rate for weight, rate in zip(_WEIGHTS, rates, strict=True))
            if abs(h / eta - length) <= 16 * _ROUNDING * t1:
                return 1.0 / eta
        return length / h

    @property
    def _known(self) -> float:
        """A time up to which the law is known."""
        last = self._segments[-1]
        return last.end if math.isfinite(last.end) else last.start + 1.0

    def _at(self, t: float) -> _Segment:
        """The segment that holds from t on."""
        self._extend_to(t)
        last = self._segments[-1]
        if t < 0.0 or t > last.end:
            raise ConfigError(
                "the friction is not known at this time",
                expected=f"t from 0 to {last.end:g}" if math.isfinite(last.end) else "t >= 0",
                given=f"t = {t:g}",
            )
        return self._segments[bisect.bisect_right(self._starts, t) - 1]

    def _reading(self, value: float, name: str, keys: list[float], at: Callable[[_Segment, float], float]) -> int:
        """Number of the segment in which a clock reads `value`."""
        idle, last = 0, self._segments[-1]
        while not (end := at(last, last.end)) > value and idle < _IDLE and self._extend():
            last = self._segments[-1]
            idle = 0 if at(last, last.end) > end * (1 + _ROUNDING) else idle + 1
        if math.isnan(end):
            raise ConfigError(
                "training time tau does not exist where gamma = 0", given=f"tau = {value:g}", remedy='take clock="t"'
            )
        if value < -_SAME or value > end * (1 + _SAME):
            raise ConfigError(
                f"{name} = {value:g} is never reached with this friction",
                expected=f"{name} from 0 to {end:.6g}",
                given=f"{value:g}",
                remedy="end earlier, or let the learning rate fall more slowly",
            )
        return max(bisect.bisect_right(keys, value) - 1, 0)

    def _theta_end(self) -> float:
        last = self._segments[-1]
        return last.theta_at(last.end)

    def _more(self, theta: float) -> bool:
        """Whether theta is reached after all, when further pieces are made."""
        while self._theta_end() <= theta:
            if not self._extend():
                return False
        return True

    def _extend_to(self, t: float) -> None:
        while self._segments[-1].end <= t and self._extend():
            pass

    def _extend(self) -> bool:
        """Make the next piece; False where there is none."""
        piece = next(self._pieces, None)
        if piece is None:
            return False
        marks = [piece.start, *(piece.crossings() if self.damped else ()), piece.end]
        for low, high in itertools.pairwise(marks):
            middle = low + 0.5 * (high - low) if math.isfinite(high) else low + 1.0
            if not self.damped and math.isnan(piece.tau(middle)):
                raise ConfigError("a gradient flow needs friction", expected="gamma > 0", given=f"gamma = 0 near t = {low:g}")
            self._append(piece, low, high, self.damped and piece.gamma(middle) < 1.0)
        return True

    def _append(self, piece: Piece, low: float, high: float, unit: bool) -> None:
        theta, tau, stretch = 0.0, 0.0, 0
        if self._segments:
            last = self._segments[-1]
            theta, tau = last.theta_at(low), last.tau_at(low)
            smooth = piece.joined and low == piece.start and unit == last.unit
            stretch = last.stretch + (not smooth)
        if stretch == len(self._stretches):
            self._stretches.append(low)
        self._segments.append(_Segment(piece, low, high, unit, theta, tau, stretch, piece.tau(low)))
        self._starts.append(low)
        self._thetas.append(theta)
        self._taus.append(tau)


@dataclass(frozen=True)
class VaryingSpan(Span):
    """A step of a `VaryingClock` from t0 to t1, in one stretch of it."""

    _clock: VaryingClock
    _t0: float
    _t1: float
    _stretch: int

    def t(self, c: float) -> float:
        if self.eps:
            return self._t1 if c == 1.0 else self._t0 + c * (self._t1 - self._t0)
        return min(max(self._clock.t(self._start + c * self.h), self._t0), self._t1)

    def kappa(self, c: float) -> float:
        if not self.eps:
            return 1.0
        t = self.t(c)
        return self._clock.within(self._stretch, t).piece.gamma(t) / self.scale
