"""Friction laws without closed forms: functions of t, resolved by Chebyshev panels as far as they are asked for.

On a panel the function agrees with its interpolant of degree 16 to rounding, and the training time is the antiderivative of
eta's interpolant (relative error about 1e-15). Panels double in length while that holds and are halved where it does not, down
to the spacing of floats: so jumps are found. What is shorter than a tenth of its distance from the last one may be
missed, as by any rule that samples.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.polynomial import chebyshev

from sftsolve.errors import ConfigError, is_number
from sftsolve.friction.pieces import Law, Piece, crossing

DEGREE = 16
NODES = np.cos(np.pi * np.arange(DEGREE, -1, -1) / DEGREE)
_BETWEEN = np.array([-0.97, -0.31, 0.57])  # where the interpolant is checked
FIT = np.linalg.inv(chebyshev.chebvander(NODES, DEGREE))
_CHECK = chebyshev.chebvander(_BETWEEN, DEGREE)
_PLACES = 0.5 * (np.concatenate([NODES, _BETWEEN]) + 1.0)
_RESOLVED = 1e-14
_NOISE = 1e-10  # what stays below this although the panel was halved is rounding in the function itself
_CANCELLED = 1e-12  # of the largest value so far: rounding that a function may have made while it was that large
_NARROW = 1e-14  # of the time: no panel is halved further
_KINK = 1e-6  # of the time: an unresolved panel shorter than this holds a jump or a kink
_NEAR_ZERO = 1e-2
_MOST_BREAKS = 20  # one after the other, with no smooth part between them


@dataclass(frozen=True)
class Panel(Piece):
    """eta(t), or gamma(t) if `inverse`, by a function, and tau as a Chebyshev series; without one tau does not exist."""

    function: Callable[[float], float]
    inverse: bool
    series: tuple[float, ...]
    continues: bool

    @property
    def joined(self) -> bool:
        return self.continues

    def eta(self, t: float) -> float:
        value = self.function(t)
        if not self.inverse:
            return value
        return 1.0 / value if value > 0.0 else math.inf

    def gamma(self, t: float) -> float:
        value = self.function(t)
        return value if self.inverse else 1.0 / value

    def eta_slope(self, t: float) -> float:
        """By differences of second order inside the panel; its relative error is about 1e-8 per length of the panel."""
        step = 1e-4 * (self.end - self.start)
        middle = min(max(t, self.start + step), self.end - step)
        low, here, high = self.eta(middle - step), self.eta(middle), self.eta(middle + step)
        return (high - low) / (2.0 * step) + (high - 2.0 * here + low) / step**2 * (t - middle)

    def tau(self, t: float) -> float:
        x = 2.0 * (t - self.start) / (self.end - self.start) - 1.0
        return clenshaw(self.series, x) if self.series else math.nan

    def t_of_tau(self, tau: float) -> float:
        return super().t_of_tau(tau) if self.series else math.nan

    def crossings(self) -> list[float]:
        times = [self.start + 0.5 * (node + 1.0) * (self.end - self.start) for node in NODES.tolist()]
        return self._inside([t for low, high in itertools.pairwise(times) for t in crossing(self.eta, low, high)])


def panels(
    function: Callable[[float], float],
    name: str,
    inverse: bool = False,
    knots: Callable[[], Iterable[float]] = tuple,
    end: float = math.inf,
) -> Law:
    """The law of eta(t) = function(t), or gamma(t) if `inverse`, from t = 0 to `end`; panels end at the `knots` > 0 too.

    Raises
    ------
    ConfigError : while it is evaluated, where a value is not a number in its range, or the function is nowhere smooth
    """
    values = checked(function, name, inverse)
    return lambda: _generate(values, name, inverse, itertools.chain(knots(), itertools.repeat(end)))


def clenshaw(series: tuple[float, ...], x: float) -> float:
    """Value of a Chebyshev series at -1 <= x <= 1."""
    ahead = last = 0.0
    for coefficient in reversed(series[1:]):
        ahead, last = coefficient + 2.0 * x * ahead - last, ahead
    return series[0] + x * ahead - last


def _generate(function: Callable[[float], float], name: str, inverse: bool, stops: Iterator[float]) -> Iterator[Piece]:
    t, length, last, goal, joined, breaks, peak = 0.0, 1.0, math.inf, 0.0, False, 0, 0.0
    stop = next(stops)
    while t < stop:
        right = min(t + length, stop)
        tail, series, least, most = _fit(function, t, right, inverse)
        size, peak = max(t, _NEAR_ZERO), max(peak, most)
        noise = max(_NOISE, _CANCELLED * peak / max(least if series else most, 1e-300))
        resolved = tail <= _RESOLVED or (tail <= noise and tail > 0.3 * last and right - t > _KINK * size)
        if not resolved and 0.5 * (right - t) > _NARROW * size:
            goal, length, last = max(goal, right), 0.5 * (right - t), tail
            continue
        if resolved:
            yield Panel(t, right, function, inverse, series, joined)
            breaks = 0 if right - t > _KINK * size else breaks
            t, length = right, (2.0 * (right - t) if right >= goal else goal - right)
        else:
            breaks += 1
            if breaks > _MOST_BREAKS:
                raise ConfigError(f"{name} is too rough", expected="a function in double precision, smooth between its jumps")
            value, right = function(t), _jump(function, t, right)
            held = 1.0 / value if inverse and value > 0.0 else value
            steady = () if inverse and value == 0.0 else (0.5 * held * (right - t), 0.5 * held * (right - t))
            yield Panel(t, right, lambda _, value=value: value, inverse, steady, joined)  # type: ignore[misc]
            t, length = right, max(goal - right, right - t)
        joined = resolved
        if not resolved or t >= goal:  # what comes next is not part of a panel that was halved
            last, goal = math.inf, 0.0
        stop = next(stops) if t >= stop else stop


def _fit(
    function: Callable[[float], float], low: float, high: float, inverse: bool
) -> tuple[float, tuple[float, ...], float, float]:
    """(relative size of what an interpolant misses, series of the antiderivative of eta from `low`, least and largest value)."""
    given = np.array([function(low + place * (high - low)) for place in _PLACES.tolist()])
    tail, least, most = _missed(given), float(given.min()), float(given.max())
    if inverse and least <= 0.0:
        return (tail if most < 1.0 else math.inf), (), least, most
    eta = 1.0 / given if inverse else given
    series = chebyshev.chebint(FIT @ eta[: DEGREE + 1], lbnd=-1.0) * (0.5 * (high - low))
    return max(tail, _missed(eta)), tuple(series.tolist()), least, most


def _missed(values: np.ndarray) -> float:
    coefficients = FIT @ values[: DEGREE + 1]
    error = max(np.abs(coefficients[-2:]).max(), np.abs(_CHECK @ coefficients - values[DEGREE + 1 :]).max())
    return float(error / max(np.abs(values).max(), 1e-300))


def _jump(function: Callable[[float], float], low: float, high: float) -> float:
    """The first float from which the function is nearer to its value at `high` than to that at `low`."""
    before, after = function(low), function(high)
    if abs(after - before) <= 1e-9 * max(abs(before), abs(after)):
        return high
    while low < (middle := 0.5 * (low + high)) < high:
        value = function(middle)
        low, high = (middle, high) if abs(value - before) < abs(value - after) else (low, middle)
    return high


def checked(function: Callable[[float], float], name: str, inverse: bool) -> Callable[[float], float]:
    """The function as floats that are in their range, or a refusal that says where they are not."""
    expected = "finite numbers >= 0" if inverse else "finite numbers > 0"

    def value(t: float) -> float:
        found = function(t)
        if isinstance(found, np.ndarray) and found.ndim == 0:
            found = found[()]
        if not is_number(found) or found < 0.0 or (found == 0.0 and not inverse):
            raise ConfigError(f"{name} is out of range at t = {t:g}", expected=expected, given=repr(found)[:80])
        return float(found)

    return value
