"""dynamics="slow-manifold": the gradient flow with what inertia adds, against the damped equation."""

import math

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from small_network import SmallNetwork

import sftsolve as sft
from sftsolve.errors import ConfigError

NETWORK = SmallNetwork()
TIGHT = {"method": "tsit5", "rtol": 1e-9, "atol": 1e-11, "progress": False}


def run(action, grid, dynamics, initial, velocity=None, **options):
    return sft.solve(action, grid, initial, velocity, dynamics=dynamics, **TIGHT, **options)


def slopes(found):
    return np.log2(np.array(found[:-1]) / np.array(found[1:]))


@pytest.mark.parametrize("speed", [0.0, np.linspace(-1, 1, 8)], ids=["at rest", "thrown"])
def test_orders_two_and_four(speed):
    found = {"gradient-flow": [], "slow-manifold": []}
    for eta in (0.2, 0.1, 0.05):
        action, grid = NETWORK.problem(eta=eta)
        velocity = {"w": eta * speed}
        damped = run(action, grid, "damped", {"w": NETWORK.start()}, velocity, end=2.0).w[-1]
        for dynamics, errors in found.items():
            start = velocity if dynamics == "slow-manifold" else None
            errors.append(np.abs(run(action, grid, dynamics, {"w": NETWORK.start()}, start, end=2.0).w[-1] - damped).max())
    assert slopes(found["gradient-flow"]) == pytest.approx(2.0, abs=0.15)
    assert slopes(found["slow-manifold"]) == pytest.approx(4.0, abs=0.15)


def forced(eta):
    """A field pushed about by a source that moves in training time, cos(3 tau)."""
    grid = sft.Grid(shape=(10,), length=(2.0,))
    sources = {"J": "2*cos(3*rate*t)*cos(pi*x)"}
    action = sft.Action(["w"], "0.05*grad2(w) + w**4/4 + w**2/2 - J*w", {"rate": eta}, sources, friction=sft.Friction(eta=eta))
    return action, grid


def test_a_force_that_depends_on_time():
    errors = []
    for eta in (0.2, 0.1, 0.05):
        action, grid = forced(eta)
        start = {"w": "1 + sin(pi*x)"}
        damped = run(action, grid, "damped", start, {"w": 0.0}, end=2.0).w[-1]
        errors.append(np.abs(run(action, grid, "slow-manifold", start, {"w": 0.0}, end=2.0).w[-1] - damped).max())
    assert slopes(errors) == pytest.approx(4.0, abs=0.2)


def test_the_velocity_is_that_of_the_slow_manifold():
    """result.v against the damped equation's after the layer: error O(eta^4) of w_tau, so O(eta^5) of w_t."""
    action, grid = forced(0.05)
    damped, slow = (run(action, grid, name, {"w": 1.0}, {"w": 0.0}, end=1.5) for name in ("damped", "slow-manifold"))
    assert np.allclose(slow.v[-1], damped.v[-1], atol=0.05 * 2e-4)
    assert np.abs(damped.v[-1]).max() > 0.05 * 0.1


def test_without_a_velocity_it_starts_on_the_manifold():
    action, grid = NETWORK.problem(eta=0.1)
    system = sft.discretise(action, grid, dynamics="slow-manifold")
    still, given = system.state({"w": NETWORK.start()}), system.state({"w": NETWORK.start()}, {"w": 0.3})
    assert np.array_equal(still.w[0], NETWORK.start()) and still.u is None and given.u is None
    shifted = NETWORK.start() + 0.1 * (0.3 - 0.1 * NETWORK.force(NETWORK.start()))
    assert np.allclose(given.w[0], shifted, rtol=1e-14)


