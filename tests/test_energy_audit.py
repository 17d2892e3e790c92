"""The balance of energy that every run reports: small for right steps, of the size of the mistake for wrong ones."""

import numpy as np
import pytest

import sftsolve as sft
from sftsolve.simulation import simulate
from sftsolve.simulation.audit import integral

QUIET = {"progress": False}


def test_integral_of_uneven_samples():
    x = np.array([0.0, 1e-3, 0.2, 0.5, 0.7, 1.1, 1.3, 2.0])
    assert integral(x, x**5) == pytest.approx(2.0**6 / 6, rel=1e-13)
    assert integral(x[:2], 3 * x[:2]) == pytest.approx(1.5e-6, rel=1e-13)
    assert integral(x[:1], x[:1]) == 0.0 == integral(x[:0], x[:0])
    twice = np.repeat(x, 2)
    assert integral(twice, twice**5) == pytest.approx(2.0**6 / 6, rel=1e-13)


def test_integral_of_samples_that_crowd():
    """Within a layer at the start, and far apart behind it: no polynomial through both."""
    x = np.concatenate([[0.0], np.geomspace(1e-9, 1e-7, 5), np.linspace(1e-3, 1.0, 30)])
    y = np.where(x < 1e-8, x / 1e-8, 1.0)
    assert integral(x, y) == pytest.approx(1.0, rel=1e-6)


def test_integral_of_more_samples_than_a_block():
    x = np.linspace(0.0, 2.0, 5001) ** 1.5
    assert integral(x, x**5) == pytest.approx(x[-1] ** 6 / 6, rel=1e-12)


def run(method, gamma=1.0, dynamics="damped", rtol=1e-7, boundary="periodic", cost="D/2*grad2(w) + w**4/4 - w**2/2", **more):
    grid = sft.Grid(shape=(32,), length=(1.0,), boundary=boundary)
    friction = sft.Friction(gamma=gamma) if "friction" not in more else more.pop("friction")
    action = sft.Action(fields=["w"], cost=cost, parameters={"D": 0.02}, friction=friction, **more)
    system = sft.discretise(action, grid, dynamics=dynamics)
    state = system.state({"w": "0.5*sin(2*pi*x) + 0.2*cos(4*pi*x)"})
    clock = "t" if gamma == 0 else "tau"
    return simulate(system, state, method, end=2.0, clock=clock, rtol=rtol, atol=rtol, **QUIET).stats.energy_residual


@pytest.mark.parametrize("method", ["tsit5", "ark436", "sbdf4"])
@pytest.mark.parametrize(("gamma", "dynamics"), [(0.0, "damped"), (0.7, "damped"), (8.0, "damped"), (1.0, "gradient-flow")])
def test_balance(method, gamma, dynamics):
    assert run(method, gamma, dynamics) < 3e-5


@pytest.mark.parametrize("method", ["etdrk4", "rk4-friction"])
@pytest.mark.parametrize(("gamma", "dynamics"), [(0.0, "damped"), (0.7, "damped"), (1.0, "gradient-flow")])
def test_balance_of_long_steps(method, gamma, dynamics):
    """A step that is exact in the linear part may be longer than what it passes over; the loss is seen at its ends alone."""
    assert run(method, gamma, dynamics) < 3e-4


@pytest.mark.parametrize("method", ["etdrk4", "ark436"])
def test_balance_behind_a_layer(method):
    """At gamma = 1e5 a run from rest takes its velocity within the first step."""
    assert run(method, 1e5) < 1e-4


def test_balance_at_walls():
    walls = {"x": {"lower": {"value": 0.0}, "upper": {"derivative": 1.0}}}
    assert run("tsit5", 2.0, boundary=walls) < 3e-5


def test_a_looser_run_balances_less_well():
    assert 10 * run("tsit5", rtol=1e-9) < run("tsit5", rtol=1e-3)


def test_friction_in_time_is_followed_through_its_jump():
    friction = sft.Friction(schedule={"kind": "step", "eta": 0.5, "at": [1.3], "factor": 0.25})
    assert run("tsit5", friction=friction, rtol=1e-9) < 3e-5


def test_a_wrong_force_is_found():
    grid = sft.Grid(shape=(32,), length=(1.0,))
    system = sft.discretise(sft.Action(fields=["w"], cost="w**2/2", friction=sft.Friction(gamma=1.0)), grid)
    right = system.force_into

    def wrong(state, out, t=None):
        right(state, out, t)
        out.storage *= 1.01

    system.force_into = wrong
    result = simulate(system, system.state({"w": 1.0}), "tsit5", end=2.0, rtol=1e-8, **QUIET)
    assert 1e-3 < result.stats.energy_residual < 0.1


def test_a_corrected_force_is_not_followed():
    assert run("tsit5", dynamics="slow-manifold", gamma=10.0, cost="w**2/2") is None


def test_a_still_state_has_nothing_to_balance():
    grid = sft.Grid(shape=(8,), length=(1.0,))
    system = sft.discretise(sft.Action(fields=["w"], cost="w**2/2", friction=sft.Friction(gamma=1.0)), grid)
    result = simulate(system, system.state({"w": np.zeros(8)}), "tsit5", end=1.0, **QUIET)
    assert result.stats.energy_residual == 0.0


@pytest.mark.parametrize(("eta", "factor"), [(5.0, 0.1), (0.5, 10.0)])
def test_balance_over_a_jump_of_friction_across_one(eta, factor):
    """The loss before the jump is that of the friction before it."""
    friction = sft.Friction(schedule={"kind": "step", "eta": eta, "at": [0.7], "factor": factor})
    assert run("tsit5", friction=friction) < 1e-5
