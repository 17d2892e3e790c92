"""Exponential steps against closed forms: linear problems in one step of any length, forcings that are polynomials in time."""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from linear_parts import matrix
from linear_systems import PointwiseSystem, damped_mode
from reference_problem import FLOW, reference, start, system

import sftsolve as sft
from sftsolve.stepping import STEPPERS, Tolerance
from sftsolve.stepping.exponential_tableau import KROGSTAD, parabola_at, parabola_over
from sftsolve.stepping.tableaus import TableauError

LOOSE = Tolerance.of(0.9, 1e6, ("w",))
TIGHT = Tolerance.of(1e-6, 1e-9, ("w",))
FRICTIONS = (0.0, 0.3, 2.0, 20.0, 1e4, 1e8, FLOW)
PAIR = "D/2*grad2(p) + E/2*grad2(q) + 2*p**2 + 3*q**2 + 1.5*p*q - p*cos(x) + 0.3*q"
WALLS = {"lower": {"value": 0.5}, "upper": {"derivative": -0.2}}
PROBLEMS = {
    "circle, coupled fields": (("p", "q"), PAIR, (15,), "periodic"),
    "walls with data": (("w",), "D/2*grad2(w) + E*w**2 - w*cos(x)", (12,), {"x": WALLS}),
    "torus, coupled fields": (("p", "q"), PAIR, (6, 7), "periodic"),
    "a circle and walls": (("w",), "D/2*grad2(w) + E*w**2 - w*cos(x)*y", (6, 7), {"y": WALLS}),
}


def discretised(name, gamma):
    fields, cost, shape, boundary = PROBLEMS[name]
    action = sft.Action(
        fields, cost, parameters={"D": 1.0, "E": 0.4}, friction=sft.Friction(gamma=1.0 if gamma == FLOW else gamma)
    )
    grid = sft.Grid(shape, tuple(0.4 * n for n in shape), boundary=boundary)
    return sft.discretise(action, grid, dynamics="gradient-flow" if gamma == FLOW else "damped")


def build(method, problem, gamma):
    scale = 1.0 if gamma == FLOW else max(gamma, 1.0)
    return STEPPERS[method].build(problem), scale


def modes_after(t, stiffness, gamma, w0, v0):
    """w and w_t of w'' + gamma w' + stiffness w = 0; where friction is strong by the two roots, one of them tiny."""
    if gamma == FLOW:
        return np.exp(-stiffness * t) * w0, None
    if gamma < 10:
        return damped_mode(t, stiffness, gamma, w0, v0)
    d = np.sqrt(gamma**2 - 4 * stiffness + 0j)
    slow, fast = -2 * stiffness / (gamma + d), -(gamma + d) / 2
    first, second = np.exp(slow * t) * (v0 - fast * w0), np.exp(fast * t) * (v0 - slow * w0)
    return ((first - second) / d).real, ((slow * first - fast * second) / d).real


def solution(problem, gamma, w0, v0, t):
    """w and w_t of the discrete linear problem with its constant forcing, mode by mode of its matrix."""
    stiffness, vectors = np.linalg.eigh(-matrix(problem))
    forcing = problem.force(np.zeros_like(w0)).reshape(-1)
    rest = vectors @ (vectors.T @ forcing / stiffness)
    w, v = modes_after(t, stiffness, gamma, vectors.T @ (w0.reshape(-1) - rest), vectors.T @ v0.reshape(-1))
    return (rest + vectors @ w).reshape(w0.shape), None if v is None else (vectors @ v).reshape(w0.shape)


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("gamma", FRICTIONS)
def test_linear_problems_are_exact_in_one_step_of_any_length(name, gamma):
    problem = discretised(name, gamma)
    rng = np.random.default_rng(3)
    shape = (len(problem.fields), *problem.grid.shape)
    w0, v0 = rng.standard_normal((2, *shape))
    stepper, scale = build("etdrk4", problem, gamma)
    tolerance = Tolerance.of(1e-6, 1e-9, problem.fields)
    for h in (1e-3, 0.3, 40.0):
        state = problem.state(dict(zip(problem.fields, w0, strict=True)))
        if state.u is not None:
            state.u[...] = scale * v0
        stepper.reset()
        assert stepper.step(state, h, tolerance) < 1e-5, "an error is estimated where there is none"
        stepper.accept(state)
        w, v = solution(problem, gamma, w0, v0, scale * h)
        np.testing.assert_allclose(state.w, w, rtol=0, atol=1e-12)
        if v is not None:
            np.testing.assert_allclose(state.u / scale, v, rtol=0, atol=1e-11)


