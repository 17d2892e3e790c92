"""Expanding space: gradients redshift, modes are Hankel functions, scale factors say the same by formula, table and function."""

import math

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.special import h1vp, hankel1

import sftsolve as sft
from sftsolve.config import load
from sftsolve.errors import ConfigError

SHAPES = {1: (16,), 2: (6, 10), 3: (4, 6, 8)}


def lattice_wavenumber(k, h):
    """|k| as the compact Laplacian sees it."""
    return 2 / h * np.sin(0.5 * k * h)


def hankel_mode(dimension, hubble, mass, k):
    """(w, w_t) of e^{-dHt/2} H_nu(k e^{-Ht}/H), nu^2 = d^2/4 - m^2/H^2, as functions of t: Re."""
    nu = math.sqrt(dimension**2 / 4 - mass**2 / hubble**2)

    def mode(t):
        z, damping = k / hubble * math.exp(-hubble * t), math.exp(-dimension * hubble * t / 2)
        w = damping * hankel1(nu, z)
        return w.real, (-dimension * hubble / 2 * w - hubble * z * damping * h1vp(nu, z)).real

    return mode


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_modes_are_hankel_functions(dimension):
    hubble, mass = 0.4, 0.15
    grid = sft.Grid(shape=SHAPES[dimension], length=(2 * np.pi,) * dimension)
    action = sft.Action(["w"], "grad2(w)/2 + m**2/2*w**2", {"m": mass}, friction=sft.FLRW(hubble=hubble))
    mode = hankel_mode(dimension, hubble, mass, lattice_wavenumber(2.0, grid.spacing[-1]))
    wave = np.cos(2.0 * grid.coordinates[-1]) * np.ones(grid.shape)
    w, v = mode(0.0)
    settings = {"method": "tsit5", "rtol": 1e-9, "atol": 1e-11, "clock": "t", "progress": False}
    result = sft.solve(action, grid, {"w": w * wave}, {"w": v * wave}, end=6.0, save_every=3.0, **settings)
    for number, t in enumerate(result.t):
        w, v = mode(t)
        assert np.allclose(result.w[number, 0], w * wave, atol=1e-8)
        assert np.allclose(result.v[number, 0], v * wave, atol=1e-8)
    assert abs(mode(6.0)[0] - mode(0.0)[0]) > 0.3 * abs(mode(0.0)[0])


COST = "D/2*grad2(w) + B/2*lap(w)**2 + w**4/4 + S*d(w, x)*w - J*w"


@pytest.mark.parametrize("order", [2, 4])
def test_every_derivative_carries_the_redshift(order):
    """Force, cost and Jacobian at t are those of static space with D/a^2, B/a^4 and S/a."""
    grid = sft.Grid(shape=(14,), length=(2.0,))
    sources = {"J": "cos(pi*x)", "S": "1 + sin(pi*x)/2"}
    friction, t = sft.FLRW(power=0.5, t0=2.0), 3.7
    a = friction.scale_factor(t)
    assert a == pytest.approx(math.sqrt(1 + 3.7 / 2))
    moving = sft.discretise(sft.Action(["w"], COST, {"D": 0.3, "B": 0.02}, sources, friction=friction), grid, order=order)
    sources["S"] = f"(1 + sin(pi*x)/2)/{a!r}"
    still_action = sft.Action(["w"], COST, {"D": 0.3 / a**2, "B": 0.02 / a**4}, sources, friction=sft.Friction(1.0))
    still = sft.discretise(still_action, grid, order=order)
    w, d = np.random.default_rng(2).standard_normal((2, 1, 14))
    assert np.allclose(moving.force(w, t), still.force(w), rtol=1e-12, atol=1e-11)
    assert np.allclose(moving.jvp(w, d, t), still.jvp(w, d), rtol=1e-12, atol=1e-11)
    assert moving.cost(w, t) == pytest.approx(still.cost(w), rel=1e-13)
    assert moving.time_dependent and not still.time_dependent
    assert not np.allclose(moving.force(w, 0.0), moving.force(w, t))


