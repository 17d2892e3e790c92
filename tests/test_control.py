"""Tolerances, the controller, schedules, and the forecast of stiff runs."""

import logging
import math

import numpy as np
import pytest
from linear_systems import PointwiseSystem, springs

from sftsolve.errors import ConfigError
from sftsolve.friction import Friction
from sftsolve.stepping import (
    ANY_STEP,
    Pace,
    PIController,
    StepRule,
    Tolerance,
    UserClock,
    events,
    make_stepper,
    resolve,
    scalar_schedule,
    snapshot_schedule,
)
from sftsolve.stepping.stiffness import stable_step
from sftsolve.stepping.tableaus import explicit_methods, tableau

# --- tolerances


def test_atol_by_field():
    tolerance = Tolerance.of(1e-3, {"b": 2e-3, "a": 1e-6}, ("a", "b"))
    assert tolerance.rtol == 1e-3 and tolerance.atol.tolist() == [1e-6, 2e-3]
    assert Tolerance.of(0.1, np.float32(0.5), ("a", "b")).atol.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("rtol", [0, 0.0, 1e-15, 1, 1.0, -1e-3, math.nan, math.inf, "1e-3", None, True])
def test_bad_rtol(rtol):
    with pytest.raises(ConfigError, match="rtol"):
        Tolerance.of(rtol, 1e-9, ("a",))


@pytest.mark.parametrize("atol", [0, -1.0, math.nan, math.inf, "x", None, {}, {"a": 0.0}, {"a": 1.0, "c": 1.0}])
def test_bad_atol(atol):
    with pytest.raises(ConfigError, match="atol"):
        Tolerance.of(1e-3, atol, ("a",))


# --- controller


class Controller(PIController):
    """A controller of steps of one method."""

    def __init__(self, step, exponent, rule=ANY_STEP, **options):
        super().__init__(step, **options)
        self.exponent, self.rule = exponent, rule

    def accepted(self, taken, error):
        super().accepted(taken, error, self.exponent, self.rule)

    def rejected(self, taken, error):
        super().rejected(taken, error, self.exponent, self.rule)


def settled(exponent=3, **options):
    """A controller past its trial step, with h = 1 and a step of error 1 behind it."""
    controller = Controller(1.0, exponent, **options)
    controller.accepted(1.0, 1.0)
    controller.step = 1.0
    return controller


@pytest.mark.parametrize("exponent", [3, 5])
def test_pi_rule(exponent):
    controller = settled(exponent)
    controller.accepted(1.0, 0.5)
    first = 0.9 * 0.5 ** (-0.6 / exponent)
    assert controller.step == pytest.approx(first, rel=1e-14)
    controller.accepted(first, 0.2)
    assert controller.step == pytest.approx(first * 0.9 * 0.2 ** (-0.6 / exponent) * 0.5 ** (0.2 / exponent), rel=1e-14)


def test_factors_are_held():
    grown, shrunk = settled(), settled()
    grown.accepted(1.0, 0.0)
    assert grown.step == 5.0
    shrunk.accepted(1.0, 1e9)
    assert shrunk.step == pytest.approx(0.2)
    limited = settled(largest=1.5)
    limited.accepted(1.0, 1e-9)
    assert limited.step == 1.5
    assert PIController(4.0, largest=1.5).step == 1.5


def test_the_first_step_is_a_trial():
    controller = Controller(1.0, 3)
    controller.accepted(1.0, 1e-3)
    assert controller.step == pytest.approx(0.9 * 10)
    far = Controller(1.0, 3)
    far.accepted(1.0, 0.0)
    assert far.step == 30


def test_after_a_rejection():
    controller = settled()
    controller.rejected(1.0, 8.0)
    assert controller.step == pytest.approx(0.9 / 2)
    h = controller.step
    controller.accepted(h, 1e-9)
    assert controller.step == h  # no growth on the step after
    controller.accepted(h, 1e-9)
    assert controller.step == 5 * h
    controller.rejected(1.0, 1.0001)
    assert controller.step == pytest.approx(0.9, rel=1e-3)
    controller.rejected(1.0, 1e12)
    assert controller.step == pytest.approx(0.2)


def test_a_trial_that_was_rejected_does_not_grow():
    controller = Controller(1.0, 3)
    controller.rejected(1.0, 8.0)
    h = controller.step
    controller.accepted(h, 1e-9)
    assert controller.step == h


def test_a_dead_band_keeps_the_step():
    controller = settled(rule=StepRule(growth=1.5, dead_band=1.15))
    controller.accepted(1.0, (1.1 / 0.9) ** -5)  # asks for a factor near 1.1
    assert controller.step == 1.0
    controller.accepted(1.0, 1e-3)
    assert controller.step == 1.5
    controller.accepted(1.5, 2.0)
    assert controller.step < 1.5


