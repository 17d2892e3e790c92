"""Runge-Kutta-Chebyshev: its coefficients, its interval of stability, what a stiff gradient flow costs, and what it refuses."""

import math

import numpy as np
import pytest
from numpy.polynomial import Chebyshev
from reference_problem import FLOW, RADIUS, jacobian, reference, start, system
from scipy.integrate import solve_ivp

from sftsolve.errors import ConfigError
from sftsolve.simulation import simulate
from sftsolve.stepping import Tolerance, make_stepper
from sftsolve.stepping.stabilised import chebyshev, stages_for

LOOSE = Tolerance.of(0.9, 1e6, ("w",))


def growth(stages, z):
    """w_1/w_0 of w' = lambda w, z = h lambda, by the recurrence itself."""
    table = chebyshev(stages)
    older, newer = np.ones_like(z), 1 + table.first * z
    for mu, nu, f, g in table.rows:
        older, newer = newer, (1 - mu - nu) + mu * newer + nu * older + f * z * newer + g * z
    return newer


@pytest.mark.parametrize("stages", [2, 3, 5, 20, 101])
def test_coefficients_against_chebyshev_polynomials(stages):
    """P_s(z) = a_s + b_s T_s(w0 + w1 z), and its abscissae."""
    w0 = 1 + 2 / 13 / stages**2
    polynomial = Chebyshev.basis(stages)
    slope, curvature = polynomial.deriv(1)(w0), polynomial.deriv(2)(w0)
    w1, b = slope / curvature, curvature / slope**2
    z = np.linspace(-0.65 * stages**2, 0.0, 50)
    np.testing.assert_allclose(growth(stages, z), 1 - b * polynomial(w0) + b * polynomial(w0 + w1 * z), atol=1e-11)
    table = chebyshev(stages)
    assert table.stages == stages and table.abscissae[0] == 0 and table.abscissae[-1] == 1.0
    for j in range(2, stages):
        inner = Chebyshev.basis(j)
        assert table.abscissae[j] == pytest.approx(w1 * inner.deriv(2)(w0) / inner.deriv(1)(w0), rel=1e-10)


@pytest.mark.parametrize("stages", [2, 5, 30])
def test_consistency_of_second_order(stages):
    z = 1e-3
    assert growth(stages, np.array([-z]))[0] - (1 - z + z**2 / 2) == pytest.approx(0, abs=z**3 / 5)


def test_enough_stages_and_not_many_more():
    """Stable up to the length asked for, and no longer so at twice that."""
    for length in (0.1, 3.0, 50.0, 700.0, 1e4):
        stages = stages_for(length)
        assert np.abs(growth(stages, np.linspace(-length, 0, 20001))).max() <= 1 + 1e-12
        if stages > 2:
            assert np.abs(growth(stages, np.linspace(-2 * length - 3, 0, 20001))).max() > 1.5
    assert stages_for(0.0) == 2


def test_a_stiff_flow_by_its_tolerance():
    """100 times stiffer than the reference problem: error by the tolerance, forces far fewer than an explicit pair needs."""
    stiff = system(FLOW, stiffness=10.0)
    rough = start() + 0.1 * np.random.default_rng(0).standard_normal(64)
    result = simulate(stiff, stiff.state({"w": rough}), "rkc2", end=1.0, rtol=1e-4, atol=1e-4, progress=False)

    def force(theta, w):
        coupling = 10.0 / 0.1 * RADIUS / 4
        return coupling * (np.roll(w, 1) - 2 * w + np.roll(w, -1)) + w - w**3 + math.cos(3 * theta)

    exact = solve_ivp(force, (0, 1), rough, method="Radau", rtol=1e-9, atol=1e-10).y[:, -1]
    assert np.abs(result.w[-1, 0] - exact).max() < 1e-3
    explicit = simulate(stiff, stiff.state({"w": rough}), "rk32", end=1.0, rtol=1e-4, atol=1e-4, progress=False)
    assert result.stats.force_evaluations < explicit.stats.force_evaluations / 8
    assert result.stats.rejected <= 0.2 * result.stats.steps + 2
    assert result.stats.linear_solves == 0


