"""Convergence tables: every registered stepper at every friction of its declared domain, against SciPy."""

import math
from functools import cache

import numpy as np
import pytest
from reference_problem import CELLS, RADIUS, force, reference, slaved, start, system, varying
from scipy.integrate import solve_ivp

from sftsolve.stepping import STEPPERS, Tolerance

ALL = [(method, gamma) for method, entry in STEPPERS.items() for gamma in entry.domain]
BAND = [(method, gamma) for method, gamma in ALL if 10 <= gamma <= 100]
CASES = [case for case in ALL if case not in BAND]
# So loose that no method turns a step down.
LOOSE = Tolerance.of(0.9, 1e6, ("w",))
SLOPE = 0.15


def frequency_for(order):
    """Frequency of the drive: at 3 methods of order five are at rounding before they are at their order."""
    return 3.0 if order < 5 else 50.0


def error_after(method, gamma, steps, from_rest=True):
    """Largest error of w, and of u too where friction is weak, at theta = 1 after equal steps."""
    frequency = frequency_for(STEPPERS[method].order)
    problem = system(gamma, frequency=frequency)
    state = problem.state({"w": start()})
    if not from_rest:
        state.u[0] = slaved(gamma)
    stepper = STEPPERS[method].build(problem)
    for _ in range(steps):
        assert stepper.step(state, 1.0 / steps, LOOSE) <= 1.0
        stepper.accept(state)
    assert problem.clock.theta(state.t) == pytest.approx(1.0, rel=1e-12)
    w, u = reference(gamma, frequency, from_rest)
    error = np.abs(state.w[0] - w).max()
    return max(error, np.abs(state.u[0] - u).max()) if gamma <= 1 else error


def table(method, gamma, from_rest=True):
    """Errors as the step is halved, from the longest one that is stable, until rounding takes over."""
    order = STEPPERS[method].order
    stable = STEPPERS[method].build(system(gamma)).stable_step(1.1 * RADIUS)
    coarsest = max(20, math.ceil(2.0 / stable) if stable < math.inf else 0)
    errors = [error_after(method, gamma, steps, from_rest) for steps in (coarsest, 2 * coarsest)]
    while len(errors) < 4 and errors[-1] > 1e-11 * 2**order:
        errors.append(error_after(method, gamma, coarsest * 2 ** len(errors), from_rest))
    return errors


@pytest.mark.parametrize(("method", "gamma"), CASES, ids=[f"{method}-{gamma:g}" for method, gamma in CASES])
def test_order(method, gamma):
    """The slope of the last halving, from rest."""
    errors = table(method, gamma)
    assert math.log2(errors[-2] / errors[-1]) == pytest.approx(STEPPERS[method].order, abs=SLOPE)


@pytest.mark.parametrize(("method", "gamma"), BAND, ids=[f"{method}-{gamma:g}" for method, gamma in BAND])
def test_order_in_the_band(method, gamma):
    """From gamma = 10 to 100, where friction ends within a step and slopes vary, their mean has a lower bound.

    From rest there is a layer too, which no step resolves: what it leaves falls as the step where friction is exact, else faster.
    """
    entry = STEPPERS[method]
    bound = entry.order if entry.order_in_band is None else entry.order_in_band
    from_rest = min(bound, 1.0 if method in ("etdrk4", "rk4-friction") else 1.5)
    for rest, least in ((False, bound), (True, from_rest)):
        errors = table(method, gamma, rest)
        assert math.log2(errors[0] / errors[-1]) / (len(errors) - 1) >= least - SLOPE


LAWS = {"above one": lambda t: 2.0 + math.sin(2 * t), "below one": lambda t: 0.5 + 0.3 * math.sin(2 * t)}
VARYING = [
    (method, law, dynamics)
    for method, entry in STEPPERS.items()
    for law, dynamics in [("above one", "damped"), ("below one", "damped"), ("above one", "gradient-flow")]
    if entry.order < 5 and dynamics in entry.dynamics and (1.0 if dynamics == "damped" else math.inf) in entry.domain
]


@cache
def reference_under(law, dynamics):
    """w (and w_t) at t = 1 in physical time, by DOP853."""
    gamma, flow = LAWS[law], dynamics == "gradient-flow"

    def equation(t, y):
        push = force(y[:CELLS], t)
        return push / gamma(t) if flow else np.concatenate([y[CELLS:], push - gamma(t) * y[CELLS:]])

    y = start() if flow else np.concatenate([start(), np.zeros(CELLS)])
    return solve_ivp(equation, (0, 1), y, method="DOP853", rtol=1e-12, atol=1e-13).y[:, -1]


@pytest.mark.parametrize(("method", "law", "dynamics"), VARYING, ids=[" ".join(case) for case in VARYING])
def test_order_under_a_friction_that_varies(method, law, dynamics):
    """Steps of equal length in theta; the velocity, too, at the end."""
    errors = []
    for count in (60, 120):
        problem = varying(LAWS[law], dynamics)
        state, stepper, clock = problem.state({"w": start()}), STEPPERS[method].build(problem), problem.clock
        for number in range(count):
            end = clock.theta(1.0) * (number + 1) / count
            assert stepper.step(state, end - clock.theta(state.t), LOOSE) <= 1.0
            stepper.accept(state)
        found = state.w[0] if state.u is None else np.concatenate([state.w[0], state.u[0] / clock.scale_at(state.t)])
        errors.append(np.abs(found - reference_under(law, dynamics)).max())
    assert math.log2(errors[0] / errors[1]) == pytest.approx(STEPPERS[method].order, abs=SLOPE)


def test_every_order_is_measured_somewhere():
    """Those without a domain are recursions, held against NumPy in test_descent.py."""
    assert {method for method, entry in STEPPERS.items() if not entry.domain} == {"heavy-ball", "nesterov"}