def test_steps_of_an_octave_in_four_parts():
    rule = StepRule(per_octave=4)
    assert rule.rounded(1.0) == 1.0 and rule.rounded(2.0) == 2.0 and rule.rounded(1.5) == pytest.approx(2**0.5)
    controller = settled(rule=rule)
    controller.accepted(1.0, 1e-3)
    assert 4 * math.log2(controller.step) == pytest.approx(round(4 * math.log2(controller.step)), abs=1e-12)
    assert rule.rounded(math.inf) == math.inf


@pytest.mark.parametrize("error", [math.nan, math.inf])
def test_after_a_step_that_was_not_finite(error):
    controller = settled()
    controller.rejected(2.0, error)
    assert controller.step == pytest.approx(0.2)


def test_a_step_cut_short_keeps_the_step():
    exponent = 3
    controller = settled(exponent)
    controller.accepted(0.01, 1e-6)
    assert controller.step == 1.0
    # Cut to a half: the error is scaled up to the whole step, and judged there.
    whole, half = settled(exponent), settled(exponent)
    whole.accepted(1.0, 0.5)
    half.accepted(0.5, 0.5 / 2**exponent)
    assert half.step == pytest.approx(whole.step, rel=1e-14)


# --- schedules


def times(start, end, scalars=None, every=None, at=None):
    found = events(start, end, snapshot_schedule(every, at), scalar_schedule(scalars))
    assert found[-1].time == end and found[-1].snapshot
    return [event.time for event in found if event.snapshot], [event.time for event in found]


def test_multiples_are_computed_not_added_up():
    snapshots, _ = times(0.0, 100.0, every=0.1)
    assert snapshots == [k * 0.1 for k in range(1, 1000)] + [100.0]
    assert times(0.0, 0.3, every=0.1)[0] == [0.1, 0.2, 0.3]
    assert times(0.0, 0.35, every=0.1)[0] == [0.1, 0.2, 3 * 0.1, 0.35]
    assert times(2.0, 3.0, every=0.25)[0] == [2.25, 2.5, 2.75, 3.0]
    assert times(0.0, 1.0, every=5.0)[0] == [1.0]
    assert times(0.0, 1.0)[0] == [1.0]


def test_listed_times():
    assert times(0.0, 1.0, at=[0.5, 0.25, 0.5, 0.0])[0] == [0.25, 0.5, 1.0]
    assert times(0.0, 1.0, at=np.array([0.5, 1.0]))[0] == [0.5, 1.0]


def test_logarithmic_times():
    snapshots, _ = times(0.0, 100.0, at={"log": [1e-2, 100], "count": 40})
    assert len(snapshots) == 40 and snapshots[0] == 1e-2 and snapshots[-1] == 100.0
    assert np.allclose(np.diff(np.log(snapshots)), math.log(1e4) / 39)
    assert len(times(0.0, 200.0, at={"log": [1e-2, 100], "count": 40})[0]) == 41


def test_scalars_between_snapshots():
    snapshots, all_times = times(0.0, 1.0, scalars=0.1, every=0.5)
    assert snapshots == [0.5, 1.0]
    assert len(all_times) == 10 and np.allclose(all_times, np.arange(1, 11) / 10)


@pytest.mark.parametrize(
    "given",
    [
        {"every": 0.0},
        {"every": -1.0},
        {"every": math.nan},
        {"every": "1"},
        {"every": True},
        {"every": 1e-12},
        {"every": 0.1, "at": [0.1]},
        {"at": 0.5},
        {"at": "0.5"},
        {"at": [0.5, math.inf]},
        {"at": [0.5, "x"]},
        {"at": [2.0]},
        {"at": [-0.1]},
        {"at": {}},
        {"at": {"log": [0.1, 1.0]}},
        {"at": {"log": [0.1, 1.0], "count": 1}},
        {"at": {"log": [0.1, 1.0], "count": 2.5}},
        {"at": {"log": [0.1, 1.0], "count": True}},
        {"at": {"log": [0.0, 1.0], "count": 5}},
        {"at": {"log": [1.0, 0.1], "count": 5}},
        {"at": {"log": [0.1, 0.5, 1.0], "count": 5}},
        {"at": {"log": "01", "count": 5}},
        {"at": {"log": [0.1, 2.0], "count": 5}},
        {"at": {"log": [0.1, 1.0], "count": 5, "base": 2}},
        {"scalars": 0.0},
        {"scalars": "often"},
    ],
)
def test_schedules_that_make_no_sense(given):
    with pytest.raises(ConfigError, match="save_|scalars_every"):
        times(0.0, 1.0, **given)


# --- clocks


