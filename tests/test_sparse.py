"""Sparse kernels against double sums."""

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
    random_fields,
    system,
)
from scipy import sparse

import sftsolve as sft
from sftsolve.errors import ActionError, GridError
from sftsolve.loops import sparse as loops


def random_matrix(cells, density=0.2, seed=0):
    return sparse.random_array((cells, cells), density=density, rng=np.random.default_rng(seed))


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("pair", PAIRS, ids=" ".join)
@pytest.mark.parametrize("form", ["csr", "coo", "csc", "dok"])
def test_equals_the_double_sum(grid, pair, form):
    given = random_matrix(grid.size).asformat(form)
    kernel = sft.Sparse(*pair, given)
    assert_equals_double_sum(kernel, DoubleSum(given.toarray(), *pair, grid), grid)
    assert_gradient(kernel, grid, random_fields(grid, 5))


@pytest.mark.parametrize("pair", PAIRS, ids=" ".join)
def test_about_a_reference(pair):
    grid = GRIDS["3D, walls"]
    given, reference = random_matrix(grid.size), random_fields(grid, 8)
    reference[[n for n, name in enumerate(FIELDS) if name not in pair]] = 0.0
    values = {name: reference[FIELDS.index(name)] for name in pair}
    kernel = sft.Sparse(*pair, given, about=values)
    assert_equals_double_sum(kernel, DoubleSum(given.toarray(), *pair, grid, reference), grid)
    assert not system(kernel, grid).force(reference).any()
    assert system(kernel, grid).cost(reference) == 0.0


def test_entries_that_occur_twice_add_up_and_the_given_matrix_stays():
    grid = GRIDS["1D, circle"]
    rows, columns = np.array([0, 0, 5, 5]), np.array([1, 1, 2, 7])
    given = sparse.csr_array((np.array([1.0, 2.0, 3.0, 4.0]), columns, np.array([0, 2] + [2] * 4 + [4] * 18)), (23, 23))
    before = given.data.copy(), given.indices.copy()
    whole = np.zeros((23, 23))
    np.add.at(whole, (rows, columns), given.data)
    assert_equals_double_sum(sft.Sparse("a", "b", given), DoubleSum(whole, "a", "b", grid), grid)
    assert all(np.array_equal(one, other) for one, other in zip(before, (given.data, given.indices), strict=True))


def test_rows_without_entries():
    grid = GRIDS["1D, circle"]
    given = sparse.csr_array((23, 23))
    whole = system(sft.Sparse("a", "a", given), grid)
    assert not whole.force(random_fields(grid)).any()
    assert whole.kernels[0].bound() == 0.0


def test_bits_do_not_depend_on_threads(monkeypatch):
    grid = sft.Grid((150, 300), (1.0, 1.0))
    given = random_matrix(grid.size, 2e-4)
    w, found = random_fields(grid), []
    for threads in (1, 2, 3, 7):
        monkeypatch.setattr(loops, "slabs", lambda cells, threads=threads: threads)
        whole = system(sft.Sparse("a", "b", given, about={"a": 1.0}), grid)
        found.append((whole.force(w).tobytes(), whole.cost(w)))
    assert all(other == found[0] for other in found[1:])
    a, b, h = w[2].reshape(-1) - 1.0, w[0].reshape(-1), grid.cell_volume
    expected = np.stack([-h * given.T @ a, 0 * a, -h * given @ b]).reshape(w.shape)
    np.testing.assert_allclose(np.frombuffer(found[0][0]).reshape(w.shape), expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_allocates_nothing():
    grid = sft.Grid((64, 64), (1.0, 1.0))
    whole = system(sft.Sparse("a", "b", random_matrix(grid.size, 0.01)), grid)
    assert_allocates_nothing(whole)


@pytest.mark.parametrize("pair", PAIRS[:2], ids=" ".join)
def test_bound_is_above_the_spectral_radius(pair):
    grid = GRIDS["2D, walls and a circle"]
    given = random_matrix(grid.size)
    operator = system(sft.Sparse(*pair, given), grid).kernels[0]
    radius = np.abs(np.linalg.eigvalsh(DoubleSum(given.toarray(), *pair, grid).jacobian())).max()
    assert radius <= operator.bound() < 2 * radius
    assert operator.symbol() is None


def test_asymmetry_is_warned_of(caplog):
    grid = GRIDS["1D, circle"]
    given = random_matrix(grid.size)
    with caplog.at_level(logging.WARNING, "sftsolve"):
        sft.Sparse("a", "b", given)
        sft.Sparse("a", "a", given + given.T)
        assert not caplog.records
        sft.Sparse("a", "a", given)
    assert "only A + A^T acts" in caplog.text


def test_single_precision_is_kept():
    grid = GRIDS["1D, circle"]
    given = random_matrix(grid.size).astype(np.float32)
    kernel = sft.Sparse("a", "b", given)
    assert kernel.matrix.dtype == np.float32
    assert_equals_double_sum(kernel, DoubleSum(given.toarray().astype(float), "a", "b", grid), grid)


def test_states_in_single_precision():
    grid = GRIDS["2D, walls and a circle"]
    assert_single_precision(sft.Sparse("a", "b", random_matrix(grid.size), about={"a": "x"}), grid)


BAD = {
    "an array": (lambda a: ("a", "a", a.toarray()), ActionError, r"square sparse matrix"),
    "not square": (lambda a: ("a", "a", a.tocsr()[:-1]), ActionError, r"square sparse matrix(.|\n)*\(22, 23\)"),
    "of another grid": (lambda a: ("a", "a", a.tocsr()[1:, 1:]), GridError, r"\(23, 23\)(.|\n)*\(22, 22\)"),
    "not finite": (lambda a: ("a", "a", a * np.nan), ActionError, r"not finite"),
    "complex": (lambda a: ("a", "a", a * 1j), ActionError, r"not real"),
    "unknown field": (lambda a: ("a", "d", a), ActionError, r"unknown field 'd'"),
}


@pytest.mark.parametrize("arguments, error, message", BAD.values(), ids=BAD)
def test_bad_input_is_refused(arguments, error, message):
    grid = GRIDS["1D, circle"]
    with pytest.raises(error) as caught:
        system(sft.Sparse(*arguments(random_matrix(grid.size))), grid)
    assert re.search(message, str(caught.value)), caught.value
