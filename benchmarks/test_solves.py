"""Solves (1 - sigma L) w = R with variable coefficients, in units of one force evaluation timed beside them.

L = div K grad with K smooth of contrast 10 unless said, S = sigma K_max / h^2 = 1e4, R random. The unit is the force of a
constant-K theory with a cubic reaction on the same grid. Nothing is asserted about time; floors and goals stand beside the names.
"""

from __future__ import annotations

import statistics

import numpy as np
import pytest
from conftest import seconds

import sftsolve as sft
from sftsolve.linear.multigrid import Multigrid
from sftsolve.state import Layout


def unit(shape):
    """A call of one force."""
    grid = sft.Grid(shape, [1.0] * len(shape))
    action = sft.Action(["w"], "D/2*grad2(w) + lam/4*w**4", {"D": 1.3, "lam": 1.0}, friction=sft.Friction(gamma=1.0))
    system = sft.discretise(action, grid)
    state = system.state({"w": np.random.default_rng(0).standard_normal(shape)})
    out = state.like()
    return lambda: system.force_into(state, out)


def solver(shape, coefficient, wall="periodic", **options):
    """(multigrid, right side, solution, largest face) on the unit cube."""
    grid = sft.Grid(shape, [1.0] * len(shape))
    layout = Layout.of(grid, 1)
    faces, largest = [], 0.0
    for axis, h in enumerate(grid.spacing):
        k = 0.5 * (coefficient + np.roll(coefficient, -1, axis)) / h**2
        if wall != "periodic":
            np.moveaxis(k, axis, 0)[-1] = 0.0
        faces.append(k)
        largest = max(largest, float(k.max()))
    found = Multigrid(layout, [wall == "periodic"] * len(shape), faces, **options)
    right = layout.pad(np.random.default_rng(0).standard_normal((1, *shape)))
    return found, right, layout.zeros(1), largest


def smooth(shape):
    waves = [np.sin(2 * np.pi * (np.arange(n) + 0.5) / n + 0.3) for n in shape]
    product = waves[0]
    for wave in waves[1:]:
        product = np.multiply.outer(product, wave)
    return 10 ** (0.5 + 0.5 * product)


def measure(benchmark, report, name, call, force, rounds=5):
    """Time of `call` over that of the force: median and best of interleaved pairs; what the call returns is its iterations."""
    iterations = call()
    force()
    pairs = []
    for _ in range(rounds):
        # The mean of several, as a solve too meets whatever else the machine does.
        before = statistics.fmean(seconds(force) for _ in range(8))
        taken = seconds(call)
        after = statistics.fmean(seconds(force) for _ in range(8))
        pairs.append((2 * taken / (before + after), taken))
    figures = {
        "units": statistics.median(ratio for ratio, _ in pairs),
        "best_units": min(ratio for ratio, _ in pairs),
        "iterations": float(iterations),
        "seconds": statistics.median(taken for _, taken in pairs),
    }
    benchmark.extra_info.update(figures)
    report(name, figures)
    benchmark.pedantic(call, rounds=2)


SHAPES = {"256^3": (256, 256, 256), "2048^2": (2048, 2048)}
FLOORS = {"256^3": "floor 80, goal 60", "2048^2": "floor 65, goal 50"}


@pytest.mark.parametrize("size", SHAPES)
def test_from_zero(benchmark, report, size):
    found, right, out, largest = solver(SHAPES[size], smooth(SHAPES[size]))
    sigma = 1e4 / largest
    name = f"multigrid from zero to 1e-8, {size} ({FLOORS[size]})"
    measure(benchmark, report, name, lambda: found.solve(right[0], sigma, out[0], False, 1e-8), unit(SHAPES[size]))


@pytest.mark.parametrize("size", SHAPES)
def test_warm(benchmark, report, size):
    """From a guess whose residual is to be reduced by 2e-4, as within a multistep method."""
    found, right, out, largest = solver(SHAPES[size], smooth(SHAPES[size]))
    sigma, start = 1e4 / largest, out.copy()
    found.solve(right[0], sigma, start[0], False, 1e-4)

    def call():
        np.copyto(out, start)
        return found.solve(right[0], sigma, out[0], True, 2e-8)

    measure(benchmark, report, f"multigrid warm, reduction 2e-4, {size} (floor 50, goal 30)", call, unit(SHAPES[size]))


def test_walls(benchmark, report):
    shape = SHAPES["256^3"]
    found, right, out, largest = solver(shape, smooth(shape), "walls")
    sigma = 1e4 / largest
    measure(
        benchmark,
        report,
        "multigrid from zero to 1e-8, 256^3, Neumann walls",
        lambda: found.solve(right[0], sigma, out[0], False, 1e-8),
        unit(shape),
    )


@pytest.mark.parametrize("kind", ["noise", "blocks", "inclusions"])
def test_contrast_of_a_thousand(benchmark, report, kind):
    """64^3, S = 1e4: at most 40 iterations (goal 15)."""
    shape, rng = (64, 64, 64), np.random.default_rng(1)
    if kind == "noise":
        coefficient = 1e3 ** rng.random(shape)
    elif kind == "blocks":
        coefficient = np.kron(1e3 ** rng.random((4, 4, 4)), np.ones((16, 16, 16)))
    else:
        z, y, x = np.ix_(*[(np.arange(n) + 0.5) / n for n in shape])
        centres = rng.random((12, 3))
        inside = [(z - c[0]) ** 2 + (y - c[1]) ** 2 + (x - c[2]) ** 2 < 0.015 for c in centres]
        coefficient = np.where(np.any(inside, axis=0), 1e3, 1.0)
    found, right, out, largest = solver(shape, coefficient, sweeps=(2, 1))
    sigma = 1e4 / largest
    name = f"multigrid, contrast 1e3 {kind}, 64^3 (at most 40 iterations)"
    measure(benchmark, report, name, lambda: found.solve(right[0], sigma, out[0], False, 1e-8), unit(shape))


def test_low_rank(benchmark, report):
    """1024^2, constant coefficients, rank 100, a sigma that is held."""
    shape, rank = (1024, 1024), 100
    grid = sft.Grid(shape, (1.0, 1.0))
    phi = np.empty((rank, *shape))
    rng = np.random.default_rng(0)
    for part in phi:
        part[...] = rng.standard_normal(shape)
    action = sft.Action(["w"], "grad2(w)/2", kernels=[sft.LowRank("w", "w", 1e3 * phi)], friction=sft.Friction(gamma=1.0))
    system = sft.discretise(action, grid)
    linear, right, out = system.linear, system.layout.pad(rng.standard_normal((1, *shape))), system.layout.zeros(1)
    linear.prepare(1e-3)
    measure(benchmark, report, "Woodbury, rank 100, 1024^2", lambda: linear.solve(right, 1e-3, out, False, 1e-8), unit(shape))
