"""The recursions of machine learning against the same in plain NumPy, and what a run in fixed steps asks for."""

import math

import numpy as np
import pytest
from linear_systems import PointwiseSystem, springs

import sftsolve as sft
from sftsolve.errors import ConfigError, StepError
from sftsolve.simulation import simulate
from sftsolve.stepping import FixedSteps, make_stepper, whole_steps
from sftsolve.stepping.symplectic import Leapfrog

CELLS, SPACING = 24, 0.25
DATA = np.random.default_rng(3).standard_normal((6, CELLS))
START = np.random.default_rng(4).standard_normal(CELLS)
GRID = sft.Grid(shape=(CELLS,), length=(CELLS * SPACING,))
QUIET = {"progress": False}


def gradient(w, target):
    """dC/dw of C = sum h [ |w_x|^2/20 + w^4/4 - J w ], on the ring."""
    return -0.1 * (np.roll(w, 1) - 2 * w + np.roll(w, -1)) / SPACING**2 + w**3 - target


def theory(friction, target=None, dynamics="gradient-flow"):
    action = sft.Action(
        fields=["w"],
        cost="D/2*grad2(w) + w**4/4 - J*w",
        parameters={"D": 0.1},
        sources={"J": DATA[0] if target is None else target},
        friction=friction,
    )
    return sft.discretise(action, GRID, dynamics=dynamics)


def descended(steps, rates, targets=None):
    """All iterates of w <- w - rate_n gradient, (steps + 1, CELLS)."""
    found = [START]
    for n in range(steps):
        found.append(found[-1] - rates[n] * gradient(found[-1], DATA[0] if targets is None else targets[n]))
    return np.array(found)


@pytest.mark.parametrize("eta", [0.05, 0.003])
def test_descent_is_the_recursion(eta):
    system = theory(sft.Friction(eta=eta))
    result = simulate(system, system.state({"w": START}), "descent", end=40, clock="t", save_every=1, **QUIET)
    np.testing.assert_allclose(result.w[:, 0], descended(40, [eta] * 40), rtol=0, atol=1e-14)
    assert result.stats.steps == 40 and result.stats.rejected == 0
    assert result.stats.force_evaluations == 41  # one a step, and that of the last snapshot
    np.testing.assert_allclose(result.tau, eta * result.t, rtol=1e-12)


def test_descent_with_a_learning_rate_schedule():
    """eta(n) at the start of step n, whatever the schedule does within the step."""

    def eta(t):
        return 0.05 / (1 + t / 20)

    system = theory(sft.Friction(schedule=eta))
    result = simulate(system, system.state({"w": START}), "descent", end=60, clock="t", save_every=20, **QUIET)
    expected = descended(60, [eta(n) for n in range(60)])[::20]
    np.testing.assert_allclose(result.w[:, 0], expected, rtol=0, atol=1e-13)
    assert result.stats.steps == 60


