"""Explicit steps against closed forms, slow NumPy arithmetic and the rules of a step in place."""

import tracemalloc

import numpy as np
import pytest
from linear_systems import PointwiseSystem, damped_mode, springs

from sftsolve.parallel import SMALL
from sftsolve.stepping import Tolerance, make_stepper
from sftsolve.stepping.tableaus import explicit_methods, tableau

METHODS = explicit_methods()
DYNAMICS = [("gradient-flow", 1.0), ("gradient-flow", 5.0), ("damped", 0.0), ("damped", 0.4), ("damped", 1.0), ("damped", 4.0)]
TOLERANCE = Tolerance.of(1e-6, 1e-9, ("w",))
PAIR = Tolerance.of(1e-6, 1e-9, ("p", "q"))


def march(system, state, method, t_end, steps):
    stepper = make_stepper(method, system)
    tolerance = Tolerance.of(1e-6, 1e-9, system.fields)
    h = system.clock.theta(t_end) / steps
    for _ in range(steps):
        stepper.step(state, h, tolerance)
        stepper.accept(state)
    return stepper


def carousel(gamma, dynamics, shape=(6,)):
    """Two fields on circles of radius r(x) at the angle a(t) = t + sin(t)/2: nonlinear, driven in time, with a closed form.

    w = r (cos a, sin a) gives w_t = a' Jw and w_tt = a'' Jw - a'^2 w, J the quarter turn; the factor |w|/r = 1 makes the force
    nonlinear.
    """
    r = 1 + 0.3 * np.linspace(0.0, 1.0, int(np.prod(shape))).reshape(shape)

    def solution(t):
        angle = t + np.sin(t) / 2
        return np.stack([r * np.cos(angle), r * np.sin(angle)])

    def turned(w):
        return np.stack([-w[1], w[0]])

    def velocity(t):
        return (1 + np.cos(t) / 2) * turned(solution(t))

    def force(w, t, out):
        rate, change = 1 + np.cos(t) / 2, -np.sin(t) / 2
        push = gamma * rate * turned(w)
        if dynamics == "damped":
            push += change * turned(w) - rate**2 * w
        out[...] = push * np.hypot(*w) / r

    return PointwiseSystem(shape, force, fields=("p", "q"), gamma=gamma, dynamics=dynamics), solution, velocity


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("dynamics", "gamma"), [("gradient-flow", 2.0), ("damped", 0.4), ("damped", 1.0), ("damped", 4.0)])
def test_order_in_time(method, dynamics, gamma):
    system, solution, velocity = carousel(gamma, dynamics)
    errors = []
    for steps in (800, 1600):
        state = system.state(solution(0.0), velocity(0.0))
        march(system, state, method, 20.0, steps)
        error = np.sqrt(np.mean((state.w - solution(20.0)) ** 2))
        if dynamics == "damped":
            error += np.sqrt(np.mean((state.u / system.clock.scale - velocity(20.0)) ** 2))
        assert state.t == pytest.approx(20.0, rel=1e-13)
        errors.append(error)
    assert np.log2(errors[0] / errors[1]) == pytest.approx(tableau(method).order, abs=0.1)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("gamma", [0.5, 2.0, 6.0], ids=["under", "critical", "over"])
def test_damped_modes(method, gamma):
    stiffness = np.array([1.0, 0.3, 2.0])
    system = PointwiseSystem((3,), springs(stiffness), gamma=gamma)
    state = system.state(1.0, velocity=-0.4)
    march(system, state, method, 3.0, 4000 if method == "rk32" else 400)
    w, v = damped_mode(3.0, stiffness, gamma, 1.0, -0.4)
    assert np.abs(state.w[0] - w).max() < 1e-9
    assert np.abs(state.u[0] / system.clock.scale - v).max() < 1e-9


