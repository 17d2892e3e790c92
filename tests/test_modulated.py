"""Modulated convolutions against the direct double sum."""

import math

import numpy as np
import pytest
from allocations import peak_of_forces
from direct_sums import check_gradient, cost, displacement_weights, forces

import sftsolve as sft
from sftsolve.errors import SftError
from sftsolve.kernels.convolution import Convolution
from sftsolve.kernels.modulated import Modulated

WALL = {"derivative": 0.0}
GRIDS = {
    "1D periodic": ((11,), "periodic"),
    "1D walls": ((10,), WALL),
    "2D mixed": ((6, 7), {"y": WALL}),
    "3D periodic": ((4, 3, 5), "periodic"),
}
SKEW = ("exp(-r**2/s)*(1 + 2*x)", lambda *m: math.exp(-sum(c * c for c in m) / 0.08) * (1 + 2 * m[-1]))
EVEN = ("exp(-r**2/s)", lambda *m: math.exp(-sum(c * c for c in m) / 0.08))


def make_grid(name):
    shape, boundary = GRIDS[name]
    return sft.Grid(shape, [0.9, 1.0, 1.1][: len(shape)], boundary=boundary)


def make_system(grid, *kernels, fields=("a", "b")):
    return sft.discretise(sft.Action(fields=list(fields), cost="0", kernels=list(kernels)), grid, dynamics="gradient-flow")


def masks(grid, seed):
    return np.random.default_rng(seed).standard_normal((3, *grid.shape))


def modulate(matrix, x, y):
    """sum_l X_l(i) A_ij Y_l(j)."""
    return sum(np.outer(p.ravel(), q.ravel()) * matrix for p, q in zip(x, y, strict=True))


@pytest.mark.parametrize("method", ["direct", "overlap", "fft"])
@pytest.mark.parametrize("own_y", [False, True])
@pytest.mark.parametrize("name", GRIDS)
def test_equals_the_double_sum_between_two_fields(name, own_y, method):
    grid = make_grid(name)
    x, y = masks(grid, 1), masks(grid, 2)
    kernel = Modulated("a", "b", x, SKEW[0], y if own_y else None, parameters={"s": 0.08}, method=method)
    matrix = modulate(displacement_weights(grid, SKEW[1]), x, y if own_y else x)
    w = np.random.default_rng(0).standard_normal((2, *grid.shape))
    system = make_system(grid, kernel)
    expected = forces(grid, matrix, *w)
    np.testing.assert_allclose(system.force(w), expected, atol=1e-12 * np.abs(expected).max())
    assert system.cost(w) == pytest.approx(cost(grid, matrix, *w), rel=1e-12)
    check_gradient(system, w)


@pytest.mark.parametrize("method, text", [("direct", SKEW), ("fft", SKEW), ("overlap", SKEW), ("separable", EVEN)])
@pytest.mark.parametrize("own_y", [False, True])
@pytest.mark.parametrize("name", GRIDS)
def test_equals_the_double_sum_on_one_field(name, own_y, method, text):
    grid = make_grid(name)
    x, y = masks(grid, 1), masks(grid, 2)
    about = np.random.default_rng(4).standard_normal(grid.shape)
    kernel = Modulated("a", "a", x, text[0], y if own_y else None, {"s": 0.08}, amplitude="cos(t)", about=about, method=method)
    matrix = math.cos(0.3) * modulate(displacement_weights(grid, text[1]), x, y if own_y else x)
    w = np.random.default_rng(0).standard_normal((1, *grid.shape))
    system = make_system(grid, kernel, fields="a")
    shifted = w[0] - about
    expected = forces(grid, matrix, shifted, shifted).sum(axis=0)
    np.testing.assert_allclose(system.force(w, 0.3)[0], expected, atol=1e-12 * np.abs(expected).max())
    assert system.cost(w, 0.3) == pytest.approx(cost(grid, matrix, shifted, shifted), rel=1e-11)
    check_gradient(system, w, 0.3)


