"""The exact responses of a damped mode, held against the same divided differences in 150 digits (mpmath)."""

import math

import mpmath
import numpy as np
import pytest

from sftsolve.loops.responses import response, tabulate

ULP = np.finfo(float).eps
# Of G, P_1, P_2 and P_3 in units of their natural sizes; 3e-15 is measured.
ACCURACY = (1e-14, 1e-14, 1e-14, 1e-14)
DIGITS = 150


def phis(z):
    """phi_0 ... phi_3; the digits outlast three cancellations at z = 1e-30."""
    if z == 0:
        return [mpmath.mpf(1) / mpmath.factorial(k) for k in range(4)]
    found = [mpmath.exp(z)]
    for k in range(1, 4):
        found.append((found[-1] - 1 / mpmath.factorial(k - 1)) / z)
    return found


def exact(h, eps, kappa, eigenvalue):
    """(G, P_1, P_2, P_3) as the module defines them; double roots are split by 1e-60."""
    with mpmath.workdps(DIGITS):
        h, eps, kappa, eigenvalue = (mpmath.mpf(float(value)) for value in (h, eps, kappa, eigenvalue))
        if eps == 0:
            return [0.0, *(float(h * phi / kappa) for phi in phis(h * eigenvalue / kappa)[1:])]
        square = kappa**2 + 4 * eps * eigenvalue
        d = mpmath.sqrt(square + (square == 0) * mpmath.mpf(10) ** -60 * max(kappa**2, eps / h**2 * eps))
        one, other = h * (-kappa + d) / (2 * eps), h * (-kappa - d) / (2 * eps)
        sizes = [h / eps, *[h**2 / eps] * 3]
        found = zip(sizes, phis(one), phis(other), strict=True)
        return [float(mpmath.re(size * (a - b) / (one - other))) for size, a, b in found]


def sizes(h, eps, kappa, eigenvalue):
    """The largest values that G and P_k may have."""
    with np.errstate(divide="ignore"):
        h, eps, kappa, stiff = np.float64(h), np.float64(eps), np.float64(kappa), -np.float64(eigenvalue)
        move = min(h * h / eps, h / kappa, 1 / stiff)
        return min(h / eps, 1 / kappa, 1 / np.sqrt(eps * stiff)), move, move, move


def phase(h, eps, kappa, eigenvalue):
    """What one rounding of h does to an oscillation that is still there: its phase, times its decay."""
    if eps == 0:
        return 0.0
    return ULP * h * math.sqrt(-eigenvalue / eps) * math.exp(-kappa * h / (2 * eps))


def worst(cases):
    """Largest error of each of the four in units of what is allowed, (4,), and where it is."""
    found, where = np.zeros(4), [None] * 4
    for case in cases:
        for k, (ours, theirs, size) in enumerate(zip(response(*case), exact(*case), sizes(*case), strict=True)):
            if k == 0 and case[1] == 0.0:
                assert ours == 0.0
                continue
            ratio = abs(ours - theirs) / size / (ACCURACY[k] + 4 * phase(*case))
            if not ratio <= found[k]:
                found[k], where[k] = ratio, case
    return found, where


def logarithmic(random, low, high):
    return 10.0 ** random.uniform(low, high)


def anywhere(random):
    h, eps = logarithmic(random, -6, 3), logarithmic(random, -16, 0)
    return h, eps, random.choice([0.0, 1.0, random.uniform(0, 1), logarithmic(random, -8, 0)]), -logarithmic(random, -8, 8)


def flows(random):
    """eps = 0, where kappa is 1 or what a friction that varies makes of it."""
    return logarithmic(random, -6, 3), 0.0, random.choice([1.0, random.uniform(0.1, 1)]), -logarithmic(random, -12, 8)


def constants(random):
    """l = 0."""
    return logarithmic(random, -6, 3), logarithmic(random, -16, 0), random.choice([1.0, random.uniform(0.01, 1)]), -0.0


def critical(random):
    """kappa^2 + 4 eps l of 1e-15 to 1e-3 of kappa^2, on both sides, or as near to zero as floating point comes."""
    distance = random.choice([0.0, 1.0, -1.0]) * logarithmic(random, -15, -3)
    kappa, eps = logarithmic(random, -1, 0), logarithmic(random, -9, 0)
    # Steps from far below to above the time in which the mode decays.
    return logarithmic(random, -3, 1.5) * eps / kappa, eps, kappa, -(kappa**2) / (4 * eps) * (1 + distance)


def dimensioned(random):
    """Where the branches meet: h lambda of about one, and roots some of it apart."""
    h, z, apart = logarithmic(random, -3, 1), logarithmic(random, -1, 1.5), random.uniform(0, 1.5)
    kappa, eps = 1.0, h / (2 * z)
    return h, eps, kappa, -(kappa**2) / (4 * eps) * (1 - apart if random.random() < 0.5 else 1 + apart / z)


@pytest.mark.parametrize("draw", [anywhere, flows, constants, critical, dimensioned])
def test_against_many_digits(draw):
    random = np.random.default_rng(5)
    cases = [case for case in (draw(random) for _ in range(500)) if case[3] <= 0]
    ratios, where = worst(cases)
    assert max(ratios) <= 1.0, (ratios, where)


def test_exactly_critical():
    """Double roots that floating point holds without error."""
    cases = [(h, 2.0**-n, 2.0**-m, -(2.0 ** (n - 2 * m - 2))) for h in (1e-6, 0.3, 1.0, 20.0) for n in (0, 6, 30) for m in (0, 3)]
    assert all(kappa**2 + 4 * eps * eigenvalue == 0.0 for _, eps, kappa, eigenvalue in cases)
    ratios, where = worst(cases)
    assert max(ratios) <= 1.0, (ratios, where)


def test_no_friction_no_stiffness():
    """w'' = N/eps: polynomials."""
    h, eps = 0.7, 0.3
    wanted = (h / eps, h * h / (2 * eps), h * h / (6 * eps), h * h / (24 * eps))
    np.testing.assert_allclose(response(h, eps, 0.0, -0.0), wanted, rtol=1e-15)
    np.testing.assert_allclose(response(h, eps, 0.0, -1e-30), wanted, rtol=1e-15)


def test_without_end():
    """Where everything has decayed: the steady response, no overflow, no NaN."""
    for eps in (0.0, 1e-300, 1e-16, 1e-3):
        found = response(1.0, eps, 1.0, -1e12)
        np.testing.assert_allclose(found[1:], (1e-12, 1e-12, 0.5e-12), rtol=1e-8)
        assert np.isfinite(found[0])


@pytest.mark.parametrize("size", [100, 5000], ids=["serial", "parallel"])
def test_tables_are_the_responses(size):
    eigenvalues = -(10.0 ** np.linspace(-6, 8, size))
    tables = np.empty((4, size))
    tabulate(0.1, 1e-4, 1.0, eigenvalues, tables, 2)
    for i in (0, 1, size // 3, size // 2, size - 1):
        assert tuple(tables[:, i]) == response(0.1, 1e-4, 1.0, eigenvalues[i])
    again = np.empty((4, size))
    tabulate(0.1, 1e-4, 1.0, eigenvalues, again, 3)
    assert np.array_equal(tables, again)
