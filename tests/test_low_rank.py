"""Low-rank kernels against double sums, dense matrices and a closed-form flow."""

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
from scipy import linalg

import sftsolve as sft
from sftsolve.errors import ActionError, GridError
from sftsolve.loops import projection

RANK = 7  # four functions at a time, and three that are left


def functions(grid, seed, rank=RANK):
    return np.random.default_rng(seed).standard_normal((rank, *grid.shape))


def matrix(phi, psi, weights):
    return np.einsum("r,ri,rj->ij", weights, phi.reshape(len(phi), -1), psi.reshape(len(psi), -1))


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("pair", PAIRS, ids=" ".join)
@pytest.mark.parametrize("two", [False, True], ids=["phi", "phi psi"])
def test_equals_the_double_sum(grid, pair, two):
    phi = functions(grid, 1)
    psi = functions(grid, 2) if two else phi
    weights = np.linspace(-1.0, 2.0, RANK)
    kernel = sft.LowRank(*pair, phi, psi if two else None, weights=weights)
    assert_equals_double_sum(kernel, DoubleSum(matrix(phi, psi, weights), *pair, grid), grid)
    assert_gradient(kernel, grid, random_fields(grid, 5))


@pytest.mark.parametrize("pair", PAIRS, ids=" ".join)
@pytest.mark.parametrize("two", [False, True], ids=["phi", "phi psi"])
def test_about_a_reference(pair, two):
    grid = GRIDS["2D, walls and a circle"]
    phi, reference = functions(grid, 1), random_fields(grid, 8)
    psi = functions(grid, 2) if two else None
    reference[[n for n, name in enumerate(FIELDS) if name not in pair]] = 0.0
    values = {name: reference[FIELDS.index(name)] for name in pair}
    kernel = sft.LowRank(*pair, phi, psi, about=values if len(values) > 1 else values["a"])
    expected = DoubleSum(matrix(phi, phi if psi is None else psi, np.ones(RANK)), *pair, grid, reference)
    assert_equals_double_sum(kernel, expected, grid)
    at_rest = system(kernel, grid)
    assert not at_rest.force(reference).any(), "the force vanishes at the reference, without a rounding error"
    assert at_rest.cost(reference) == 0.0


@pytest.mark.parametrize("shape", [(130, 1100), (21, 70, 90), (40_000,)], ids=str)
def test_grids_of_many_blocks(shape):
    """Blocks that begin and end within rows, and grids that are shared out to threads."""
    grid = sft.Grid(shape, [1.0] * len(shape))
    phi, w = functions(grid, 1), random_fields(grid)
    flat = phi.reshape(RANK, -1)
    a, b = w[FIELDS.index("a")].reshape(-1), w[FIELDS.index("b")].reshape(-1)
    whole = system(sft.LowRank("a", "b", phi), grid)
    h = grid.cell_volume
    expected = np.zeros((3, grid.size))
    expected[2], expected[0] = -h * (flat @ b) @ flat, -h * (flat @ a) @ flat
    found = whole.force(w).reshape(3, -1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())
    assert whole.cost(w) == pytest.approx(h * h * (flat @ a) @ (flat @ b), rel=1e-11)


def test_single_precision_storage_is_kept_and_summed_in_double():
    grid = GRIDS["2D, walls and a circle"]
    phi = functions(grid, 1).astype(np.float32)
    kernel = sft.LowRank("a", "a", phi)
    assert kernel.phi is phi, "not copied"
    assert kernel.estimate(grid).memory == phi.nbytes
    assert_equals_double_sum(kernel, DoubleSum(matrix(phi.astype(float), phi.astype(float), np.ones(RANK)), "a", "a", grid), grid)


@pytest.mark.parametrize("two", [False, True], ids=["phi", "phi psi"])
def test_bits_do_not_depend_on_threads(monkeypatch, two):
    grid = sft.Grid((150, 300), (1.0, 1.0))
    kernel = sft.LowRank("a", "b", functions(grid, 1), functions(grid, 2) if two else None)
    w, found = random_fields(grid), []
    for threads in (1, 2, 3, 7):
        monkeypatch.setattr(projection, "slabs", lambda cells, threads=threads: threads)
        whole = system(kernel, grid)
        found.append((whole.force(w).tobytes(), whole.cost(w)))
    assert all(other == found[0] for other in found[1:])


def test_allocates_nothing():
    grid = sft.Grid((64, 64), (1.0, 1.0))
    whole = system(sft.LowRank("a", "b", functions(grid, 1, 30), functions(grid, 2, 30)), grid)
    assert_allocates_nothing(whole)


