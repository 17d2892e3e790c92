"""Fractional Laplacians against eigenfunctions of the Laplacian, in every kind of box."""

import itertools
import math

import numpy as np
import pytest
from direct_sums import check_gradient

import sftsolve as sft
from sftsolve.errors import SftError
from sftsolve.kernels.convolution import Convolution
from sftsolve.kernels.fractional import Fractional

FIXED, FREE = {"value": 0.0}, {"derivative": 0.0}
# Boundary of one axis of length L, and the wave numbers (times pi / L) and shapes of its eigenfunctions.
AXES = {
    "periodic": ("periodic", lambda n: 2 * ((n + 1) // 2), lambda q, x, n: np.cos(q * x) if n % 2 == 0 else np.sin(q * x)),
    "free": (FREE, lambda n: n, lambda q, x, n: np.cos(q * x)),
    "fixed": (FIXED, lambda n: n + 1, lambda q, x, n: np.sin(q * x)),
    "free to fixed": ({"lower": FREE, "upper": FIXED}, lambda n: n + 0.5, lambda q, x, n: np.cos(q * x)),
    "fixed to free": ({"lower": FIXED, "upper": FREE}, lambda n: n + 0.5, lambda q, x, n: np.sin(q * x)),
}

BOXES = [("free",), ("fixed", "periodic"), ("free to fixed", "fixed to free"), ("fixed", "free", "fixed to free")]


def make_system(grid, *kernels, fields=("a",)):
    return sft.discretise(sft.Action(fields=list(fields), cost="0", kernels=list(kernels)), grid, dynamics="gradient-flow")


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.7, -0.4])
@pytest.mark.parametrize(
    "kinds", [("free",), ("fixed", "periodic"), ("free to fixed", "fixed to free"), ("fixed", "free", "fixed to free")]
)
def test_eigenfunctions_are_multiplied_by_powers_of_their_wave_number(kinds, exponent):
    shape, length = (9, 8, 10)[: len(kinds)], (1.3, 0.9, 1.1)[: len(kinds)]
    axes = ("z", "y", "x")[-len(kinds) :]
    grid = sft.Grid(shape, length, boundary={axis: AXES[kind][0] for axis, kind in zip(axes, kinds, strict=True)})
    system = make_system(grid, Fractional("a", exponent, 0.7))
    for numbers in itertools.product((0, 1, 4), repeat=len(kinds)):
        w, square = np.ones(grid.shape), 0.0
        for (axis, n, kind), side, x in zip(zip(axes, numbers, kinds, strict=True), length, grid.coordinates, strict=True):
            _, wave, profile = AXES[kind]
            q = math.pi * wave(n) / side
            square += q * q
            w = w * profile(q, x, n).reshape([-1 if other == axis else 1 for other in axes])
        multiplier = 0.7 * square**exponent if square else 0.0
        np.testing.assert_allclose(system.force(w[None])[0], -2 * multiplier * w, atol=1e-11 * max(1, multiplier))
        volume = grid.cell_volume * np.sum(w * w)
        assert system.cost(w[None]) == pytest.approx(multiplier * volume, rel=1e-11, abs=1e-12)


@pytest.mark.parametrize("shape, boundary", [((12,), "periodic"), ((7, 6), {"y": FIXED}), ((4, 5, 6), FREE)])
def test_is_the_gradient_of_its_cost(shape, boundary):
    grid = sft.Grid(shape, [1.0] * len(shape), boundary=boundary)
    about = {"a": np.random.default_rng(1).standard_normal(shape)}
    kernel = Fractional("a", 0.8, 0.3, second="b", amplitude="exp(-k*t)", parameters={"k": 2.0}, about=about)
    system = make_system(grid, kernel, fields="ab")
    w = np.random.default_rng(0).standard_normal((2, *shape))
    check_gradient(system, w, 0.4)
    still = make_system(grid, Fractional("a", 0.8, 0.3 * math.exp(-0.8), second="b", about=about), fields="ab")
    np.testing.assert_allclose(system.force(w, 0.4), still.force(w), rtol=1e-12)


