"""The method "auto": what it takes for which problem, why, and what it does when a problem turns stiff."""

import logging

import numpy as np
import pytest

import sftsolve as sft
from sftsolve.linear.foresight import foresee
from sftsolve.simulation import simulate
from sftsolve.stepping import STEPPERS, Setting, make_stepper, registry
from sftsolve.stepping.auto import choose

LENGTH = {"damped": 1.0, "gradient-flow": 1.0}


def problem(stiffness, *, cells=64, dynamics="gradient-flow", gamma=1.0, cost="D/2*grad2(w) + w**4/4 - w**2/2", **more):
    grid = sft.Grid(shape=(cells,), length=(1.0,))
    action = sft.Action(fields=["w"], cost=cost, parameters={"D": stiffness}, friction=sft.Friction(gamma=gamma), **more)
    return sft.discretise(action, grid, dynamics=dynamics)


def chosen(system, length=1.0, rtol=1e-6, switches=0):
    return choose(system, system.state({"w": "0.3*sin(2*pi*x)"}), length, rtol, switches)


@pytest.mark.parametrize("dynamics", ["damped", "gradient-flow"])
@pytest.mark.parametrize(("rtol", "method"), [(1e-3, "rk32"), (1e-6, "tsit5")])
def test_what_is_not_stiff_is_explicit(dynamics, rtol, method):
    assert chosen(problem(1e-5, dynamics=dynamics), rtol=rtol).method == method


def test_friction_alone():
    choice = chosen(problem(1e-5, dynamics="damped", gamma=1e4))
    assert choice.method == "rk4-friction" and "gamma = 1e+04" in choice.reason


@pytest.mark.parametrize(("dynamics", "gamma"), [("gradient-flow", 1.0), ("damped", 3.0), ("damped", 1e6)])
def test_constant_stiffness(dynamics, gamma):
    choice = chosen(problem(100.0, dynamics=dynamics, gamma=gamma))
    assert choice.method == "etdrk4" and "modes" in choice.reason


def test_what_does_not_fit_is_not_taken():
    system = problem(100.0)
    state = system.state({"w": "0.3*sin(2*pi*x)"})
    assert choose(system, state, 1.0, 1e-6, fits=lambda method: method != "etdrk4").method == "rkc2"
    assert choose(system, state, 1.0, 1e-6, fits=lambda method: False).method == "tsit5"


def test_varying_stiffness():
    cost = "D/2*(1 + x*x)*grad2(w) + w**4/4 - w**2/2"
    assert chosen(problem(100.0, cost=cost)).method == "sbdf4"
    assert chosen(problem(100.0, cost=cost), switches=100).method == "ark436"
    assert chosen(problem(100.0, cost=f"{cost} - w*sin(t)")).method == "ark436"
    assert chosen(problem(1e6, cost=cost, dynamics="damped", gamma=3.0), length=100.0).method == "ark436"


def test_stiffness_that_depends_on_the_state_and_waves_without_an_end():
    assert chosen(problem(10.0, cost="D/2*(1 + w*w)*d(w, x)**4 + w**2/2")).method in ("rkc2", "tsit5")
    # A wave is not stiff: at gamma = 0 explicit steps are as long as its period asks.
    assert chosen(problem(1e-2, dynamics="damped", gamma=0.0)).method == "tsit5"


def test_a_run_says_what_it_took_and_why(caplog):
    system = problem(100.0)
    with caplog.at_level(logging.INFO, "sftsolve"):
        result = simulate(system, system.state({"w": "0.3*sin(2*pi*x)"}), "auto", end=1.0, progress=False)
    assert result.stats.method.startswith("etdrk4 (auto: ") and "takes etdrk4: the stiffness is diagonal" in caplog.text
    assert result.stats.steps < 60


def test_a_long_run_whose_accuracy_asks_for_short_steps_becomes_explicit():
    """The exponential method is taken for its long steps; where a source allows none, a cheaper method takes the same."""
    grid = sft.Grid(shape=(32,), length=(1.0,))
    action = sft.Action(
        fields=["w"],
        cost="D/2*grad2(w) + w**2/2 - J*w",
        parameters={"D": 0.03},
        sources={"J": "sin(40*t)*cos(2*pi*x)"},
        friction=sft.Friction(gamma=1.0),
    )
    system = sft.discretise(action, grid, dynamics="gradient-flow")
    result = simulate(system, system.state({"w": np.zeros(32)}), "auto", end=30.0, rtol=1e-6, atol=1e-6, progress=False)
    assert "-> tsit5 (auto: " in result.stats.method
    rate = 1 + 0.03 * (64 * np.sin(np.pi / 32)) ** 2
    wave = (rate * np.sin(1200.0) - 40 * np.cos(1200.0)) / (rate**2 + 1600)
    assert np.abs(result.w[-1, 0] - wave * np.cos(2 * np.pi * grid.coordinates[0])).max() < 1e-5