def test_it_is_the_flow_of_another_cost():
    """F - eta^2 F'[F] = -grad(C + eta^2 |grad C|^2 / 2) for a constant eta; the system's `force` stays that of C."""
    action, grid = NETWORK.problem(eta=0.3)
    system = sft.discretise(action, grid, dynamics="slow-manifold")
    state = system.state({"w": NETWORK.start()})
    out = state.like()
    system.force_into(state, out)
    w, h = NETWORK.start(), 1e-5

    def cost(w):
        return system.cost(w[None]) + 0.3**2 / 2 * np.sum(NETWORK.force(w) ** 2)

    gradient = [(cost(w + h * e) - cost(w - h * e)) / (2 * h) for e in np.eye(8)]
    assert np.allclose(out.w[0], -np.array(gradient), atol=1e-9)
    assert np.allclose(system.force(w[None])[0], NETWORK.force(w), rtol=1e-14)
    assert not np.allclose(out.w[0], NETWORK.force(w), rtol=1e-3)


def test_a_learning_rate_that_varies():
    """w_t = eta (F - d eta/dt F - eta^2 F'[F]) against the damped equation, both by SciPy, eta a function of s t: order 4."""
    errors = []
    for s in (0.2, 0.1, 0.05):
        end = 2.0 / s

        def eta(t, s=s):
            return s * (1 + 0.5 * math.sin(2 * s * t))

        action, grid = NETWORK.problem(schedule=eta)
        system = sft.discretise(action, grid, dynamics="slow-manifold")
        state = system.state({"w": NETWORK.start()}, {"w": 0.0})
        out = state.like()

        def slow(t, w, system=system, state=state, out=out, eta=eta):
            state.w[0] = w
            system.force_into(state, out, t)
            return eta(t) * out.w[0]

        def damped(t, y, eta=eta):
            return np.concatenate([y[8:], NETWORK.force(y[:8]) - y[8:] / eta(t)])

        exact = solve_ivp(damped, (0, end), np.concatenate([NETWORK.start(), np.zeros(8)]), "DOP853", rtol=1e-11, atol=1e-12)
        found = solve_ivp(slow, (0, end), state.w[0].copy(), "DOP853", rtol=1e-11, atol=1e-12)
        errors.append(np.abs(found.y[:, -1] - exact.y[:8, -1]).max())
    assert slopes(errors) == pytest.approx(4.0, abs=0.2)


def test_jumps_of_friction_and_force():
    """Behind a jump of eta or of the force the damped field takes a new initial layer; the manifold steps over it."""
    errors = []
    for eta in (0.2, 0.1, 0.05):
        schedule = {"kind": "step", "eta": eta, "at": [0.3 / eta], "factor": 0.5}
        action, grid = forced(eta)
        batches = sft.MiniBatches(np.array([np.zeros(10), np.full(10, 2.0)]), 1, every=0.6 / eta, seed=None)
        action = sft.Action(["w"], action.cost, action.parameters, {"J": batches}, friction=sft.Friction(schedule=schedule))
        damped, slow = (run(action, grid, name, {"w": 1.0}, {"w": 0.0}, end=1.3) for name in ("damped", "slow-manifold"))
        errors.append(np.abs(slow.w[-1] - damped.w[-1]).max())
    assert slopes(errors) == pytest.approx(4.0, abs=0.2)


def test_no_friction_is_refused():
    action, grid = NETWORK.problem(gamma=0.0)
    with pytest.raises(ConfigError, match="slow manifold needs friction"):
        sft.discretise(action, grid, dynamics="slow-manifold")


def test_radius_of_the_corrected_force():
    """-lambda - eta^2 lambda^2 for the stiffest mode, so that steps are predicted well."""
    grid = sft.Grid(shape=(8,), length=(8.0,))
    action = sft.Action(["w"], "D/2*grad2(w)", {"D": 0.5}, friction=sft.Friction(eta=0.5))
    system = sft.discretise(action, grid, dynamics="slow-manifold")
    assert system.spectral_radius(system.state({"w": 0.0}), 100) == pytest.approx(2.0 + 0.25 * 4.0, rel=1e-3)


def test_nothing_is_allocated(monkeypatch):
    action, grid = forced(0.1)
    system = sft.discretise(action, grid, dynamics="slow-manifold")
    state = system.state({"w": 1.0})
    out = state.like()
    system.force_into(state, out, 0.4)
    monkeypatch.setattr(type(system.layout), "zeros", lambda *_: pytest.fail("an array was made"))
    system.force_into(state, out, 0.5)