@pytest.mark.parametrize("side", [{"derivative": 0.7}, {"value": 0.4}, {"mixed": 1.5, "const": 0.6}])
def test_walls(side):
    grid = sft.Grid(shape=(12,), length=(2.0,), boundary={"x": side})
    friction = sft.FLRW(hubble=0.2)
    a2 = friction.scale_factor(3.0) ** 2
    cost = "D/2*grad2(w) + w**2/2"
    moving = sft.discretise(sft.Action(["w"], cost, {"D": 0.3}, friction=friction), grid)
    still = sft.discretise(sft.Action(["w"], cost, {"D": 0.3 / a2}, friction=sft.Friction(1.0)), grid)
    w = np.random.default_rng(3).standard_normal((1, 12))
    assert np.allclose(moving.force(w, 3.0), still.force(w), rtol=1e-12)
    assert moving.cost(w, 3.0) == pytest.approx(still.cost(w), rel=1e-13)


def test_kernels_are_not_redshifted():
    grid = sft.Grid(shape=(16,), length=(4.0,))
    kernels = [sft.Dense("w", "w", np.eye(16) + 0.1)]
    system = sft.discretise(sft.Action(["w"], "0", kernels=kernels, friction=sft.FLRW(hubble=1.0)), grid)
    w = np.random.default_rng(4).standard_normal((1, 16))
    assert np.array_equal(system.force(w, 0.0), system.force(w, 2.0)) and not system.time_dependent


def laws():
    t = np.linspace(0.0, 40.0, 2001)
    return {
        "formula": sft.FLRW(power=2 / 3, t0=5.0),
        "function": sft.FLRW(scale_factor=lambda t: (1 + t / 5.0) ** (2 / 3)),
        "table": sft.FLRW(scale_factor=(t, (1 + t / 5.0) ** (2 / 3))),
    }


@pytest.mark.parametrize(("name", "accuracy"), [("formula", 1e-14), ("function", 1e-11), ("table", 1e-7)])
@pytest.mark.parametrize("dynamics", ["damped", "gradient-flow"])
def test_the_same_space_in_three_ways(name, accuracy, dynamics):
    friction = laws()[name]
    clock = friction.clock(3, dynamics)
    for t in (0.0, 0.7, 4.0, 31.0):
        assert clock.gamma_at(t) == pytest.approx(2.0 / (5.0 + t), rel=accuracy)
        assert friction.scale_factor(t) == pytest.approx((1 + t / 5.0) ** (2 / 3), rel=accuracy)
        assert friction.redshift(t) == pytest.approx((1 + t / 5.0) ** (-2 / 3), rel=accuracy)
        assert clock.tau(t) == pytest.approx((10.0 * t + t**2) / 4, rel=100 * accuracy)
        assert clock.t_of_tau(clock.tau(t)) == pytest.approx(t, rel=1e-13)
    assert clock.theta(31.0) == pytest.approx(31.0 if dynamics == "damped" else clock.tau(31.0), rel=1e-13)


def test_friction_falls_through_one():
    """a ~ t^2 in three dimensions: gamma = 6 / (1 + t) crosses 1 at t = 5."""
    clock = sft.FLRW(power=2.0, t0=1.0).clock(3, "damped")
    assert clock.jumps(0.0, 20.0) == pytest.approx([5.0]) and clock.scale_at(1.0) == pytest.approx(3.0)
    assert clock.theta(20.0) == pytest.approx((5 + 12.5) / 6 + 15.0, rel=1e-14)


def test_de_sitter_space_has_constant_friction():
    friction = sft.FLRW(hubble=0.5)
    assert friction.constant and friction.gamma(3) == 1.5 and friction.clock(3, "damped").constant
    assert friction.scale_factor(2.0) == pytest.approx(math.e) and repr(friction) == "FLRW(hubble=0.5)"
    assert "power=0.5" in repr(sft.FLRW(power=0.5, t0=2.0))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "needs one law"),
        ({"hubble": 1.0, "power": 1.0, "t0": 1.0}, "needs one law"),
        ({"power": 1.0}, "needs one law"),
        ({"hubble": 1.0, "t0": 1.0}, "needs one law"),
        ({"hubble": -1.0}, "hubble is out of range"),
        ({"power": 0.0, "t0": 1.0}, "power is out of range"),
        ({"power": 1.0, "t0": -1.0}, "t0 is out of range"),
        ({"scale_factor": ([0.0, 1.0], [1.0, 2.0])}, "is not understood"),
        ({"scale_factor": ([0.0, 1.0, 2.0, 2.0], [1.0, 2.0, 3.0, 4.0])}, "is not understood"),
        ({"scale_factor": 3.0}, "is not understood"),
        ({"scale_factor": ([0.0, 1.0, 2.0, 3.0], [2.0, 2.0, 3.0, 4.0])}, "does not start at one"),
        ({"scale_factor": ([0.0, 1.0, 2.0, 3.0], [1.0, 2.0, 1.5, 4.0])}, "or falls"),
        ({"scale_factor": lambda t: 2.0 + t}, "does not start at one"),
    ],
)
def test_what_is_refused(given, words):
    with pytest.raises(ConfigError, match=words):
        sft.FLRW(**given)


