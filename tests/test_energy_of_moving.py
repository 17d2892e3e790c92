"""The power dC/dt of what changes in time by itself, and the balance of energy with it."""

import numpy as np
import pytest

import sftsolve as sft
from sftsolve.simulation import simulate
from sftsolve.simulation.audit import EnergyAudit

LINE = sft.Grid(shape=(32,), length=(1.0,))
PLANE = sft.Grid(shape=(12, 14), length=(1.0, 2.0))
RANDOM = np.random.default_rng(0).standard_normal((6, 32))
TIMES = np.linspace(0.0, 2.0, 6)
WALLED = {
    "x": {"lower": {"value": "cos(3*t)*y"}, "upper": {"derivative": "sin(2*t+y)"}},
    "y": {"lower": {"value": "cos(t)"}, "upper": {"mixed": "2 + t*x", "const": "t**2"}},
}
FRICTION = sft.Friction(gamma=2.0)


def walled(conditions, shape=(10, 12)):
    return sft.Grid(shape=shape, length=(1.0,) * len(shape), boundary=conditions)


def kernels():
    near = "exp(-r**2/0.02)"
    sums = sft.Modulated("w", "w", RANDOM[:2], near, amplitude="cos(t)")
    return [sft.Convolution("w", "w", near, amplitude="1 + t**2", method="fft"), sums]


CASES = {
    "sources": (PLANE, "K*grad2(w)/2 + J*w + t*d(w**3,x)*d(w,y)", {"K": "2 + sin(t*x + t*t*y)", "J": "exp(-t)*cos(pi*x)"}, {}),
    "linear series": (LINE, "grad2(w)/2 - J*w", {"J": sft.TimeSeries(TIMES, RANDOM)}, {}),
    "cubic series": (LINE, "grad2(w)/2 - J*w", {"J": sft.TimeSeries(TIMES, RANDOM, interpolation="cubic")}, {}),
    "redshift": (PLANE, "grad2(w)/2 + w**4/4", {}, {"friction": sft.FLRW(hubble=0.5)}),
    "power law": (PLANE, "grad2(w)/2 + w**4/4", {}, {"friction": sft.FLRW(power=0.5, t0=1.0)}),
    "expansion": (PLANE, "grad2(w)/2 + w**4/4", {}, {"friction": sft.FLRW(scale_factor=lambda t: (1.0 + t) ** 0.7)}),
    "amplitudes": (LINE, "grad2(w)/2", {}, {"kernels": kernels()}),
    "walls": (walled(WALLED), "(1 + J)*grad2(w)/2 + w**4/4", {"J": "x*t"}, {"friction": sft.FLRW(hubble=0.3)}),
}


@pytest.mark.parametrize("case", CASES)
def test_power_is_the_slope_of_the_cost(case):
    grid, cost, sources, more = CASES[case]
    check_power(sft.discretise(sft.Action(fields=["w"], cost=cost, sources=sources, **({"friction": FRICTION} | more)), grid))


@pytest.mark.parametrize("dynamics", ["damped", "gradient-flow"])
def test_power_of_walls_of_order_4(dynamics):
    """Their energies hold b_tt + gamma b_t."""
    grid = walled({"x": {"lower": {"value": "cos(3*t)*y"}, "upper": {"derivative": "sin(2*t+y)"}}})
    friction = sft.Friction(schedule=lambda t: 1.0 / (1.0 + t))
    action = sft.Action(fields=["w"], cost="grad2(w)/2 + w**4/4", friction=friction)
    check_power(sft.discretise(action, grid, order=4, dynamics=dynamics), rtol=1e-6)


def check_power(system, rtol=3e-8):
    t, h = 0.37, 2e-3
    state = system.state({"w": np.random.default_rng(1).standard_normal(system.grid.shape)}, t=t)
    system.enter(t)
    costs = [system.cost_of(state, t + step * h) for step in (-2, -1, 1, 2)]
    expected = (8.0 * (costs[2] - costs[1]) - (costs[3] - costs[0])) / (12.0 * h)
    assert system.power_of(state) == pytest.approx(expected, rel=rtol)


def driven(gamma, frequency=2.0):
    """w_tt + gamma w_t + w = cos(f t)."""
    sources, friction = {"J": "cos(f*t)"}, sft.Friction(gamma=gamma)
    action = sft.Action(fields=["w"], cost="w**2/2 - J*w", parameters={"f": frequency}, sources=sources, friction=friction)
    return sft.discretise(action, sft.Grid(shape=(8,), length=(1.0,)))


def balance_of_exact(steps, gamma):
    """Of the steady motion w = Re A exp(2 i t), A = 1/(1 - 4 + 2 i gamma), seen at the ends of even steps of [0, 3]."""
    system = driven(gamma)
    scale, amplitude = system.clock.scale, 1.0 / complex(-3.0, 2.0 * gamma)

    def at(t):
        wave = amplitude * np.exp(2j * t)
        return system.state({"w": wave.real}, {"w": (2j * wave).real}, t)

    state = at(0.0)
    audit = EnergyAudit(system, None, state)
    thetas = np.linspace(0.0, 3.0, steps + 1) / scale
    for theta, end in zip(thetas[:-1], thetas[1:], strict=True):
        audit.begin(state, theta, end - theta)
        state = at(end * scale)
        audit.end(state, end)
    return audit.residual(state, thetas[-1]), audit


