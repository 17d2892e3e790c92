"""The clocks that run with a friction, and a step's view of them.

Three clocks run together: physical time t; training time tau = int dt / gamma = int eta dt; and theta, in
which the steppers work, d theta = dt / s with the scale s = max(gamma, 1) (s = gamma for a gradient flow). In theta
the damped equation w_tt + gamma w_t = F reads, for a constant gamma,

    w_theta = u,    eps u_theta = F - kappa u,    eps = 1/s^2,  kappa = gamma/s,

and eps = 0, kappa = 1 is the gradient flow w_theta = F, so gamma = 0 ... infinity is one code path. Where gamma varies, so does
s; a step holds its mean fixed (`Span`), which changes the variable u and not the equation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """One step on the clock. Within a step the scale is constant, its mean, so that only kappa varies:

        dw/ds = u,    eps du/ds = F - kappa(c) u,    0 <= s <= h,   c = s/h,   u = scale * w_t,   eps = 1/scale^2

    Attributes
    ----------
    h : length of the step in theta
    eps : constant of the equation above; 0 for a gradient flow
    enter, leave : what turns the state's u at the start into the step's, and the step's at its end into the state's
    scale : mean of dt/ds
    """

    h: float
    eps: float
    enter: float
    leave: float
    scale: float
    _clock: Clock
    _start: float

    def t(self, c: float) -> float:
        """Physical time at the fraction c of the step."""
        return self._clock.t(self._start + c * self.h)

    def kappa(self, c: float) -> float:
        """gamma / scale at the fraction c of the step."""
        return self._clock.kappa


class Clock:
    """Friction bound to a dynamics: the scaled equation above and the maps between t, tau and theta, all zero together.

    Attributes
    ----------
    constant : whether gamma is
    damped : whether the equation has inertia (eps > 0)
    gamma : friction w_tt + gamma w_t = F, per unit of t
    scale : dt / d theta
    eps, kappa : constants of the scaled equation above (eps = 0 for a gradient flow)

    The last four belong to a constant clock alone.
    """

    constant: bool
    damped: bool
    gamma: float
    scale: float
    eps: float
    kappa: float

    def theta(self, t: float) -> float:
        raise NotImplementedError

    def t(self, theta: float) -> float:
        raise NotImplementedError

    def tau(self, t: float) -> float:
        """Training time of physical time t; NaN where gamma = 0 on the way."""
        raise NotImplementedError

    def t_of_tau(self, tau: float) -> float:
        raise NotImplementedError

    def span(self, theta: float, h: float) -> Span:
        """The step from theta to theta + h, between two jumps: the piece it lies in is that of its midpoint."""
        raise NotImplementedError

    def gamma_at(self, t: float) -> float:
        """gamma at physical time t; at a jump the value after it."""
        raise NotImplementedError

    def scale_at(self, t: float) -> float:
        """dt / d theta at physical time t; at a jump the value after it."""
        raise NotImplementedError

    def eps_at(self, t: float) -> float:
        """1 / scale^2, 0 for a gradient flow."""
        return self.scale_at(t) ** -2 if self.damped else 0.0

    def kappa_at(self, t: float) -> float:
        """gamma / scale."""
        return self.gamma_at(t) / self.scale_at(t)

    def eta_slope(self, t: float) -> float:
        """d eta / dt at physical time t, eta = 1/gamma."""
        raise NotImplementedError

    def jumps(self, t0: float, t1: float) -> list[float]:
        """Physical times in (t0, t1) at which gamma or its slope jumps, or the scale has a kink (gamma crosses 1)."""
        raise NotImplementedError

    def jump_factor(self, t: float) -> float:
        """scale(t+) / scale(t-): by what u = scale w_t is to be multiplied there, since w_t is continuous."""
        raise NotImplementedError

    @property
    def trains(self) -> bool:
        """Whether training time exists: gamma > 0 always, as far as is known."""
        raise NotImplementedError


@dataclass(frozen=True)
class ConstantClock(Clock):
    """The clock of a constant gamma."""

    gamma: float
    scale: float
    eps: float
    kappa: float
    constant = True

    @property
    def damped(self) -> bool:  # type: ignore[override]
        return self.eps > 0.0

    def theta(self, t: float) -> float:
        return t / self.scale

    def t(self, theta: float) -> float:
        return theta * self.scale

    def tau(self, t: float) -> float:
        return t / self.gamma if self.gamma > 0 else math.nan

    def t_of_tau(self, tau: float) -> float:
        return tau * self.gamma

    def span(self, theta: float, h: float) -> Span:
        return Span(h, self.eps, 1.0, 1.0, self.scale, self, theta)

    def gamma_at(self, t: float) -> float:
        return self.gamma

    def scale_at(self, t: float) -> float:
        return self.scale

    def eta_slope(self, t: float) -> float:
        return 0.0

    def jumps(self, t0: float, t1: float) -> list[float]:
        return []

    def jump_factor(self, t: float) -> float:
        return 1.0

    @property
    def trains(self) -> bool:
        return self.gamma > 0.0