def test_a_space_that_contracts_is_refused():
    clock = sft.FLRW(scale_factor=lambda t: math.exp(0.1 * math.sin(t))).clock(1, "damped")
    with pytest.raises(ConfigError, match="Hubble rate is out of range"):
        clock.theta(3.0)


def test_a_space_that_comes_to_rest():
    """a = 2 - e^{-t}: the Hubble rate falls to nothing, through the rounding of a; theta goes on as t does."""
    clock = sft.FLRW(scale_factor=lambda t: 2.0 - math.exp(-t)).clock(2, "damped")
    assert clock.gamma_at(1.0) == pytest.approx(2 * math.exp(-1) / (2 - math.exp(-1)), rel=1e-12)
    assert clock.gamma_at(60.0) < 1e-10
    late = math.log(3 / 2)  # 2 e^{-t} / (2 - e^{-t}) = 1
    assert clock.jumps(0.0, 60.0) == pytest.approx([late], rel=1e-10)
    # int dt / gamma = int (2 e^t - 1)/2 dt
    assert clock.theta(60.0) == pytest.approx(math.exp(late) - 1 - late / 2 + 60.0 - late, rel=1e-12)


def test_a_table_ends():
    clock = laws()["table"].clock(2, "damped")
    with pytest.raises(ConfigError, match="not known at this time") as caught:
        clock.theta(41.0)
    assert "0 to 40" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("flrw = { hubble = 0.4 }", "FLRW(hubble=0.4)"),
        ("flrw = { power = 0.5, t0 = 3.0 }", "FLRW(power=0.5, t0=3)"),
        ("flrw = { scale_factor = [[0.0, 1.0, 2.0, 3.0], [1.0, 2.0, 3.0, 4.0]] }", "FLRW(scale_factor="),
        ("schedule = { kind = 'cosine', eta = 0.1, end = 9.0 }", "Friction(schedule={'kind': 'cosine'"),
        ("matching_descent = { eta = 0.1, momentum = 0.9 }", "Friction.matching_descent(eta=0.1, momentum=0.9, nesterov=False)"),
    ],
)
def test_in_a_file(text, shown, tmp_path):
    body = f'[grid]\nshape = [8]\nlength = [1.0]\n[action]\nfields = ["w"]\ncost = "w**2"\n[friction]\n{text}\n'
    path = tmp_path / "run.toml"
    path.write_text(body + '[initial]\nw = 1.0\n[time]\nend = 1.0\n[output]\nfile = "run.h5"\n')
    assert repr(load(path)[0].friction.build()).startswith(shown)


def test_against_an_independent_solver():
    """A nonlinear field in a radiation-filled space, cell by cell with SciPy."""
    n, friction = 12, sft.FLRW(power=0.5, t0=0.7)
    grid = sft.Grid(shape=(n,), length=(3.0,))
    action = sft.Action(["w"], "grad2(w)/2 + w**4/4", friction=friction)
    w = np.sin(2 * np.pi * grid.coordinates[0] / 3.0)

    def rate(t, y):
        w, v = y[:n], y[n:]
        laplacian = (np.roll(w, 1) - 2 * w + np.roll(w, -1)) / grid.spacing[0] ** 2
        return np.concatenate([v, -0.5 / (0.7 + t) * v + laplacian / (1 + t / 0.7) - w**3])

    reference = solve_ivp(rate, (0, 5.0), np.concatenate([w, 0 * w]), method="DOP853", rtol=1e-11, atol=1e-12).y[:, -1]
    result = sft.solve(action, grid, {"w": w}, end=5.0, clock="t", method="tsit5", rtol=1e-8, atol=1e-10, progress=False)
    assert np.allclose(result.w[-1, 0], reference[:n], atol=1e-7) and np.allclose(result.v[-1, 0], reference[n:], atol=1e-7)
