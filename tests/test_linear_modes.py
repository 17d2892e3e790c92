"""Constant linear forces in their modes: the discrete symbol, the blocks of coupled fields, exact solves."""

import numpy as np
import pytest
from allocations import peak_of
from linear_parts import applied, assert_close, clipped, flow, jacobian, matrix, matrix_of, solved

import sftsolve as sft

D, N = {"value": 0.0}, {"derivative": 0.0}
SHAPES = {1: (12,), 2: (10, 11), 3: (9, 10, 8)}
ORDERS = (2, 4, 6, 8)
BASES = {"DCT-II": (N, N), "DST-II": (D, D), "DCT-IV": (N, D), "DST-IV": (D, N)}
STIFF = "0.7*grad2(w)/2 + m*w**2/2"


def box(shape, boundary="periodic"):
    return sft.Grid(shape, tuple(0.31 * n for n in shape), boundary=boundary)


def face(lower, upper):
    return {"lower": lower, "upper": upper}


def eigenvalue_of(whole, mode):
    """What the modes of a system say for a field that is one mode."""
    modes = whole.linear.modes
    spectrum = modes.empty()
    modes.forward(whole.layout.pad(mode), spectrum)
    place = np.unravel_index(np.argmax(np.abs(spectrum)), spectrum.shape)
    rest = spectrum.copy()
    rest[place] = 0.0
    assert np.abs(rest).max() <= 1e-13 * np.abs(spectrum[place]), "a single mode"
    return modes.eigenvalues[place]