@pytest.mark.parametrize("shape", [(7,), (4, 5), (3, 4, 5)])
@pytest.mark.parametrize("method", METHODS)
def test_one_step_against_plain_runge_kutta(method, shape):
    """Several fields on every dimension, against the textbook formula on the stacked vector (w, u)."""
    rng = np.random.default_rng(1)
    gamma, h = 3.0, 0.07
    a, b = rng.random((2, 2, *shape))

    def force(w, t, out):
        out[0] = -a[0] * w[0] ** 2 + w[1] * np.cos(t)
        out[1] = b[1] * w[0] - w[1] + t

    system = PointwiseSystem(shape, force, fields=("p", "q"), gamma=gamma)
    w0, v0 = rng.standard_normal((2, 2, *shape))
    state = system.state(w0, v0, t=0.5)
    stepper = make_stepper(method, system)
    stepper.step(state, h, PAIR)
    stepper.accept(state)

    table, dt = tableau(method), gamma * h
    slopes = []
    for stage in range(table.stages):
        y = np.stack([w0, v0]) + sum(
            (dt * float(c) * k for c, k in zip(table.a[stage], slopes, strict=True)), np.zeros((2, *w0.shape))
        )
        out = np.empty_like(w0)
        force(y[0], 0.5 + float(table.c[stage]) * dt, out)
        slopes.append(np.stack([y[1], out - gamma * y[1]]))
    y = np.stack([w0, v0]) + sum(dt * float(b) * k for b, k in zip(table.b, slopes, strict=True))
    np.testing.assert_allclose(state.w, y[0], rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(state.u / system.clock.scale, y[1], rtol=1e-12, atol=1e-13)


def error_of(system, state, method, h, tolerance):
    """The error norm as integrators.md defines it, from stages computed with plain NumPy."""
    table, clock = tableau(method), system.clock
    w, u = state.w.copy(), None if state.u is None else state.u.copy()
    ws, us, forces = [], [], []
    for stage in range(table.stages):
        row = [float(c) for c in table.a[stage]]
        if u is None:
            ws.append(w + h * sum((c * f for c, f in zip(row, forces, strict=True)), np.zeros_like(w)))
        else:
            ws.append(w + h * sum((c * x for c, x in zip(row, us, strict=True)), np.zeros_like(w)))
            pushes = [f - clock.kappa * x for f, x in zip(forces, us, strict=True)]
            us.append(u + h / clock.eps * sum((c * p for c, p in zip(row, pushes, strict=True)), np.zeros_like(w)))
        out = np.empty_like(w)
        system.pointwise(ws[-1], state.t + clock.scale * h * float(table.c[stage]), out)
        forces.append(out)
    d = [float(b - b_hat) for b, b_hat in zip(table.b, table.b_hat, strict=True)]
    atol = tolerance.atol.reshape(-1, *[1] * (w.ndim - 1))
    scale = atol + tolerance.rtol * np.maximum(abs(w), abs(ws[-1]))
    if u is None:
        ratio = abs(h * sum(c * f for c, f in zip(d, forces, strict=True))) / scale
    else:
        e_w = h * sum(c * x for c, x in zip(d, us, strict=True))
        e_u = h / clock.eps * sum(c * (f - clock.kappa * x) for c, f, x in zip(d, forces, us, strict=True))
        if clock.gamma >= 1:
            other, other_scale = e_w + clock.eps * e_u, scale
        else:
            other = e_u
            other_scale = atol + tolerance.rtol * np.maximum(abs(u), abs(us[-1])) + clock.gamma * scale
        ratio = np.maximum(abs(e_w) / scale, abs(other) / other_scale)
    return np.sqrt(np.mean(ratio**2))


@pytest.mark.parametrize("shape", [(9000,), (3, 5), (4, 3, 5)])
@pytest.mark.parametrize(("dynamics", "gamma"), DYNAMICS)
@pytest.mark.parametrize("method", METHODS)
def test_error_norm(method, dynamics, gamma, shape):
    rng = np.random.default_rng(2)
    stiffness = rng.random((2, *shape)) * 3
    system = PointwiseSystem(shape, springs(stiffness), fields=("p", "q"), gamma=gamma, dynamics=dynamics)
    state = system.state(rng.standard_normal((2, *shape)), rng.standard_normal((2, *shape)))
    # What halo and pads hold must not count.
    interior = state.w.copy()
    state.storage[...] = 1e200
    state.w[...] = interior
    tolerance = Tolerance.of(1e-3, {"p": 1e-4, "q": 1e-1}, ("p", "q"))
    expected = error_of(system, state, method, 0.6, tolerance)
    assert make_stepper(method, system).step(state, 0.6, tolerance) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("dynamics", "gamma"), [("gradient-flow", 1.0), ("damped", 2.0)])
def test_a_proposal_changes_nothing_until_accepted(method, dynamics, gamma):
    system, solution, velocity = carousel(gamma, dynamics)
    state = system.state(solution(0.0), velocity(0.0))
    before = state.copy()
    stepper = make_stepper(method, system)
    stepper.step(state, 0.5, PAIR)
    assert np.array_equal(state.w, before.w) and (state.t, state.step) == (0.0, 0)
    assert state.u is None or np.array_equal(state.u, before.u)
    # A second proposal, as after a rejection, is what a fresh stepper proposes, and the first force is kept.
    calls = system.calls
    error = stepper.step(state, 0.25, PAIR)
    assert system.calls - calls == tableau(method).stages - 1
    other, fresh = before.copy(), make_stepper(method, system)
    assert fresh.step(other, 0.25, PAIR) == error
    stepper.accept(state)
    fresh.accept(other)
    assert np.array_equal(state.w, other.w) and state.step == 1
    assert state.u is None or np.array_equal(state.u, other.u)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dynamics", ["gradient-flow", "damped"])
def test_first_same_as_last(method, dynamics):
    system, solution, velocity = carousel(2.0, dynamics)
    state = system.state(solution(0.0), velocity(0.0))
    stepper = march(system, state, method, 1.0, 10)
    assert system.calls == stepper.force_evaluations == 1 + 10 * (tableau(method).stages - 1)
    kept = stepper.force(state).w.copy()
    assert system.calls == stepper.force_evaluations
    fresh = np.empty_like(kept)
    system.pointwise(state.w, state.t, fresh)
    np.testing.assert_allclose(kept, fresh, rtol=1e-14)
    stepper.reset()
    stepper.force(state)
    assert system.calls == stepper.force_evaluations == 2 + 10 * (tableau(method).stages - 1)