def test_descent_with_rates_that_fall_in_steps():
    law = {"kind": "step", "eta": 0.05, "factor": 0.5, "every": 10}
    system = theory(sft.Friction(schedule=law))
    result = simulate(system, system.state({"w": START}), "descent", end=35, clock="t", **QUIET)
    np.testing.assert_allclose(
        result.w[-1, 0], descended(35, [0.05 * 0.5 ** (n // 10) for n in range(35)])[-1], rtol=0, atol=1e-14
    )


def test_descent_with_mini_batches_at_every_step():
    batches = sft.MiniBatches(DATA, 2, every=1.0, seed=7)
    system = theory(sft.Friction(eta=0.05), target=batches)
    targets = [system.action.sources_at(GRID, t=float(n))["J"] for n in range(30)]
    assert len({target.tobytes() for target in targets}) > 10
    result = simulate(system, system.state({"w": START}), "descent", end=30, clock="t", **QUIET)
    np.testing.assert_allclose(result.w[-1, 0], descended(30, [0.05] * 30, targets)[-1], rtol=0, atol=1e-14)
    assert result.stats.steps == 30


def test_descent_agrees_with_the_networks_training():
    network = sft.network.ring_perceptron(*np.random.default_rng(0).standard_normal((2, 3, 8)), spacing=0.5)
    w = 0.3 * np.random.default_rng(1).standard_normal(network.shape)
    trained = network.train(w, learning_rate=0.02, steps=25)

    def force(weights, t, out):
        out[...] = -network.gradient(weights)

    system = PointwiseSystem(w.shape[1:], force, gamma=50.0, dynamics="gradient-flow")
    result = simulate(system, system.state(w), "descent", end=25, clock="t", **QUIET)
    np.testing.assert_allclose(result.w[-1], trained, rtol=0, atol=1e-14)


def with_momentum(steps, eta, beta, nesterov, targets=None):
    """All iterates of the recursion of torch.optim.SGD (dampening 0, empty buffer), (steps + 1, CELLS)."""
    w, buffer, found = START, np.zeros(CELLS), [START]
    for n in range(steps):
        g = gradient(w, DATA[0] if targets is None else targets[n])
        buffer = beta * buffer + g
        w = w - eta * (g + beta * buffer if nesterov else buffer)
        found.append(w)
    return np.array(found)


MOMENTA = [("heavy-ball", 0.0), ("heavy-ball", 0.5), ("heavy-ball", 0.9), ("nesterov", 0.5), ("nesterov", 0.9)]


@pytest.mark.parametrize(("method", "beta"), MOMENTA)
def test_descent_with_momentum_is_the_recursion(method, beta):
    """From the state that the system makes, whose velocity is that of an empty buffer."""
    eta, ahead = 0.02, method == "nesterov"
    system = theory(sft.Friction.matching_descent(eta, momentum=beta, nesterov=ahead), dynamics="damped")
    state = system.state({"w": START})
    assert np.abs(state.u).max() > 0.01
    result = simulate(system, state, method, end=40 * eta / (1 - beta), save_every=eta / (1 - beta), **QUIET)
    np.testing.assert_allclose(result.w[:, 0], with_momentum(40, eta, beta, ahead), rtol=0, atol=2e-14)
    assert result.stats.steps == 40 and result.stats.force_evaluations == 41


@pytest.mark.parametrize(("method", "beta"), MOMENTA)
def test_momentum_with_mini_batches_at_every_step(method, beta):
    """The buffer does not notice that the force jumps."""
    eta, ahead = 0.02, method == "nesterov"
    friction = sft.Friction.matching_descent(eta, momentum=beta, nesterov=ahead)
    a_step = eta / (1 - beta) * friction.gamma(1)
    system = theory(friction, target=sft.MiniBatches(DATA, 2, every=a_step, seed=7), dynamics="damped")
    targets = [system.action.sources_at(GRID, t=(n + 0.5) * a_step)["J"] for n in range(30)]
    result = simulate(system, system.state({"w": START}), method, end=30 * a_step, clock="t", **QUIET)
    np.testing.assert_allclose(result.w[-1, 0], with_momentum(30, eta, beta, ahead, targets)[-1], rtol=0, atol=2e-14)


def test_a_run_with_momentum_goes_on_where_it_stopped():
    """The velocity of the state is the buffer: a fresh stepper takes it up."""
    system = theory(sft.Friction.matching_descent(0.02, momentum=0.8), dynamics="damped")
    state = system.state({"w": START})
    for end in (1.0, 2.0):
        result = simulate(system, state, "heavy-ball", end=end, **QUIET)
    np.testing.assert_allclose(result.w[-1, 0], with_momentum(20, 0.02, 0.8, False)[-1], rtol=0, atol=2e-14)
    last = np.diff(with_momentum(20, 0.02, 0.8, False), axis=0)[-1]
    np.testing.assert_allclose(state.u[0] * system.clock.theta(system.clock.t_of_tau(0.1)), last, rtol=0, atol=1e-13)


def test_heavy_ball_follows_the_damped_theory_to_second_order():
    """The same system stepped by another method; at fixed momentum, for ever smaller learning rates."""
    errors = []
    for eta in (0.004, 0.002):
        system = theory(sft.Friction.matching_descent(eta, momentum=0.5), dynamics="damped")
        ends = [
            simulate(system, system.state({"w": START}), method, end=0.8, rtol=1e-9, atol=1e-10, **QUIET).w[-1]
            for method in ("heavy-ball", "tsit5")
        ]
        errors.append(np.abs(ends[0] - ends[1]).max())
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.2)


def test_momentum_needs_a_friction_that_matches():
    plain = sft.Friction(gamma=10.0)
    ahead = sft.Friction.matching_descent(0.1, momentum=0.9, nesterov=True)
    for method, friction, dynamics in [
        ("heavy-ball", plain, "damped"),
        ("nesterov", plain, "damped"),
        ("heavy-ball", ahead, "damped"),
        ("nesterov", ahead, "gradient-flow"),
    ]:
        with pytest.raises(ConfigError, match="damped theory that follows it") as raised:
            make_stepper(method, theory(friction, dynamics=dynamics))
        assert ("nesterov=True" in str(raised.value)) or method == "heavy-ball"


# --- runs in fixed steps


@pytest.mark.parametrize(
    ("times", "what", "near"),
    [
        ({"end": 7.5}, "end", "7 or 8"),
        ({"end": 0.5}, "end", "t = 1"),
        ({"end": 8, "save_every": 1.5}, "a time to save at", "1 or 2"),
    ],
)
def test_times_within_a_step_are_refused(times, what, near):
    system = PointwiseSystem((3,), springs(1.0), gamma=10.0, dynamics="gradient-flow")
    with pytest.raises(ConfigError, match=f"{what} is not a whole number of steps") as raised:
        simulate(system, system.state(1.0), "descent", clock="t", **times, **QUIET)
    assert near in str(raised.value)
    assert system.calls == 0


def test_the_message_speaks_the_users_clock():
    system = PointwiseSystem((3,), springs(1.0), gamma=10.0, dynamics="gradient-flow")
    with pytest.raises(ConfigError, match="whole number") as raised:
        simulate(system, system.state(1.0), "descent", end=0.25, clock="tau", **QUIET)
    assert "tau = 0.2 or 0.3" in str(raised.value) and "2.5 steps" in str(raised.value)


def test_whole_steps():
    assert whole_steps(3.0, 0.1) == 30
    assert whole_steps(0.1 + 0.2, 0.1) == 3
    assert whole_steps(1e6 * 0.1, 0.1) == 10**6
    with pytest.raises(ConfigError, match="end"):
        whole_steps(3.001, 0.1)


def test_a_diverging_descent_ends_with_its_last_good_state():
    system = PointwiseSystem((3,), lambda w, t, out: np.copyto(out, -(w**3)), gamma=1.0, dynamics="gradient-flow")
    with np.errstate(over="ignore", invalid="ignore"), pytest.raises(StepError, match="not finite") as raised:
        simulate(system, system.state(3.0), "descent", end=40, clock="t", **QUIET)
    assert np.isfinite(raised.value.result.w[-1]).all() and len(raised.value.result.t) == 2


def test_a_damped_theory_has_no_descent():
    with pytest.raises(ConfigError, match="gradient flow") as raised:
        make_stepper("descent", PointwiseSystem((3,), springs(1.0), gamma=10.0))
    assert "matching_descent" in str(raised.value)


def test_leapfrog_in_fixed_steps():
    """The loop changes nothing of them; snapshots need not fall on their ends, the end of the run must."""
    system = PointwiseSystem((3,), springs(1.0), gamma=0.0)
    run = {"clock": "t", "rtol": 1e-10, **QUIET}
    result = simulate(system, system.state(1.0), Leapfrog(system, fixed_step=0.1), end=5.0, save_at=[0.123, 2.0], **run)
    assert result.stats.steps == 50 and result.stats.rejected == 0
    frequency = 2 * math.asin(0.05) / 0.1
    np.testing.assert_allclose(result.w[2:, 0, 0], np.cos(frequency * result.t[2:]), atol=1e-12)
    assert result.w[1, 0, 0] == pytest.approx(math.cos(frequency * 0.123), abs=1e-5)
    with pytest.raises(ConfigError, match="end is not a whole"):
        simulate(system, system.state(1.0), Leapfrog(system, fixed_step=0.1), end=5.05, **run)


@pytest.mark.parametrize("eta", [0.003, 0.0175714, 0.02])
def test_rounding_of_many_fixed_steps_does_not_add_up(eta):
    clock = sft.Friction.matching_descent(eta, momentum=0.9).clock(1, "damped")
    length, steps = 10 * eta * clock.gamma, 20_000
    state = theory(sft.Friction(gamma=1.0)).state({"w": 0.0})
    fixed, theta = FixedSteps(clock, state, length), 0.0
    for number in range(1, steps + 1):
        theta += fixed.step
        state.t, state.step = clock.t(theta), number
    assert theta == pytest.approx(clock.theta(steps * length), rel=1e-15)


def test_fixed_steps_are_not_blamed_on_the_tolerance(caplog):
    system = theory(sft.Friction(gamma=100.0))
    simulate(system, system.state({"w": 0.0}), "descent", end=25_000.0, clock="t", **QUIET)
    assert not caplog.records