@pytest.mark.parametrize("pair", PAIRS[:2], ids=" ".join)
@pytest.mark.parametrize("two", [False, True], ids=["phi", "phi psi"])
def test_bound_is_the_spectral_radius(pair, two):
    grid = GRIDS["2D, walls and a circle"]
    phi, weights = functions(grid, 1), np.linspace(-1.0, 2.0, RANK)
    psi = functions(grid, 2) if two else phi
    operator = system(sft.LowRank(*pair, phi, psi if two else None, weights), grid).kernels[0]
    jacobian = DoubleSum(matrix(phi, psi, weights), *pair, grid).jacobian()
    assert operator.bound() == pytest.approx(np.abs(np.linalg.eigvalsh(jacobian)).max(), rel=1e-10)
    assert operator.symbol() is None


def test_flow_is_the_exponential_of_a_small_matrix():
    """w_t = -2 sum_r phi_r <phi_r, w>: the integrals c obey c_t = -2 G c with G the functions' inner products."""
    grid = sft.Grid((40,), (1.0,))
    phi, start = functions(grid, 3, 3), np.random.default_rng(4).standard_normal(40)
    h, end = grid.cell_volume, 0.3
    gram = h * phi @ phi.T
    c = h * phi @ start
    # w(T) = w(0) - 2 int_0^T phi^T exp(-2 G t) c dt
    integral = linalg.solve(2 * gram, (np.eye(3) - linalg.expm(-2 * gram * end)) @ c)
    expected = start - 2 * phi.T @ integral
    action = sft.Action(["w"], kernels=[sft.LowRank("w", "w", phi)], friction=sft.Friction(gamma=1.0))
    result = sft.solve(action, grid, initial={"w": start}, end=end, dynamics="gradient-flow", rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(result.w[-1, 0], expected, rtol=0, atol=1e-8)


def test_estimate_counts_two_passes():
    grid = sft.Grid((100, 100), (1.0, 1.0))
    kernel = sft.LowRank("a", "a", functions(grid, 1, 50))
    price = kernel.estimate(grid)
    assert price.memory == 50 * 10_000 * 8
    assert 2 * price.memory < price.bytes < 2.1 * price.memory
    assert price.flops == 4 * 50 * 10_000


def test_states_in_single_precision():
    grid = GRIDS["2D, walls and a circle"]
    assert_single_precision(sft.LowRank("a", "b", functions(grid, 1), about={"a": "x"}), grid)


BAD = {
    "phi of another shape": (lambda phi: ("a", "a", phi[:, :-1]), GridError, r"phi of LowRank does not fit the grid"),
    "phi without a rank": (lambda phi: ("a", "a", phi[0, 0, 0]), ActionError, r"wrong number of axes"),
    "no functions": (lambda phi: ("a", "a", phi[:0]), ActionError, r"wrong number of axes"),
    "phi not finite": (
        lambda phi: ("a", "a", np.where(phi == phi[2, 3, 4], np.nan, phi)),
        ActionError,
        r"nan at index \(2, 3, 4\)",
    ),
    "phi complex": (lambda phi: ("a", "a", phi + 1j), ActionError, r"not real"),
    "psi of another shape": (lambda phi: ("a", "a", phi, phi[1:]), ActionError, r"psi of LowRank does not fit phi"),
    "weights of another number": (lambda phi: ("a", "a", phi, None, [1.0]), ActionError, r"weights of LowRank do not fit"),
    "weights not finite": (lambda phi: ("a", "a", phi, None, [np.inf] * RANK), ActionError, r"weights of LowRank is not finite"),
    "unknown field": (lambda phi: ("a", "d", phi), ActionError, r"unknown field 'd'"),
    "no name": (lambda phi: ("a", 3, phi), ActionError, r"joins fields by their names"),
    "about without names": (lambda phi: ("a", "b", phi, None, None, 1.0), ActionError, r"about= of a kernel between two fields"),
    "about of another field": (lambda phi: ("a", "b", phi, None, None, {"c": 1.0}), ActionError, r"about= names field 'c'"),
    "about of another shape": (lambda phi: ("a", "a", phi, None, None, np.ones(3)), GridError, r"does not fit the grid"),
    "about not finite": (lambda phi: ("a", "a", phi, None, None, "1/x - 1/x + log(-1-x)"), GridError, r"not finite"),
}


@pytest.mark.parametrize("arguments, error, message", BAD.values(), ids=BAD)
def test_bad_input_is_refused(arguments, error, message):
    grid = GRIDS["2D, walls and a circle"]
    with pytest.raises(error) as caught:
        system(sft.LowRank(*arguments(functions(grid, 1))), grid)
    assert re.search(message, str(caught.value)), caught.value
