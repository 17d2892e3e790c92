"""Full kernels, stored and evaluated, against double sums."""

import logging
import re

import numpy as np
import pytest
from double_sums import (
    FIELDS,
    GRIDS,
    PAIRS,
    DoubleSum,
    assert_allocates_nothing,
    assert_equals_double_sum,
    assert_gradient,
    assert_single_precision,
    points,
    random_fields,
    system,
)

import sftsolve as sft
from sftsolve.errors import ActionError, ExpressionError, GridError
from sftsolve.kernels.protocol import memory_limit
from sftsolve.loops import pairs

PARAMETERS = {"s": 0.3, "c": 0.7}
EXPRESSIONS = {  # by dimension: text, and the same in NumPy
    1: ("exp(-(x-x2)**2/s) + c*x*x2**2", lambda p, q: np.exp(-((p["x"] - q["x"]) ** 2) / 0.3) + 0.7 * p["x"] * q["x"] ** 2),
    2: ("c*tanh(x*y2) - x2/s", lambda p, q: 0.7 * np.tanh(p["x"] * q["y"]) - q["x"] / 0.3),
    3: ("z*x2 + sqrt(c + y*y2*z2)*s", lambda p, q: p["z"] * q["x"] + 0.3 * np.sqrt(0.7 + p["y"] * q["y"] * q["z"])),
}


def evaluated(grid):
    """The expression of the grid's dimension as an array over the cells."""
    one, other = ({axis: values.reshape(shape) for axis, values in points(grid).items()} for shape in ((-1, 1), (1, -1)))
    return EXPRESSIONS[grid.dimension][1](one, other)


def random_matrix(grid, seed=0):
    return np.random.default_rng(seed).standard_normal((grid.size, grid.size))


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("pair", PAIRS, ids=" ".join)
@pytest.mark.parametrize("stored", [True, False], ids=["array", "expression"])
def test_equals_the_double_sum(grid, pair, stored):
    matrix = random_matrix(grid) if stored else evaluated(grid)
    kernel = sft.Dense(*pair, matrix) if stored else sft.Dense(*pair, EXPRESSIONS[grid.dimension][0], PARAMETERS)
    assert_equals_double_sum(kernel, DoubleSum(matrix, *pair, grid), grid)
    assert_gradient(kernel, grid, random_fields(grid, 5))


@pytest.mark.parametrize("stored", [True, False], ids=["array", "expression"])
def test_about_a_reference(stored):
    grid = GRIDS["2D, walls and a circle"]
    matrix, reference = random_matrix(grid) if stored else evaluated(grid), random_fields(grid, 8)
    reference[FIELDS.index("c")] = 0.0
    about = {name: reference[FIELDS.index(name)] for name in "ab"}
    kernel = sft.Dense("a", "b", *((matrix,) if stored else (EXPRESSIONS[2][0], PARAMETERS)), about=about)
    assert_equals_double_sum(kernel, DoubleSum(matrix, "a", "b", grid, reference), grid)
    assert not system(kernel, grid).force(reference).any()


@pytest.mark.parametrize("cells", [1, 3, 130, 2501])
def test_any_number_of_cells(cells):
    """One row, rows that are left over from fours, several blocks of rows, several tiles of columns."""
    grid = sft.Grid((cells,), (1.0,))
    assert_equals_double_sum(
        sft.Dense("a", "b", "cos(9*x*x2) + x"),
        DoubleSum(np.cos(9 * np.outer(*[points(grid)["x"]] * 2)) + points(grid)["x"][:, None], "a", "b", grid),
        grid,
    )
    matrix = random_matrix(grid)
    assert_equals_double_sum(sft.Dense("a", "a", matrix), DoubleSum(matrix, "a", "a", grid), grid)


def test_single_precision_is_kept_and_not_copied():
    grid = GRIDS["1D, circle"]
    matrix = random_matrix(grid).astype(np.float32)
    kernel = sft.Dense("a", "b", matrix)
    assert kernel.entries.matrix is matrix
    assert_equals_double_sum(kernel, DoubleSum(matrix.astype(float), "a", "b", grid), grid)


@pytest.mark.parametrize("stored", [True, False], ids=["array", "expression"])
def test_bits_do_not_depend_on_threads(monkeypatch, stored):
    grid = sft.Grid((600,), (1.0,))
    kernel = sft.Dense("a", "b", random_matrix(grid) if stored else "sin(30*x*x2)/(1+x2)")
    w, found = random_fields(grid), []
    for threads in (1, 2):
        monkeypatch.setattr(pairs, "slabs", lambda cells, threads=threads: threads)
        whole = system(kernel, grid)
        found.append((whole.force(w).tobytes(), whole.cost(w)))
    assert found[0] == found[1]


