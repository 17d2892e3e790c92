"""Expanding space: friction d H(t), and gradients that redshift with the scale factor a(t).

    w_tt + d H w_t = -dC/dw,    C = int d^dx c(w, dw/a, d2w/a^2; J),    H = a_t / a,    a(0) = 1

in comoving coordinates x; sqrt(-g) = a^d. With a = e^{Ht} this is de Sitter space, whose free modes are Hankel functions.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.polynomial import chebyshev
from scipy.interpolate import CubicSpline

from sftsolve.errors import ConfigError
from sftsolve.friction.friction import Friction, number_in_range
from sftsolve.friction.panels import FIT, NODES, checked, clenshaw, panels
from sftsolve.friction.pieces import Law, Linear
from sftsolve.friction.schedules import SMALLEST

_ONE = 1e-9
_ROUNDING = 1e-12  # of ln a, times the gain of a derivative at degree 16


class FLRW(Friction):
    """Friction d H(t) of an expanding space of d dimensions (the grid's axes), in which every spatial derivative carries 1/a(t).

    Kernels between fields are not redshifted: they hold what they were given, in comoving coordinates.

    Parameters
    ----------
    hubble : H of de Sitter space, a = e^{Ht}; or
    power, t0 : a = (1 + t/t0)^power, H = power / (t0 + t): radiation 1/2, matter 2/3; or
    scale_factor : a function a(t) > 0 of t >= 0, or a table (t, a) from t = 0 on, between whose entries ln a is a cubic spline

    Raises
    ------
    ConfigError : not exactly one of them, numbers out of range, a(0) other than one, or a space that contracts
    """

    def __init__(
        self,
        hubble: float | None = None,
        *,
        power: float | None = None,
        t0: float | None = None,
        scale_factor: Callable[[float], float] | Sequence[Any] | None = None,
    ):
        choices = {"hubble": hubble, "power": power, "scale_factor": scale_factor}
        given = [name for name, value in choices.items() if value is not None]
        if len(given) != 1 or (power is None) != (t0 is None):
            raise ConfigError(
                "an expanding space needs one law",
                expected="hubble, or power and t0, or scale_factor",
                given=" and ".join([*given, *(["t0"] if t0 is not None else [])]) or "none of them",
            )
        (self.kind,) = given
        self.value = choices[self.kind]
        self.descent = None
        if self.kind == "hubble":
            self.value = number_in_range("hubble", hubble, 0.0)
        elif self.kind == "power":
            self.value = number_in_range("power", power, SMALLEST)
            self.t0 = number_in_range("t0", t0, SMALLEST)
        else:
            self._expansion = _Function(scale_factor) if callable(scale_factor) else _Table(scale_factor)

    @property
    def constant(self) -> bool:
        return self.kind == "hubble"

    def gamma(self, dimension: int) -> float:
        if not self.constant:
            return super().gamma(dimension)
        return self.value * dimension

    def law(self, dimension: int) -> Law | None:
        if self.kind == "hubble":
            return None
        if self.kind == "power":
            factor = dimension * self.value
            return lambda: iter([Linear(0.0, math.inf, self.t0 / factor, 1.0 / factor)])
        expansion = self._expansion
        return panels(
            lambda t: dimension * expansion.hubble(t), "the Hubble rate", True, knots=expansion.knots, end=expansion.end
        )

    def scale_factor(self, t: float) -> float:
        """a(t)."""
        if self.kind == "hubble":
            return math.exp(self.value * t)
        if self.kind == "power":
            return (1.0 + t / self.t0) ** self.value
        return self._expansion.scale_factor(t)

    def redshift(self, t: float) -> float:
        return math.exp(-self.value * t) if self.kind == "hubble" else 1.0 / self.scale_factor(t)

    def expansion(self, t: float) -> float:
        if self.kind == "hubble":
            return self.value
        return self.value / (self.t0 + t) if self.kind == "power" else self._expansion.hubble(t)

    @property
    def redshifts(self) -> bool:
        return True

    def __repr__(self) -> str:
        shown = (
            f"power={self.value:g}, t0={self.t0:g}"
            if self.kind == "power"
            else f"{self.kind}={' '.join(repr(self.value).split())[:80]}"
        )
        return f"FLRW({shown})"


class _Table:
    """ln a as a cubic spline through the entries of a table."""

    def __init__(self, table: Any):
        try:
            times, factors = (np.asarray(column, dtype=np.float64) for column in table)
            fine = times.ndim == 1 and times.shape == factors.shape and len(times) >= 4
            fine = fine and bool(np.isfinite(times).all() and np.isfinite(factors).all() and np.all(np.diff(times) > 0))
        except (TypeError, ValueError):
            fine = False
        if not fine:
            form = "(t, a): two sequences of one length, at least 4, t ascending"
            raise ConfigError("the scale factor is not understood", expected=form, given=repr(table)[:80])
        if times[0] != 0.0 or abs(factors[0] - 1.0) > _ONE or np.any(np.diff(factors) < 0):
            raise ConfigError(
                "the scale factor does not start at one, or falls",
                expected="a table from t = 0, a = 1 on with a that never falls",
                given=f"a({times[0]:g}) = {factors[0]:g}, smallest step {np.diff(factors).min():g}",
                remedy="divide a by its first value and count t from there",
            )
        self._spline = CubicSpline(times, np.log(factors))
        self._slope = self._spline.derivative()
        self._times, self.end = times, float(times[-1])

    def knots(self) -> list[float]:
        return self._times[1:].tolist()

    def hubble(self, t: float) -> float:
        return float(self._slope(t))

    def scale_factor(self, t: float) -> float:
        return math.exp(float(self._spline(min(t, self.end))))


class _Function:
    """a(t) by a function; H by the Chebyshev series of ln a on its smooth parts, halved for the sake of the derivative."""

    end = math.inf

    def __init__(self, function: Callable[[float], float]):
        name = "the scale factor a(t)"
        self._function, self._smooth = checked(function, name, False), panels(function, name)()
        self._starts: list[float] = []
        self._ends: list[float] = []
        self._slopes: list[tuple[float, ...]] = []
        at_zero = self._function(0.0)
        if abs(at_zero - 1.0) > _ONE:
            raise ConfigError("the scale factor does not start at one", expected="a(0) = 1", given=f"a(0) = {at_zero:g}")

    def knots(self) -> Iterator[float]:
        for number in itertools.count():
            while number >= len(self._ends):
                self._extend()
            yield self._ends[number]

    def hubble(self, t: float) -> float:
        while not self._ends or self._ends[-1] < t:
            self._extend()
        number = max(bisect.bisect_right(self._starts, t) - 1, 0)
        start, end, series = self._starts[number], self._ends[number], self._slopes[number]
        rate = clenshaw(series, 2.0 * (t - start) / (end - start) - 1.0)
        return 0.0 if -_ROUNDING / (end - start) < rate < 0.0 else rate

    def scale_factor(self, t: float) -> float:
        return self._function(t)

    def _extend(self) -> None:
        part = next(self._smooth)
        middle = 0.5 * (part.start + part.end)
        for start, end in ((part.start, middle), (middle, part.end)):
            times = start + 0.5 * (NODES + 1.0) * (end - start)
            logs = np.log([self._function(float(t)) for t in times])
            slopes = chebyshev.chebder(FIT @ (logs - logs[0])) * (2.0 / (end - start))
            self._starts.append(start)
            self._ends.append(end)
            self._slopes.append(tuple(slopes.tolist()))
