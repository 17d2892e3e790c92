"""Separable n-point terms against NumPy, double sums and a closed-form flow."""

import re

import numpy as np
import pytest
from double_sums import (
    FIELDS,
    GRIDS,
    DoubleSum,
    assert_allocates_nothing,
    assert_equals_double_sum,
    assert_gradient,
    assert_single_precision,
    random_fields,
    system,
)

import sftsolve as sft
from sftsolve.errors import ActionError, ExpressionError, GridError
from sftsolve.loops import projection

RANK = 6
CURVES = {  # g, g' and g'' by text
    "s**4/4": (lambda s: s**4 / 4, lambda s: s**3, lambda s: 3 * s**2),
    "exp(s) - s": (lambda s: np.exp(s) - s, lambda s: np.exp(s) - 1, np.exp),
    "log(1 + s**2)": (lambda s: np.log1p(s**2), lambda s: 2 * s / (1 + s**2), lambda s: 2 * (1 - s**2) / (1 + s**2) ** 2),
}


def functions(grid, seed=1, fields=0):
    shape = (RANK, *([fields] if fields else []), *grid.shape)
    return np.random.default_rng(seed).standard_normal(shape)


def integrals(phi, w, grid):
    """s_r for phi (rank, field, *grid) and w (field, *grid)."""
    return grid.cell_volume * np.einsum("rai,ai->r", phi.reshape(*phi.shape[:2], -1), w.reshape(len(w), -1))


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("text", CURVES)
def test_energy_force_and_jacobian(grid, text):
    phi, w, d = functions(grid), random_fields(grid), random_fields(grid, 1)
    kernel, own = sft.Separable("a", phi, text), FIELDS.index("a")
    whole, (g, slope, curvature) = system(kernel, grid), CURVES[text]
    s, ds = (integrals(phi[:, None], part[own : own + 1], grid) for part in (w, d))
    force, jvp = np.zeros_like(w), np.zeros_like(w)
    force[own] = -np.tensordot(slope(s), phi, 1)
    jvp[own] = -np.tensordot(curvature(s) * ds, phi, 1)
    assert whole.cost(w) == pytest.approx(g(s).sum(), rel=1e-12)
    np.testing.assert_allclose(whole.force(w), force, rtol=0, atol=1e-12 * np.abs(force).max())
    np.testing.assert_allclose(whole.jvp(w, d), jvp, rtol=0, atol=1e-12 * np.abs(jvp).max())
    assert_gradient(kernel, grid, w, tolerance=1e-7)


