"""Friction gamma and the clocks that go with it.

Three clocks run together: physical time t; training time tau = int dt / gamma = int eta dt; and theta, in
which the steppers work, d theta = dt / s with the scale s = max(gamma, 1) (s = gamma for a gradient flow). In theta
the damped equation w_tt + gamma w_t = F reads

    w_theta = u,    eps u_theta = F - kappa u,    eps = 1/s^2,  kappa = gamma/s,

and eps = 0, kappa = 1 is the gradient flow w_theta = F, so gamma = 0 ... infinity is one code path.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sftsolve.errors import ConfigError, is_number

DYNAMICS = ("damped", "gradient-flow")
_SMALLEST = 1e-100  # so that gamma^2 and 1/gamma^2 stay inside the range of floats


@dataclass(frozen=True)
class Span:
    """One step on the clock. Within a step the scale is constant, its mean, so that only kappa varies:

        dw/ds = u,    eps du/ds = F - kappa(c) u,    0 <= s <= h,   c = s/h,   u = scale * w_t,   eps = 1/scale^2

    Attributes
    ----------
    h : length of the step in theta
    eps : constant of the equation above; 0 for a gradient flow
    enter, leave : what turns the state's u at the start into the step's, and the step's at its end into the state's
    """

    h: float
    eps: float
    enter: float
    leave: float
    _clock: Clock
    _start: float

    def t(self, c: float) -> float:
        """Physical time at the fraction c of the step."""
        return self._clock.t(self._start + c * self.h)

    def kappa(self, c: float) -> float:
        """gamma / scale at the fraction c of the step."""
        return self._clock.kappa


@dataclass(frozen=True)
class Clock:
    """Friction bound to a dynamics: the constants of the scaled equation and the maps between t, tau and theta.

    Attributes
    ----------
    gamma : friction w_tt + gamma w_t = F, per unit of t
    scale : dt / d theta
    eps, kappa : constants of the scaled equation above (eps = 0 for a gradient flow)
    """

    gamma: float
    scale: float
    eps: float
    kappa: float

    def theta(self, t: float) -> float:
        return t / self.scale

    def t(self, theta: float) -> float:
        return theta * self.scale

    def tau(self, t: float) -> float:
        """Training time of physical time t; NaN where gamma = 0."""
        return t / self.gamma if self.gamma > 0 else math.nan

    def t_of_tau(self, tau: float) -> float:
        return tau * self.gamma

    def span(self, theta: float, h: float) -> Span:
        """The step from theta to theta + h."""
        return Span(h, self.eps, 1.0, 1.0, self, theta)


class Friction:
    """The friction of the equation of motion: one of gamma, eta = 1/gamma, or the Hubble rate H with gamma = d H.

    Parameters
    ----------
    gamma : friction coefficient, 0 to 1e100, per unit of t
    eta : learning rate, 1e-100 to 1e100
    hubble : Hubble rate of d + 1 dimensional de Sitter space, 0 to 1e100; d is the number of grid axes (arXiv:2503.08827)

    Raises
    ------
    ConfigError : not exactly one of them, or not a number in its range
    """

    def __init__(self, gamma: float | None = None, *, eta: float | None = None, hubble: float | None = None):
        given = {name: value for name, value in (("gamma", gamma), ("eta", eta), ("hubble", hubble)) if value is not None}
        if len(given) != 1:
            raise ConfigError(
                "friction needs exactly one number",
                expected="one of gamma, eta and hubble",
                given=", ".join(given) or "none of them",
            )
        ((self.kind, value),) = given.items()
        least = _SMALLEST if self.kind == "eta" else 0
        if not is_number(value) or not least <= float(value) <= 1 / _SMALLEST:
            expected = f"a number from {least:g} to {1 / _SMALLEST:g}"
            raise ConfigError(f"friction {self.kind} is out of range", expected=expected, given=repr(value))
        self.value = float(value)

    def gamma(self, dimension: int) -> float:
        """The friction coefficient on a grid of `dimension` axes."""
        if self.kind == "eta":
            return 1.0 / self.value
        return self.value * dimension if self.kind == "hubble" else self.value

    def clock(self, dimension: int, dynamics: str) -> Clock:
        """Bind to a grid's dimension and a dynamics."""
        gamma = self.gamma(dimension)
        if dynamics == "gradient-flow":
            if gamma == 0:
                raise ConfigError("a gradient flow needs friction", expected="gamma > 0", given=f"{self.kind} = 0")
            return Clock(gamma, gamma, 0.0, 1.0)
        scale = max(gamma, 1.0)
        return Clock(gamma, scale, 1.0 / scale**2, gamma / scale)

    def __repr__(self) -> str:
        return f"Friction({self.kind}={self.value:g})"


def make_clock(friction: Friction | None, dimension: int, dynamics: str) -> Clock:
    """The clock of an action; without friction a gradient flow has gamma = 1 and a damped theory is an error.

    Raises
    ------
    ConfigError : unknown dynamics, or a damped theory without friction
    """
    if dynamics not in DYNAMICS:
        raise ConfigError("unknown dynamics", expected=" or ".join(DYNAMICS), given=repr(dynamics))
    if friction is None:
        if dynamics == "damped":
            raise ConfigError(
                'dynamics "damped" needs a friction',
                expected="Friction(gamma=...), (eta=...) or (hubble=...)",
                given="none",
                remedy='name one (gamma = 0 is allowed), or take dynamics="gradient-flow"',
            )
        friction = Friction(gamma=1.0)
    return friction.clock(dimension, dynamics)
