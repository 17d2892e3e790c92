"""What the tests of the linear room share: L as a matrix, and padded fields in and out."""

import numpy as np

import sftsolve as sft


def flow(fields, cost, grid, order=2, dtype="float64", **given):
    """A gradient flow of an action on a grid."""
    return sft.discretise(sft.Action(fields, cost, **given), grid, order=order, dynamics="gradient-flow", dtype=dtype)


def applied(whole, w):
    """L w of plain arrays."""
    storage = whole.layout.pad(np.asarray(w, whole.dtype))
    out = np.full_like(storage, np.nan)
    whole.linear.apply(storage, out)
    return whole.layout.interior(out).copy()


def solved(whole, right, sigma, rtol=1e-12):
    """The solution of (I - sigma L) W = right in plain arrays."""
    storage = whole.layout.pad(np.asarray(right, whole.dtype))
    out = np.full_like(storage, np.nan)
    whole.linear.solve(storage, sigma, out, False, rtol)
    return whole.layout.interior(out).copy()


def matrix_of(function, count, shape):
    """A linear function of (field, *shape) as an array over fields and cells."""
    unit = np.eye(count * int(np.prod(shape))).reshape(-1, count, *shape)
    return np.stack([function(column).reshape(-1) for column in unit], axis=1)


def jacobian(whole, t=0.0):
    """F'(0) as an array over fields and cells."""
    zero = np.zeros((len(whole.fields), *whole.grid.shape))
    return matrix_of(lambda d: whole.jvp(zero, d, t), len(whole.fields), whole.grid.shape)


def matrix(whole):
    """L as an array over fields and cells."""
    return matrix_of(lambda d: applied(whole, d), len(whole.fields), whole.grid.shape)


def clipped(array):
    """The nearest negative semidefinite symmetric array: positive eigenvalues become zero."""
    values, vectors = np.linalg.eigh(0.5 * (array + array.T))
    return (vectors * np.minimum(values, 0.0)) @ vectors.T


def assert_close(found, wanted, tolerance=1e-13):
    scale = np.abs(wanted).max()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * scale)
