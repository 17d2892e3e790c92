"""Convolutions against the direct double sum, SciPy's filters and Fourier multipliers, by every method at every kind of end."""

import json
import math

import numba
import numpy as np
import pytest
from allocations import peak_of_forces
from direct_sums import check_gradient, cost, counted_calls, displacement_weights, forces
from scipy import ndimage, signal

import sftsolve as sft
from sftsolve.errors import SftError
from sftsolve.kernels import crossover, providers, transforms
from sftsolve.kernels.convolution import Convolution
from sftsolve.kernels.engines import Space
from sftsolve.kernels.methods import METHODS
from sftsolve.kernels.stencil import Stencil
from sftsolve.state import Layout

WALL = {"derivative": 0.0}
GRIDS = {
    "1D periodic": ((13,), "periodic"),
    "1D walls": ((12,), WALL),
    "2D periodic": ((6, 9), "periodic"),
    "2D walls": ((7, 6), WALL),
    "2D mixed": ((6, 7), {"x": "periodic", "y": WALL}),
    "2D mixed, x walled": ((6, 7), {"x": WALL}),
    "3D periodic": ((4, 5, 6), "periodic"),
    "3D mixed": ((4, 3, 5), {"z": WALL, "x": WALL}),
}
# One expression and its meaning a kind of kernel; the displacement comes in axis order, x last.
EVEN = ("exp(-r**2/s)/(1 + r**2)", lambda *m: math.exp(-sum(c * c for c in m) / 0.08) / (1 + sum(c * c for c in m)))
SKEW = ("exp(-r**2/s)*(1 + 3*x)", lambda *m: math.exp(-sum(c * c for c in m) / 0.08) * (1 + 3 * m[-1]))
GAUSSIAN = ("exp(-r**2/s)", lambda *m: math.exp(-sum(c * c for c in m) / 0.08))


def make_grid(name):
    shape, boundary = GRIDS[name]
    return sft.Grid(shape=shape, length=[0.9, 1.0, 1.1][: len(shape)], boundary=boundary)


def make_system(grid, *kernels, fields=("a", "b")):
    return sft.discretise(sft.Action(fields=list(fields), cost="0", kernels=list(kernels)), grid, dynamics="gradient-flow")


def random_fields(grid, count=2, seed=0):
    return np.random.default_rng(seed).standard_normal((count, *grid.shape))


@pytest.mark.parametrize("method", ["direct", "overlap", "fft"])
@pytest.mark.parametrize("walls", ["zero", "mirror"])
@pytest.mark.parametrize("name", GRIDS)
def test_equals_the_double_sum_between_two_fields(name, walls, method):
    grid = make_grid(name)
    mirrored = walls == "mirror" and "x" in grid.walls
    text, k = EVEN if mirrored else SKEW
    matrix = displacement_weights(grid, k, walls)
    w = random_fields(grid)
    system = make_system(grid, Convolution("a", "b", text, {"s": 0.08}, walls=walls, method=method))
    expected = forces(grid, matrix, *w)
    np.testing.assert_allclose(system.force(w), expected, atol=1e-12 * np.abs(expected).max())
    assert system.cost(w) == pytest.approx(cost(grid, matrix, *w), rel=1e-12)
    check_gradient(system, w)


@pytest.mark.parametrize("method", ["direct", "separable", "overlap", "fft"])
@pytest.mark.parametrize("walls", ["zero", "mirror"])
@pytest.mark.parametrize("name", GRIDS)
def test_equals_the_double_sum_on_one_field(name, walls, method):
    grid = make_grid(name)
    text, k = GAUSSIAN
    matrix = displacement_weights(grid, k, walls)
    w = random_fields(grid, 1)
    system = make_system(grid, Convolution("a", "a", text, {"s": 0.08}, walls=walls, method=method), fields="a")
    expected = forces(grid, matrix, w[0], w[0]).sum(axis=0)
    np.testing.assert_allclose(system.force(w)[0], expected, atol=1e-12 * np.abs(expected).max())
    assert system.cost(w) == pytest.approx(cost(grid, matrix, w[0], w[0]), rel=1e-12)
    check_gradient(system, w)


