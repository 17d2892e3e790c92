"""The balance of energy that every run reports: small for right steps, of the size of the mistake for wrong ones."""

import numpy as np
import pytest

import sftsolve as sft
from sftsolve.simulation import simulate
from sftsolve.simulation.audit import integral

QUIET = {"progress": False}


def test_integral_of_uneven_samples():
    x = np.array([0.0, 1e-3, 0.2, 0.5, 0.7, 1.1, 1.3, 2.0])
    assert integral(x, x**5)[0] == pytest.approx(2.0**6 / 6, rel=1e-13)
    assert integral(x[:2], 3 * x[:2])[0] == pytest.approx(1.5e-6, rel=1e-13)
    assert integral(x[:1], x[:1]) == (0.0, 0.0) == integral(x[:0], x[:0])
    twice = np.repeat(x, 2)
    assert integral(twice, twice**5)[0] == pytest.approx(2.0**6 / 6, rel=1e-13)


def test_integral_of_samples_that_crowd():
    """Within a layer at the start, and far apart behind it: no polynomial through both."""
    x = np.concatenate([[0.0], np.geomspace(1e-9, 1e-7, 5), np.linspace(1e-3, 1.0, 30)])
    y = np.where(x < 1e-8, x / 1e-8, 1.0)
    assert integral(x, y)[0] == pytest.approx(1.0, rel=1e-6)


def test_integral_of_more_samples_than_a_block():
    x = np.linspace(0.0, 2.0, 5001) ** 1.5
    assert integral(x, x**5)[0] == pytest.approx(x[-1] ** 6 / 6, rel=1e-12)


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


GAMMAS = [(0.0, "damped"), (0.7, "damped"), (30.0, "damped"), (1e4, "damped"), (1e8, "damped"), (1.0, "gradient-flow")]


@pytest.mark.parametrize("method", ["etdrk4", "rk4-friction"])
@pytest.mark.parametrize(("gamma", "dynamics"), GAMMAS)
def test_balance_of_long_steps(method, gamma, dynamics):
    """A step that is exact in the linear part may be longer than what it passes over. Undamped, little energy is exchanged."""
    assert run(method, gamma, dynamics) < (1e-5 if gamma else 2e-4)


@pytest.mark.parametrize("method", ["sbdf4", "ark436"])
def test_balance_behind_stiff_decay(method):
    """From rest at gamma = 1e4, in steps that grow by thousands; an interpolant of fixed degree is off by 2e-4 here."""
    assert run(method, 1e4, cost="30*D*grad2(w) + w**2/2") < 5e-5


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


@pytest.mark.parametrize("dynamics", ["damped", "gradient-flow"])
@pytest.mark.parametrize("method", ["tsit5", "etdrk4", "rk4-friction", "sbdf4", "ark436"])
def test_a_wrong_force_is_found(method, dynamics):
    """Off by a hundredth; steps that are right leave far less."""
    system = stiff(dynamics)
    right = system.force_into

    def wrong(state, out, t=None):
        right(state, out, t)
        out.storage *= 1.01

    assert simulate(system, bumps(system), method, end=2.0, **QUIET).stats.energy_residual < 1e-4
    system.force_into = wrong
    assert 2e-3 < simulate(system, bumps(system), method, end=2.0, **QUIET).stats.energy_residual < 0.1


@pytest.mark.parametrize("method", ["etdrk4", "ark436", "rk4-friction", "auto"])
def test_a_run_that_is_watched_is_the_same_to_the_last_bit(method, monkeypatch):
    ends = []
    for watched in (True, False):
        if not watched:
            monkeypatch.setattr(sft.System, "corrected", property(lambda self: True))
        system = stiff("damped")
        state = bumps(system)
        found = simulate(system, state, method, end=2.0, **QUIET).stats
        assert (found.energy_residual is None) is not watched
        ends.append((state.w.tobytes(), state.u.tobytes(), found.steps))
    assert ends[0] == ends[1]


def test_where_ends_of_steps_do_not_tell_nothing_is_said():
    """Friction varies in the steps: the exact steps are seen at their ends alone."""
    friction = sft.Friction(schedule={"kind": "exponential", "eta": 0.5, "rate": 0.1})
    assert run("etdrk4", friction=friction, rtol=1e-3, cost="300*D*grad2(w) + w**2/2") is None


def stiff(dynamics):
    action = sft.Action(fields=["w"], cost="grad2(w)/2 + w**4/4", friction=sft.Friction(gamma=1.0))
    return sft.discretise(action, sft.Grid(shape=(32,), length=(1.0,)), dynamics=dynamics)


def bumps(system):
    return system.state({"w": "0.5*sin(2*pi*x) + 0.2*cos(4*pi*x) + 0.3"})


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
