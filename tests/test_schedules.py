"""Frictions that vary in time: every clock against quadrature, inverses, spans, and what is refused."""

import itertools
import math

import numpy as np
import pytest
from scipy.integrate import quad

import sftsolve as sft
from sftsolve.errors import ConfigError
from sftsolve.friction import VaryingClock
from sftsolve.stepping.schedule import UserClock

END = 27.3
FOLLOWED = {"kind": "warm-up", "eta": 3, "end": 5, "start": 0.1, "then": {"kind": "cosine", "eta": 3, "end": 20, "final": 0.02}}
TABLES = {
    "constant": {"kind": "constant", "eta": 0.3},
    "constant to an end": {"kind": "constant", "eta": 0.3, "end": 4, "then": {"kind": "exponential", "eta": 2.0, "rate": 0.2}},
    "step every": {"kind": "step", "eta": 2.0, "factor": 0.3, "every": 7.0},
    "step at": {"kind": "step", "eta": 0.2, "at": [3, 11.5]},
    "step at the end": {"kind": "step", "eta": 0.2, "end": 9.0},
    "exponential": {"kind": "exponential", "eta": 3.0, "rate": 0.1},
    "half life": {"kind": "exponential", "eta": 3.0, "half_life": 5},
    "exponential to a final value": {"kind": "exponential", "eta": 0.01, "end": 20, "final": 3.0},
    "cosine": {"kind": "cosine", "eta": 3.0, "end": 20, "final": 0.01},
    "warm-up": {"kind": "warm-up", "eta": 0.8, "end": 5},
    "followed": FOLLOWED,
}
FUNCTIONS = {
    "sine": lambda t: 0.5 + 0.4 * math.sin(t),
    "through one": lambda t: 1.0 + 0.4 * math.sin(t),
    "jump": lambda t: 0.5 if t < 10 else 0.05,
    "half a cosine": lambda t: 0.01 + 1.495 * (1 + math.cos(math.pi * min(t, 20) / 20)),
    "decay of numpy's": lambda t: np.exp(-np.asarray(t) / 9),
}
SCHEDULES = TABLES | FUNCTIONS
DYNAMICS = ("damped", "gradient-flow")


def clock_of(name: str, dynamics: str = "damped") -> VaryingClock:
    return sft.Friction(schedule=SCHEDULES[name]).clock(2, dynamics)


def integral(function, clock, end):
    """Quadrature between the jumps, whose points themselves belong to the pieces that begin there."""
    total = 0.0
    for a, b in itertools.pairwise([0.0, *clock.jumps(0.0, end), end]):
        last = math.nextafter(b, a)
        total += quad(lambda t, last=last: function(min(t, last)), a, b, epsabs=0, epsrel=1e-12)[0]
    return total


