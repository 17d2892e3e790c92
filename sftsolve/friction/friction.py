"""What a user says about friction, bound to a dynamics as a clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sftsolve.errors import ConfigError, is_number
from sftsolve.friction.clock import Clock, ConstantClock
from sftsolve.friction.panels import panels
from sftsolve.friction.pieces import Law
from sftsolve.friction.schedules import SMALLEST, schedule_law
from sftsolve.friction.varying import VaryingClock

DYNAMICS = ("damped", "gradient-flow", "slow-manifold")


@dataclass(frozen=True)
class Descent:
    """Gradient descent with step size eta, or with momentum, in the theory's units; tau advances by `dtau` a step.

    To second order in the step descent follows eps w_tautau + w_tau = F + hessian F'[w_tau], w_tau(0) = start F(w(0)): it is the
    leapfrog scheme of that equation. For Nesterov w are the iterates themselves; the points looked ahead to, which
    torch.optim.SGD and the stepper "nesterov" hold, are w + beta dtau w_tau to the same order.

    Attributes
    ----------
    eta : the learning rate, w -> w + eta F(w) without momentum
    momentum : beta of heavy ball, b -> beta b + F(w), w -> w + eta b
    nesterov : whether F is taken ahead, at w + beta (w - w_before)
    """

    eta: float
    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        number_in_range("eta", self.eta, SMALLEST)
        if not is_number(self.momentum) or not 0.0 <= self.momentum < 1.0:
            raise ConfigError("momentum is out of range", expected="a number from 0 to below 1", given=repr(self.momentum))
        if not isinstance(self.nesterov, bool) or (self.nesterov and self.momentum == 0.0):
            given = f"nesterov={self.nesterov!r}, momentum={self.momentum!r}"
            raise ConfigError("nesterov is not understood", expected="True with a momentum > 0, or False", given=given)

    @property
    def dtau(self) -> float:
        """Training time of one step."""
        return self.eta / (1.0 - self.momentum)

    @property
    def eps(self) -> float:
        return self.eta * (1.0 + self.momentum) / (2.0 * (1.0 - self.momentum) ** 2)

    @property
    def start(self) -> float:
        """w_tau(0) / F(w(0)) of a descent whose momentum starts from zero."""
        return (1.0 - self.momentum) / (1.0 + self.momentum)

    @property
    def hessian(self) -> float:
        return self.momentum * self.dtau if self.nesterov else 0.0


class Friction:
    """The friction of the equation of motion: one of gamma, eta = 1/gamma, the Hubble rate H with gamma = d H, or a schedule.

    Parameters
    ----------
    gamma : friction coefficient, 0 to 1e100, per unit of t; or a function gamma(t) >= 0 of t >= 0
    eta : learning rate, 1e-100 to 1e100
    hubble : Hubble rate of d + 1 dimensional de Sitter space, 0 to 1e100; d is the number of grid axes (arXiv:2503.08827)
    schedule : learning rate eta(t) as a table ``{"kind": "constant" | "step" | "exponential" | "cosine" | "warm-up", "eta": ...,
        "end": ..., ...}``, see `friction.schedules`, or as a function eta(t) > 0 of t >= 0

    Functions are sampled until they are resolved; their jumps are found, and steps end there.

    Raises
    ------
    ConfigError : not exactly one of them, a number out of its range, or a schedule that is not understood
    """

    def __init__(
        self,
        gamma: float | Callable[[float], float] | None = None,
        *,
        eta: float | None = None,
        hubble: float | None = None,
        schedule: Mapping[str, Any] | Callable[[float], float] | None = None,
    ):
        choices = {"gamma": gamma, "eta": eta, "hubble": hubble, "schedule": schedule}
        given = {name: value for name, value in choices.items() if value is not None}
        if len(given) != 1:
            raise ConfigError(
                "friction needs exactly one law",
                expected="one of gamma, eta, hubble and schedule",
                given=", ".join(given) or "none of them",
            )
        ((self.kind, value),) = given.items()
        self.descent: Descent | None = None
        self._law: Law | None = None
        self.value: Any = value
        if self.kind == "schedule":
            self._law = panels(value, "the schedule eta(t)") if callable(value) else schedule_law(value)  # type: ignore[arg-type]
        elif self.kind == "gamma" and callable(value):
            self._law = panels(value, "gamma(t)", inverse=True)
        else:
            self.value = number_in_range(self.kind, value, SMALLEST if self.kind == "eta" else 0.0)

    @staticmethod
    def matching_descent(eta: float, momentum: float = 0.0, nesterov: bool = False) -> Friction:
        """The friction with which the damped theory follows gradient descent to second order in the step.

        gamma = eps^(-1/2) with eps = eta (1 + beta) / (2 (1 - beta)^2), sqrt(2/eta) without momentum; a state without a velocity
        starts with that of the first step, w_tau = F (1 - beta)/(1 + beta), and for Nesterov's momentum the force gains
        beta dtau F'[F]. A step of descent takes dtau = eta / (1 - beta) of training time.

        Parameters
        ----------
        eta : learning rate, w -> w + eta F(w)
        momentum : beta of heavy ball, 0 to below 1
        nesterov : take the force ahead, at w + beta (w - w_before)

        Raises
        ------
        ConfigError : numbers out of range
        """
        descent = Descent(eta, momentum, nesterov)
        friction = Friction(gamma=descent.eps**-0.5)
        friction.descent = descent
        return friction

    @property
    def constant(self) -> bool:
        """Whether gamma is one number."""
        return self._law is None

    def gamma(self, dimension: int) -> float:
        """The friction coefficient on a grid of `dimension` axes; raises `ConfigError` where it varies in time."""
        if not self.constant:
            raise ConfigError("this friction varies in time", given=repr(self), remedy="ask its clock: clock.gamma_at(t)")
        if self.kind == "eta":
            return 1.0 / self.value
        return self.value * dimension if self.kind == "hubble" else self.value

    def law(self, dimension: int) -> Law | None:
        """The pieces of a friction that varies, on a grid of `dimension` axes; None where it is constant."""
        return self._law

    def scale_factor(self, t: float) -> float:
        """a(t) by which space has grown, as far as the gradients see it: 1 but for `FLRW`."""
        return 1.0

    def redshift(self, t: float) -> float:
        """1/a(t)."""
        return 1.0

    def expansion(self, t: float) -> float:
        """H(t) = a_t/a of that a."""
        return 0.0

    @property
    def redshifts(self) -> bool:
        """Whether spatial derivatives carry 1/a(t)."""
        return False

    def clock(self, dimension: int, dynamics: str) -> Clock:
        """Bind to a grid's dimension and a dynamics."""
        damped = dynamics == "damped"
        law = self.law(dimension)
        if law is not None:
            return VaryingClock(law, damped)
        gamma = self.gamma(dimension)
        if damped:
            scale = max(gamma, 1.0)
            return ConstantClock(gamma, scale, 1.0 / scale**2, gamma / scale)
        if gamma == 0:
            raise ConfigError(f"a {dynamics} needs friction".replace("-", " "), expected="gamma > 0", given=f"{self.kind} = 0")
        return ConstantClock(gamma, gamma, 0.0, 1.0)

    def __repr__(self) -> str:
        if self.descent is not None:
            given = self.descent
            return f"Friction.matching_descent(eta={given.eta:g}, momentum={given.momentum:g}, nesterov={given.nesterov})"
        shown = f"{self.value:g}" if isinstance(self.value, float) else repr(self.value)
        return f"Friction({self.kind}={shown})"


def number_in_range(name: str, value: object, least: float) -> float:
    """`value` as a float from `least` to 1e100; raises `ConfigError` otherwise."""
    if not is_number(value) or not least <= float(value) <= 1 / SMALLEST:
        expected = f"a number from {least:g} to {1 / SMALLEST:g}"
        raise ConfigError(f"friction {name} is out of range", expected=expected, given=repr(value)[:80])
    return float(value)


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
                expected="Friction(gamma=...), (eta=...), (hubble=...) or (schedule=...), or FLRW(...)",
                given="none",
                remedy='name one (gamma = 0 is allowed), or take dynamics="gradient-flow"',
            )
        friction = Friction(gamma=1.0)
    return friction.clock(dimension, dynamics)