def test_the_power_one_is_the_laplacian_of_smooth_fields():
    grid = sft.Grid((64,), (2 * math.pi,))
    w = np.exp(np.sin(grid.coordinates[0]))[None]
    x = grid.coordinates[0]
    second = (np.cos(x) ** 2 - np.sin(x)) * w
    np.testing.assert_allclose(make_system(grid, Fractional("a", 1, 0.5)).force(w), second, atol=1e-11)


@pytest.mark.parametrize("boundary", ["periodic", {"y": FIXED, "x": FREE}, {"x": {"lower": FIXED, "upper": FREE}}])
def test_symbol_and_bound_are_those_of_the_jacobian(boundary):
    grid = sft.Grid((4, 5), (1.0, 1.0), boundary=boundary)
    system = make_system(grid, Fractional("a", 0.6, 0.7))
    values = np.linalg.eigvalsh([system.jvp(np.zeros((1, 4, 5)), e.reshape(1, 4, 5)).ravel() for e in np.eye(20)])
    operator = system.kernels[0]
    assert operator.bound() == pytest.approx(np.abs(values).max(), rel=1e-12)
    symbol = operator.symbol()[0, 0]
    assert set(np.round(np.asarray(symbol).real, 9).ravel() + 0.0) == set(np.round(values, 9) + 0.0)


@pytest.mark.parametrize("boundary", ["periodic", FREE])
def test_shares_transforms_with_convolutions(boundary):
    grid = sft.Grid((20, 24), (1.0, 1.0), boundary=boundary)
    kernels = [Fractional("a", 0.5), Convolution("a", "a", "exp(-200*r**2)", walls="mirror", method="fft")]
    together = make_system(grid, *kernels)
    assert len(together.kernels) == 1
    w = np.random.default_rng(0).standard_normal((1, *grid.shape))
    np.testing.assert_allclose(together.force(w), sum(make_system(grid, k).force(w) for k in kernels), atol=1e-11)
    fixed = sft.Grid((20, 24), (1.0, 1.0), boundary=FIXED)
    assert len(make_system(fixed, *kernels).kernels) == 2


BAD = {
    "exponent zero": ("periodic", {"exponent": 0}, "exponent of Fractional is zero", "cost"),
    "exponent NaN": ("periodic", {"exponent": np.nan}, "exponent of Fractional", "finite"),
    "coefficient": ("periodic", {"exponent": 1, "coefficient": "D"}, "coefficient of Fractional", "finite"),
    "data on the wall": ({"value": 1.0}, {"exponent": 1}, "data on the walls", "about="),
    "walls of two kinds": ({"a": FIXED, "b": FREE}, {"exponent": 1, "second": "b"}, "no modes", "a and b"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_answered(name):
    boundary, arguments, *words = BAD[name]
    grid = sft.Grid(
        (8,), (1.0,), boundary="periodic" if boundary == "periodic" else {"x": {"lower": boundary, "upper": boundary}}
    )
    with pytest.raises(SftError) as caught:
        make_system(grid, Fractional("a", **arguments), fields="ab")
    for word in words:
        assert word in str(caught.value)


def test_data_on_the_wall_are_taken_by_the_reference():
    grid = sft.Grid((8,), (1.0,), boundary={"value": 1.0})
    system = make_system(grid, Fractional("a", 1.0, 0.5, about="1"))
    q = math.pi
    w = 1 + np.sin(q * grid.coordinates[0])[None]
    np.testing.assert_allclose(system.force(w), -(q**2) * (w - 1), rtol=1e-11)


def test_memory_is_refused_before_it_is_taken(monkeypatch):
    grid = sft.Grid((64, 64), (1.0, 1.0))
    monkeypatch.setenv("SFTSOLVE_MEMORY", str(0.5 * Fractional("a", 1).estimate(grid).memory))
    with pytest.raises(SftError, match="more memory"):
        make_system(grid, Fractional("a", 1))