@pytest.mark.parametrize("gamma", [0.0, 0.7, 5.0])
def test_the_exact_motion_of_a_driven_oscillator_balances(gamma):
    (coarse, _), (fine, audit) = balance_of_exact(24, gamma), balance_of_exact(48, gamma)
    assert fine < 5e-8
    assert coarse / fine > 64.0  # order six at least
    # int dC/dt = int 2 sin(2 t) w over [0, 3]
    a = 1.0 / complex(-3.0, 2.0 * gamma)
    gained = 2.0 * (a.real * (1 - np.cos(12.0)) / 8.0 - a.imag * (1.5 - np.sin(12.0) / 8.0))
    assert audit.gained == pytest.approx(gained, rel=1e-5)


def run(method, cost="D/2*grad2(w) + w**4/4 - w**2/2 - J*w", sources=None, gamma=1.0, rtol=1e-7, dynamics="damped", **more):
    sources = {"J": "cos(3*t)*sin(2*pi*x)"} if sources is None else sources
    friction, boundary = more.get("friction", sft.Friction(gamma=gamma)), more.get("boundary", "periodic")
    action = sft.Action(fields=["w"], cost=cost, parameters={"D": 0.02}, sources=sources, friction=friction)
    system = sft.discretise(action, sft.Grid(shape=(32,), length=(1.0,), boundary=boundary), dynamics=dynamics)
    state = system.state({"w": "0.5*sin(2*pi*x) + 0.2*cos(4*pi*x)"})
    options = {"rtol": rtol, "atol": rtol, "progress": False, "max_step": more.get("max_step")}
    found = simulate(system, state, method, end=2.0, clock="t", **options)
    return found.stats.energy_residual


@pytest.mark.parametrize("method", ["tsit5", "ark436", "sbdf4", "rk4-friction", "leapfrog4"])
@pytest.mark.parametrize(("gamma", "dynamics"), [(0.0, "damped"), (1.0, "damped"), (1.0, "gradient-flow")])
def test_balance_under_a_moving_source(method, gamma, dynamics):
    if method == "leapfrog4" and dynamics == "gradient-flow":
        method = "etdrk4"
    assert run(method, gamma=gamma, dynamics=dynamics, rtol=1e-8) < 2e-6


@pytest.mark.parametrize("method", ["rk4-friction", "ark436"])
def test_balance_at_high_friction(method):
    system = driven(1e4, frequency=3e-4)
    found = simulate(system, system.state({"w": 0.3}), method, end=2.0, clock="tau", rtol=1e-8, atol=1e-8, progress=False)
    assert found.stats.energy_residual < 1e-5


EXAMPLES = np.sin(2 * np.pi * (np.arange(32) + 0.5) / 32 + np.arange(12)[:, None])
PIECES = {
    "mini-batches": {"sources": {"J": sft.MiniBatches(EXAMPLES, 4, every=0.5)}},
    "frames": {"sources": {"J": sft.TimeSeries(TIMES, EXAMPLES[:6])}},
    "steps": {"sources": {"J": "floor(2*t)*sin(2*pi*x)"}},
    "walls": {
        "cost": "D/2*grad2(w) + w**4/4",
        "sources": {},
        "boundary": {"x": {"lower": {"value": "0.2*sin(3*t)"}, "upper": {"derivative": "cos(2*t) - 1"}}},
    },
    "space": {"cost": "D/2*grad2(w) + w**4/4", "sources": {}, "friction": sft.FLRW(hubble=0.5)},
    "friction, too": {"friction": sft.Friction(schedule={"kind": "step", "eta": 0.5, "at": [1.3], "factor": 4.0})},
}


@pytest.mark.parametrize("piece", PIECES)
def test_balance_over_pieces_of_time(piece):
    # Steps as long as the tolerance allows.
    loose, tight = (run("tsit5", rtol=rtol, max_step=2.0, **PIECES[piece]) for rtol in (1e-4, 1e-8))
    assert tight < 1e-6 and tight < 0.01 * loose


def test_a_batch_that_jumps_tells_of_its_jump(monkeypatch):
    """The same run without what the cost gains at switches is off by as much as was exchanged."""
    monkeypatch.setattr(EnergyAudit, "enter", lambda self, state: None)
    assert run("tsit5", **PIECES["mini-batches"]) > 0.1


def test_what_jumps_at_unknown_times_is_not_followed():
    assert run("tsit5", sources={"J": "floor(3*sin(t))"}, rtol=1e-2) is None
    assert run("tsit5", sources={"J": "0.1*sign(x - t/2)"}, rtol=1e-2) is None
    assert run("tsit5", sources={"J": "gamma(1 + t)"}, rtol=1e-2) is None