@pytest.mark.parametrize("method", ["direct", "overlap", "fft"])
def test_only_the_even_part_acts_on_one_field(method):
    grid = make_grid("2D periodic")
    w = random_fields(grid, 1)
    matrix = displacement_weights(grid, SKEW[1])
    system = make_system(grid, Convolution("a", "a", SKEW[0], {"s": 0.08}, method=method), fields="a")
    expected = forces(grid, matrix, w[0], w[0]).sum(axis=0)
    np.testing.assert_allclose(system.force(w)[0], expected, atol=1e-12 * np.abs(expected).max())
    check_gradient(system, w)


MODES = {"periodic": "wrap", "zero": "constant", "mirror": "reflect"}


@pytest.mark.parametrize("ends", MODES)
@pytest.mark.parametrize("method", ["direct", "separable", "overlap", "fft"])
@pytest.mark.parametrize("shape, extents", [((150,), (23,)), ((37, 300), (9, 5)), ((65, 70), (1, 9)), ((20, 33, 40), (5, 3, 7))])
def test_agrees_with_scipy_beyond_one_tile(shape, extents, method, ends):
    rng = np.random.default_rng(1)
    grid = sft.Grid(shape, [n / 10 for n in shape], boundary="periodic" if ends == "periodic" else WALL)
    lines = [rng.random(n) + 0.1 for n in extents]
    if ends == "mirror":
        lines = [line + line[::-1] for line in lines]
    stencil = lines[0]
    for line in lines[1:]:
        stencil = np.multiply.outer(stencil, line)
    if method == "direct" and ends != "mirror":
        stencil = stencil * rng.random(extents)
    w = random_fields(grid)
    walls = "mirror" if ends == "mirror" else "zero"
    system = make_system(grid, Convolution("a", "b", stencil, walls=walls, method=method))
    expected = -grid.cell_volume * ndimage.convolve(w[1], stencil, mode=MODES[ends])
    adjoint = -grid.cell_volume * ndimage.correlate(w[0], stencil, mode=MODES[ends])
    np.testing.assert_allclose(system.force(w), [expected, adjoint], atol=1e-13 * np.abs(stencil).sum() * grid.cell_volume * 5)
    assert system.cost(w) == pytest.approx(-grid.cell_volume * float(np.sum(w[0] * expected)), rel=1e-11)


def test_walls_by_axis():
    grid = sft.Grid((20, 30), (1.0, 1.5), boundary=WALL)
    lines = np.array([1.0, 2.0, 1.0]), np.array([1.0, 3.0, 1.0])
    w = random_fields(grid)
    along_y = ndimage.convolve1d(w[1], lines[0], axis=0, mode="reflect")
    expected = -grid.cell_volume * ndimage.convolve1d(along_y, lines[1], axis=1, mode="constant")
    for method in ("direct", "separable", "overlap", "fft"):
        system = make_system(grid, Convolution("a", "b", np.outer(*lines), walls={"y": "mirror"}, method=method))
        np.testing.assert_allclose(system.force(w)[0], expected, atol=1e-13)


@pytest.mark.parametrize("method", ["direct", "overlap", "fft"])
@pytest.mark.parametrize("shape", [(12,), (5, 8), (7, 7)])
def test_arrays_of_the_grids_shape(shape, method):
    grid = sft.Grid(shape, [1.0] * len(shape))
    values = np.random.default_rng(3).standard_normal(shape)
    w = random_fields(grid)
    product = np.fft.ifftn(np.fft.fftn(values) * np.fft.fftn(w[1])).real
    system = make_system(grid, Convolution("a", "b", values, method=method))
    np.testing.assert_allclose(system.force(w)[0], -grid.cell_volume * product, atol=1e-13)
    centred = make_system(grid, Convolution("a", "b", np.fft.fftshift(values), centred=True, method=method))
    np.testing.assert_allclose(centred.force(w), system.force(w), atol=1e-13)


@pytest.mark.parametrize("method", ["direct", "separable", "overlap", "fft"])
def test_wide_arrays_reach_across_a_walled_box(method):
    grid = sft.Grid((9, 8), (1.0, 1.0), boundary=WALL)
    lines = np.random.default_rng(4).random((2, 17)) + 0.1
    stencil = np.outer(lines[0], lines[1][:15])
    w = random_fields(grid)
    system = make_system(grid, Convolution("a", "b", stencil, method=method))
    expected = -grid.cell_volume * signal.convolve2d(w[1], stencil, mode="full")[8 : 8 + 9, 7 : 7 + 8]
    np.testing.assert_allclose(system.force(w)[0], expected, atol=1e-12)