@pytest.mark.parametrize("gamma", FRICTIONS)
def test_forcings_up_to_the_square_of_time_are_exact(gamma):
    """rk4-friction: F = a + b s + c s^2 in s = t/scale, in one step; the three are what the last row is to reproduce."""
    a, b, c = np.array([[1.0, -2.0, 0.5], [0.3, 4.0, 0.0], [0.2, -0.7, 3.0]])
    scale = 1.0 if gamma == FLOW else max(gamma, 1.0)
    kappa, eps = (1.0, 0.0) if gamma == FLOW else (gamma / scale, scale**-2)

    def force(w, t, out):
        s = t / scale
        out[...] = a + b * s + c * s * s

    dynamics = "gradient-flow" if gamma == FLOW else "damped"
    problem = PointwiseSystem((3,), force, gamma=1.0 if gamma == FLOW else gamma, dynamics=dynamics)
    for h in (0.1, 3.0):
        state = problem.state(0.7, 0.2)
        u0 = 0.2 * scale
        stepper = STEPPERS["rk4-friction"].build(problem)
        error = stepper.step(state, h, LOOSE)
        stepper.accept(state)
        assert error < 1.0
        if kappa == 0.0:
            w = 0.7 + u0 * h + a * h**2 / 2 + b * h**3 / 6 + c * h**4 / 12
            u = u0 + a * h + b * h**2 / 2 + c * h**3 / 3
        else:
            # u = A + B s + C s^2 and what friction leaves of the difference at the start.
            top = c / kappa
            middle = (b - 2 * eps * top) / kappa
            low = (a - eps * middle) / kappa
            left = (u0 - low) * (math.exp(-kappa * h / eps) if eps else 0.0)
            w = 0.7 + low * h + middle * h**2 / 2 + top * h**3 / 3
            w = w + (0.0 if gamma == FLOW else eps / kappa * (u0 - low - left))
            u = low + middle * h + top * h**2 + left
        np.testing.assert_allclose(state.w[0], w, rtol=1e-13)
        if state.u is not None:
            np.testing.assert_allclose(state.u[0], u, rtol=1e-12)


def test_every_weight_of_the_tableau_matters():
    for number in range(1, len(KROGSTAD.rows)):
        row = KROGSTAD.rows[number]
        for stage in range(len(row.weights)):
            for phi in range(3):
                weights = [list(entry) for entry in row.weights]
                weights[stage][phi] += Fraction(1, 10**9)
                rows = list(KROGSTAD.rows)
                rows[number] = replace(row, weights=tuple(map(tuple, weights)))
                with pytest.raises(TableauError):
                    replace(KROGSTAD, rows=tuple(rows))
        rows = list(KROGSTAD.rows)
        rows[number] = replace(row, c=row.c + Fraction(1, 10**9))
        with pytest.raises(TableauError):
            replace(KROGSTAD, rows=tuple(rows))
    with pytest.raises(TableauError, match="order 5"):
        replace(KROGSTAD, order=5)


@pytest.mark.parametrize("gamma", [2.0, FLOW])
def test_tables_of_a_step_are_made_once(gamma, monkeypatch):
    """Three a length, of h/2, h and, for the drive, 3h/4; one that comes back, also after others, is found; the oldest goes."""
    problem = system(gamma)
    stepper, state = STEPPERS["etdrk4"].build(problem), problem.state({"w": start()})
    module = __import__("sftsolve.stepping.mode_exact", fromlist=["tabulate"])
    lengths, tabulate = [], module.tabulate
    monkeypatch.setattr(module, "tabulate", lambda h, *rest: (lengths.append(h), tabulate(h, *rest)))

    def made(h):
        lengths.clear()
        stepper.step(state, h, LOOSE)
        stepper.accept(state)
        return lengths

    assert made(0.02) == [0.01, 0.02, 0.015]
    assert made(0.02) == []
    assert made(0.01) == [0.005, 0.0075]
    assert made(0.02) == []
    # Room for five: the step below drives out those of 0.01, then 0.01 itself, and the one after it the rest, one by one.
    stepper._most = 5
    first = problem.state({"w": start()})
    assert made(0.08) == [0.04, 0.08, 0.06] and len(stepper._tables) == 5
    assert made(0.02) == [0.01, 0.02, 0.015] and len(stepper._tables) == 5
    # What was written over is not used.
    fresh, again = STEPPERS["etdrk4"].build(problem), problem.state({"w": start()})
    stepper.reset()
    for one, other in ((stepper, first), (fresh, again)):
        one.step(other, 0.02, LOOSE)
        one.accept(other)
    assert np.array_equal(first.w, again.w)