@pytest.mark.parametrize("dynamics", DYNAMICS)
@pytest.mark.parametrize("name", SCHEDULES)
class TestClocks:
    def test_against_quadrature_and_back(self, name, dynamics):
        clock = clock_of(name, dynamics)
        for t in (0.3, 4.9, 9.99, 13.1, END):
            assert clock.theta(t) == pytest.approx(integral(lambda x: 1 / clock.scale_at(x), clock, t), rel=1e-13)
            assert clock.tau(t) == pytest.approx(integral(lambda x: 1 / clock.gamma_at(x), clock, t), rel=1e-13)
            assert clock.t(clock.theta(t)) == pytest.approx(t, rel=1e-13)
            assert clock.t_of_tau(clock.tau(t)) == pytest.approx(t, rel=1e-13)
        assert clock.theta(0.0) == clock.tau(0.0) == clock.t(0.0) == clock.t_of_tau(0.0) == 0.0

    def test_scale(self, name, dynamics):
        clock = clock_of(name, dynamics)
        for t in np.linspace(0, END, 40):
            gamma = clock.gamma_at(t)
            scale = max(gamma, 1.0) if dynamics == "damped" else gamma
            assert clock.scale_at(t) == pytest.approx(scale, rel=1e-12)
            assert clock.eps_at(t) == pytest.approx(scale**-2 if dynamics == "damped" else 0.0, rel=1e-12)
            assert clock.kappa_at(t) == pytest.approx(gamma / scale, rel=1e-12)

    def test_spans_multiply_up(self, name, dynamics):
        """Steps between the jumps: lengths add up to the whole, and u = scale w_t goes through steps and jumps with w_t fixed."""
        clock = clock_of(name, dynamics)
        total, factor = 0.0, 1.0
        for a, b in itertools.pairwise([0.0, *clock.jumps(0.0, END), END]):
            low, high = clock.theta(a), clock.theta(b)
            cuts = low + (high - low) * np.array([0.0, 1e-9, 0.2, 0.5, 0.9, 1.0])
            factor *= clock.jump_factor(a)
            for start, end in itertools.pairwise(cuts):
                span = clock.span(start, end - start)
                assert a <= span.t(0.0) <= span.t(0.4) <= span.t(1.0) <= (b if b < END else END * (1 + 1e-12))
                assert span.t(1.0) - span.t(0.0) == pytest.approx(span.scale * span.h, rel=1e-9, abs=4e-15 * END)
                total += span.h * span.scale
                factor *= span.enter * span.leave
                if dynamics == "damped":
                    assert span.eps == pytest.approx(span.scale**-2, rel=1e-14)
                    for c in (0.0, 0.3, 1.0):
                        assert span.kappa(c) * span.scale == pytest.approx(self.limit(clock, span.t(c), a, b), rel=1e-9)
                else:
                    assert (span.eps, span.enter, span.leave, span.kappa(0.5)) == (0.0, 1.0, 1.0, 1.0)
        assert total == pytest.approx(END, rel=1e-12)
        if dynamics == "damped":
            assert factor == pytest.approx(clock.scale_at(END) / clock.scale_at(0.0), rel=1e-9)

    @staticmethod
    def limit(clock, t, a, b):
        """gamma seen from inside (a, b)."""
        return clock.gamma_at(min(t, math.nextafter(b, a)))

    def test_slope_of_the_learning_rate(self, name, dynamics):
        clock = clock_of(name, dynamics)
        for t in (0.7, 6.1, 13.3):
            difference = (1 / clock.gamma_at(t + 1e-5) - 1 / clock.gamma_at(t - 1e-5)) / 2e-5
            assert clock.eta_slope(t) == pytest.approx(difference, rel=2e-5, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("constant", []),
        ("step every", [7.0, 14.0, 21.0]),
        ("step at", [3.0, 11.5]),
        ("exponential", [10 * math.log(3)]),
        ("cosine", [20 / math.pi * math.acos(2 * 0.99 / 2.99 - 1), 20.0]),
        ("followed", [5 * 0.9 / 2.9, 5.0, 5 + 20 / math.pi * math.acos(2 * 0.98 / 2.98 - 1), 25.0]),
        ("through one", [math.pi * n for n in range(1, 9)]),
        ("jump", [10.0]),
    ],
)
def test_jumps_and_crossings(name, expected):
    assert clock_of(name).jumps(0.0, END) == pytest.approx(expected, rel=1e-12)


def test_a_jump_is_found_to_the_last_digit():
    clock = clock_of("jump")
    assert clock.jumps(0.0, END) == [10.0] and clock.jumps(10.0, END) == [] and clock.jumps(0.0, 10.0) == []
    assert clock.gamma_at(10.0) == 20.0 and clock.gamma_at(math.nextafter(10.0, 0.0)) == 2.0
    assert clock.jump_factor(10.0) == pytest.approx(10.0) and clock.jump_factor(9.0) == 1.0


def test_a_step_past_a_jump_by_rounding_ends_at_it():
    clock = sft.Friction(schedule={"kind": "step", "eta": 0.5, "factor": 0.1, "every": 7.0}).clock(1, "damped")
    start, end = clock.theta(6.0), clock.theta(7.0)
    span = clock.span(start, (end - start) * (1 + 1e-9))
    assert span.t(1.0) == 7.0 and span.kappa(1.0) == pytest.approx(1.0) and span.leave == pytest.approx(1.0)
    span = clock.span(end * (1 - 1e-9), 0.2)
    assert span.t(0.0) == 7.0 and span.enter == pytest.approx(1.0) and span.scale == pytest.approx(20.0)


def test_every_step_counts():
    clock = sft.Friction(schedule={"kind": "step", "eta": 0.1, "factor": 0.5, "every": 10}).clock(1, "damped")
    assert clock.tau(40.0) == pytest.approx(10 * 0.1 * (1 + 0.5 + 0.25 + 0.125), rel=1e-15)


def test_friction_that_vanishes():
    clock = sft.Friction(gamma=lambda t: max(0.0, t - 2.1)).clock(1, "damped")
    assert clock.theta(3.1) == pytest.approx(3.1) and clock.theta(4.1) == pytest.approx(3.1 + math.log(2), rel=1e-12)
    assert math.isnan(clock.tau(4.0)) and not clock.trains
    assert clock.jumps(0.0, 9.0) == pytest.approx([3.1], rel=1e-12)  # gamma = 1
    with pytest.raises(ConfigError, match="tau does not exist"):
        UserClock(clock, "tau")
    with pytest.raises(ConfigError, match="needs friction"):
        sft.Friction(gamma=lambda t: 0.0).clock(1, "gradient-flow")