@pytest.mark.parametrize("method", ["direct", "separable", "overlap", "fft"])
def test_about_a_reference(method):
    grid = make_grid("2D mixed")
    w, reference = random_fields(grid), random_fields(grid, seed=9)
    matrix = displacement_weights(grid, GAUSSIAN[1])
    about = {"a": reference[0], "b": "1 + x"}
    shifted = w - np.stack([reference[0], np.broadcast_to(1 + grid.coordinates[1], grid.shape)])
    system = make_system(grid, Convolution("a", "b", GAUSSIAN[0], {"s": 0.08}, about=about, method=method))
    expected = forces(grid, matrix, *shifted)
    np.testing.assert_allclose(system.force(w), expected, atol=1e-12 * np.abs(expected).max())
    assert system.cost(w) == pytest.approx(cost(grid, matrix, *shifted), rel=1e-12)
    check_gradient(system, w)


@pytest.mark.parametrize("method", ["direct", "overlap", "fft"])
def test_amplitudes_vary_in_time(method):
    grid = make_grid("2D periodic")
    w = random_fields(grid)
    plain = make_system(grid, Convolution("a", "b", SKEW[0], {"s": 0.08}, method=method))
    parameters = {"s": 0.08, "f": 3.0}
    moving = make_system(grid, Convolution("a", "b", SKEW[0], parameters, amplitude="2*cos(f*t)", method=method))
    for t in (0.0, 0.4, 1.7):
        factor = 2 * math.cos(3 * t)
        np.testing.assert_allclose(moving.force(w, t), factor * plain.force(w), atol=1e-13)
        assert moving.cost(w, t) == pytest.approx(factor * plain.cost(w), rel=1e-12)
        check_gradient(moving, w, t)
        assert moving.kernels[0].bound(t) == pytest.approx(abs(factor) * plain.kernels[0].bound(), rel=1e-12)
    assert moving.kernels[0].symbol() is None


@pytest.mark.parametrize("method", ["direct", "overlap", "fft"])
def test_plane_waves_are_multiplied_by_the_fourier_transform_of_k(method):
    # A periodic sum of Gaussians, exp(-x^2/2s^2) with s << L, has the transform s sqrt(2 pi) exp(-q^2 s^2/2).
    grid, s = sft.Grid((64,), (2.0,)), 0.07
    system = make_system(grid, Convolution("a", "a", "exp(-r**2/(2*s**2))", {"s": s}, method=method), fields="a")
    x = grid.coordinates[0]
    for number in (0, 1, 5, 11):
        q = 2 * math.pi * number / 2.0
        multiplier = s * math.sqrt(2 * math.pi) * math.exp(-((q * s) ** 2) / 2)
        w = np.cos(q * x + 0.3)[None]
        np.testing.assert_allclose(system.force(w), -2 * multiplier * w, atol=1e-13)