def test_several_fields_several_curves_and_parameters_by_function():
    grid = GRIDS["2D, walls and a circle"]
    phi, w, reference = functions(grid, fields=2), random_fields(grid), random_fields(grid, 3)
    scale, texts = np.linspace(0.5, 2.0, RANK), ["c*s**3", "p*tanh(c*s)"] * (RANK // 2)
    kernel = sft.Separable(["a", "b"], phi, texts, {"c": scale, "p": 3.0}, about={"b": reference[0]})
    moved = np.stack([w[2], w[0] - reference[0]])
    s = integrals(phi, moved, grid)
    cubic = np.arange(RANK) % 2 == 0
    energies = np.where(cubic, scale * s**3, 3 * np.tanh(scale * s))
    slopes = np.where(cubic, 3 * scale * s**2, 3 * scale / np.cosh(scale * s) ** 2)
    whole, force = system(kernel, grid), -np.tensordot(slopes, phi, 1)
    assert whole.cost(w) == pytest.approx(energies.sum(), rel=1e-12)
    np.testing.assert_allclose(whole.force(w)[[2, 0]], force, rtol=0, atol=1e-12 * np.abs(force).max())
    assert not whole.force(w)[1].any()
    assert_gradient(kernel, grid, w, tolerance=1e-7)


def test_a_square_is_a_low_rank_kernel():
    grid = GRIDS["3D, walls"]
    phi = functions(grid)
    flat = phi.reshape(RANK, -1)
    assert_equals_double_sum(sft.Separable("a", phi, "s**2"), DoubleSum(flat.T @ flat, "a", "a", grid), grid)


def test_bound_of_quadratic_terms_alone():
    grid = GRIDS["2D, walls and a circle"]
    phi, c = functions(grid), np.linspace(-1.0, 2.0, RANK)
    operator = system(sft.Separable("a", phi, "c*s**2/2 - 3*s", {"c": c}), grid).kernels[0]
    jacobian = grid.cell_volume * np.einsum("r,ri,rj->ij", c, *[phi.reshape(RANK, -1)] * 2)
    assert operator.bound() == pytest.approx(np.abs(np.linalg.eigvalsh(jacobian)).max(), rel=1e-10)
    assert system(sft.Separable("a", phi, "s**4"), grid).kernels[0].bound() is None
    assert operator.symbol() is None


def test_quartic_flow_along_one_function():
    """w_t = -phi s^3, s = <phi, w>: s_t = -n s^3 with n = <phi, phi>, so s = s_0 / sqrt(1 + 2 n s_0^2 t)."""
    grid = sft.Grid((30,), (1.0,))
    phi, start, end = np.cos(2 * np.pi * grid.coordinates[0])[None] + 0.3, np.linspace(1.0, 2.0, 30), 5.0
    h = grid.cell_volume
    n, s = h * np.sum(phi**2), h * np.sum(phi[0] * start)
    expected = start + phi[0] * (s / np.sqrt(1 + 2 * n * s**2 * end) - s) / n
    action = sft.Action(["w"], kernels=[sft.Separable("w", phi, "s**4/4")], friction=sft.Friction(gamma=1.0))
    result = sft.solve(action, grid, initial={"w": start}, end=end, dynamics="gradient-flow", rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(result.w[-1, 0], expected, rtol=0, atol=1e-8)


def test_bits_do_not_depend_on_threads(monkeypatch):
    grid = sft.Grid((150, 300), (1.0, 1.0))
    kernel = sft.Separable(["a", "b"], functions(grid, fields=2), "s**4")
    w, d, found = random_fields(grid), random_fields(grid, 1), []
    for threads in (1, 2, 3, 7):
        monkeypatch.setattr(projection, "slabs", lambda cells, threads=threads: threads)
        whole = system(kernel, grid)
        found.append((whole.force(w).tobytes(), whole.jvp(w, d).tobytes(), whole.cost(w)))
    assert all(other == found[0] for other in found[1:])


def test_allocates_nothing():
    grid = sft.Grid((64, 64), (1.0, 1.0))
    whole = system(sft.Separable("a", functions(grid), "s**4"), grid)
    assert_allocates_nothing(whole)


def test_states_in_single_precision():
    grid = GRIDS["2D, walls and a circle"]
    assert_single_precision(sft.Separable("a", functions(grid), "s**4", about="x"), grid)


BAD = {
    "phi of another shape": (lambda phi: ("a", phi[:, :-1], "s"), GridError, r"does not fit the grid"),
    "phi of another number of fields": (lambda phi: (["a", "b"], phi[:, None], "s"), ActionError, r"\(rank, 2, \*grid.shape\)"),
    "a field twice": (lambda phi: (["a", "a"], np.stack([phi, phi], 1), "s"), ActionError, r"distinct fields"),
    "no field": (lambda phi: ([], phi[:, None], "s"), ActionError, r"does not fit its fields"),
    "phi not finite": (lambda phi: ("a", phi * np.inf, "s"), ActionError, r"not finite"),
    "an unknown name": (lambda phi: ("a", phi, "t**2"), ExpressionError, r"unknown name 't'"),
    "code": (lambda phi: ("a", phi, "[s]"), ExpressionError, r"a list"),
    "no derivative": (lambda phi: ("a", phi, "gamma(s)"), ExpressionError, r"gamma\(\) has no derivative"),
    "too few expressions": (lambda phi: ("a", phi, ["s", "s**2"]), ActionError, r"one or 6 expressions"),
    "a parameter of another length": (lambda phi: ("a", phi, "c*s", {"c": [1.0, 2.0]}), ActionError, r"6 of them"),
    "a parameter that is not finite": (lambda phi: ("a", phi, "c*s", {"c": np.nan}), ActionError, r"not finite"),
    "a parameter called s": (lambda phi: ("a", phi, "s", {"s": 1.0}), ActionError, r"other than s"),
    "unknown field": (lambda phi: ("d", phi, "s"), ActionError, r"unknown field 'd'"),
}


@pytest.mark.parametrize("arguments, error, message", BAD.values(), ids=BAD)
def test_bad_input_is_refused(arguments, error, message):
    grid = GRIDS["2D, walls and a circle"]
    with pytest.raises(error) as caught:
        system(sft.Separable(*arguments(functions(grid))), grid)
    assert re.search(message, str(caught.value)), caught.value