@pytest.mark.parametrize("shape", [(170, 170), (220, 220)], ids=["serial", "parallel"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("dynamics", "gamma"), [("gradient-flow", 1.0), ("damped", 2.0)])
def test_a_step_allocates_nothing_of_field_size(method, dynamics, gamma, shape):
    system = PointwiseSystem(shape, lambda w, t, out: None, gamma=gamma, dynamics=dynamics)
    state = system.state(1.0)
    stepper = make_stepper(method, system)
    assert (state.storage.size < SMALL) == (shape == (170, 170))

    def steps():
        for _ in range(3):
            stepper.step(state, 1e-2, TOLERANCE)
            stepper.step(state, 5e-3, TOLERANCE)
            stepper.accept(state)

    steps()
    tracemalloc.start()
    steps()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.1 * state.w.nbytes


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dynamics", ["gradient-flow", "damped"])
def test_memory_is_what_registers_say(method, dynamics):
    system = PointwiseSystem((200, 200), springs(1.0), dynamics=dynamics)
    make_stepper(method, system)
    tracemalloc.start()
    stepper = make_stepper(method, system)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    array = stepper.force(system.state(1.0)).storage.nbytes
    assert held / array == pytest.approx(stepper.registers(tableau(method), dynamics == "damped"), abs=0.1)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("dynamics", "gamma"), [("gradient-flow", 1.0), ("damped", 0.5), ("damped", 2.0)])
def test_same_bits_for_every_number_of_threads(method, dynamics, gamma):
    shape = (37, 39, 41)
    rng = np.random.default_rng(3)
    stiffness, w0, v0 = rng.random((3, *shape)) + 0.5
    found = []
    for threads in (1, 2, 3, 5):
        system = PointwiseSystem(shape, springs(stiffness), gamma=gamma, dynamics=dynamics)
        state = system.state(w0, v0)
        assert state.w.size > SMALL
        stepper = make_stepper(method, system)
        stepper._threads = stepper._sums._threads = threads
        errors = []
        for _ in range(4):
            errors.append(stepper.step(state, 0.1, TOLERANCE))
            stepper.accept(state)
        found.append(
            (errors, state.w.copy(), None if state.u is None else state.u.copy(), stepper._sums.mean_square(state.storage))
        )
    for errors, w, u, square in found[1:]:
        assert errors == found[0][0] and square == found[0][3]
        assert np.array_equal(w, found[0][1])
        assert u is None or np.array_equal(u, found[0][2])


@pytest.mark.parametrize("dynamics", ["gradient-flow", "damped"])
def test_float32_stays_float32(dynamics):
    states = {}
    for dtype in ("float32", "float64"):
        system = PointwiseSystem((50, 50), springs(0.7), gamma=2.0, dynamics=dynamics, dtype=dtype)
        states[dtype] = system.state(1.0, 0.5)
        march(system, states[dtype], "rk32", 1.0, 10)
    assert states["float32"].w.dtype == np.float32
    np.testing.assert_allclose(states["float32"].w, states["float64"].w, rtol=3e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("dynamics", "gamma"), [("gradient-flow", 1.0), ("damped", 0.5), ("damped", 2.0)])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("call", [1, 2, -1], ids=["second stage", "third stage", "last stage"])
def test_what_is_not_finite_is_seen_and_placed(method, dynamics, gamma, bad, call):
    stages = tableau(method).stages
    seen = []

    def force(w, t, out):
        np.negative(w, out=out)
        if len(seen) == call % stages:
            out[1, 2, 3] = bad
        seen.append(t)

    system = PointwiseSystem((4, 5), force, fields=("p", "q"), gamma=gamma, dynamics=dynamics)
    state = system.state(1.0)
    stepper = make_stepper(method, system)
    with np.errstate(invalid="ignore"):
        assert not np.isfinite(stepper.step(state, 0.1, PAIR))
        assert stepper.not_finite(state) == (1, (2, 3))
        assert stepper.step(state, 0.1, PAIR) < np.inf
    assert stepper.not_finite(state) is None


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize(("dynamics", "gamma"), DYNAMICS)
def test_first_step_is_short_against_the_time_of_change(dynamics, gamma, size):
    stiffness = 9.0
    system = PointwiseSystem((8,), springs(stiffness), gamma=gamma, dynamics=dynamics)
    h = make_stepper("tsit5", system).first_step(system.state(size), TOLERANCE)
    time = system.clock.t(h)
    change = gamma / stiffness if dynamics == "gradient-flow" else 1 / np.sqrt(stiffness)
    assert 0.001 * change < time < 0.1 * change


def test_first_step_at_equilibrium_is_unlimited():
    system = PointwiseSystem((8,), springs(1.0), gamma=2.0)
    assert make_stepper("rk32", system).first_step(system.state(0.0), TOLERANCE) == np.inf