@pytest.mark.parametrize("method", ["etdrk4", "rk4-friction", "ark436", "sbdf2"])
def test_a_state_changed_from_outside(method):
    """After `reset` a stepper goes on as a fresh one; without it, it would go on with the old force and spectrum."""
    problem = system(2.0)
    used, state = STEPPERS[method].build(problem), problem.state({"w": start()})
    for _ in range(3):
        used.step(state, 0.01, LOOSE)
        used.accept(state)
    used.step(state, 0.01, LOOSE)
    state.w[...] *= 1.5
    state.u[...] -= 0.1
    used.reset()
    other, fresh = state.copy(), STEPPERS[method].build(problem)
    for stepper, at in ((used, state), (fresh, other)):
        for _ in range(3):
            stepper.step(at, 0.01, LOOSE)
            stepper.accept(at)
    np.testing.assert_allclose(state.w, other.w, rtol=0, atol=1e-14)
    np.testing.assert_allclose(state.u, other.u, rtol=0, atol=1e-13)


@pytest.mark.parametrize("method", ["etdrk4", "rk4-friction", "ark436", "sbdf2"])
@pytest.mark.parametrize("gamma", [2.0, FLOW])
def test_float32_stays_float32(method, gamma):
    found = {}
    for dtype in ("float32", "float64"):
        problem = system(gamma, dtype=dtype)
        stepper, state = STEPPERS[method].build(problem), problem.state({"w": start().astype(dtype)})
        for _ in range(10):
            assert stepper.step(state, 0.02, LOOSE) <= 1.0
            stepper.accept(state)
        found[dtype] = state.w.copy()
        for array in vars(stepper).values():
            for part in array if isinstance(array, list) else [array]:
                kinds = {"float32": ("float32", "complex64")}.get(dtype, ("float64", "complex128"))
                assert not isinstance(part, np.ndarray) or part.dtype.name in kinds
    assert found["float32"].dtype == np.float32
    assert 0 < np.abs(found["float32"] - found["float64"]).max() < 3e-6


DENSE = [
    (method, gamma)
    for method in ("etdrk4", "rk4-friction", "ark436", "sbdf4", "tsit5")
    for gamma in (1.0, 1e4, FLOW)
    # An explicit pair needs steps of 1e-8 at gamma = 1e4.
    if (method, gamma) != ("tsit5", 1e4)
]


@pytest.mark.parametrize(("method", "gamma"), DENSE, ids=[f"{method}-{gamma:g}" for method, gamma in DENSE])
def test_dense_output(method, gamma):
    """Steps of such lengths that theta = 1 lies at the fraction c of the last; slopes of w, and of u less one."""
    wanted = reference(gamma)
    for c in (0.15, 0.5, 0.8):
        errors = []
        for count in (40, 80):
            problem = system(gamma)
            stepper, state = STEPPERS[method].build(problem), problem.state({"w": start()})
            for _ in range(count):
                assert stepper.step(state, 1.0 / (count - 1 + c), LOOSE) <= 1.0
                stepper.accept(state)
            between = state.like()
            stepper.interpolate(state, c, between)
            found = [between.w[0]] if between.u is None else [between.w[0], between.u[0]]
            errors.append([np.abs(one - other).max() for one, other in zip(found, wanted, strict=False)])
            # At the end stands the state.
            stepper.interpolate(state, 1.0, between)
            np.testing.assert_allclose(between.w, state.w, rtol=0, atol=1e-12)
        slopes = [math.log2(coarse / fine) for coarse, fine in zip(*errors, strict=True)]
        assert slopes[0] >= 3.85
        # Already at its rounding, 1e-8 = 1e-16 gamma^2, where friction is strong.
        assert len(slopes) == 1 or slopes[1] >= 2.85 or errors[1][1] < 2e-8


@pytest.mark.parametrize("method", ["etdrk4", "rk4-friction"])
def test_what_is_seen_between_stages_adds_to_the_estimate(method):
    """In a flow both parts have the same sign: that of a force that moves adds to what its stages tell."""
    action = sft.Action(["w"], "w**4/4 + 1e-3*grad2(w)/2 - 1e-9*w*sin(t)")
    problem = sft.discretise(action, sft.Grid((8,), (1.0,)), dynamics="gradient-flow")
    errors = []
    for moving in (True, False):
        state, stepper = problem.state({"w": 1.0}), STEPPERS[method].build(problem)
        stepper._moving = moving and stepper._moving
        errors.append(stepper.step(state, 0.2, Tolerance.of(1e-6, 1e-6, ("w",))))
    assert 1.02 * errors[1] < errors[0] < 2.0 * errors[1]


def test_the_last_stage_is_the_parabola_over_the_whole_step():
    assert parabola_over(1.0) == tuple(tuple(float(weight) for weight in phi) for phi in KROGSTAD.rows[-1].weights)
    for c, weights in ((0.0, [1, 0, 0, 0]), (0.5, [0, 0.5, 0.5, 0]), (1.0, [0, 0, 0, 1])):
        assert parabola_at(c) == weights