@pytest.mark.parametrize("method", ["direct", "overlap", "fft"])
@pytest.mark.parametrize("name, walls", [("1D periodic", "zero"), ("2D periodic", "zero"), ("2D walls", "mirror")])
def test_symbol_and_bound_are_those_of_the_jacobian(name, walls, method):
    grid = make_grid(name)
    text = EVEN[0] if walls == "mirror" else SKEW[0]
    kernels = [Convolution("a", "b", text, {"s": 0.08}, walls=walls, method=method)]
    kernels.append(Convolution("b", "b", EVEN[0], {"s": 0.08}, amplitude=0.5, walls=walls, method=method))
    system = make_system(grid, *kernels)
    size = 2 * grid.size
    jacobian = np.array([system.jvp(np.zeros((2, *grid.shape)), e.reshape(2, *grid.shape)).ravel() for e in np.eye(size)])
    values = np.sort(np.linalg.eigvalsh(jacobian))
    assert np.abs(values).max() <= sum(operator.bound() for operator in system.kernels) * (1 + 1e-12)
    symbol = sum(operator.symbol() for operator in system.kernels)
    modes = symbol.reshape(2, 2, -1).transpose(2, 0, 1)
    found = np.linalg.eigvalsh(modes)
    if walls == "mirror":
        np.testing.assert_allclose(np.sort(found.ravel()), values, atol=1e-12)
        return
    half = grid.shape[-1] // 2 + 1  # of every pair of modes q, -q one is there, but for those that are their own partner
    kept = found.reshape(*grid.shape[:-1], half, 2)
    partner = kept[..., 1 : (grid.shape[-1] + 1) // 2, :]
    np.testing.assert_allclose(np.sort(np.concatenate([kept.ravel(), partner.ravel()])), values, atol=1e-12)


def test_kernels_of_one_field_share_its_transform(monkeypatch):
    grid = sft.Grid((30, 32), (1.0, 1.2), boundary={"y": WALL})
    rng = np.random.default_rng(2)
    stencils = {pair: rng.standard_normal((9, 7)) for pair in (("a", "a"), ("a", "b"), ("b", "c"), ("b", "a"))}
    kernels = [Convolution(*pair, k, method="fft") for pair, k in stencils.items()]
    kernels.append(Convolution("a", "c", rng.standard_normal((3, 3)), amplitude="cos(t)", method="fft"))
    together = make_system(grid, *kernels, fields="abc")
    assert len(together.kernels) == 1
    w = random_fields(grid, 3)
    apart = [make_system(grid, kernel, fields="abc") for kernel in kernels]
    t = 0.7
    np.testing.assert_allclose(together.force(w, t), sum(system.force(w, t) for system in apart), atol=1e-13)
    assert together.cost(w, t) == pytest.approx(sum(system.cost(w, t) for system in apart), rel=1e-11)
    check_gradient(together, w, t)
    counts = counted_calls(monkeypatch, transforms.Transform, ("forward", "backward"))
    together.force(w, t)
    assert counts == {"forward": 3, "backward": 3}


def test_kernels_with_and_without_reference_merge():
    grid = make_grid("2D periodic")
    w = random_fields(grid)
    kernels = [
        Convolution("a", "b", SKEW[0], {"s": 0.08}, method="fft"),
        Convolution("a", "b", GAUSSIAN[0], {"s": 0.08}, about={"a": 1.0, "b": "x"}, method="fft"),
        Convolution("b", "b", GAUSSIAN[0], {"s": 0.05}, method="fft"),
    ]
    together = make_system(grid, *kernels)
    assert len(together.kernels) == 1
    apart = [make_system(grid, kernel) for kernel in kernels]
    np.testing.assert_allclose(together.force(w), sum(system.force(w) for system in apart), atol=1e-13)
    assert together.cost(w) == pytest.approx(sum(system.cost(w) for system in apart), rel=1e-12)
    check_gradient(together, w)


@pytest.mark.parametrize("method", ["direct", "separable", "overlap", "fft"])
def test_bits_do_not_depend_on_threads(method, monkeypatch):
    limit = numba.get_num_threads()
    grid = sft.Grid((190, 210), (1.0, 1.0), boundary={"y": WALL})
    w = random_fields(grid)
    results = []
    try:
        for threads in (1, 2):
            if threads > numba.config.NUMBA_NUM_THREADS:
                pytest.skip("one processor")
            monkeypatch.setenv("SFTSOLVE_THREADS", str(threads))
            kernel = Convolution("a", "b", "exp(-r**2/(2*s**2))", {"s": 0.01}, method=method)
            system = make_system(grid, kernel, Convolution("b", "b", "exp(-r**2/(2*s**2))", {"s": 0.01}, method=method))
            results.append((system.force(w), system.cost(w)))
    finally:
        numba.set_num_threads(limit)
    np.testing.assert_array_equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]


@pytest.mark.parametrize("method", ["direct", "separable", "overlap", "fft"])
@pytest.mark.parametrize("about", [None, {"a": 1.0}])
def test_nothing_of_field_size_is_allocated(method, about):
    if method == "fft" and not providers.works(providers.Preallocated(1)):
        pytest.skip("this SciPy makes arrays of its own")
    grid = sft.Grid((128, 128), (1.0, 1.0), boundary={"x": WALL})
    kernel = Convolution("a", "b", "exp(-r**2/(2*s**2))", {"s": 0.02}, amplitude="1 + t", about=about, method=method)
    system = make_system(grid, kernel)
    assert peak_of_forces(system, {"a": "x", "b": "y"}) < grid.size


