"""What moves in time by itself sets the steps, too: linear problems with a drive or a moving wall, from rest, against SciPy.

Nothing but the drive tells a method how long its steps may be: between times at which it looks the force must not move unseen.
"""

import math
from functools import cache

import numpy as np
import pytest
from reference_problem import reference, start, system
from scipy.integrate import solve_ivp

import sftsolve as sft
from sftsolve.simulation import simulate
from sftsolve.stepping import STEPPERS, Tolerance

FLOW = math.inf
CELLS, END = 16, 3.0
# A wall that starts with a jerk would send out waves as short as cells.
WAYS = {"drive": lambda s: math.sin(3 * s), "drive alone": lambda s: math.sin(3 * s), "wall": lambda s: 1 - math.cos(3 * s)}
FIXED = {"descent", "heavy-ball", "nesterov"}
PROBLEMS = {
    "drive": ("D/2*grad2(w) + w**2/2 - w*cos(2*pi*x)*sin(3*t/scale)", "periodic"),
    "drive alone": ("-w*cos(2*pi*x)*sin(3*t/scale)", "periodic"),
    "wall": ("D/2*grad2(w)", {"x": {"lower": {"value": "1 - cos(3*t/scale)"}, "upper": {"derivative": 0.0}}}),
}
CASES = [
    (method, name, gamma)
    for method, entry in STEPPERS.items()
    if method not in FIXED
    for name in PROBLEMS
    for gamma in (0.0, 1.0, 30.0, 1e4, FLOW)
    if gamma in entry.domain and (gamma == FLOW or "damped" in entry.dynamics)
]


def discretised(name, gamma):
    cost, boundary = PROBLEMS[name]
    scale = 1.0 if gamma == FLOW else max(gamma, 1.0)
    friction = sft.Friction(gamma=1.0 if gamma == FLOW else gamma)
    action = sft.Action(["w"], cost, parameters={"D": 0.1, "scale": scale}, friction=friction)
    grid = sft.Grid((CELLS,), (1.0,), boundary=boundary)
    return sft.discretise(action, grid, dynamics="gradient-flow" if gamma == FLOW else "damped")


@cache
def solution(name, gamma):
    """w at theta = END from rest, F = M w + f way(theta), by SciPy."""
    problem = discretised(name, gamma)
    zero, scale = np.zeros((1, CELLS)), 1.0 if gamma == FLOW else max(gamma, 1.0)
    matrix = np.stack([problem.jvp(zero, unit[None], t=0.0)[0] for unit in np.eye(CELLS)], axis=1)
    push = problem.force(zero, t=scale * math.pi / 6)[0]  # where the way is 1
    if gamma == FLOW:
        jacobian, start = matrix, np.zeros(CELLS)
        drive = push
    else:
        eps, kappa = scale**-2, gamma / scale
        jacobian = np.block([[np.zeros((CELLS, CELLS)), np.eye(CELLS)], [matrix / eps, -kappa / eps * np.eye(CELLS)]])
        start, drive = np.zeros(2 * CELLS), np.concatenate([np.zeros(CELLS), push / eps])
    tight = {"rtol": 1e-10, "atol": 1e-12, "max_step": 0.02}
    run = solve_ivp(lambda s, y: jacobian @ y + WAYS[name](s) * drive, (0, END), start, method="Radau", jac=jacobian, **tight)
    return run.y[:CELLS, -1]


@pytest.mark.parametrize(("method", "name", "gamma"), CASES, ids=[f"{method}-{name}-{gamma:g}" for method, name, gamma in CASES])
def test_the_drive_alone_sets_the_steps(method, name, gamma):
    rtol = 1e-6 if STEPPERS[method].order >= 4 else 1e-4
    problem = discretised(name, gamma)
    state = problem.state({"w": np.zeros(CELLS)})
    options = {"rtol": rtol, "atol": rtol / 10, "progress": False, "max_steps": 3000}
    simulate(problem, state, method, end=problem.clock.t(END), clock="t", **options)
    assert np.abs(state.w[0] - solution(name, gamma)).max() <= 20 * rtol


def test_a_first_step_follows_the_drive():
    """ark436 knows the trend of the force before there is a step to take it from; without it this error is 8.5."""
    problem = discretised("drive", 30.0)
    stepper, tolerance = STEPPERS["ark436"].build(problem), Tolerance.of(1e-6, 1e-7, ("w",))
    state = problem.state({"w": np.zeros(CELLS)})
    for _ in range(2):  # a proposal leaves nothing behind
        assert stepper.step(state, 0.01, tolerance) == pytest.approx(0.228, rel=0.01)
    stepper.accept(state)
    assert stepper.step(state, 0.01, tolerance) < 0.1