def test_a_time_that_never_comes():
    clock = sft.Friction(schedule={"kind": "exponential", "eta": 2.0, "rate": 0.5}).clock(1, "gradient-flow")
    assert clock.t_of_tau(3.9) == pytest.approx(-math.log(1 - 3.9 / 4) / 0.5, rel=1e-13)
    with pytest.raises(ConfigError, match="tau = 4.1 is never reached"):
        clock.t_of_tau(4.1)
    falling = sft.Friction(schedule=lambda t: 2.0 / (1 + t) ** 2).clock(1, "gradient-flow")
    assert falling.t_of_tau(1.9) == pytest.approx(19.0, rel=1e-12)
    with pytest.raises(ConfigError, match="never reached"):
        falling.t_of_tau(2.1)
    with pytest.raises(ConfigError, match="not known at this time"):
        falling.theta(-1.0)


def test_lengths_on_the_user_s_clock():
    clock = clock_of("cosine")
    for name, reading in (("t", lambda t: t), ("tau", clock.tau)):
        axis, theta, h = UserClock(clock, name), clock.theta(15.0), 1e-6
        assert axis.length(theta, h) == pytest.approx(reading(clock.t(theta + h)) - reading(clock.t(theta)), rel=1e-6)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"kind": "cosin", "eta": 1.0}, "did you mean cosine"),
        ({"eta": 1.0}, "unknown kind"),
        ({"kind": "step", "eta": 1.0, "evry": 3}, "did you mean every"),
        ({"kind": "cosine", "eta": 0.0, "end": 1}, "eta of a schedule is out of range"),
        ({"kind": "cosine", "eta": -1.0, "end": 1}, "eta of a schedule is out of range"),
        ({"kind": "cosine", "eta": math.nan, "end": 1}, "out of range"),
        ({"kind": "cosine", "eta": True, "end": 1}, "out of range"),
        ({"kind": "cosine", "end": 1}, "needs its learning rate"),
        ({"kind": "cosine", "eta": 1.0}, "needs an end"),
        ({"kind": "cosine", "eta": 1.0, "end": 0}, "end of a schedule is out of range"),
        ({"kind": "cosine", "eta": 1.0, "end": 3, "final": 0}, "final of a schedule"),
        ({"kind": "step", "eta": 1.0}, "needs one of at, every"),
        ({"kind": "step", "eta": 1.0, "at": [3, 2]}, "ascending"),
        ({"kind": "step", "eta": 1.0, "at": [3], "every": 2}, "at and every"),
        ({"kind": "exponential", "eta": 1.0}, "needs one of rate"),
        ({"kind": "exponential", "eta": 1.0, "rate": -1.0}, "rate > 0"),
        ({"kind": "exponential", "eta": 1.0, "rate": 1.0, "end": 1e4}, "before the learning rate leaves"),
        ({"kind": "exponential", "eta": 1.0, "final": 0.1}, "end = a time"),
        ({"kind": "warm-up", "eta": 1.0, "end": 3, "then": {"kind": "steps"}}, "did you mean step"),
        ({"kind": "constant", "eta": 1.0, "then": {"kind": "constant", "eta": 1.0}}, "needs an end"),
        ("cosine", "a table"),
        (0.1, "a table"),
    ],
)
def test_what_is_refused(given, words):
    with pytest.raises(ConfigError, match=words):
        sft.Friction(schedule=given)


@pytest.mark.parametrize(
    "given", [lambda t: -1.0, lambda t: 0.0, lambda t: math.nan, lambda t: "x", lambda t: 1.0 if t < 3 else 0]
)
def test_functions_that_are_refused(given):
    with pytest.raises(ConfigError, match="out of range at t ="):
        sft.Friction(schedule=given).clock(1, "damped").theta(5.0)


def test_noise_is_refused():
    random = np.random.default_rng(1)
    with pytest.raises(ConfigError, match="too rough"):
        sft.Friction(schedule=lambda t: 1.0 + random.random()).clock(1, "damped").theta(5.0)


def test_a_friction_that_varies_has_no_single_gamma():
    friction = sft.Friction(schedule=TABLES["cosine"])
    assert not friction.constant and "cosine" in repr(friction)
    with pytest.raises(ConfigError, match="varies in time"):
        friction.gamma(1)
