"""What friction takes in a step of etdrk4, in closed form, against quadrature of what the step's dense output tells."""

import numpy as np
import pytest
from scipy.integrate import quad

import sftsolve as sft
from sftsolve.simulation import simulate
from sftsolve.stepping import STEPPERS, Tolerance

MIXED = {
    "x": {"lower": {"value": 0.0}, "upper": {"derivative": 0.0}},
    "y": {"lower": {"derivative": 0.0}, "upper": {"derivative": 0.0}},
}
PAIR = {"x": {"lower": {"w": {"value": 0.0}, "v": {"derivative": 0.0}}, "upper": {"value": 0.0}}}
CASES = {
    "line": ((16,), "periodic", ["w"]),
    "odd line": ((15,), "periodic", ["w"]),
    "walls": ((12,), {"x": {"lower": {"value": 0.0}, "upper": {"value": 0.0}}}, ["w"]),
    "torus, two fields": ((6, 8), "periodic", ["w", "v"]),
    "plane": ((6, 9), MIXED, ["w"]),
    "space, two fields": ((4, 6, 5), MIXED, ["w", "v"]),
}


def stepped(case, dynamics, gamma, lengths, dtype="float64", method="etdrk4"):
    """A stepper behind a few steps on a theory with modes that are stiff, modes that are slow and a force that moves."""
    shape, boundary, fields = CASES[case]
    cost = "+".join(f"grad2({field})/2 + {field}**4/4 - J*{field}" for field in fields)
    cost += " + 0.3*w*v" if len(fields) > 1 else ""
    sources = {"J": "2*cos(3*t)*(1 + x)"}
    action = sft.Action(fields, cost, sources=sources, friction=sft.Friction(gamma=gamma))
    grid = sft.Grid(shape, (1.0,) * len(shape), boundary=boundary)
    problem = sft.discretise(action, grid, dynamics=dynamics, dtype=dtype)
    random = np.random.default_rng(3)
    state = problem.state({field: random.standard_normal(shape) for field in fields})
    stepper = STEPPERS[method].build(problem)
    for h in lengths:
        stepper.step(state, h, Tolerance.of(0.9, 1e6, tuple(fields)))
        stepper.accept(state)
    return problem, state, stepper


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("gamma", [0.5, 20.0])
@pytest.mark.parametrize(("method", "h"), [("etdrk4", 1e-3), ("etdrk4", 0.05), ("etdrk4", 1.0), ("rk4-friction", 0.3)])
def test_the_loss_of_velocities(case, gamma, method, h):
    problem, state, stepper = stepped(case, "damped", gamma, (1e-3, h), method=method)
    out = state.copy()

    def loss(c):
        stepper.interpolate(state, c, out)
        return problem.clock.kappa_at(0.0) * np.mean(out.u**2)

    wanted = h * sum(quad(loss, a, b, epsrel=1e-11, limit=400)[0] for a, b in ((0, 0.01), (0.01, 0.2), (0.2, 1)))
    assert stepper.lost() == pytest.approx(wanted, rel=1e-8)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("h", [1e-3, 0.05, 1.0])
def test_the_loss_of_a_flow(case, h):
    """int |w_theta|^2, by differences within the step that are short against the fastest mode."""
    _, state, stepper = stepped(case, "gradient-flow", 1.0, (0.3, h))
    one, other, apart = state.copy(), state.copy(), 1e-6

    def loss(c):
        stepper.interpolate(state, c - apart, one)
        stepper.interpolate(state, c + apart, other)
        return np.mean(((other.w - one.w) / (2 * apart)) ** 2) / h

    near = 2 * apart
    parts = [quad(loss, a, b, epsrel=1e-7, limit=200)[0] for a, b in ((near, 0.01), (0.01, 0.2), (0.2, 1 - near))]
    assert stepper.lost() == pytest.approx(sum(parts) + near * (loss(near) + loss(1 - near)), rel=5e-5)


def test_single_precision():
    (_, _, stepper), (_, _, exact) = (stepped("plane", "damped", 2.0, (1e-3, 0.05), dtype) for dtype in ("float32", "float64"))
    assert stepper.lost() == pytest.approx(exact.lost(), rel=1e-5)


def test_friction_that_varies_is_left_to_the_ends_of_steps():
    action = sft.Action(["w"], "grad2(w)/2", friction=sft.Friction(schedule=lambda t: 1.0 / (1.0 + t)))
    problem = sft.discretise(action, sft.Grid((8,), (1.0,)))
    stepper, state = STEPPERS["etdrk4"].build(problem), problem.state({"w": "sin(2*pi*x)"})
    stepper.step(state, 0.01, Tolerance.of(0.9, 1e6, ("w",)))
    stepper.accept(state)
    assert stepper.lost() is None


@pytest.mark.parametrize(("dynamics", "gamma"), [("damped", 1.0), ("damped", 30.0), ("damped", 1e4), ("gradient-flow", 1.0)])
@pytest.mark.parametrize("method", ["auto", "etdrk4", "rk4-friction"])
def test_balance_of_steps_longer_than_what_they_pass_over(method, dynamics, gamma):
    """Rough fields, stiff: seen at the ends of steps alone, from half to all of the energy was missing."""
    action = sft.Action(["w"], "grad2(w)/2 + w**4/4 - w**2/2", friction=sft.Friction(gamma=gamma))
    problem = sft.discretise(action, sft.Grid((64,), (1.0,)), dynamics=dynamics)
    state = problem.state({"w": 0.5 * np.random.default_rng(0).standard_normal(64)})
    result = simulate(problem, state, method, end=2.0, rtol=1e-6, atol=1e-8, progress=False)
    assert result.stats.energy_residual < 5e-5


def test_a_wrong_force_is_found_in_long_steps():
    action = sft.Action(["w"], "grad2(w)/2 + w**4/4 - w**2/2", friction=sft.Friction(gamma=1.0))
    problem = sft.discretise(action, sft.Grid((32,), (1.0,)), dynamics="gradient-flow")
    right = problem.force_into

    def wrong(state, out, t=None):
        right(state, out, t)
        out.storage *= 1.02

    problem.force_into = wrong
    state = problem.state({"w": "1.5*sin(2*pi*x)"})
    result = simulate(problem, state, "etdrk4", end=2.0, rtol=1e-6, atol=1e-8, progress=False)
    assert 5e-3 < result.stats.energy_residual < 0.1