def test_short_steps_in_an_initial_layer_do_not_make_a_stiff_run_explicit():
    """Noise decays in steps that grow; for the rest of the way an explicit method would need tens of thousands."""
    grid = sft.Grid(shape=(512,), length=(1.0,))
    action = sft.Action(
        fields=["w"],
        cost="S/2*grad2(w) - 5*w**2 + 5*w**4",
        sources={"S": "1 + cos(2*pi*x)/2"},
        friction=sft.Friction(gamma=1.0),
    )
    system = sft.discretise(action, grid, dynamics="gradient-flow")
    initial = np.sin(2 * np.pi * grid.coordinates[0]) + 0.1 * np.random.default_rng(0).standard_normal(512)
    result = simulate(system, system.state({"w": initial}), "auto", end=0.1, rtol=1e-5, atol=1e-7, progress=False, max_steps=1000)
    assert result.stats.steps > 100
    assert result.stats.method.startswith("sbdf4 (auto: ")


def test_a_problem_that_turns_stiff_changes_the_method():
    """Stiffness in proportion to w^2 while w grows a hundredfold: the explicit steps run into stability, and a later choice is
    another one; the numbers of evaluations go on."""
    system = problem(1e-4, cost="D/2*w**2*grad2(w)*(1 + 1e-6*x) - w**2/2")
    state = system.state({"w": "1 + 0.1*sin(2*pi*x)"})
    result = simulate(system, state, "auto", end=6.5, rtol=1e-3, progress=False)
    assert " -> rkc2 (auto: " in result.stats.method
    explicit = simulate(system, system.state({"w": "1 + 0.1*sin(2*pi*x)"}), "rk32", end=6.5, rtol=1e-3, progress=False)
    assert 100 < result.stats.force_evaluations < 0.8 * explicit.stats.force_evaluations
    tight = simulate(system, system.state({"w": "1 + 0.1*sin(2*pi*x)"}), "rkc2", end=6.5, rtol=1e-6, progress=False)
    assert np.abs(result.w[-1] / tight.w[-1] - 1).max() < 1e-2


def test_auto_counts_what_a_solver_takes_while_it_is_made(monkeypatch):
    """Room for state, stages and what solves hold, but not for the making of the linear part: then methods that solve are out."""
    cost, sources = "300*S*grad2(w)/2 + w**4/4", {"S": "1 + 0.9*cos(2*pi*x)"}
    action = sft.Action(["w"], cost, sources=sources, friction=sft.Friction(gamma=1e4))
    system = sft.discretise(action, sft.Grid((64, 64), (1.0, 1.0)), dynamics="gradient-flow")
    state, array = system.state({"w": "cos(2*pi*x)"}), float(system.layout.bytes_of(1))
    chosen = make_stepper("auto", system, 1e-6, state, 0.1).method.split(" ")[0]
    linear = foresee(action, system.grid, 2, system.layout)
    own = array + STEPPERS[chosen].need(Setting(array, False, linear, False)).most
    assert STEPPERS[chosen].linear == "solves" and linear.building.most > 0
    monkeypatch.setattr(registry, "of_machine", lambda: own + linear.building.held)
    assert make_stepper("auto", system, 1e-6, state, 0.1).method.split(" ")[0] == chosen
    monkeypatch.setattr(registry, "of_machine", lambda: own + 0.5 * linear.building.held)
    assert STEPPERS[make_stepper("auto", system, 1e-6, state, 0.1).method.split(" ")[0]].linear == "nothing"


def test_methods_of_like_cost_do_not_take_turns():
    """A wall that moves: the looks at this run find one explicit method and the other a little cheaper, in turns."""
    grid = sft.Grid((64,), (1.0,), boundary={"x": {"lower": {"value": "sin(t)"}, "upper": {"derivative": "cos(t)"}}})
    system = sft.discretise(sft.Action(["w"], "grad2(w)/2", friction=sft.Friction(gamma=1.0)), grid)
    state = system.state({"w": 0.0})
    result = simulate(system, state, "auto", end=1.0, clock="t", rtol=1e-6, atol=1e-9, progress=False)
    names = result.stats.method.split(" (")[0].split(" -> ")
    assert len(names) == len(set(names)) > 1


def test_steps_are_read_by_the_order_of_the_method_that_took_them():
    """A stiff flow: what rkc2 steps by its accuracy is no sign that a method of order four would step no longer."""
    system = problem(0.05, cost="D/2*(1 + x*x)*grad2(w) + w**4/4 - w**2/2")
    state = system.state({"w": "0.3*sin(2*pi*x)"})
    shown = choose(system, state, 1.0, 1e-6, fits=lambda method: method in ("rkc2", "tsit5"), accurate=(1 / 350, 3))
    assert shown.method == "rkc2"
