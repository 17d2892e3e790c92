"""Friction and its three clocks."""

import math
from fractions import Fraction

import numpy as np
import pytest

import sftsolve as sft
from sftsolve.errors import ConfigError
from sftsolve.friction import make_clock


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_three_ways_to_say_gamma(dimension):
    assert sft.Friction(8.0).gamma(dimension) == sft.Friction(gamma=8).gamma(dimension) == 8.0
    assert sft.Friction(eta=0.125).gamma(dimension) == 8.0
    assert sft.Friction(hubble=8.0).gamma(dimension) == 8.0 * dimension


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 40.0, 1e8, 1e100])
def test_scaled_equation_is_the_equation(gamma):
    # w_tt + gamma w_t = F with w_t = u/s and d/dt = (1/s) d/dtheta: u_theta/s^2 + (gamma/s) u = F.
    clock = sft.Friction(gamma).clock(1, "damped")
    s = clock.scale
    assert s == max(gamma, 1.0)
    assert clock.eps == pytest.approx(s**-2, rel=1e-15) and clock.kappa == pytest.approx(gamma / s, rel=1e-15)
    assert clock.theta(3.0) == pytest.approx(3.0 / s) and clock.t(clock.theta(3.0)) == pytest.approx(3.0)
    if gamma:
        assert clock.tau(3.0) == pytest.approx(3.0 / gamma) and clock.t_of_tau(clock.tau(3.0)) == pytest.approx(3.0)
    else:
        assert math.isnan(clock.tau(3.0))


def test_gradient_flow_is_the_limit_of_no_inertia():
    clock = sft.Friction(gamma=40.0).clock(2, "gradient-flow")
    assert (clock.eps, clock.kappa, clock.scale) == (0.0, 1.0, 40.0) and clock.theta(80.0) == clock.tau(80.0) == 2.0


def test_without_friction():
    assert make_clock(None, 1, "gradient-flow").gamma == 1.0
    with pytest.raises(ConfigError, match="needs a friction"):
        make_clock(None, 1, "damped")
    with pytest.raises(ConfigError, match="needs friction"):
        make_clock(sft.Friction(gamma=0.0), 1, "gradient-flow")
    with pytest.raises(ConfigError, match="unknown dynamics"):
        make_clock(sft.Friction(gamma=1.0), 1, "damp")


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"gamma": 1.0, "eta": 1.0},
        {"gamma": -1.0},
        {"gamma": math.nan},
        {"gamma": math.inf},
        {"gamma": "1"},
        {"gamma": True},
        {"gamma": 1j},
        {"gamma": 10**400},
        {"gamma": 1e200},
        {"gamma": [1.0]},
        {"eta": 0},
        {"eta": -0.1},
        {"eta": 1e-320},
        {"hubble": -1.0},
        {"hubble": 1e308},
    ],
)
def test_what_is_refused(given):
    with pytest.raises(ConfigError) as caught:
        sft.Friction(**given)
    assert "expected:" in str(caught.value) and "given:" in str(caught.value)


@pytest.mark.parametrize("number", [2, 2.0, np.float32(2), np.int64(2), Fraction(2)])
def test_kinds_of_numbers(number):
    for name in ("gamma", "eta", "hubble"):
        friction = sft.Friction(**{name: number})
        assert friction.value == 2.0 and repr(friction) == f"Friction({name}=2)"
