"""Lattice couplings against their definition, cell by cell."""

import itertools

import numba
import numpy as np
import pytest
from allocations import peak_of_forces
from direct_sums import check_gradient

import sftsolve as sft
from sftsolve.errors import SftError
from sftsolve.kernels.shift import Shift

WALL = {"value": 0.0}
GRIDS = {
    "1D periodic": ((9,), "periodic"),
    "1D walls": ((8,), WALL),
    "2D mixed": ((5, 7), {"x": WALL}),
    "2D mixed, y walled": ((5, 7), {"y": WALL}),
    "3D periodic": ((4, 3, 5), "periodic"),
    "3D walls": ((4, 3, 5), WALL),
}


def make_grid(name):
    shape, boundary = GRIDS[name]
    return sft.Grid(shape, [0.9, 1.0, 1.1][: len(shape)], boundary=boundary)


def make_system(grid, *kernels, fields=("a", "b")):
    return sft.discretise(sft.Action(fields=list(fields), cost="0", kernels=list(kernels)), grid, dynamics="gradient-flow")


def direct(grid, moves, coefficients, a, b):
    """Cost and both forces of sum_s h^d sum_i c_s,i a_i b_(i+s)."""
    total, on_a, on_b = 0.0, np.zeros(grid.shape), np.zeros(grid.shape)
    for move, c in zip(moves, coefficients, strict=True):
        for i in np.ndindex(grid.shape):
            j = [p + s for p, s in zip(i, move, strict=True)]
            j = [q % n if grid.periodic(axis) else q for q, n, axis in zip(j, grid.shape, grid.axes, strict=True)]
            if all(0 <= q < n for q, n in zip(j, grid.shape, strict=True)):
                j = tuple(j)
                total += grid.cell_volume * c[i] * a[i] * b[j]
                on_a[i] -= c[i] * b[j]
                on_b[j] -= c[i] * a[i]
    return total, on_a, on_b


def some_moves(grid):
    """Short, long, negative and too long displacements."""
    steps = {1: [(0,), (1,), (-3,), (7,), (-20,)], 2: [(0, 1), (1, -2), (-3, 4), (2, 6), (9, -1)]}
    return steps.get(grid.dimension, [(0, 0, 1), (1, -2, 3), (-3, 1, -4), (2, 2, 4), (0, 5, 0)])


@pytest.mark.parametrize("varying", [False, True])
@pytest.mark.parametrize("name", GRIDS)
def test_equals_the_sum_over_cells(name, varying):
    grid = make_grid(name)
    rng = np.random.default_rng(0)
    moves = some_moves(grid)
    coefficients = rng.standard_normal((len(moves), *grid.shape))
    if not varying:
        coefficients[...] = rng.standard_normal((len(moves),) + (1,) * grid.dimension)
    given = list(coefficients) if varying else [float(c.flat[0]) for c in coefficients]
    a, b = rng.standard_normal((2, *grid.shape))
    total, on_a, on_b = direct(grid, moves, coefficients, a, b)
    system = make_system(grid, Shift("a", "b", moves, given))
    w = np.stack([a, b])
    np.testing.assert_allclose(system.force(w), [on_a, on_b], atol=1e-13)
    assert system.cost(w) == pytest.approx(total, rel=1e-12)
    check_gradient(system, w)
    total, on_a, on_b = direct(grid, moves, coefficients, a, a)
    alone = make_system(grid, Shift("a", "a", moves, given), fields="a")
    np.testing.assert_allclose(alone.force(a[None])[0], on_a + on_b, atol=1e-13)
    assert alone.cost(a[None]) == pytest.approx(total, rel=1e-12)
    check_gradient(alone, a[None])


def test_one_displacement_number_and_expression():
    grid = make_grid("2D mixed, y walled")
    rng = np.random.default_rng(1)
    w = rng.standard_normal((2, *grid.shape))
    coefficients = np.broadcast_to(1 + grid.coordinates[1] ** 2, grid.shape)
    total, on_a, on_b = direct(grid, [(1, -1)], [coefficients], *w)
    system = make_system(grid, Shift("a", "b", (1, -1), "1 + x**2"))
    np.testing.assert_allclose(system.force(w), [on_a, on_b], atol=1e-13)
    assert system.cost(w) == pytest.approx(total, rel=1e-12)
    line = sft.Grid(6, 1.0)
    v = rng.standard_normal((1, 6))
    np.testing.assert_allclose(
        make_system(line, Shift("a", "a", 2, 3.0), fields="a").force(v)[0], -3 * (np.roll(v[0], -2) + np.roll(v[0], 2))
    )


def test_about_a_reference():
    grid = make_grid("2D mixed")
    rng = np.random.default_rng(2)
    w, reference, c = rng.standard_normal((2, *grid.shape)), rng.standard_normal(grid.shape), rng.standard_normal(grid.shape)
    moves = [(0, 1), (1, -2)]
    system = make_system(grid, Shift("a", "b", moves, [c, 2.0], about={"b": reference}))
    total, on_a, on_b = direct(grid, moves, [c, np.full(grid.shape, 2.0)], w[0], w[1] - reference)
    np.testing.assert_allclose(system.force(w), [on_a, on_b], atol=1e-13)
    assert system.cost(w) == pytest.approx(total, rel=1e-12)
    check_gradient(system, w)