@pytest.mark.parametrize("gamma", [0.25, 1.0, 40.0])
def test_clock_of_the_user(gamma):
    clock = Friction(gamma=gamma).clock(2, "damped")
    tau, t = UserClock(clock, "tau"), UserClock(clock, "t")
    assert tau.t(3.0) == 3.0 * gamma and tau.tau(3.0) == 3.0 and t.t(3.0) == 3.0 and t.tau(3.0) == 3.0 / gamma
    assert tau.reading(3.0 * gamma) == pytest.approx(3.0) and t.reading(3.0) == 3.0
    assert tau.theta(3.0) == pytest.approx(t.theta(3.0 * gamma)) == pytest.approx(3.0 * gamma / max(gamma, 1.0))


def test_clocks_that_do_not_exist():
    with pytest.raises(ConfigError, match="clock"):
        UserClock(Friction(gamma=1.0).clock(1, "damped"), "theta")
    with pytest.raises(ConfigError, match="friction"):
        UserClock(Friction(gamma=0.0).clock(1, "damped"), "tau")


# --- methods by name


def test_methods_by_name():
    assert resolve("auto", 1e-6) == "tsit5" and resolve("auto", 1e-3) == resolve("auto", 1e-4) == "rk32"
    assert [resolve(name, 1e-6) for name in explicit_methods()] == list(explicit_methods())
    with pytest.raises(ConfigError, match="did you mean tsit5"):
        resolve("tsit", 1e-6)
    with pytest.raises(ConfigError, match="auto, rk32, tsit5"):
        resolve(None, 1e-6)


# --- stiffness


@pytest.mark.parametrize("method", explicit_methods())
@pytest.mark.parametrize(
    ("dynamics", "gamma"), [("gradient-flow", 3.0), ("damped", 0.0), ("damped", 0.5), ("damped", 2.0), ("damped", 50.0)]
)
@pytest.mark.parametrize("radius", [0.1, 900.0])
def test_stable_step_against_eigenvalues(method, dynamics, gamma, radius):
    """Every mode of eigenvalue 0...radius is damped just below the limit, and one grows just above it."""
    clock = Friction(gamma=gamma).clock(1, dynamics)
    table = tableau(method)
    limit = stable_step(table, clock, radius)

    def growth(h):
        largest = 0.0
        for stiffness in np.linspace(0.0, radius, 200):
            if dynamics == "gradient-flow":
                matrix = np.array([[-stiffness]])
            else:
                matrix = np.array([[0.0, 1.0], [-stiffness / clock.eps, -clock.kappa / clock.eps]])
            z = h * np.linalg.eigvals(matrix)
            largest = max(largest, np.abs(np.polynomial.polynomial.polyval(z, table.stability_polynomial)).max())
        return largest

    assert growth(0.98 * limit) < 1.001
    assert growth(1.03 * limit) > 1.001


def test_no_limit_without_rates():
    assert stable_step(tableau("rk32"), Friction(gamma=0.0).clock(1, "damped"), 0.0) == math.inf


def look(caplog, gamma, dynamics, radius, end, steps, step, clock="tau"):
    """The message after `steps` steps of length `step`, or nothing."""
    system = PointwiseSystem((4,), springs(1.0), gamma=gamma, dynamics=dynamics, radius=radius)
    axis = UserClock(system.clock, clock)
    pace = Pace(system, make_stepper("rk32", system), axis, axis.theta(end))
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="sftsolve"):
        for number in range(1, steps + 1):
            pace.look(system.state(1.0), 0.0, number, step)
    return [record.getMessage() for record in caplog.records]


def test_a_stiff_run_is_announced_once(caplog):
    (message,) = look(caplog, 1.0, "gradient-flow", 2.51e6, 1.0, 600, 1e-6)
    assert "stability limits rk32 to steps of tau = 1e-06" in message
    assert "about 1,000,000 steps" in message and "coarser grid" in message and "gradient-flow" not in message


def test_friction_itself_may_be_the_reason(caplog):
    (message,) = look(caplog, 1e4, "damped", 1.0, 10.0, 2, 1e-9)
    assert "gradient-flow" in message and "1e-08" in message
    # eps = 1e-8: steps of 2.51 eps, tau to 10.
    steps = int(message.split("about ")[1].split(" steps")[0].replace(",", ""))
    assert steps == pytest.approx(10 / 2.51e-8, rel=1e-3)


def test_a_run_that_is_not_stiff_keeps_quiet(caplog):
    assert look(caplog, 1.0, "gradient-flow", 100.0, 10.0, 600, 1e-2) == []
    # Steps that are short at the start only.
    assert look(caplog, 1.0, "gradient-flow", 100.0, 10.0, 100, 1e-9) == []


def test_steps_held_short_by_the_tolerance(caplog):
    (message,) = look(caplog, 1.0, "gradient-flow", 100.0, 10.0, 600, 1e-5)
    assert "the tolerance limits rk32" in message and "about 1,000,000 steps" in message and "rtol" in message