def test_error_follows_the_tolerance():
    problem, errors = system(FLOW), []
    for rtol in (1e-3, 1e-5):
        # Nothing but the tolerance limits steps.
        limits = {"end": 1.0, "max_step": 1.0, "rtol": rtol, "atol": rtol}
        result = simulate(problem, problem.state({"w": start()}), "rkc2", progress=False, **limits)
        errors.append(np.abs(result.w[-1, 0] - reference(FLOW)[0]).max())
        assert errors[-1] < 20 * rtol
    # As rtol^(2/3): the error that is controlled is that of the result itself.
    assert errors[1] < errors[0] / 10


def test_the_slow_manifold_is_stiffer_than_the_flow():
    """F'[F]/gamma^2 adds to the radius; enough stages all the same."""
    problem = system(12.0, dynamics="slow-manifold")
    ends = [
        simulate(problem, problem.state({"w": start()}), method, end=1.0, rtol=1e-5, atol=1e-6, progress=False).w[-1]
        for method in ("rkc2", "tsit5")
    ]
    assert np.abs(ends[0] - ends[1]).max() < 5e-4
    stepper, state = make_stepper("rkc2", problem), problem.state({"w": start()})
    stepper.step(state, 1e-3, LOOSE)
    exact = np.abs(np.linalg.eigvalsh(jacobian(state.w[0]))).max()
    assert exact * (1 + exact / 144) < stepper._radius < 1.3 * exact * (1 + exact / 144)


def test_the_error_estimate():
    """4/5 (w_0 - w_1) + 2/5 h (F_0 + F_1), in units of the tolerance."""
    problem = system(FLOW)
    state = problem.state({"w": start()}, t=0.2)
    stepper, h = make_stepper("rkc2", problem), 0.03
    error = stepper.step(state, h, Tolerance.of(1e-3, 1e-4, ("w",)))
    w, new = state.w.copy(), stepper._proposal.w.copy()
    forces = problem.force(w, t=0.2) + problem.force(new, t=0.2 + h)
    estimate = 0.8 * (w - new) + 0.4 * h * forces
    scale = 1e-4 + 1e-3 * np.maximum(np.abs(w), np.abs(new))
    assert error == pytest.approx(np.sqrt(np.mean((estimate / scale) ** 2)), rel=1e-9)


def test_the_radius_is_looked_at_now_and_then():
    """At the start, after 25 accepted steps, after a rejection; from below by a few per cent, hence the margin."""
    problem = system(FLOW)
    state = problem.state({"w": start()})
    stepper = make_stepper("rkc2", problem)
    asked = []
    product = problem.jvp_into
    problem.jvp_into = lambda *arguments: asked.append(state.step) or product(*arguments)
    for _ in range(60):
        stepper.step(state, 1e-3, LOOSE)
        stepper.accept(state)
    assert sorted(set(asked)) == [0, 25, 50]
    # The vector of the last time is a good start.
    assert asked.count(25) <= asked.count(0) and asked.count(50) <= 3
    exact = np.abs(np.linalg.eigvalsh(jacobian(state.w[0]))).max()
    assert exact < stepper._radius < 1.12 * exact
    before = len(asked)
    assert stepper.step(state, 0.5, Tolerance.of(1e-10, 1e-10, ("w",))) > 1.0
    stepper.step(state, 1e-3, LOOSE)
    assert len(asked) > before
    before = len(asked)
    stepper.reset()
    stepper.step(state, 1e-3, LOOSE)
    assert len(asked) > before


def test_rounding_limits_the_number_of_stages():
    """A step that would take more is turned down unseen, so much shorter that the next one is allowed."""
    problem = system(FLOW)
    stepper, tight = make_stepper("rkc2", problem), Tolerance.of(1e-13, 1e-2, ("w",))
    state = problem.state({"w": start()})
    error = stepper.step(state, 3.0, tight)
    assert error > 1.0 and stepper.force_evaluations == 1
    stepper.step(state, 3.0 * error ** (-1 / 3), tight)
    assert 2 < stepper.force_evaluations < 10


def test_damped_dynamics_is_refused_with_the_reason():
    with pytest.raises(ConfigError, match="sqrt") as raised:
        make_stepper("rkc2", system(10.0))
    assert "gradient-flow" in str(raised.value) and "etdrk4" in str(raised.value)
