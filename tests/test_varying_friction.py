"""Runs under a friction that varies, by every kind of stepper, against SciPy piece by piece."""

import itertools
import math

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import sftsolve as sft
from sftsolve.stepping import Tolerance, make_stepper

N, LENGTH, END = 10, 2.0, 16.0
GRID = sft.Grid(shape=(N,), length=(LENGTH,))
X = GRID.coordinates[0]
START = 1 + np.sin(np.pi * X)
COST = "0.05*grad2(w) + w**4/4 + w**2/2 - cos(pi*x)*w"

SCHEDULES = {
    "cosine": {"kind": "cosine", "eta": 3.0, "end": 20, "final": 0.05},
    "steps": {"kind": "step", "eta": 2.0, "every": 4.0, "factor": 0.3},
    "warm-up": {"kind": "warm-up", "eta": 3.0, "end": 5, "then": {"kind": "exponential", "eta": 3.0, "half_life": 3}},
    "function": lambda t: 0.5 if t < 7.3 else 0.05,
}


def force(w):
    laplacian = (np.roll(w, 1) - 2 * w + np.roll(w, -1)) / GRID.spacing[0] ** 2
    return 0.1 * laplacian - w**3 - w + np.cos(np.pi * X)


def friction_of(name):
    return sft.Friction(schedule=SCHEDULES[name]) if name in SCHEDULES else sft.Friction(gamma=lambda t: t**2 / 8)


def reference(friction, dynamics):
    """(jumps, w and w_t at each and at the end), with eta from the law itself."""
    clock = friction.clock(1, dynamics)
    times = [*clock.jumps(0.0, END), END]
    y, found = np.concatenate([START, 0 * X]), []
    for a, b in itertools.pairwise([0.0, *times]):
        last = math.nextafter(b, a)

        def rate(t, y, last=last):
            gamma = clock.gamma_at(min(t, last))
            if dynamics == "damped":
                return np.concatenate([y[N:], force(y[:N]) - gamma * y[N:]])
            return np.concatenate([force(y[:N]) / gamma, 0 * X])

        y = solve_ivp(rate, (a, b), y, method="DOP853", rtol=1e-11, atol=1e-12).y[:, -1]
        found.append(y)
    return times, np.array(found)


@pytest.mark.parametrize("name", [*SCHEDULES, "friction from nothing"])
def test_damped(name):
    """Snapshots at the jumps too, where w_t is continuous; the last jump of the steps is at the end of the run."""
    friction = friction_of(name)
    times, exact = reference(friction, "damped")
    action = sft.Action(["w"], COST, friction=friction)
    options = {"end": END, "clock": "t", "rtol": 1e-7, "atol": 1e-8, "save_at": times, "progress": False}
    for method, accuracy in (("tsit5", 1e-6), ("etdrk4", 5e-6)):
        result = sft.solve(action, GRID, {"w": START}, method=method, **options)
        assert np.allclose(result.t[1:], times, rtol=1e-13)
        assert np.allclose(result.w[1:, 0], exact[:, :N], atol=accuracy)
        assert np.allclose(result.v[1:, 0], exact[:, N:], atol=10 * accuracy)


@pytest.mark.parametrize("name", SCHEDULES)
def test_gradient_flow(name):
    """In training time the learning rate drops out: the same steps as with a constant one, at other times t."""
    friction = friction_of(name)
    _, exact = reference(friction, "gradient-flow")
    action = sft.Action(["w"], COST, friction=friction)
    options = {"method": "tsit5", "dynamics": "gradient-flow", "rtol": 1e-8, "atol": 1e-9, "progress": False}
    result = sft.solve(action, GRID, {"w": START}, end=END, clock="t", **options)
    assert np.allclose(result.w[-1, 0], exact[-1, :N], atol=1e-7)
    clock = friction.clock(1, "gradient-flow")
    assert result.tau[-1] == pytest.approx(clock.tau(END), rel=1e-13)
    assert np.allclose(result.v[-1, 0], force(exact[-1, :N]) / clock.gamma_at(END), atol=1e-7)
    same = sft.solve(sft.Action(["w"], COST), GRID, {"w": START}, end=clock.tau(END), clock="tau", **options)
    assert np.allclose(same.w[-1], result.w[-1], atol=1e-8)


def test_training_time_that_is_never_reached():
    action = sft.Action(["w"], COST, friction=sft.Friction(schedule={"kind": "exponential", "eta": 0.1, "rate": 0.1}))
    with pytest.raises(sft.SftError, match=r"tau = 2 is never reached"):
        sft.solve(action, GRID, {"w": START}, end=2.0, progress=False)


@pytest.mark.parametrize(("method", "order"), [("rk32", 3), ("dp5", 5), ("etdrk4", 4)])
def test_order_under_friction_that_varies_within_a_step(method, order):
    """The mean scale of a step changes the variable, not the equation: fixed steps keep their order."""
    friction = sft.Friction(schedule=lambda t: 0.6 + 0.35 * math.sin(t))  # gamma from 1.05 to 4
    exact = reference(friction, "damped")[1][-1]
    system = sft.discretise(sft.Action(["w"], COST, friction=friction), GRID)
    errors, rough = [], Tolerance.of(0.5, 1e6, ("w",))
    for steps in (160, 320):
        state, stepper = system.state({"w": START}), make_stepper(method, system)
        for _ in range(steps):
            stepper.step(state, system.clock.theta(END) / steps, rough)
            stepper.accept(state)
        errors.append(np.abs(state.w[0] - exact[:N]).max())
        v = state.u[0] / system.clock.scale_at(state.t)
        assert state.t == pytest.approx(END, rel=1e-12) and np.allclose(v, exact[N:], atol=1e-2)
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.45)


@pytest.mark.parametrize("clock", ["t", "tau"])
def test_the_largest_step_is_in_the_clock_of_the_user_all_along(clock):
    """Friction grows a hundredfold: on the stepper's own clock a step of one length in t does, too."""
    friction = sft.Friction(gamma=lambda t: 1 + 6 * t)
    system = sft.discretise(sft.Action(["w"], COST, friction=friction), GRID)
    end = END if clock == "t" else system.clock.tau(END)
    state, loose = system.state({"w": START}), {"rtol": 0.5, "atol": 1e6, "progress": False}
    result = sft.simulate(system, state, "rk4-friction", end=end, clock=clock, first_step=end / 40, max_step=end / 40, **loose)
    assert 40 <= result.stats.steps <= 42
