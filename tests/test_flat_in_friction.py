"""No friction costs many steps: adaptive runs from gamma = 3 to the gradient flow, stiffness constant and varying, against SciPy.

The reference problem and one 30 times as stiff (grids finer by sqrt(30)); walls; a torus. At rtol = 1e-6 runs take at most 200
steps with `etdrk4` (constant stiffness), 300 with `sbdf4` and 100 with `ark436` (varying), within a factor 6 of each other over
all frictions, and end within 20 rtol of the solution.
"""

import math

import numpy as np
import pytest
from reference_problem import CELLS, FLOW, start
from scipy.integrate import solve_ivp

import sftsolve as sft
from sftsolve.simulation import simulate

FRICTIONS = (3.0, 10.0, 30.0, 100.0, 1e4, 1e8, FLOW)
FEW = (10.0, 30.0, 1e4, FLOW)  # SciPy takes its time
RTOL = 1e-6
STIFFNESS, RADIUS = 0.1, 102.0
REST = "- w**2/2 + w**4/4 - w*cos(3*t/scale)"
CONSTANT, VARYING = "D/2*grad2(w)", "D/2*(1 + 0.8*sin(2*pi*x/L))*grad2(w)"
WALLS = {"x": {"lower": {"value": 0.0}, "upper": {"derivative": 0.0}}}
MOST = {"etdrk4": 200, "sbdf4": 300, "ark436": 100}
CASES = {
    "constant": (("etdrk4",), CONSTANT, (64,), 1, "periodic"),
    "constant, stiffer": (("etdrk4",), CONSTANT, (64,), 30, "periodic"),
    "constant, walls": (("etdrk4",), CONSTANT, (32,), 1, WALLS),
    "constant, torus": (("etdrk4",), CONSTANT, (8, 16), 1, "periodic"),
    "varying": (("sbdf4", "ark436"), VARYING, (64,), 1, "periodic"),
    "varying, stiffer": (("sbdf4", "ark436"), VARYING, (64,), 30, "periodic"),
    "varying, walls": (("sbdf4", "ark436"), VARYING, (32,), 1, WALLS),
    "varying, torus": (("sbdf4", "ark436"), VARYING, (8, 16), 1, "periodic"),
}


def discretised(name, gamma):
    _, cost, shape, stiffer, boundary = CASES[name]
    spacing = math.sqrt(4 * STIFFNESS / RADIUS / stiffer)
    scale = 1.0 if gamma == FLOW else max(gamma, 1.0)
    parameters = {"D": STIFFNESS, "scale": scale} | ({"L": spacing * shape[-1]} if cost == VARYING else {})
    friction = sft.Friction(gamma=1.0 if gamma == FLOW else gamma)
    action = sft.Action(["w"], f"{cost} {REST}", parameters=parameters, friction=friction)
    grid = sft.Grid(shape, tuple(spacing * n for n in shape), boundary=boundary)
    return sft.discretise(action, grid, dynamics="gradient-flow" if gamma == FLOW else "damped")


def begin(shape):
    """Smooth; on the circle that of the reference problem, else zero at a lower wall."""
    if shape == (CELLS,):
        return start()[None]
    x = (np.arange(shape[-1]) + 0.5) / shape[-1]
    y = (np.arange(shape[0]) + 0.5) / shape[0] if len(shape) == 2 else np.zeros(1)
    w = (1 + 0.5 * np.cos(2 * np.pi * y))[:, None] * (0.3 * np.sin(2 * np.pi * x) + 0.2 * np.sin(6 * np.pi * x))
    return w.reshape(1, *shape)


def linear_matrix(problem):
    """F'(0) + what w - w^3 has in it, column by column: the matrix of the gradient terms."""
    shape = (1, *problem.grid.shape)
    unit = np.eye(problem.grid.size).reshape(-1, *shape)
    zero = np.zeros(shape)
    return np.stack([problem.jvp(zero, column).reshape(-1) - column.reshape(-1) for column in unit], axis=1)


def solution(matrix, w0, gamma):
    """w at theta = 1 by SciPy, of  w' = u, eps u' = F - u  or, from gamma = 1000 on, of the slow manifold to order eps^2."""

    def force(s, w):
        return matrix @ w + w - w**3 + math.cos(3 * s)

    eps = 0.0 if gamma == FLOW else gamma**-2
    tight = {"method": "DOP853", "rtol": 1e-9, "atol": 1e-10}
    if gamma < 1000:
        n = len(w0)
        y = np.concatenate([w0, np.zeros(n)])
        return solve_ivp(lambda s, y: np.concatenate([y[n:], (force(s, y[:n]) - y[n:]) / eps]), (0, 1), y, **tight).y[:n, -1]

    def slow(s, w):
        push = force(s, w)
        return push - eps * (matrix @ push + (1 - 3 * w**2) * push - 3 * math.sin(3 * s)) if eps else push

    return solve_ivp(slow, (0, 1), w0 - eps * force(0.0, w0), **tight).y[:, -1]


@pytest.mark.parametrize("name", CASES)
def test_steps_and_errors_are_flat_in_friction(name):
    methods, _, shape, _, boundary = CASES[name]
    matrix = linear_matrix(discretised(name, FLOW))
    counts: dict[str, list[int]] = {method: [] for method in methods}
    errors = []
    for gamma in FRICTIONS if boundary == "periodic" and len(shape) == 1 else FEW:
        problem, wanted = discretised(name, gamma), solution(matrix, begin(shape).reshape(-1), gamma)
        for method in methods:
            state = problem.state({"w": begin(shape)[0]})
            options = {"rtol": RTOL, "atol": RTOL / 10, "progress": False, "max_steps": 1000}
            result = simulate(problem, state, method, end=problem.clock.t(1.0), clock="t", **options)
            counts[method].append(result.stats.steps + result.stats.rejected)
            errors.append(np.abs(state.w.reshape(-1) - wanted).max())
    for method, steps in counts.items():
        assert max(steps) <= MOST[method], counts
        assert max(steps) <= 6 * min(steps), counts
    assert max(errors) <= 20 * RTOL, errors


@pytest.mark.parametrize("gamma", [3.0, 10.0])
def test_sbdf3_steps_as_ark436_where_waves_are_underdamped(gamma):
    """lam of 3000 and more: eps lam is beyond what order three damps, and explicit steps of it would not end."""
    steps = []
    for method in ("sbdf3", "ark436"):
        problem = discretised("varying, stiffer", gamma)
        state = problem.state({"w": start()})
        options = {"rtol": RTOL, "atol": RTOL / 10, "progress": False, "max_steps": 1000}
        result = simulate(problem, state, method, end=problem.clock.t(1.0), clock="t", **options)
        steps.append(result.stats.steps)
    assert steps[0] <= steps[1] + 5