@pytest.mark.parametrize("method", ["direct", "overlap", "fft"])
def test_mirrors_reflect_the_product(method):
    grid = make_grid("2D mixed")
    x = masks(grid, 1)
    matrix = modulate(displacement_weights(grid, EVEN[1], "mirror"), x, x)
    w = np.random.default_rng(0).standard_normal((2, *grid.shape))
    system = make_system(grid, Modulated("a", "b", x, EVEN[0], None, {"s": 0.08}, walls="mirror", method=method))
    expected = forces(grid, matrix, *w)
    np.testing.assert_allclose(system.force(w), expected, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("method", ["direct", "overlap", "fft"])
def test_single_precision(method):
    grid = make_grid("2D mixed")
    action = sft.Action(["a"], kernels=[Modulated("a", "a", masks(grid, 1), SKEW[0], masks(grid, 2), {"s": 0.08}, method=method)])
    w = np.random.default_rng(0).standard_normal((1, *grid.shape))
    single, double = (sft.discretise(action, grid, dynamics="gradient-flow", dtype=d) for d in ("float32", "float64"))
    found, expected = single.force(w.astype("float32")), double.force(w)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-6 * np.abs(expected).max())


def test_one_constant_mask_is_a_convolution():
    grid = make_grid("2D mixed")
    w = np.random.default_rng(0).standard_normal((2, *grid.shape))
    plain = make_system(grid, Convolution("a", "b", SKEW[0], {"s": 0.08}))
    masked = make_system(grid, Modulated("a", "b", np.full((1, *grid.shape), 2.0), SKEW[0], None, {"s": 0.08}))
    np.testing.assert_allclose(masked.force(w), 4 * plain.force(w), atol=1e-14)


@pytest.mark.parametrize("fields", [("a", "a"), ("a", "b")])
@pytest.mark.parametrize("own_y", [False, True])
def test_bound_holds(fields, own_y):
    grid = make_grid("1D periodic")
    kernel = Modulated(*fields, masks(grid, 1), SKEW[0], masks(grid, 2) if own_y else None, {"s": 0.08})
    system = make_system(grid, kernel)
    zero = np.zeros((2, *grid.shape))
    jacobian = [system.jvp(zero, e.reshape(zero.shape)).ravel() for e in np.eye(zero.size)]
    largest = np.abs(np.linalg.eigvalsh(jacobian)).max()
    assert largest <= system.kernels[0].bound() <= 12 * largest
    assert system.kernels[0].symbol() is None


@pytest.mark.parametrize("method", ["direct", "overlap", "fft"])
def test_nothing_of_field_size_is_allocated(method):
    grid = sft.Grid((100, 110), (1.0, 1.0))
    kernel = Modulated("a", "b", masks(grid, 1), "exp(-r**2/s)", None, {"s": 1e-3}, method=method)
    system = make_system(grid, kernel)
    assert peak_of_forces(system, {"a": "x", "b": "y"}) < grid.size


GRID = sft.Grid((8, 10), (1.0, 1.0))
BAD = {
    "another grid": ({"X": np.ones((2, 8, 9)), "k": "exp(-r)"}, "X of Modulated does not fit the grid", "(8, 10)"),
    "no list of functions": ({"X": np.ones(8), "k": "exp(-r)"}, "X of Modulated", "(rank, *grid.shape)"),
    "Y of another shape": ({"X": np.ones((2, 8, 10)), "Y": np.ones((1, 8, 10)), "k": "exp(-r)"}, "Y of Modulated", "(2, 8, 10)"),
    "NaN": ({"X": np.full((2, 8, 10), np.nan), "k": "exp(-r)"}, "X of Modulated is not finite", "finite"),
    "kernel that is infinite": ({"X": np.ones((2, 8, 10)), "k": "log(r)"}, "kernel of Modulated is not finite", "displacement"),
    "unknown method": ({"X": np.ones((2, 8, 10)), "k": "exp(-r)", "method": "slow"}, "method= of Modulated", "direct"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_answered(name):
    arguments, *words = BAD[name]
    with pytest.raises(SftError) as caught:
        make_system(GRID, Modulated("a", "b", **arguments))
    for word in words:
        assert word in str(caught.value)


def test_memory_is_refused_before_it_is_taken(monkeypatch):
    kernel = Modulated("a", "b", np.ones((5, 8, 10)), "exp(-r)", method="fft")
    assert kernel.estimate(GRID).memory > 5 * GRID.size * 8
    monkeypatch.setenv("SFTSOLVE_MEMORY", "1000")
    with pytest.raises(SftError, match="more memory"):
        make_system(GRID, kernel)