@pytest.mark.parametrize("method", ["direct", "separable", "overlap", "fft"])
@pytest.mark.parametrize("fields", ["aa", "ab"])
def test_single_precision(method, fields):
    grid = sft.Grid((40, 48), (1.0, 1.0), boundary={"x": WALL})
    kernel = Convolution(*fields, "exp(-r**2/s)", {"s": 1e-3}, about={"a": 0.5}, method=method)
    action = sft.Action(["a", "b"], kernels=[kernel])
    w = random_fields(grid)
    single, double = (sft.discretise(action, grid, dynamics="gradient-flow", dtype=d) for d in ("float32", "float64"))
    found, expected = single.force(w.astype("float32")), double.force(w)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())
    assert single.cost(w.astype("float32")) == pytest.approx(double.cost(w), rel=1e-5)


def test_weights_below_rounding_are_left_out():
    grid = sft.Grid((200,), (1.0,))
    space = Space(Layout.of(grid, 0), (0, 0, 0))
    kernel = Convolution("a", "a", "exp(-r**2/(2*s**2))", {"s": 0.02})
    stencil = kernel.profile.on(grid, (0,))
    assert 30 < stencil.reach[0] < 40  # exp(-m^2/32) = 2^-53 at m = 34
    assert stencil.weight == pytest.approx(0.02 * math.sqrt(2 * math.pi), rel=1e-14)
    assert crossover.quickest(stencil, space) in METHODS


def test_stencils_know_their_symmetry_and_factors():
    line = np.array([1.0, 2.0, 0.5])
    product = Stencil(np.multiply.outer(line, line[::-1]), (-1, 0))
    factors = product.factors()
    np.testing.assert_allclose(np.multiply.outer(*factors), product.values, rtol=1e-15)
    assert Stencil(product.values + np.eye(3), (-1, 0)).factors() is None
    assert product.transposed().lowest == (-1, -2)
    assert not product.is_even()
    assert (product + product.transposed()).is_even()
    assert Stencil(np.ones((3, 2)), (-1, 0)).is_even(0) and not Stencil(np.ones((3, 2)), (-1, 0)).is_even(1)


