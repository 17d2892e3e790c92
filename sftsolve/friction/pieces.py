"""Stretches of a friction on which one formula holds, with its training time in closed form.

A law is a sequence of pieces, in order and without gaps, of eta(t) = 1/gamma(t); the last may go on for ever:

    Constant      eta                                       tau = eta s
    Linear        eta + slope s                             tau = eta s + slope s^2/2
    Exponential   eta e^{-rate s}                           tau = eta (1 - e^{-rate s}) / rate
    Cosine        final + (eta - final)(1 + cos(pi s/l))/2  tau = (eta + final) s/2 + (eta - final) l/(2 pi) sin(pi s/l)

with s = t - start and tau counted from the start of the piece. `panels.Panel` is the piece of everything else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

_ITERATIONS = 200
_ROUNDING = 1e-13


@dataclass(frozen=True)
class Piece:
    """eta(t) on start <= t <= end, smooth up to both ends.

    Attributes
    ----------
    start, end : where it holds; `end` may be infinite
    constant : whether eta is one number
    joined : whether it goes on smoothly from the piece before
    """

    start: float
    end: float
    constant: ClassVar[bool] = False

    @property
    def joined(self) -> bool:
        return False

    def eta(self, t: float) -> float:
        raise NotImplementedError

    def eta_slope(self, t: float) -> float:
        """d eta / dt."""
        raise NotImplementedError

    def tau(self, t: float) -> float:
        """int eta dt from the start; NaN where gamma vanishes in between."""
        raise NotImplementedError

    def gamma(self, t: float) -> float:
        return 1.0 / self.eta(t)

    def t_of_tau(self, tau: float) -> float:
        """The time at which `tau` has passed since the start; at most the end."""
        return invert(self.tau, self.eta, tau, self.start, self.end)

    def crossings(self) -> list[float]:
        """Times strictly inside at which gamma = 1; these formulas are monotone, so there is at most one."""
        low, high = self.start, self.end
        if math.isinf(high):
            high = low + 1.0
            while (self.eta(low) > 1.0) == (self.eta(high) > 1.0):
                high = low + 2.0 * (high - low)
                if high > 1e300:
                    return []
        return self._inside(crossing(self.eta, low, high))

    def _inside(self, times: list[float]) -> list[float]:
        """Those of the times that are not at an end of the piece, up to rounding."""
        margin = _ROUNDING * (self.end - self.start) if math.isfinite(self.end) else 0.0
        return [t for t in times if self.start + margin < t < self.end - margin]


@dataclass(frozen=True)
class Constant(Piece):
    value: float
    constant: ClassVar[bool] = True

    def eta(self, t: float) -> float:
        return self.value

    def eta_slope(self, t: float) -> float:
        return 0.0

    def tau(self, t: float) -> float:
        return self.value * (t - self.start)

    def t_of_tau(self, tau: float) -> float:
        return min(self.start + tau / self.value, self.end)

    def crossings(self) -> list[float]:
        return []


@dataclass(frozen=True)
class Linear(Piece):
    value: float
    slope: float

    def eta(self, t: float) -> float:
        return self.value + self.slope * (t - self.start)

    def eta_slope(self, t: float) -> float:
        return self.slope

    def tau(self, t: float) -> float:
        s = t - self.start
        return s * (self.value + 0.5 * self.slope * s)

    def t_of_tau(self, tau: float) -> float:
        root = math.sqrt(max(self.value**2 + 2.0 * self.slope * tau, 0.0))
        return min(self.start + 2.0 * tau / (self.value + root), self.end)

    def crossings(self) -> list[float]:
        if self.slope == 0.0:
            return []
        return self._inside([self.start + (1.0 - self.value) / self.slope])


@dataclass(frozen=True)
class Exponential(Piece):
    value: float
    rate: float

    def eta(self, t: float) -> float:
        return self.value * math.exp(-self.rate * (t - self.start))

    def eta_slope(self, t: float) -> float:
        return -self.rate * self.eta(t)

    def tau(self, t: float) -> float:
        return -self.value * math.expm1(-self.rate * (t - self.start)) / self.rate

    def t_of_tau(self, tau: float) -> float:
        fraction = -self.rate * tau / self.value
        return self.end if fraction <= -1.0 else min(self.start - math.log1p(fraction) / self.rate, self.end)

    def crossings(self) -> list[float]:
        return self._inside([self.start + math.log(self.value) / self.rate])


@dataclass(frozen=True)
class Cosine(Piece):
    value: float
    final: float

    def _phase(self, t: float) -> float:
        return math.pi * (t - self.start) / (self.end - self.start)

    def eta(self, t: float) -> float:
        # As a square, so that no digit of a small final value is lost near the end.
        return self.final + (self.value - self.final) * math.cos(0.5 * self._phase(t)) ** 2

    def eta_slope(self, t: float) -> float:
        factor = 0.5 * math.pi / (self.end - self.start)
        return -factor * (self.value - self.final) * math.sin(self._phase(t))

    def tau(self, t: float) -> float:
        swing = (self.value - self.final) * (self.end - self.start) / (2.0 * math.pi)
        return 0.5 * (self.value + self.final) * (t - self.start) + swing * math.sin(self._phase(t))


Law = Callable[[], Iterator[Piece]]
"""Makes the pieces of a friction anew, from t = 0 on."""


def crossing(eta: Callable[[float], float], low: float, high: float) -> list[float]:
    """The time after `low`, up to `high`, at which eta passes 1, if the two lie on different sides of it; by bisection."""
    above = eta(low) > 1.0
    if above == (eta(high) > 1.0):
        return []
    while True:
        middle = 0.5 * (low + high)
        if not low < middle < high:
            return [high]
        low, high = (middle, high) if (eta(middle) > 1.0) == above else (low, middle)


def invert(integral: Callable[[float], float], rate: Callable[[float], float], value: float, low: float, high: float) -> float:
    """t in [low, high] with integral(t) = value, `integral` rising at `rate` > 0: Newton's method, kept inside a bracket."""
    if value <= 0.0:
        return low
    if math.isinf(high):
        high = low + 1.0
        while integral(high) < value and high < 1e300:
            high = low + 2.0 * (high - low)
    t = min(low + value / rate(low), high)
    for _ in range(_ITERATIONS):
        error = integral(t) - value
        if error == 0.0:
            return t
        low, high = (low, t) if error > 0.0 else (t, high)
        nearer = t - error / rate(t)
        if not low <= nearer <= high:
            nearer = 0.5 * (low + high)
        if abs(nearer - t) <= 1e-16 * abs(t) or nearer in (low, high):
            return nearer
        t = nearer
    return t