@pytest.mark.parametrize("stored", [True, False], ids=["array", "expression"])
def test_allocates_nothing(stored):
    grid = sft.Grid((40, 50), (1.0, 1.0))
    whole = system(sft.Dense("a", "b", random_matrix(grid) if stored else "x*y2"), grid)
    assert_allocates_nothing(whole)


@pytest.mark.parametrize("pair", PAIRS[:2], ids=" ".join)
@pytest.mark.parametrize("stored", [True, False], ids=["array", "expression"])
def test_bound_is_above_the_spectral_radius(pair, stored):
    grid = GRIDS["2D, walls and a circle"]
    matrix = random_matrix(grid) if stored else evaluated(grid)
    kernel = sft.Dense(*pair, *((matrix,) if stored else (EXPRESSIONS[2][0], PARAMETERS)))
    operator = system(kernel, grid).kernels[0]
    radius = np.abs(np.linalg.eigvalsh(DoubleSum(matrix, *pair, grid).jacobian())).max()
    assert radius <= operator.bound() < 6 * radius
    assert operator.symbol() is None


@pytest.mark.parametrize(
    "first, second, kernel, warned",
    [
        ("a", "a", "x*x2**2", True),
        ("a", "a", "exp(-(x-x2)**2)", False),
        ("a", "b", "x*x2**2", False),
        ("a", "a", np.triu(np.ones((23, 23))), True),
        ("a", "a", np.ones((23, 23)), False),
        ("a", "b", np.triu(np.ones((23, 23))), False),
    ],
)
def test_asymmetry_is_warned_of(caplog, first, second, kernel, warned):
    with caplog.at_level(logging.WARNING, "sftsolve"):
        system(sft.Dense(first, second, kernel), GRIDS["1D, circle"])
    assert ("only A + A^T acts" in caplog.text) is warned


def test_an_expression_is_never_stored():
    """10^10 pairs are planned for with a few buffers."""
    grid = sft.Grid((100_000,), (1.0,))
    assert sft.Dense("a", "a", "x*x2").estimate(grid).memory < 50e6
    assert sft.Dense("a", "a", "x*x2").estimate(grid).flops >= 4e10


def test_more_memory_than_allowed_is_refused(monkeypatch):
    grid, matrix = GRIDS["1D, circle"], np.ones((23, 23))
    with pytest.raises(GridError, match=r"Dense needs more memory(.|\n)*expression.*LowRank, Sparse or Convolution"):
        system(sft.Dense("a", "a", matrix, memory=1000), grid)
    monkeypatch.setenv("SFTSOLVE_MEMORY", "1000")
    assert memory_limit() == 1000
    with pytest.raises(GridError, match="SFTSOLVE_MEMORY"):
        system(sft.Dense("a", "a", matrix), grid)
    assert system(sft.Dense("a", "a", matrix, memory=1e9), grid)


@pytest.mark.parametrize("kernel", [np.arange(529.0).reshape(23, 23), "exp(x*x2)"], ids=["array", "expression"])
def test_states_in_single_precision(kernel):
    assert_single_precision(sft.Dense("a", "b", kernel, about={"a": "x"}), GRIDS["1D, circle"])


BAD = {
    "not square": (("a", "a", np.ones((23, 22))), ActionError, r"not square"),
    "of another grid": (("a", "a", np.ones((22, 22))), GridError, r"\(23, 23\)(.|\n)*\(22, 22\)"),
    "one NaN": (("a", "a", np.where(np.arange(529).reshape(23, 23) == 50, np.nan, 1.0)), ActionError, r"nan at index \(2, 4\)"),
    "complex": (("a", "a", np.ones((23, 23)) * 1j), ActionError, r"not real"),
    "parameters of an array": (("a", "a", np.ones((23, 23)), {"s": 1.0}), ActionError, r"array has no parameters"),
    "an unknown name": (("a", "a", "x*x3"), ExpressionError, r"unknown name 'x3'"),
    "an axis that the grid lacks": (("a", "a", "x*y2"), ExpressionError, r"unknown name 'y2'"),
    "code": (("a", "a", "x.real"), ExpressionError, r"attribute access"),
    "a parameter called x2": (("a", "a", "x*x2", {"x2": 1.0}), ActionError, r"a name other than"),
    "a parameter that is no number": (("a", "a", "x*s", {"s": "1"}), ActionError, r"finite number"),
    "singular on the diagonal": (("a", "a", "1/(x-x2)"), ActionError, r"inf between(.|\n)*soften"),
    "outside the domain": (("a", "a", "log(x-0.2*x2-0.5)"), ActionError, r"nan between"),
}


@pytest.mark.parametrize("arguments, error, message", BAD.values(), ids=BAD)
def test_bad_input_is_refused(arguments, error, message):
    with pytest.raises(error) as caught:
        system(sft.Dense(*arguments), GRIDS["1D, circle"])
    assert re.search(message, str(caught.value)), caught.value
