"""Implicit steps: tables that check themselves, friction alone, steady states, varying coefficients by SciPy, variable steps."""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from linear_systems import PointwiseSystem, damped_mode, springs
from reference_problem import FLOW, reference, start, system
from scipy.integrate import solve_ivp

import sftsolve as sft
from sftsolve.stepping import STEPPERS, Tolerance
from sftsolve.stepping.additive import additive
from sftsolve.stepping.tableaus import TableauError

LOOSE = Tolerance.of(0.9, 1e6, ("w",))
METHODS = ("ark436", "sbdf2", "sbdf3", "sbdf4")
WALLS = {"lower": {"value": 0.7}, "upper": {"derivative": 0.4}}


def march(stepper, state, lengths, tolerance=LOOSE):
    for h in lengths:
        assert stepper.step(state, h, tolerance) <= 1.0
        stepper.accept(state)


def test_every_coefficient_of_the_additive_table_matters():
    table, off = additive("ark436"), Fraction(1, 10**9)
    for part in ("explicit", "implicit"):
        for row in range(1, table.stages):
            for column in range(len(getattr(table, part)[row])):
                changed = [list(entries) for entries in getattr(table, part)]
                changed[row][column] += off
                with pytest.raises(TableauError):
                    replace(table, **{part: tuple(map(tuple, changed))})
    for part in ("b", "b_hat", "c"):
        for entry in range(table.stages):
            changed = list(getattr(table, part))
            changed[entry] += off
            with pytest.raises(TableauError):
                replace(table, **{part: tuple(changed)})


def test_colours_matter():
    """Two rows changed against each other, so that they still sum to their abscissa: mixed trees see it."""
    table, off = additive("ark436"), Fraction(1, 10**9)
    changed = [list(entries) for entries in table.explicit]
    changed[4][0] += off
    changed[4][1] -= off
    with pytest.raises(TableauError, match="condition of order"):
        replace(table, explicit=tuple(map(tuple, changed)))


def test_weights_of_the_limit_and_of_the_closing_move():
    """A constant N is its own limit; the closing move lacks nothing then."""
    table = additive("ark436")
    assert sum(table.limit_weights) == pytest.approx(1.0, abs=1e-13)
    assert sum(table.closing_weights) == pytest.approx(0.0, abs=1e-13)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_without_a_linear_part_friction_alone_is_implicit(method, gamma):
    stiffness = np.array([1.0, 0.3, 2.0])
    problem = PointwiseSystem((3,), springs(stiffness), gamma=gamma)
    scale, errors = max(gamma, 1.0), []
    w, v = damped_mode(3.0 * scale, stiffness, gamma, 1.0, -0.4)
    for count in (120, 240):
        state, stepper = problem.state(1.0, -0.4), STEPPERS[method].build(problem)
        march(stepper, state, [3.0 / count] * count)
        errors.append(np.abs(state.w[0] - w).max() + np.abs(state.u[0] / scale - v).max())
    assert math.log2(errors[0] / errors[1]) >= STEPPERS[method].order - 0.25