@pytest.mark.parametrize("fields", ["aa", "ab"])
def test_symbol_and_bound_are_those_of_the_jacobian(fields):
    grid = sft.Grid((4, 6), (1.0, 1.0))
    system = make_system(grid, Shift(*fields, [(0, 1), (1, -2), (2, 3)], [0.7, -1.2, 0.4]))
    zero = np.zeros((2, *grid.shape))
    values = np.linalg.eigvalsh([system.jvp(zero, e.reshape(zero.shape)).ravel() for e in np.eye(zero.size)])
    symbol = system.kernels[0].symbol()
    assert symbol.shape == (2, 2, 4, 4)
    found = np.linalg.eigvalsh(symbol.reshape(2, 2, -1).transpose(2, 0, 1)).reshape(4, 4, 2)
    whole = np.concatenate([found.ravel(), found[:, 1:3].ravel()])
    np.testing.assert_allclose(np.sort(whole), np.sort(values), atol=1e-13)
    assert system.kernels[0].bound() == pytest.approx(2.3 * (2 if fields == "aa" else 1))
    assert np.abs(values).max() <= system.kernels[0].bound() * (1 + 1e-12)
    walled = make_system(make_grid("2D mixed"), Shift(*fields, (0, 1)))
    assert walled.kernels[0].symbol() is None


@pytest.mark.parametrize("coefficient", [1.5, "1 + x"])
def test_single_precision(coefficient):
    grid = make_grid("2D mixed")
    action = sft.Action(["a", "b"], kernels=[Shift("a", "b", (1, -2), coefficient, about={"a": 0.5})])
    w = np.random.default_rng(0).standard_normal((2, *grid.shape))
    single, double = (sft.discretise(action, grid, dynamics="gradient-flow", dtype=d) for d in ("float32", "float64"))
    found, expected = single.force(w.astype("float32")), double.force(w)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())
    assert single.cost(w.astype("float32")) == pytest.approx(double.cost(w), rel=1e-5)


def test_bits_do_not_depend_on_threads(monkeypatch):
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("one processor")
    limit = numba.get_num_threads()
    grid = sft.Grid((40, 5000), (1.0, 1.0))
    rng = np.random.default_rng(3)
    w = rng.standard_normal((2, *grid.shape))
    kernel = Shift("a", "b", [(1, 4300), (0, -7)], [rng.standard_normal(grid.shape), 1.5])
    results = []
    try:
        for threads in (1, 2):
            monkeypatch.setenv("SFTSOLVE_THREADS", str(threads))
            system = make_system(grid, kernel)
            results.append((system.force(w), system.cost(w)))
    finally:
        numba.set_num_threads(limit)
    np.testing.assert_array_equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]
    expected = -rng_free(w[1], kernel, grid)
    np.testing.assert_allclose(results[0][0][0], expected, atol=1e-13)


def rng_free(b, kernel, grid):
    """sum_s c_s(x) b(x + s) by rolling."""
    c = kernel.coefficients[0].values(grid, {})
    return c * np.roll(b, (-1, -4300), (0, 1)) + 1.5 * np.roll(b, (0, 7), (0, 1))


def test_nothing_of_field_size_is_allocated():
    grid = sft.Grid((100, 110), (1.0, 1.0))
    system = make_system(grid, Shift("a", "b", list(itertools.product((-1, 0, 1), repeat=2)), "x"))
    assert peak_of_forces(system, {"a": "x", "b": "y"}) < grid.size


GRID = sft.Grid((8, 10), (1.0, 1.0))
BAD = {
    "a fraction": ({"displacement": (0.5, 1)}, "displacement of Shift", "whole numbers"),
    "text": ({"displacement": "left"}, "displacement of Shift", "whole numbers"),
    "no axis": ({"displacement": []}, "displacement", "axis"),
    "axes that differ": ({"displacement": [(1, 0), (1,)]}, "differ in length", "one number an axis"),
    "another grid's": ({"displacement": (1, 0, 0)}, "do not fit the grid", "2 whole numbers"),
    "coefficients too few": ({"displacement": [(1, 0), (0, 1)], "coefficient": [1.0]}, "one coefficient a displacement", "2"),
    "coefficient's shape": ({"displacement": (1, 0), "coefficient": np.ones(3)}, "coefficient", "(8, 10)"),
    "NaN": ({"displacement": (1, 0), "coefficient": np.nan}, "coefficient", "finite"),
    "unknown name": ({"displacement": (1, 0), "coefficient": "q*x"}, "unknown name 'q'", "known"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_answered(name):
    arguments, *words = BAD[name]
    with pytest.raises(SftError) as caught:
        make_system(GRID, Shift("a", "b", **arguments))
    for word in words:
        assert word in str(caught.value)


def test_memory_is_refused_before_it_is_taken(monkeypatch):
    kernel = Shift("a", "b", [(0, 1), (1, 0)], ["x", 2.0])
    assert kernel.estimate(GRID).memory == 8 * GRID.size
    monkeypatch.setenv("SFTSOLVE_MEMORY", "500")
    with pytest.raises(SftError, match="more memory"):
        make_system(GRID, kernel)