@pytest.mark.parametrize("dimension", SHAPES)
@pytest.mark.parametrize("order", ORDERS)
def test_symbol_is_that_of_the_discrete_force_on_circles(order, dimension):
    grid = box(SHAPES[dimension])
    whole = flow(["w"], STIFF + " + 0.01*lap(w)**2", grid, order, parameters={"m": 2.0})
    cells = np.indices(grid.shape)
    for numbers in ([1] * dimension, [3, 2, 1][:dimension], [n // 2 for n in grid.shape]):
        phase = sum(2 * np.pi * k * i / n for k, i, n in zip(numbers, cells, grid.shape, strict=True))
        wave = np.cos(phase)[None] + 0.0
        image = whole.jvp(np.zeros_like(wave), wave)
        spectrum = whole.linear.modes.empty()
        whole.linear.modes.forward(whole.layout.pad(wave), spectrum)
        place = np.unravel_index(np.argmax(np.abs(spectrum)), spectrum.shape)
        value = whole.linear.modes.eigenvalues[place]
        np.testing.assert_allclose(image, value * wave, rtol=0, atol=1e-13 * whole.linear.radius)


@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize("dimension", SHAPES)
def test_symbol_is_that_of_the_discrete_force_between_walls(name, dimension):
    conditions = BASES[name]
    grid = box(SHAPES[dimension], {axis: face(*conditions) for axis in "zyx"[-dimension:]})
    whole = flow(["w"], STIFF, grid, parameters={"m": 2.0})
    shift = {"DCT-II": 0.0, "DST-II": 1.0}.get(name, 0.5)
    wave = np.sin if conditions[0] is D else np.cos
    for number in (0, 2, 5):
        mode = np.ones((1, *grid.shape))
        for axis, n in enumerate(grid.shape):
            line = wave(np.pi * (number + shift) / n * (np.arange(n) + 0.5))
            mode = mode * line.reshape([-1 if a == axis else 1 for a in range(dimension)])
        value = eigenvalue_of(whole, mode)
        image = whole.jvp(np.zeros_like(mode), mode)
        np.testing.assert_allclose(image, value * mode, rtol=0, atol=1e-13 * whole.linear.radius)


def test_long_waves_lose_no_digits():
    n = 1 << 14
    whole = flow(["w"], "grad2(w)/2", sft.Grid((n,), (1.0,)))
    found = whole.linear.modes.eigenvalues.reshape(-1)
    assert found[0] == 0.0
    assert found[1] == pytest.approx(-4 * n**2 * np.sin(np.pi / n) ** 2, rel=1e-14)


THEORIES = {
    # fields, cost, boundary, whether L is all of the linear force but for growth
    "mass": (("w",), "m*w**2/2", "periodic", True),
    "mixed derivatives": (("w",), "grad2(w) + 0.6*d(w, x)*d(w, y) + d(w, x, y)**2/7", "periodic", True),
    "Fourier and cosines": (("w",), "grad2(w) + m*w**2", {"y": face(N, D)}, True),
    "sines and Fourier": (("w",), "grad2(w) + m*w**2", {"x": D}, True),
    "fourth derivatives at walls": (("w",), "lap(w)**2/9 + grad2(w)", {"x": D, "y": N}, True),
    "cross stiffness": (("a", "b"), "grad2(a) + 2*grad2(b) + 0.8*d(a, x)*d(b, x) + m*a*b", "periodic", True),
    "growth in the cross terms": (("a", "b"), "grad2(a)/9 + 3*d(a, y)*d(b, y) + m*b**2", "periodic", True),
    "first order": (("a", "b"), "grad2(a)/2 + grad2(b)/3 + m*b*d(a, x) + 0.2*a*d(b, y)", "periodic", True),
    "shared vectors": (("a", "b", "c"), "grad2(a) + grad2(b) + grad2(c) + m*(a*b + b*c + a**2 + b**2 + c**2)", {"y": N}, True),
    "two groups": (("a", "b", "c"), "grad2(a) + grad2(b) + 2*grad2(c) + m*a*c + w0*b**2", {"y": D}, True),
    "different walls": (("a", "b"), "grad2(a) + grad2(b) + m*a*b", {"x": {"a": D, "b": N}}, False),
    "first order at walls": (("a", "b"), "grad2(a) + grad2(b) + m*b*d(a, x)", {"x": N}, False),
    "nonlinear": (("w",), "grad2(w) + w**4/4 - w**2/2 + sqrt(1 + w**2)", "periodic", False),
}


@pytest.mark.parametrize("name", THEORIES)
def test_operator_is_the_linear_force_without_growth(name):
    fields, cost, boundary, whole_force = THEORIES[name]
    grid = box((6, 7), boundary)
    whole = flow(fields, cost, grid, parameters={"m": 1.3, "w0": 0.4})
    found = matrix(whole)
    assert_close(found, found.T)
    assert np.linalg.eigvalsh(0.5 * (found + found.T)).max() <= 1e-12 * whole.linear.radius
    if whole_force:
        assert_close(found, clipped(jacobian(whole)), 3e-13)
    assert whole.linear.radius == pytest.approx(-np.linalg.eigvalsh(0.5 * (found + found.T)).min(), rel=1e-12)


def test_terms_that_no_mode_serves_stay_nonlinear():
    grid = box((6, 7), {"x": {"a": D, "b": N}})
    parts = "grad2(a) + grad2(b)"
    coupled = flow(["a", "b"], parts + " + 1.3*a*b", grid)
    assert_close(matrix(coupled), jacobian(flow(["a", "b"], parts, grid)))
    nonlinear = flow(["w"], "grad2(w) + w**4/4 + exp(w) + (1 + w)**2*grad2(w)", box((6, 7)))
    assert_close(matrix(nonlinear), jacobian(flow(["w"], "2*grad2(w)", box((6, 7)))))


def test_growth_stays_out():
    grid = box((16,))
    whole = flow(["w"], "grad2(w)/2 - m*w**2/2", grid, parameters={"m": 3.0})
    modes = whole.linear.modes
    assert modes.growth == pytest.approx(3.0)
    assert modes.eigenvalues.max() == 0.0
    assert_close(matrix(whole), clipped(jacobian(whole)))
    assert flow(["w"], "-w**2", grid).linear is None
    assert flow(["w"], "w**4", grid).linear is None
    assert flow(["w"], "0", grid).linear is None


KERNELS = {
    "direct": (sft.Convolution("b", "a", "exp(-x**2/0.9)*(1 + x)", method="direct"), "periodic"),
    "fft": (sft.Convolution("a", "a", "exp(-r**2/0.9)", method="fft"), "periodic"),
    "mirrors": (sft.Convolution("a", "a", "exp(-r**2/0.5)", walls="mirror"), N),
    "fractional": (sft.Fractional("b", 0.5, 0.8), D),
    "two": ([sft.Fractional("b", 1.5, 0.8), sft.Convolution("a", "b", "exp(-r**2/0.9)", about={"a": 1.0})], "periodic"),
}


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_with_a_symbol_join(name):
    kernels, boundary = KERNELS[name]
    whole = flow(["a", "b"], "grad2(a) + 2*grad2(b)", box((7, 8), boundary), kernels=kernels)
    assert_close(matrix(whole), clipped(jacobian(whole)), 3e-13)


def test_kernels_in_other_modes_stay_out():
    grid = box((7, 8), D)
    whole = flow(["w"], "grad2(w)", grid, kernels=sft.Convolution("w", "w", "exp(-r**2/0.5)", walls="mirror"))
    assert_close(matrix(whole), jacobian(flow(["w"], "grad2(w)", grid)))


SOLVES = {
    "1D": (("w",), STIFF, (12,), "periodic"),
    "2D": (("a", "b"), THEORIES["first order"][1], (5, 6), "periodic"),
    "3D": (("a", "b"), "grad2(a) + 2*grad2(b) + 0.8*d(a, x)*d(b, x) + m*a*b", (3, 4, 5), {"z": N, "y": face(D, N)}),
    "walls": (("w",), STIFF, (5, 6), {"y": D, "x": N}),
}


@pytest.mark.parametrize("name", SOLVES)
def test_solve_is_that_of_dense_linear_algebra(name):
    fields, cost, shape, boundary = SOLVES[name]
    whole = flow(fields, cost, box(shape, boundary), parameters={"m": 1.3})
    right = np.random.default_rng(0).standard_normal((len(fields), *shape))
    dense = clipped(jacobian(whole))
    for sigma in (0.0, 1e-3, 1.0, 1e6):
        wanted = np.linalg.solve(np.eye(right.size) - sigma * dense, right.reshape(-1))
        # The array's own rounding moves eigenvalues by this much.
        assert_close(solved(whole, right, sigma).reshape(-1), wanted, 1e-14 * (10 + sigma * whole.linear.radius))


@pytest.mark.parametrize("boundary", ["periodic", N, {"y": N}], ids=["circles", "walls", "both"])
def test_single_precision(boundary):
    cost = "grad2(a) + 2*grad2(b) + 0.8*d(a, x)*d(b, x) + a*b"
    double, single = (flow(["a", "b"], cost, box((8, 9), boundary), dtype=dtype) for dtype in ("float64", "float32"))
    assert single.linear.modes.empty().real.dtype == np.float32
    right = np.random.default_rng(0).standard_normal((2, 8, 9)).astype(np.float32)
    found = solved(single, right, 0.3)
    assert found.dtype == np.float32
    assert_close(found, solved(double, right, 0.3), 1e-6)
    assert_close(applied(single, right), applied(double, right), 1e-6)


@pytest.mark.parametrize("boundary", ["periodic", N, {"y": N}], ids=["circles", "walls", "both"])
def test_solves_allocate_nothing(boundary):
    grid = box((40, 50), boundary)  # a field has 16000 bytes
    whole = flow(["a", "b"], "grad2(a) + 2*grad2(b) + 0.8*d(a, x)*d(b, x) + a*b", grid)
    right, out = whole.layout.zeros(2), whole.layout.zeros(2)
    assert peak_of(lambda: whole.linear.solve(right, 0.1, out, True, 1e-8)) < 8192
    assert peak_of(lambda: whole.linear.apply(right, out)) < 8192


def test_solve_in_place_and_ghosts():
    """The right side may be the result's own array."""
    whole = flow(["w"], STIFF, box((8, 9)), parameters={"m": 1.0})
    right = np.random.default_rng(0).standard_normal((1, 8, 9))
    storage = whole.layout.pad(right)
    whole.linear.solve(storage, 0.2, storage, False, 1e-12)
    assert_close(whole.layout.interior(storage), solved(whole, right, 0.2))


def test_large_grids_use_threads_and_agree():
    grid = box((512, 520))
    whole = flow(["a", "b"], "grad2(a) + 2*grad2(b) + 0.8*d(a, x)*d(b, x) + a*b + a**2 + b**2", grid)
    right = np.random.default_rng(0).standard_normal((2, *grid.shape))
    w = solved(whole, right, 0.3)
    assert_close(w - 0.3 * whole.jvp(w, w), right, 1e-12)


def test_modes_keep_a_field():
    whole = flow(["a", "b"], THEORIES["first order"][1], box((6, 7)), parameters={"m": 1.3})
    modes = whole.linear.modes

    def round_trip(w):
        spectrum, out = modes.empty(), whole.layout.zeros(2)
        modes.forward(whole.layout.pad(w), spectrum)
        modes.backward(spectrum, out)
        return whole.layout.interior(out).copy()

    assert_close(matrix_of(round_trip, 2, (6, 7)), np.eye(84))