@pytest.mark.parametrize("method", ["ark436", "sbdf2"])
@pytest.mark.parametrize("gamma", [3.0, 1e6, FLOW])
def test_variable_steps_keep_the_order(method, gamma):
    """h and 1.3 h in turn."""
    errors, (w, _) = [], reference(gamma)
    for count in (60, 120):
        problem = system(gamma)
        lengths = np.tile([1.0, 1.3], count // 2)
        state, stepper = problem.state({"w": start()}), STEPPERS[method].build(problem)
        march(stepper, state, lengths / lengths.sum())
        errors.append(np.abs(state.w[0] - w).max())
    assert math.log2(errors[0] / errors[1]) == pytest.approx(STEPPERS[method].order, abs=0.3 if gamma == 3.0 else 0.15)


@pytest.mark.parametrize("gamma", [1e6, FLOW])
def test_variable_steps_of_order_four(gamma):
    errors, (w, _) = [], reference(gamma)
    for count in (80, 160):
        problem = system(gamma)
        lengths = np.tile([1.0, 1.3], count // 2)
        state, stepper = problem.state({"w": start()}), STEPPERS["sbdf4"].build(problem)
        march(stepper, state, lengths / lengths.sum())
        assert not stepper.starting
        errors.append(np.abs(state.w[0] - w).max())
    assert math.log2(errors[0] / errors[1]) == pytest.approx(4.0, abs=0.3)


PROBLEMS = {
    "line": (("w",), "(1 + 0.8*sin(x))/2*grad2(w) + w**4/4 - w", (20,), {"x": WALLS}),
    "plane, two fields": (("p", "q"), "(1 + x*y)/2*grad2(p) + 0.3*grad2(q) + p*q*x + p**4/4 + q**2 - q", (5, 6), {"y": WALLS}),
}


def discretised(name, gamma):
    fields, cost, shape, boundary = PROBLEMS[name]
    friction = sft.Friction(gamma=1.0 if gamma == FLOW else gamma)
    grid = sft.Grid(shape, tuple(0.15 * n for n in shape), boundary=boundary)
    return sft.discretise(
        sft.Action(fields, cost, friction=friction), grid, dynamics="gradient-flow" if gamma == FLOW else "damped"
    )


def smooth(problem):
    shape = (len(problem.fields), *problem.grid.shape)
    return np.cos(np.arange(np.prod(shape)) / 40.0).reshape(shape)


def solved(problem, gamma, w0, end):
    """w at theta = end by Radau with the system's force and a matrix of it."""
    shape, n = w0.shape, w0.size

    def jacobian(w):
        unit = np.eye(n).reshape(n, *shape)
        return np.stack([problem.jvp(w.reshape(shape), column).reshape(-1) for column in unit], axis=1)

    def force(w):
        return problem.force(w.reshape(shape)).reshape(-1)

    options = {"method": "Radau", "rtol": 1e-10, "atol": 1e-11}
    if gamma == FLOW:
        return solve_ivp(lambda s, w: force(w), (0, end), w0.reshape(-1), jac=lambda s, w: jacobian(w), **options).y[:, -1]
    scale = max(gamma, 1.0)
    eps, kappa, one = scale**-2, gamma / scale, np.eye(n)

    def rate(s, y):
        return np.concatenate([y[n:], (force(y[:n]) - kappa * y[n:]) / eps])

    def rates(s, y):
        return np.block([[0 * one, one], [jacobian(y[:n]) / eps, -kappa / eps * one]])

    y = np.concatenate([w0.reshape(-1), np.zeros(n)])
    return solve_ivp(rate, (0, end), y, jac=rates, **options).y[:n, -1]


# SciPy takes long for the plane where friction is strong.
AGAINST_SCIPY = [("line", 1.0), ("line", 300.0), ("line", FLOW), ("plane, two fields", 1.0), ("plane, two fields", FLOW)]


@pytest.mark.parametrize(("name", "gamma"), AGAINST_SCIPY)
def test_varying_coefficients_between_walls(name, gamma):
    problem = discretised(name, gamma)
    w0 = smooth(problem)
    wanted = solved(problem, gamma, w0, 0.3)
    tolerance = Tolerance.of(1e-9, 1e6, problem.fields)
    for method, accuracy in (("ark436", 1e-9), ("sbdf2", 5e-5)):
        state = problem.state(dict(zip(problem.fields, w0, strict=True)))
        march(STEPPERS[method].build(problem), state, [0.3 / 240] * 240, tolerance)
        error = np.abs(state.w.reshape(-1) - wanted).max()
        assert error < accuracy, method


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("gamma", [1.0, 1e6, FLOW])
def test_steady_states_are_kept(name, gamma):
    """Where F = 0, to the rounding of F, whose terms are 1/dx^2 as large as w; walls hold data."""
    problem = discretised(name, gamma)
    w = smooth(problem)
    shape, n = w.shape, w.size
    for _ in range(30):  # Newton
        matrix = np.stack([problem.jvp(w, column).reshape(-1) for column in np.eye(n).reshape(n, *shape)], axis=1)
        w = w - np.linalg.solve(matrix, problem.force(w).reshape(-1)).reshape(shape)
    assert np.abs(problem.force(w)).max() < 1e-11
    for method in METHODS:
        state = problem.state(dict(zip(problem.fields, w, strict=True)))
        march(STEPPERS[method].build(problem), state, [0.05] * 12, Tolerance.of(1e-9, 1e-9, problem.fields))
        assert np.abs(state.w - w).max() < 1e-11
        assert state.u is None or np.abs(state.u).max() < 1e-9
