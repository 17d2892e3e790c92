"""The whole path against solutions known in closed form (damped modes, sine-Gordon breather and kink, bistable front)."""

from __future__ import annotations

import numpy as np
import pytest

import sftsolve as sft


def damped_mode(gamma, square, t):
    """w(0) = 1, w'(0) = 0 of w'' + gamma w' + square w = 0 at time t: under-, critically and overdamped alike."""
    root = np.emath.sqrt(gamma**2 / 4 - square)
    if abs(root) < 1e-12:
        return float((1 + gamma * t / 2) * np.exp(-gamma * t / 2))
    rates = -gamma / 2 + root, -gamma / 2 - root
    return float(np.real((rates[0] * np.exp(rates[1] * t) - rates[1] * np.exp(rates[0] * t)) / (rates[0] - rates[1])))


@pytest.mark.parametrize("dimension", [1, 2, 3])
@pytest.mark.parametrize("regime", [0.2, 1.0, 3.0], ids=["underdamped", "critical", "overdamped"])
def test_damped_linear_modes(dimension, regime):
    """A plane wave keeps its shape; its omega^2 is m^2 plus the discrete symbol 4 sin^2(k h/2)/h^2 of every axis."""
    shape = (12, 10, 8)[:dimension]
    grid = sft.Grid(shape, [1.0 + 0.2 * n for n in range(dimension)])
    waves = [2 * np.pi / side for side in grid.length]
    phase = sum(k * grid.mesh[axis] for k, axis in zip(waves, grid.axes, strict=True))
    square = 4.0 + sum(4 * np.sin(k * h / 2) ** 2 / h**2 for k, h in zip(waves, grid.spacing, strict=True))
    gamma = 2 * np.sqrt(square) * regime
    action = sft.Action(["w"], "grad2(w)/2 + m/2*w**2", {"m": 4.0}, friction=sft.Friction(gamma=gamma))
    end = 3.0 / np.sqrt(square)
    result = sft.solve(
        action, grid, {"w": np.cos(phase)}, end=end, clock="t", method="tsit5", rtol=1e-10, atol=1e-12, progress=False
    )
    assert np.max(np.abs(result.w[-1, 0] - damped_mode(gamma, square, end) * np.cos(phase))) < 2e-9


def breather(x, t, omega=0.6):
    width = np.sqrt(1 - omega**2)
    return 4 * np.arctan(width / omega * np.cos(omega * t) / np.cosh(width * x))


@pytest.mark.parametrize("order, cells, errors", [(2, (200, 400), 0.1), (4, (200, 400), 0.1), (8, (360, 440), 0.25)])
def test_sine_gordon_breather(order, cells, errors):
    """w_tt = w_xx - sin w, gamma = 0, over half a period on a ring wide enough for its tails; the order of the grid is seen."""
    end, found = 5.0, []
    for n in cells:
        grid = sft.Grid((n,), (60.0,), origin=(-30.0,))
        (x,) = grid.coordinates
        action = sft.Action(["w"], "grad2(w)/2 + 1 - cos(w)", friction=sft.Friction(gamma=0.0))
        result = sft.solve(
            action,
            grid,
            {"w": breather(x, 0.0)},
            end=end,
            clock="t",
            order=order,
            method="tsit5",
            rtol=1e-9,
            atol=1e-11,
            progress=False,
        )
        found.append(np.max(np.abs(result.w[-1, 0] - breather(x, end))))
        energy = result.scalars["energy"]
        assert abs(energy[-1] / energy[0] - 1) < 1e-7
    slope = np.log(found[0] / found[1]) / np.log(cells[1] / cells[0])
    assert abs(slope - order) < errors


def test_boosted_kink():
    """4 arctan exp((x - vt)/sqrt(1 - v^2)) moves at v; held between walls of the values that it joins."""
    speed, end = 0.5, 6.0
    contraction = np.sqrt(1 - speed**2)

    def kink(x, t):
        return 4 * np.arctan(np.exp((x - speed * t) / contraction))

    grid = sft.Grid((1200,), (50.0,), origin=(-20.0,), boundary={"x": {"lower": {"value": 0}, "upper": {"value": 2 * np.pi}}})
    (x,) = grid.coordinates
    velocity = -2 * speed / contraction / np.cosh(x / contraction)
    action = sft.Action(["w"], "grad2(w)/2 + 1 - cos(w)", friction=sft.Friction(gamma=0.0))
    result = sft.solve(
        action, grid, {"w": kink(x, 0)}, velocity={"w": velocity}, end=end, clock="t", method="tsit5", rtol=1e-8, progress=False
    )
    assert np.max(np.abs(result.w[-1, 0] - kink(x, end))) < 5e-3
    crossing = np.interp(np.pi, result.w[-1, 0], x)
    assert abs(crossing - speed * end) < 2e-3


def test_bistable_front():
    """w_tau = w_xx + w (1 - w)(w - a): the front (1 - tanh((x - ct)/(2 sqrt 2)))/2 runs at c = (1 - 2a)/sqrt 2."""
    a, end, errors = 0.3, 8.0, []
    speed = (1 - 2 * a) / np.sqrt(2)

    def front(x, tau):
        return 0.5 * (1 - np.tanh((x - speed * tau) / (2 * np.sqrt(2))))

    for n in (150, 300):
        grid = sft.Grid((n,), (60.0,), origin=(-30.0,), boundary={"derivative": 0})
        (x,) = grid.coordinates
        cost = "grad2(w)/2 + a*w**2/2 - (1 + a)*w**3/3 + w**4/4"
        result = sft.solve(
            sft.Action(["w"], cost, {"a": a}),
            grid,
            {"w": front(x, 0)},
            end=end,
            dynamics="gradient-flow",
            method="tsit5",
            rtol=1e-9,
            atol=1e-11,
            save_every=1.0,
            progress=False,
        )
        errors.append(np.max(np.abs(result.w[-1, 0] - front(x, end))))
        assert np.all(np.diff(result.scalars["cost"]) <= 0)
    assert abs(np.log2(errors[0] / errors[1]) - 2) < 0.1


def test_hubble_friction_counts_the_axes():
    """gamma = d H: a uniform field on a plane feels twice the Hubble rate."""
    grid = sft.Grid((4, 4), (1.0, 1.0))
    action = sft.Action(["w"], "w**2/2", friction=sft.Friction(hubble=0.7))
    result = sft.solve(action, grid, {"w": 1.0}, end=2.0, clock="t", rtol=1e-10, atol=1e-12, progress=False)
    assert result.w[-1, 0, 0, 0] == pytest.approx(damped_mode(1.4, 1.0, 2.0), abs=1e-8)
    assert result.tau[-1] == pytest.approx(2.0 / 1.4)
