"""The discrete gradient: energy at every step, from rough states, at every friction; its error, its solves, its dense output."""

import math

import numpy as np
import pytest
from reference_problem import CELLS, FLOW, reference, start, system
from scipy.integrate import solve_ivp

import sftsolve as sft
from sftsolve.errors import ConfigError
from sftsolve.simulation import simulate
from sftsolve.stepping import Tolerance, make_stepper
from sftsolve.stepping.discrete_gradient import DiscreteGradient, fitted

LOOSE = Tolerance.of(0.9, 1e6, ("w",))
GAMMAS = [0.0, 1.0, 10.0, 100.0, 1e4, 1e8, FLOW]


def energy(problem, state):
    """C + eps |u|^2/2 over the cells."""
    kinetic = 0.0 if state.u is None else 0.5 * problem.clock.eps * float(np.sum(state.u**2)) * problem.grid.cell_volume
    return problem.cost_of(state) + kinetic


def steps(stepper, state, h, count):
    """`count` accepted steps, a failed one being tried again with half the length."""
    for _ in range(count):
        length = h
        while not stepper.step(state, length, LOOSE) <= 1.0:
            length /= 2
            assert length > h / 100
        stepper.accept(state)
        yield length


@pytest.mark.parametrize("z", [1e-9, 1e-4, 0.00999, 0.0101, 0.3, 2.0, 50.0, 1e16])
def test_fitted(z):
    """Exact for u' = z (a - u): u_1 = a + (u_0 - a) e^{-z}."""
    theta, a, u = fitted(z), 0.7, -0.4
    new = (u + z * (a - (1 - theta) * u)) / (1 + z * theta)
    assert new == pytest.approx(a + (u - a) * math.exp(-z), rel=1e-13)
    assert 0.5 <= theta <= 1.0


@pytest.mark.parametrize("h", [1e-3, 0.03, 0.5])
@pytest.mark.parametrize("gamma", GAMMAS)
def test_energy_from_a_rough_state(gamma, h):
    """It falls by h kappa |u|^2 + eps (theta - 1/2) |du|^2, to rounding, at every step; without friction it stays."""
    problem, rng = system(gamma, drive=0.0), np.random.default_rng(1)
    state = problem.state({"w": rng.standard_normal(CELLS)})
    if state.u is not None:
        state.u[...] = rng.standard_normal(CELLS)
    stepper, kappa, eps = DiscreteGradient(problem), problem.clock.kappa, problem.clock.eps
    before, old = energy(problem, state), state.copy()
    scale = abs(before)
    for length in steps(stepper, state, h, 12):
        after, rate = energy(problem, state), (state.w - old.w) / length
        loss = length * kappa * np.sum(rate**2)
        if state.u is not None:
            loss += eps * (fitted(kappa * length / eps) - 0.5) * np.sum((state.u - old.u) ** 2)
        loss *= problem.grid.cell_volume
        assert after - before == pytest.approx(-loss, rel=1e-7, abs=1e-11 * scale)
        assert after <= before + 1e-12 * scale
        before, old = after, state.copy()


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_energy_of_a_cost_that_no_quadrature_integrates_exactly(gamma):
    """Walls and transcendental terms: what the Gauss points leave, the correction along the step takes."""
    action = sft.Action(
        fields=["w"],
        cost="D/2*grad2(w) + cosh(w) + cos(3*w)",
        parameters={"D": 0.01},
        friction=sft.Friction(gamma=gamma),
    )
    grid = sft.Grid(shape=(20,), length=(1.0,), boundary={"x": {"lower": {"value": 0.0}, "upper": {"derivative": 0.0}}})
    problem, rng = sft.discretise(action, grid), np.random.default_rng(2)
    state = problem.state({"w": 2 * rng.standard_normal(20)})
    stepper = DiscreteGradient(problem)
    energies = [energy(problem, state)]
    for _ in steps(stepper, state, 0.2, 30):
        energies.append(energy(problem, state))
    if gamma == 0:
        np.testing.assert_allclose(energies, energies[0], rtol=1e-9)
    else:
        assert np.diff(energies).max() <= 1e-12 * abs(energies[0]) and energies[-1] < energies[0] - 1


def test_at_strong_friction_the_velocity_follows_the_force():
    """|u - F| of the order of the step, where theta = 1/2 would leave it of order one for ever."""
    problem, found = system(1e4), []
    for count in (40, 80):
        state, stepper = problem.state({"w": start()}), DiscreteGradient(problem)
        for _ in steps(stepper, state, 1.0 / count, count):
            pass
        found.append(np.abs(state.u[0] - reference(1e4)[1]).max())
    assert found[1] < 0.012 and found[0] / found[1] == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("gamma", [1.0, 10.0, 1e4, FLOW])
def test_error_follows_the_tolerance(gamma):
    problem, errors = system(gamma), []
    for rtol in (1e-3, 1e-5):
        state = problem.state({"w": start()})
        # Nothing but the tolerance limits steps.
        run = {"end": problem.clock.t(1.0), "clock": "t", "progress": False, "max_step": problem.clock.t(1.0)}
        result = simulate(problem, state, "discrete-gradient", rtol=rtol, atol=rtol, **run)
        errors.append(np.abs(result.w[-1, 0] - reference(gamma)[0]).max())
        # The error that is controlled is that of the result itself.
        assert errors[-1] < 2 * rtol ** (2 / 3)
        assert result.stats.rejected <= 0.2 * result.stats.steps + 4
    assert errors[1] < errors[0] / 8


