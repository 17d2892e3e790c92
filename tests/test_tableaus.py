"""The tables of coefficients, held against the classical list of order conditions, SciPy's tables and the literature."""

import itertools
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from scipy.integrate import RK23, RK45

from sftsolve.stepping.tableaus import TableauError, explicit_methods, tableau
from sftsolve.stepping.trees import density, size, trees

METHODS = explicit_methods()


def arrays(method):
    table = tableau(method)
    a = np.zeros((table.stages, table.stages), dtype=object)
    for i, row in enumerate(table.a):
        a[i, :i] = row
    return table, a, *(np.array(part, dtype=object) for part in (table.b, table.b_hat, table.c))


def classical_conditions(a, c):
    """The 17 conditions up to order 5 as Hairer, Norsett, Wanner I, table II.2.1 lists them: {order: [(vector, 1/rhs)]}."""
    ac, ac2, aac = a @ c, a @ c**2, a @ (a @ c)
    return {
        1: [(c**0, 1)],
        2: [(c, 2)],
        3: [(c**2, 3), (ac, 6)],
        4: [(c**3, 4), (c * ac, 8), (ac2, 12), (aac, 24)],
        5: [
            (c**4, 5),
            (c**2 * ac, 10),
            (c * ac2, 15),
            (c * aac, 30),
            (ac**2, 20),
            (a @ c**3, 20),
            (a @ (c * ac), 40),
            (a @ ac2, 60),
            (a @ aac, 120),
        ],
    }


def symmetry(tree):
    """Order of the tree's symmetry group."""
    product = 1
    for child, group in itertools.groupby(tree):
        count = len(list(group))
        product *= symmetry(child) ** count * math.factorial(count)
    return product


def test_numbers_of_rooted_trees():
    # OEIS A000081.
    assert [len(trees(order)) for order in range(1, 11)] == [1, 1, 2, 4, 9, 20, 48, 115, 286, 719]
    assert all(len(set(trees(order))) == len(trees(order)) for order in range(1, 9))


@pytest.mark.parametrize("order", range(1, 9))
def test_densities_count_labelled_trees(order):
    # The monotonic labellings order!/(gamma sigma) of all trees number (order - 1)!.
    assert all(size(tree) == order for tree in trees(order))
    total = sum(Fraction(math.factorial(order), density(tree) * symmetry(tree)) for tree in trees(order))
    assert total == math.factorial(order - 1)


@pytest.mark.parametrize("method", METHODS)
def test_classical_order_conditions(method):
    table, a, b, b_hat, c = arrays(method)
    for weights, order in ((b, table.order), (b_hat, table.embedded)):
        for conditions in (classical_conditions(a, c)[vertices] for vertices in range(1, order + 1)):
            for vector, inverse in conditions:
                assert abs(weights @ vector - Fraction(1, inverse)) < Fraction(1, 10**30)


@pytest.mark.parametrize(("method", "theirs"), [("rk32", RK23), ("dp5", RK45)])
def test_same_coefficients_as_scipy(method, theirs):
    table, a, b, b_hat, c = arrays(method)
    stages = table.stages - 1
    rows = np.asarray(theirs.A)
    assert np.allclose(a[: rows.shape[0], : rows.shape[1]].astype(float), rows, rtol=1e-15, atol=1e-16)
    assert np.allclose(b[:stages].astype(float), theirs.B, rtol=1e-15)
    assert np.allclose(c[:stages].astype(float), theirs.C, rtol=1e-15)
    assert np.allclose(np.array(table.error_weights), -np.array(theirs.E), rtol=1e-13, atol=1e-16)


def test_tsit5_has_the_published_weights():
    # Ch. Tsitouras (2011), table 1, to the digits that other codes carry.
    published = [0.09646076681806523, 0.01, 0.4798896504144996, 1.379008574103742, -3.290069515436081, 2.324710524099774, 0.0]
    assert np.allclose([float(b) for b in tableau("tsit5").b], published, rtol=1e-15, atol=0)
    assert [float(c) for c in tableau("tsit5").c] == [0.0, 0.161, 0.327, 0.9, 0.9800255409045097, 1.0, 1.0]


@pytest.mark.parametrize("method", METHODS)
def test_every_coefficient_matters(method):
    table = tableau(method)
    off = Fraction(1, 10**12)
    for row in range(1, table.stages):
        for column in range(row):
            changed = [list(entries) for entries in table.a]
            changed[row][column] += off
            with pytest.raises(TableauError):
                replace(table, a=tuple(map(tuple, changed)))
    for part in ("b", "b_hat", "c"):
        for entry in range(table.stages):
            changed = list(getattr(table, part))
            changed[entry] += off
            with pytest.raises(TableauError):
                replace(table, **{part: tuple(changed)})


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("part", "by"), [("order", 1), ("order", -1), ("embedded", 1), ("embedded", -1)])
def test_a_false_order_is_refused(method, part, by):
    table = tableau(method)
    with pytest.raises(TableauError, match="order"):
        replace(table, **{part: getattr(table, part) + by})


def test_a_table_of_the_wrong_shape_is_refused():
    table = tableau("rk32")
    with pytest.raises(TableauError, match="row i"):
        replace(table, a=table.a[:-1] + (table.a[-1] + (Fraction(0),),))
    with pytest.raises(TableauError, match="one entry a stage"):
        replace(table, c=table.c[:-1])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("z", [-0.7, 1.3j, -2.0 + 1.0j])
def test_stability_polynomial_is_the_rational_function_of_the_table(method, z):
    table, a, b, _, _ = arrays(method)
    a, b, one = a.astype(float), b.astype(float), np.ones(table.stages)
    expected = np.linalg.det(np.eye(table.stages) - z * a + z * np.outer(one, b))
    assert np.polynomial.polynomial.polyval(z, table.stability_polynomial) == pytest.approx(expected, rel=1e-12)


def test_known_limits_of_stability():
    # Real and imaginary reach of every third-order polynomial 1 + z + z^2/2 + z^3/6; real reach of Dormand-Prince.
    assert tableau("rk32").stability_limit(-1) == pytest.approx(2.5127, abs=6e-3)
    assert tableau("rk32").stability_limit(1j) == pytest.approx(math.sqrt(3), abs=6e-3)
    assert tableau("dp5").stability_limit(-3.0) == pytest.approx(3.3066, abs=6e-3)