def test_the_choice_follows_the_work():
    def choice(shape, stencil, **more):
        grid = sft.Grid(shape, [1.0] * len(shape), **more)
        space = Space(Layout.of(grid, 0), (0,) * 3)
        return crossover.quickest(Stencil(stencil, tuple(-(n // 2) for n in stencil.shape)), space)

    rng = np.random.default_rng(0)
    assert choice((512, 512), rng.random((3, 3))) == "direct"
    assert choice((512, 512), rng.random((65, 65))) == "fft"
    line = rng.random(9)
    assert choice((512, 512), np.multiply.outer(line, line)) == "separable"
    assert choice((100_000,), rng.random(5)) == "direct"
    assert choice((1 << 20,), rng.random(2001)) == "overlap"
    assert choice((100_000,), rng.random(99_999)) == "fft"


def test_measured_constants_replace_the_stored_ones(tmp_path, monkeypatch):
    monkeypatch.setenv("SFTSOLVE_CACHE", str(tmp_path))
    crossover.costs.cache_clear()
    try:
        assert crossover.costs() == crossover.STORED
        crossover.costs.cache_clear()
        measured = crossover.measure(budget=0.02)
        assert crossover.costs() == measured
        for broken in ("{", json.dumps({"processor": "another", "costs": {}}), json.dumps({"processor": 3})):
            crossover.constants_file().write_text(broken)
            crossover.costs.cache_clear()
            assert crossover.costs() == crossover.STORED
    finally:
        crossover.costs.cache_clear()


PERIODIC_2D = sft.Grid((8, 10), (1.0, 1.0))
WALLED_2D = sft.Grid((8, 10), (1.0, 1.0), boundary=WALL)
BAD = {
    "even extents": (PERIODIC_2D, {"k": np.ones((4, 4))}, "wrong shape", "odd extents"),
    "too many axes": (PERIODIC_2D, {"k": np.ones((3, 3, 3))}, "wrong shape", "odd extents"),
    "larger than the circle": (PERIODIC_2D, {"k": np.ones((9, 3))}, "wrong shape", "at most (8, 10)"),
    "the grid's shape at walls": (WALLED_2D, {"k": np.ones((8, 10))}, "wrong shape", "at most (15, 19)"),
    "NaN": (PERIODIC_2D, {"k": np.full((3, 3), np.nan)}, "not finite", "finite"),
    "infinite at zero": (PERIODIC_2D, {"k": "1/r"}, "not finite", "displacement (0, 0)"),
    "does not decay": (WALLED_2D, {"k": "cos(x)"}, "does not decay", "axis y"),
    "does not decay at mirrors": (WALLED_2D, {"k": "1 + r", "walls": "mirror"}, "does not decay", "axis y"),
    "not even at a mirror": (WALLED_2D, {"k": "exp(-50*r**2)*(1+x)", "walls": "mirror"}, "not even along x", "zero"),
    "not separable": (PERIODIC_2D, {"k": "exp(-9*r)", "method": "separable"}, "separable", "product"),
    "unknown name": (PERIODIC_2D, {"k": "exp(-q*r**2)"}, "unknown name 'q'", "known"),
    "an axis too many": (PERIODIC_2D, {"k": "exp(-z**2)"}, "names an axis", "y, x and r"),
    "unknown method": (PERIODIC_2D, {"k": "exp(-r**2)", "method": "magic"}, "method=", "fft"),
    "unknown walls": (WALLED_2D, {"k": "exp(-90*r**2)", "walls": "soft"}, "walls=", "mirror"),
    "parameter that is taken": (PERIODIC_2D, {"k": "exp(-r)", "parameters": {"r": 1.0}}, "called 'r'", "other than"),
    "parameter that is infinite": (PERIODIC_2D, {"k": "exp(-s*r)", "parameters": {"s": np.inf}}, "parameter 's'", "finite"),
    "amplitude of x": (PERIODIC_2D, {"k": "exp(-r)", "amplitude": "cos(x)"}, "amplitude", "unknown name 'x'"),
    "amplitude that is NaN": (PERIODIC_2D, {"k": "exp(-r)", "amplitude": np.nan}, "amplitude", "finite"),
    "about for two fields": (PERIODIC_2D, {"k": "exp(-r)", "about": 1.0}, "about=", "'a'"),
    "about of the wrong shape": (PERIODIC_2D, {"k": "exp(-r)", "about": {"a": np.ones(3)}}, "about=", "(8, 10)"),
    "text that is code": (PERIODIC_2D, {"k": "__import__('os')"}, "kernel of Convolution", ""),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_answered(name):
    grid, arguments, *words = BAD[name]
    with pytest.raises(SftError) as caught:
        make_system(grid, Convolution("a", "b", **arguments))
    for word in words:
        assert word in str(caught.value)


def test_values_given_as_an_array_need_not_decay():
    ones = np.ones((15, 19))
    w = random_fields(WALLED_2D)
    force = make_system(WALLED_2D, Convolution("a", "b", ones)).force(w)
    np.testing.assert_allclose(force[0], -WALLED_2D.cell_volume * w[1].sum(), rtol=1e-12)


def test_memory_is_known_before_it_is_taken(monkeypatch):
    grid = sft.Grid((64, 64), (1.0, 1.0))
    kernel = Convolution("a", "a", "exp(-9*r)", method="fft")
    estimate = kernel.estimate(grid)
    system = make_system(grid, kernel, fields="a")
    system.cost(np.ones((1, 64, 64)))
    held = system.kernels[0]._parts.workspace.bytes + system.kernels[0]._parts._symbols.nbytes
    assert 0.9 < held / estimate.memory < 1.2
    assert estimate.flops > 0 and estimate.bytes > 0
    monkeypatch.setenv("SFTSOLVE_MEMORY", str(0.5 * estimate.memory))
    with pytest.raises(SftError, match="more memory"):
        make_system(grid, kernel, fields="a")


def test_long_rows_are_shared_out_in_pieces():
    """One axis of so many cells that threads share its passes: a padded transform against SciPy's, at both walls and between."""
    n, reach = (1 << 20) + 5, 40
    rng = np.random.default_rng(6)
    stencil, w = rng.standard_normal(2 * reach + 1), rng.standard_normal(n)
    grid = sft.Grid((n,), 1.0, boundary={"value": 0.0})
    kernel = sft.Convolution("a", "b", stencil, method="fft")
    system = sft.discretise(sft.Action(["a", "b"], "0", kernels=[kernel]), grid, dynamics="gradient-flow")
    force = system.force(np.stack([np.zeros(n), w]))[0]
    expected = -grid.cell_volume * signal.fftconvolve(w, stencil, mode="same")
    assert np.max(np.abs(force - expected)) < 1e-12 * np.max(np.abs(expected))
