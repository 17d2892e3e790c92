"""Leapfrog and its fourth-order composition: friction exact, the symplectic form, energy over many steps, the error estimate."""

import math

import numpy as np
import pytest
from linear_systems import PointwiseSystem, damped_mode, springs
from scipy.linalg import expm

import sftsolve as sft
from sftsolve.errors import ConfigError
from sftsolve.simulation import simulate
from sftsolve.stepping import Tolerance
from sftsolve.stepping.symplectic import BLANES_MOAN, LEAPFROG, Leapfrog, Leapfrog4, friction_kick

KINDS = [Leapfrog, Leapfrog4]
LOOSE = Tolerance.of(0.9, 1e6, ("w",))
TIGHT = Tolerance.of(1e-6, 1e-9, ("w",))
FORCES = {Leapfrog: 1, Leapfrog4: 6}


def march(stepper, state, h, steps):
    for _ in range(steps):
        assert stepper.step(state, h, LOOSE) <= 1.0
        stepper.accept(state)


def anharmonic(w, t, out):
    out[...] = -w - w**3


@pytest.mark.parametrize("table", [LEAPFROG, BLANES_MOAN], ids=["leapfrog", "leapfrog4"])
def test_tables(table):
    """Consistent and symmetric; the second also fulfils both conditions of order three, hence is of order four."""
    b, a, c = np.array(table.kicks), np.array(table.drifts), np.array(table.abscissae)
    assert len(b) == len(a) + 1 == len(c)
    assert b.sum() == pytest.approx(1, abs=1e-15) and a.sum() == pytest.approx(1, abs=1e-15) and c[-1] == 1.0
    np.testing.assert_array_equal(b, b[::-1])
    np.testing.assert_array_equal(a, a[::-1])
    if table is BLANES_MOAN:
        assert b @ c**2 == pytest.approx(1 / 3, abs=2e-15)
        assert a @ np.cumsum(b)[:-1] ** 2 == pytest.approx(1 / 3, abs=2e-15)