@pytest.mark.parametrize(("method", "most"), [("etdrk4", 220), ("rk4-friction", 200)])
def test_a_friction_that_swings_alone_sets_the_steps(method, most):
    """gamma from 0.5 to 9.5 within a sixth of the run; too few steps miss it, too many see what is not there."""

    def law(t):
        return 5.0 + 4.5 * math.sin(20 * t)

    action = sft.Action(["w"], "D/2*grad2(w) + w**2/2", parameters={"D": 0.01}, friction=sft.Friction(gamma=law))
    problem = sft.discretise(action, sft.Grid((CELLS,), (1.0,)))
    state = problem.state({"w": 1.0})
    result = simulate(problem, state, method, end=3.0, clock="t", rtol=1e-6, atol=1e-7, progress=False)
    tight = {"method": "DOP853", "rtol": 1e-11, "atol": 1e-13, "max_step": 0.01}
    wanted = solve_ivp(lambda t, y: [y[1], -y[0] - law(t) * y[1]], (0, 3), [1.0, 0.0], **tight).y[0, -1]
    assert np.abs(state.w - wanted).max() <= 10e-6
    assert result.stats.steps <= most


@pytest.mark.parametrize("method", ["auto", "etdrk4", "rk4-friction", "ark436", "tsit5", "dp5", "rk32", "leapfrog4", "leapfrog"])
def test_a_pulse_is_not_leapt_over_from_rest(method):
    """Nothing moves until it comes, at a third of the run and for a fiftieth of it."""
    cost = "D/2*grad2(w) + w**2/2 - w*exp(-((t - 3.3)/0.1)**2)"
    action = sft.Action(["w"], cost, parameters={"D": 0.01}, friction=sft.Friction(gamma=1.0))
    problem = sft.discretise(action, sft.Grid((CELLS,), (1.0,)))
    state = problem.state({"w": 0.0})
    simulate(problem, state, method, end=10.0, clock="t", rtol=1e-4, atol=1e-6, progress=False)
    tight = {"method": "DOP853", "rtol": 1e-10, "atol": 1e-13, "max_step": 0.01}
    wanted = solve_ivp(lambda t, y: [y[1], math.exp(-(((t - 3.3) / 0.1) ** 2)) - y[0] - y[1]], (0, 10), [0.0, 0.0], **tight)
    assert np.abs(state.w - wanted.y[0, -1]).max() < 0.02 * abs(wanted.y[0, -1])


SLOWER = {
    "a step": ({"kind": "step", "eta": 1.0, "at": [1.0], "factor": 0.01}, lambda t: 1.0 if t < 1 else 100.0),
    "exponential": ({"kind": "exponential", "eta": 1.0, "rate": 1.0}, lambda t: math.exp(t)),
}


@pytest.mark.parametrize("schedule", SLOWER)
@pytest.mark.parametrize(
    ("method", "dynamics"), [("auto", "damped"), ("etdrk4", "damped"), ("ark436", "damped"), ("auto", "flow")]
)
def test_a_pulse_is_not_leapt_over_as_friction_grows(method, dynamics, schedule):
    """theta passes slowly then: a 25th of the run is one of t, where pulses are."""
    rates, gamma = SLOWER[schedule]
    cost = "D/2*grad2(w) + w**2/2 - 30*w*exp(-((t - 5)/0.1)**2)"
    action = sft.Action(["w"], cost, parameters={"D": 0.01}, friction=sft.Friction(schedule=rates))
    problem = sft.discretise(action, sft.Grid((CELLS,), (1.0,)), dynamics="damped" if dynamics == "damped" else "gradient-flow")
    state = problem.state({"w": 0.0})
    simulate(problem, state, method, end=6.0, clock="t", rtol=1e-5, atol=1e-8, progress=False)

    def push(t, w):
        return 30 * math.exp(-(((t - 5) / 0.1) ** 2)) - w

    tight = {"method": "Radau", "rtol": 1e-9, "atol": 1e-12, "max_step": 0.01}
    if dynamics == "damped":
        wanted = solve_ivp(lambda t, y: [y[1], push(t, y[0]) - gamma(t) * y[1]], (0, 6), [0.0, 0.0], **tight)
    else:
        wanted = solve_ivp(lambda t, y: [push(t, y[0]) / gamma(t)], (0, 6), [0.0], **tight)
    assert np.abs(state.w - wanted.y[0, -1]).max() < 1e-3 * abs(wanted.y[0, -1])


@pytest.mark.parametrize("limits", [{"max_step": 0.5}, {"max_step": 5.0}, {"first_step": 5.0}, {"max_step": math.inf}])
def test_limits_of_steps_do_not_look_beyond_a_table(limits):
    """a(t) is known up to the end of the run, and no further."""
    t = np.linspace(0.0, 2.0, 21)
    friction = sft.FLRW(scale_factor=(t, (1.0 + t) ** 0.5))
    problem = sft.discretise(sft.Action(["w"], "grad2(w)/2", friction=friction), sft.Grid((CELLS,), (1.0,)))
    state = problem.state({"w": "sin(2*pi*x)"})
    result = simulate(problem, state, "etdrk4", end=2.0, clock="t", progress=False, **limits)
    assert result.complete


@pytest.mark.parametrize("gamma", [3.0, 10.0])
def test_errors_of_leapfrog_do_not_add_up_beyond_the_tolerance(gamma):
    """The reference problem: where friction is felt steps are many, and local errors of one tolerance each add up to 90."""
    problem = system(gamma)
    state = problem.state({"w": start()})
    options = {"rtol": 1e-6, "atol": 1e-7, "progress": False}
    simulate(problem, state, "leapfrog", end=problem.clock.t(1.0), clock="t", **options)
    assert np.abs(state.w[0] - reference(gamma)[0]).max() <= 20e-6