def test_a_stiff_flow_takes_long_steps():
    """1000 times stiffer than the reference problem: far fewer steps than stability would ask of an explicit method."""
    problem = system(FLOW, stiffness=100.0)
    result = simulate(problem, problem.state({"w": start()}), "discrete-gradient", end=1.0, rtol=1e-3, atol=1e-3, progress=False)
    assert result.stats.steps < 300 and result.stats.linear_solves > result.stats.steps
    mean = solve_ivp(lambda t, w: w - w**3 + math.cos(3 * t), (0, 1), [0.0], rtol=1e-10, atol=1e-10).y[0, -1]
    assert np.abs(result.w[-1, 0] - mean).max() < 5e-3


@pytest.mark.parametrize("gamma", [1.0, FLOW])
def test_dense_output(gamma):
    """Second order within a step, w and u."""
    problem, errors = system(gamma), []
    for count in (20, 40):
        state, stepper, between = problem.state({"w": start()}), make_stepper("discrete-gradient", problem), None
        between, worst, h = state.like(), 0.0, 1.0 / count
        for number in range(count):
            stepper.step(state, h, LOOSE)
            stepper.accept(state)
            fine = stepper._proposal.copy()
            fine.t = problem.clock.t(number * h)
            exact = make_stepper("tsit5", problem)
            for _ in range(10):
                exact.step(fine, 0.07 * h, LOOSE)
                exact.accept(fine)
            stepper.interpolate(state, 0.7, between)
            assert between.t == pytest.approx(fine.t)
            worst = max(worst, np.abs(between.w - fine.w).max())
            if number > 1 and state.u is not None:
                worst = max(worst, np.abs(between.u - fine.u).max())
        errors.append(worst)
    assert errors[0] < 0.05 and np.log2(errors[0] / errors[1]) > 1.8


def test_a_preconditioner_changes_the_work_and_not_the_result():
    problem = system(FLOW, stiffness=10.0)
    assert problem.linear is not None
    ends, products = [], []
    for linear in (problem.linear, None):
        problem.__dict__["linear"] = linear
        state, stepper, calls = problem.state({"w": start()}), DiscreteGradient(problem), []
        product = type(problem).jvp_into.__get__(problem)
        problem.jvp_into = lambda *arguments, product=product, calls=calls: calls.append(1) or product(*arguments)
        for _ in steps(stepper, state, 0.05, 5):
            pass
        ends.append(state.w.copy())
        products.append(len(calls))
    np.testing.assert_allclose(ends[0], ends[1], atol=1e-11)
    assert products[0] < products[1] / 3


def test_a_force_that_is_no_gradient_is_refused():
    with pytest.raises(ConfigError, match="gradient of the cost"):
        make_stepper("discrete-gradient", system(30.0, dynamics="slow-manifold"))
    friction = sft.Friction.matching_descent(0.1, momentum=0.9, nesterov=True)
    nesterov = sft.Action(fields=["w"], cost="w**2/2", friction=friction)
    with pytest.raises(ConfigError, match="gradient of the cost"):
        make_stepper("discrete-gradient", sft.discretise(nesterov, sft.Grid(shape=(4,), length=(1.0,))))


def test_reset_forgets_the_steps_before():
    """After a jump of the state the next proposal is that of a fresh stepper, its error included."""
    problem = system(10.0)
    state, stepper = problem.state({"w": start()}), DiscreteGradient(problem)
    for _ in steps(stepper, state, 0.05, 3):
        pass
    state.w[...] += 0.3
    stepper.reset()
    fresh = DiscreteGradient(problem)
    assert stepper.step(state, 0.05, LOOSE) == pytest.approx(fresh.step(state, 0.05, LOOSE), rel=1e-9)


def test_failure_of_the_solve_is_a_rejection():
    """A step so long that I - sigma F' is not positive: an error above one, the state as it was, a shorter step works."""
    problem = system(FLOW, stiffness=1e-3, drive=0.0)
    state = problem.state({"w": 0.01 * start()})
    before, stepper = state.copy(), DiscreteGradient(problem)
    assert stepper.step(state, 30.0, LOOSE) > 1.0
    assert np.array_equal(state.w, before.w) and state.step == 0
    assert stepper.step(state, 0.1, LOOSE) <= 1.0


@pytest.mark.parametrize("dynamics", ["gradient-flow", "damped"])
@pytest.mark.parametrize(
    "cost", ["w**2 - J*w", "grad2(w)/200 + w**2 + w**4/4 - J*w", "100 + (w**2 - 1)**2/4", "1 - cos(3*w) - J*w"]
)
def test_runs_to_equilibrium(cost, dynamics):
    """There differences of the cost are rounding, and shall not stop the steps; they grow until nothing moves."""
    action = sft.Action(["w"], cost, sources={"J": "cos(2*pi*x)"} if "J" in cost else {}, friction=sft.Friction(gamma=3.0))
    problem = sft.discretise(action, sft.Grid((16,), (1.0,)), dynamics=dynamics)
    state = problem.state({"w": "0.4*cos(2*pi*x) + 0.1"})
    simulate(problem, state, "discrete-gradient", end=60.0, rtol=1e-6, progress=False, max_steps=1500)
    assert np.abs(problem.force(state.w)).max() < 1e-7