def test_the_kick_is_the_exact_flow_of_friction():
    """u' = F - kappa u, backwards in time too, and for a friction too weak to be felt."""
    for kappa, length in [(0.7, 0.3), (0.7, -0.3), (1.0, 30.0), (1e-13, 0.4)]:
        keep, push = friction_kick(length, kappa)
        assert keep == pytest.approx(math.exp(-kappa * length), rel=1e-15)
        assert push == pytest.approx(-math.expm1(-kappa * length) / kappa, rel=1e-15)
    assert friction_kick(0.4, 0.0) == (1.0, 0.4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gamma", [0.3, 1.0, 5.0])
def test_friction_alone_is_exact(kind, gamma):
    system = PointwiseSystem((5,), springs(0.0), gamma=gamma)
    state = system.state(1.0, velocity=0.7)
    march(kind(system), state, system.clock.theta(0.25), 12)
    np.testing.assert_allclose(state.u[0] / system.clock.scale, 0.7 * math.exp(-3.0 * gamma), rtol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gamma", [0.0, 0.4, 3.0])
def test_a_step_is_its_amplification_matrix_and_contracts_areas_by_friction_alone(kind, gamma):
    stiffness = 1.7
    system = PointwiseSystem((3,), springs(stiffness), gamma=gamma)
    h, clock = system.clock.theta(0.4), system.clock
    columns = []
    for w, u in ((1.0, 0.0), (0.0, 1.0)):
        state = system.state(w, velocity=u / clock.scale)
        march(kind(system), state, h, 1)
        columns.append([state.w[0, 1], state.u[0, 1]])
    found = np.array(columns).T
    np.testing.assert_allclose(found, kind.composition.amplification(h, clock.eps, clock.kappa, stiffness), atol=1e-14)
    assert np.linalg.det(found) == pytest.approx(math.exp(-gamma * 0.4), rel=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_time_reversal_without_friction(kind):
    rng = np.random.default_rng(0)
    w, v = rng.standard_normal((2, 7))
    system = PointwiseSystem((7,), anharmonic, gamma=0.0)
    state = system.state(w, v)
    stepper = kind(system)
    march(stepper, state, 0.2, 50)
    assert np.abs(state.w[0] - w).max() > 0.1
    state.u[...] *= -1
    stepper.reset()
    march(stepper, state, 0.2, 50)
    np.testing.assert_allclose(state.w[0], w, atol=2e-13)
    np.testing.assert_allclose(-state.u[0], v, atol=2e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_energy_does_not_drift_over_ten_thousand_steps(kind):
    """Its error stays as large as in the first periods, and falls as h^order; explicit Runge-Kutta of order 3 loses it all."""
    amplitudes = np.array([0.5, 1.0, 2.0])
    system = PointwiseSystem((3,), anharmonic, gamma=0.0)

    def deviations(h, steps):
        state, stepper, found = system.state(amplitudes), kind(system, fixed_step=h), []
        for _ in range(steps):
            assert stepper.step(state, h, LOOSE) == 0.0
            stepper.accept(state)
            energy = state.u[0] ** 2 / 2 + state.w[0] ** 2 / 2 + state.w[0] ** 4 / 4
            found.append(np.abs(energy / (amplitudes**2 / 2 + amplitudes**4 / 4) - 1))
        return np.array(found)

    found = deviations(0.1, 10_000)
    early, late = found[:1000].max(axis=0), found[-1000:].max(axis=0)
    assert (late < 1.05 * early + 1e-12).all() and (late < (0.02 if kind is Leapfrog else 2e-6)).all()
    finer = deviations(0.05, 400).max(axis=0)
    assert np.log2(found[:200].max(axis=0) / finer)[1:] == pytest.approx(kind.order, abs=0.25)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gamma", [0.0, 0.5, 8.0])
def test_stable_step(kind, gamma):
    """Bounded just below it, growing just above; for leapfrog h tanh(gamma t/2) = 2 kappa/radius in closed form."""
    radius = 30.0
    system = PointwiseSystem((2,), springs(radius), gamma=gamma)
    limit = kind(system).stable_step(radius)
    for factor, stable in ((0.99, True), (1.02, False)):
        state = system.state(1.0)
        march(kind(system, fixed_step=1.0), state, factor * limit, 400)
        assert (np.abs(state.w).max() < 1e3) == stable
    if kind is Leapfrog and gamma > 0:
        eps, kappa = system.clock.eps, system.clock.kappa
        assert limit * math.tanh(kappa * limit / eps / 2) == pytest.approx(2 * kappa / radius, rel=0.02)
    assert kind(system).stable_step(0.0) == math.inf


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 10.0])
@pytest.mark.parametrize("rtol", [1e-4, 1e-7])
def test_error_follows_the_tolerance(kind, gamma, rtol):
    """As rtol^(p/(p+1)), because the error that is controlled is that of the result itself."""
    stiffness = np.array([1.0, 0.3, 2.0])
    system = PointwiseSystem((3,), springs(stiffness), gamma=gamma)
    result = simulate(
        system, system.state(1.0, -0.4), kind(system), end=4.0, clock="t", rtol=rtol, atol=rtol, save_every=1.0, progress=False
    )
    for t, w in zip(result.t, result.w, strict=True):
        assert np.abs(w[0] - damped_mode(t, stiffness, gamma, 1.0, -0.4)[0]).max() < 3 * rtol ** (kind.order / (kind.order + 1))
    assert result.stats.rejected <= 0.1 * result.stats.steps + 2


@pytest.mark.parametrize("kind", KINDS)
def test_the_error_estimate_is_an_upper_bound_within_reach(kind):
    """Of one step of an oscillator, at phases where w''' (leapfrog) or the fifth derivative (leapfrog4) is not small."""
    system = PointwiseSystem((1,), springs(1.0), gamma=0.0)
    tolerance = Tolerance.of(0.5, 1e-3, ("w",))
    for phase in (1.0, 1.5, 2.0):
        state = system.state(math.cos(phase), -math.sin(phase))
        stepper = kind(system)
        estimate = stepper.step(state, 0.1, tolerance)
        larger = max(abs(math.cos(phase)), abs(stepper._proposal.w[0, 0]))
        error = abs(stepper._proposal.w[0, 0] - math.cos(phase + 0.1)) / (1e-3 + 0.5 * larger)
        assert 0.8 * error < estimate < 30 * error


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("z", [0.3, 1.0, 4.0])
def test_the_error_estimate_of_modes_slowed_down_by_friction(kind, z):
    """Both modes of an overdamped oscillator, kappa h/eps = z: never below half of the error of w.

    leapfrog takes twelve times the error without friction, and what friction slows down errs less.
    """
    most = 50 if kind is Leapfrog else 30
    h, stiffness = z, (0.1 / z) ** 2
    exact = expm(h * np.array([[0.0, 1.0], [-stiffness, -1.0]]))
    system = PointwiseSystem((1,), springs(stiffness), gamma=1.0)
    for w, u in np.linalg.eig(exact)[1].T:
        state, stepper = system.state(w, u), kind(system)
        estimate = stepper.step(state, h, Tolerance.of(1e-14, 1.0, ("w",)))
        error = abs(stepper._proposal.w[0, 0] - exact[0] @ [w, u])
        assert 0.5 * error < estimate < most * error


@pytest.mark.parametrize("kind", KINDS)
def test_dense_output(kind):
    """Of the order of the method, w and u, within one step."""
    system = PointwiseSystem((2,), anharmonic, gamma=0.3)
    errors = []
    for h in (0.2, 0.1):
        state, stepper, between = system.state(1.0, 0.4), kind(system), system.state(0.0)
        worst = 0.0
        for _ in range(round(2.0 / h)):
            march(stepper, state, h, 1)
            fine, mover = stepper._proposal.copy(), Leapfrog4(system)
            fine.t = state.t - h
            march(mover, fine, h / 40, 10)
            stepper.interpolate(state, 0.25, between)
            assert between.t == pytest.approx(fine.t)
            worst = max(worst, np.abs(between.w - fine.w).max(), np.abs(between.u - fine.u).max())
        errors.append(worst)
    assert np.log2(errors[0] / errors[1]) > kind.order - 0.15


@pytest.mark.parametrize("kind", KINDS)
def test_forces_a_step(kind):
    system = PointwiseSystem((4,), anharmonic, gamma=0.3)
    state, stepper = system.state(1.0), kind(system)
    march(stepper, state, 0.1, 10)
    assert system.calls == stepper.force_evaluations == 1 + 10 * FORCES[kind]
    kept = stepper.force(state).w.copy()
    assert system.calls == 1 + 10 * FORCES[kind]
    np.testing.assert_allclose(kept, -state.w - state.w**3, rtol=1e-14)


def test_kicks_and_drifts_in_one_sweep():
    """Where the system offers it, the same to rounding, with as many forces counted."""
    action = sft.Action(["w"], "grad2(w)/20 + w**4/4", friction=sft.Friction(gamma=0.7))
    system = sft.discretise(action, sft.Grid(shape=(24, 40), length=(2.4, 4.0)))
    rng, ends, counts = np.random.default_rng(5), [], []
    w, v = rng.standard_normal((2, 24, 40))
    for sweep in (system.kick_drift, None):
        state, stepper = system.state({"w": w}, {"w": v}), Leapfrog4(system)
        assert system.kick_drift(state.copy(), 1.0, 0.0, 0.0)
        stepper._one_sweep = sweep
        march(stepper, state, 0.02, 10)
        ends.append((state.w.copy(), state.u.copy()))
        counts.append(stepper.force_evaluations)
    np.testing.assert_allclose(ends[0][0], ends[1][0], rtol=0, atol=1e-13)
    np.testing.assert_allclose(ends[0][1], ends[1][1], rtol=0, atol=1e-12)
    assert counts == [61, 61]


def test_a_gradient_flow_has_nothing_to_kick():
    system = PointwiseSystem((4,), anharmonic, dynamics="gradient-flow")
    for kind in KINDS:
        with pytest.raises(ConfigError, match="velocities") as raised:
            kind(system)
        assert "damped" in str(raised.value) and "rkc2" in str(raised.value)


@pytest.mark.parametrize("step", [0.0, -1.0, math.inf, math.nan, "1"])
def test_bad_fixed_step(step):
    with pytest.raises(ConfigError, match="fixed step"):
        Leapfrog(PointwiseSystem((4,), anharmonic, gamma=0.0), fixed_step=step)


def test_friction_far_too_strong_for_a_negative_kick_is_turned_down():
    system = PointwiseSystem((4,), springs([1.0]), gamma=1e4)
    stepper, state = Leapfrog4(system), system.state(1.0)
    assert not stepper.step(state, 1.0, TIGHT) <= 1.0


def test_stable_step_where_friction_varies():
    """That of the friction at the time reached."""
    action = sft.Action(fields=["w"], cost="w**2/2", friction=sft.Friction(schedule=lambda t: 0.1 * (1.0 + t)))
    for kind in KINDS:
        made = sft.discretise(action, sft.Grid(shape=(4,), length=(1.0,)))
        stepper, state = kind(made), made.state({"w": 1.0}, t=3.0)
        stepper.step(state, 1e-6, TIGHT)
        fixed = sft.Action(fields=["w"], cost="w**2/2", friction=sft.Friction(gamma=2.5))
        wanted = kind(sft.discretise(fixed, sft.Grid(shape=(4,), length=(1.0,)))).stable_step(1.0)
        assert stepper.stable_step(1.0) == pytest.approx(wanted, rel=1e-2)


def test_strong_friction_is_slow_and_not_wrong():
    """Kicks backwards would amplify what friction has left: steps that let them are turned down."""
    problem = PointwiseSystem((3,), springs(1.0), gamma=100.0)
    result = simulate(problem, problem.state(1.0), "leapfrog4", end=0.1, rtol=1e-6, progress=False)
    exact = damped_mode(10.0, 1.0, 100.0, 1.0, 0.0)[0]
    assert np.abs(result.w[-1] - exact).max() < 5e-5
