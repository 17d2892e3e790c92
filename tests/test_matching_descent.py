"""The damped theory that follows gradient descent, against descent itself on a small network."""

import numpy as np
import pytest
from small_network import SmallNetwork

import sftsolve as sft
from sftsolve.errors import ConfigError
from sftsolve.friction import Descent

NETWORK = SmallNetwork()
SETTINGS = {"clock": "tau", "method": "tsit5", "rtol": 1e-9, "atol": 1e-11, "progress": False}


def descend(descent, steps):
    """Gradient descent as machine learning writes it, from the network's start with a buffer of zero."""
    w, before = NETWORK.start(), NETWORK.start()
    for _ in range(steps):
        ahead = w + descent.momentum * (w - before) if descent.nesterov else w
        w, before = w + descent.momentum * (w - before) + descent.eta * NETWORK.force(ahead), w
    return w


def theory(friction, end, dynamics="damped", velocity=None):
    action, grid = NETWORK.problem(gamma=1.0)
    action.friction = friction
    return sft.solve(action, grid, {"w": NETWORK.start()}, velocity, end=end, dynamics=dynamics, **SETTINGS).w[-1, 0]


def errors(momentum, nesterov, etas, **options):
    found = []
    for eta in etas:
        friction = sft.Friction.matching_descent(eta, momentum, nesterov)
        steps = round(4.0 / friction.descent.dtau)
        end = steps * friction.descent.dtau
        found.append(np.abs(theory(friction, end, **options) - descend(friction.descent, steps)).max())
    return np.array(found)


def slopes(found):
    return np.log2(found[:-1] / found[1:])


@pytest.mark.parametrize(
    ("momentum", "nesterov", "etas"),
    [
        (0.0, False, (0.1, 0.05, 0.025)),
        (0.5, False, (0.02, 0.01, 0.005)),
        (0.5, True, (0.04, 0.02, 0.01)),
        (0.9, True, (0.001, 0.0005)),
    ],
)
@pytest.mark.parametrize("dynamics", ["damped", "slow-manifold"])
def test_second_order(momentum, nesterov, etas, dynamics):
    found = errors(momentum, nesterov, etas, dynamics=dynamics)
    assert slopes(found) == pytest.approx(2.0, abs=0.15) and found[-1] < 2e-4


def test_first_order_without_the_starting_velocity():
    found = errors(0.0, False, (0.1, 0.05, 0.025), velocity={"w": 0.0})
    assert slopes(found) == pytest.approx(1.0, abs=0.15)


def test_first_order_with_gamma_one_over_eta():
    found = []
    for eta in (0.05, 0.025, 0.0125):
        steps = round(4.0 / eta)
        found.append(np.abs(theory(sft.Friction(eta=eta), steps * eta) - descend(Descent(eta), steps)).max())
    assert slopes(np.array(found)) == pytest.approx(1.0, abs=0.15)


def test_first_order_without_nesterov_s_term():
    found = []
    for eta in (0.04, 0.02, 0.01):
        steps = round(4.0 / (2 * eta))
        heavy = theory(sft.Friction.matching_descent(eta, 0.5), steps * 2 * eta)
        found.append(np.abs(heavy - descend(Descent(eta, 0.5, True), steps)).max())
    assert slopes(np.array(found)) == pytest.approx(1.0, abs=0.15)


def test_numbers_of_a_descent():
    friction = sft.Friction.matching_descent(0.1, momentum=0.9, nesterov=True)
    descent = friction.descent
    assert (descent.eta, descent.momentum, descent.nesterov) == (0.1, 0.9, True)
    assert descent.dtau == pytest.approx(1.0) and descent.eps == pytest.approx(0.1 * 1.9 / 0.02)
    assert descent.start == pytest.approx(0.1 / 1.9) and descent.hessian == pytest.approx(0.9)
    assert friction.gamma(2) == pytest.approx(descent.eps**-0.5)
    assert sft.Friction.matching_descent(0.02).gamma(1) == pytest.approx(10.0) and sft.Friction(gamma=1.0).descent is None
    assert repr(friction) == "Friction.matching_descent(eta=0.1, momentum=0.9, nesterov=True)"


def test_starting_velocity():
    action, grid = NETWORK.problem(gamma=1.0)
    action.friction = sft.Friction.matching_descent(0.02, momentum=0.5)
    system = sft.discretise(action, grid)
    state = system.state({"w": NETWORK.start()})
    # u = scale w_t, w_t = w_tau / gamma and w_tau = F / 3.
    w_tau = state.u[0] / system.clock.scale * system.clock.gamma
    assert np.allclose(w_tau, NETWORK.force(NETWORK.start()) / 3, rtol=1e-14)
    assert np.array_equal(system.state({"w": 0.5}, {"w": 2.0}).u[0], np.full(8, 2.0 * system.clock.scale))


@pytest.mark.parametrize(
    "given",
    [
        {"eta": 0.0},
        {"eta": -1.0},
        {"eta": "0.1"},
        {"eta": 0.1, "momentum": 1.0},
        {"eta": 0.1, "momentum": -0.1},
        {"eta": 0.1, "momentum": True},
        {"eta": 0.1, "nesterov": True},
        {"eta": 0.1, "momentum": 0.5, "nesterov": 1},
    ],
)
def test_what_is_refused(given):
    with pytest.raises(ConfigError) as caught:
        sft.Friction.matching_descent(**given)
    assert "expected:" in str(caught.value) and "given:" in str(caught.value)
