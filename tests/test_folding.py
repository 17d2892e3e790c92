"""Tables over modes hold equal rows once, and passes over folded tables are those over whole ones."""

import numpy as np
import pytest
from linear_parts import applied, flow

import sftsolve as sft
from sftsolve.loops import folding
from sftsolve.loops import modes as loops
from sftsolve.loops.exponential import advance, estimate, implicit_part
from sftsolve.loops.folding import Folded

D = {"value": 0.0}


def test_equal_rows_are_held_once_and_come_back():
    rng = np.random.default_rng(3)
    different = rng.standard_normal((5, 7))
    table = different[[3, 0, 3, 4, 0, 1, 2, 2]].reshape(2, 4, 7)
    folded = Folded.of(table)
    assert np.array_equal(folded.values, different[[3, 0, 4, 1, 2]])
    assert np.array_equal(folded.expanded().reshape(table.shape), table)
    assert folded.size == table.size


def test_rows_with_equal_marks_that_differ_are_kept_apart(monkeypatch):
    monkeypatch.setattr(folding, "_marks", lambda rows: np.zeros(len(rows), np.uint64))
    table = np.arange(12.0).reshape(4, 3)
    assert np.array_equal(Folded.of(table).expanded(), table)


@pytest.mark.parametrize("order", [2, 4, 6, 8])
@pytest.mark.parametrize(
    "shape, lengths, rows",
    [
        # Odd numbers of cells: with even ones different waves may add up to the same.
        ((15, 15, 12), (1.0, 1.0, 1.0), 8 * 9 // 2),  # |k_z|, |k_y| in any order
        ((15, 15, 12), (1.0, 2.0, 1.0), 8 * 8),
        ((15, 17, 12), (1.0, 1.0, 1.0), 8 * 9),
        ((15, 12), (1.0, 1.0), 8),
        ((15,), (1.0,), 1),
    ],
)
def test_eigenvalues_are_held_for_unordered_wavenumbers(order, shape, lengths, rows):
    whole = flow(["w"], "0.7*grad2(w)/2 + 0.3*w**2/2", sft.Grid(shape, lengths), order)
    assert len(whole.linear.modes.table.values) == rows


def test_fields_that_are_alike_share_rows_and_walls_fold_what_they_can():
    whole = flow(["a", "b"], "grad2(a)/2 + grad2(b)/2", sft.Grid((7, 7, 8), (1.0,) * 3))
    assert len(whole.linear.modes.table.values) == 4 * 5 // 2
    walled = sft.Grid((7, 7, 8), (1.0,) * 3, boundary={axis: {"lower": D, "upper": D} for axis in "zyx"})
    assert len(flow(["w"], "grad2(w)/2", walled, 4).linear.modes.table.values) == 7 * 8 // 2


def test_blocks_of_coupled_fields_are_held_for_unordered_wavenumbers():
    whole = flow(["a", "b"], "grad2(a)/2 + 0.3*grad2(b)/2 + 0.4*a*b + a**2 + b**2", sft.Grid((15, 15, 12), (1.0,) * 3), 4)
    (mixing,) = whole.linear.modes._mixings
    assert mixing.each.shape == (4, 8 * 9 // 2 * 7)
    w = np.random.default_rng(8).standard_normal((2, 15, 15, 12))
    np.testing.assert_allclose(applied(whole, w), whole.jvp(np.zeros_like(w), w), rtol=0, atol=1e-12 * whole.linear.radius)


def test_a_symbol_without_mirror_symmetry_is_whole():
    whole = flow(["w"], "grad2(w)/2 + 0.5*d(w, y)*d(w, x)", sft.Grid((9, 10), (1.0, 1.0)))
    assert len(whole.linear.modes.table.values) == 9


@pytest.mark.parametrize("threads", [1, 3])
def test_passes_over_folded_tables_are_those_over_whole_ones(threads):
    rng = np.random.default_rng(5)
    different = -rng.uniform(0.0, 9.0, (6, 1100))
    place = rng.integers(0, 6, 60)
    table = Folded(different, place)
    whole = table.expanded().reshape(-1)
    a, b, c, d = (rng.standard_normal(whole.size) + 1j * rng.standard_normal(whole.size) for _ in range(4))
    for work, expected in ((loops.divide, a / (1 + 0.3 * -whole)), (loops.multiply, a * whole)):
        found = a.copy()
        work(found, table, *((0.3,) if work is loops.divide else ()), threads)
        np.testing.assert_allclose(found, expected, rtol=1e-14)
    implicit_part(found, (a, b), table, 0.7, threads)
    np.testing.assert_allclose(found, -(whole * a + 0.7 * b), rtol=1e-13, atol=1e-14)
    responses = rng.standard_normal((4, different.size))
    g, p1, p2, p3 = (response.reshape(different.shape)[place].reshape(-1) for response in responses)
    w, u = np.empty_like(a), np.empty_like(a)
    numbers, rule = (0.2, 0.3, 0.5, -0.1, 0.4, 0.6), (0.1, 0.01, 1.5, 1.2, 0.9)
    advance((w, u), (a, b), (c, d), numbers, table, responses, rule, threads)
    m1, m2, m3 = 0.2 * c + 0.3 * d, 0.5 * c - 0.1 * d, 0.4 * c + 0.6 * d
    keep, v = 1 + whole * p1, 1.2 * b
    np.testing.assert_allclose(w, keep * a + 0.01 * g * v + p1 * m1 + p2 * m2 + p3 * m3, rtol=1e-12, atol=1e-13)
    pushed = whole * g * a + (keep - 1.5 * g) * v + g * m1 + (p1 * m2 + p2 * m3) / 0.1
    np.testing.assert_allclose(u, 0.9 * pushed, rtol=1e-12, atol=1e-13)
    advance((w,), (a,), (c, d), numbers, table, responses, rule, threads)
    np.testing.assert_allclose(w, keep * a + p1 * m1 + p2 * m2 + p3 * m3, rtol=1e-12, atol=1e-13)
    estimate((w, u), c, d, (b,), responses, place, (-3.0, 12.0, 0.2, 0.05), threads)
    difference = c - (d - 0.2 * b)
    np.testing.assert_allclose(u, 0.05 * (-3 * p1 + 12 * p2) * difference, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(w, (-3 * p2 + 12 * p3) * difference, rtol=1e-12, atol=1e-13)
