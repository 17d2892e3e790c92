"""Flexible conjugate gradients against dense solves, with preconditioners that are good, unsymmetric or none."""

import numpy as np
import pytest
from allocations import peak_of

import sftsolve as sft
from sftsolve.errors import StepError
from sftsolve.linear.krylov import ConjugateGradients
from sftsolve.loops.conjugate import Passes
from sftsolve.state import Layout

SHAPES = {"1D": (40,), "2D": (9, 11), "3D": (4, 5, 6)}


class Problem:
    """A random symmetric positive definite matrix on the cells of two fields, and a right side."""

    def __init__(self, shape, dtype="float64"):
        self.layout = Layout.of(sft.Grid(shape, [1.0] * len(shape)), 1, dtype)
        rng = np.random.default_rng(0)
        self.size = 2 * int(np.prod(shape))
        root = rng.standard_normal((self.size, self.size)) / np.sqrt(self.size)
        self.matrix = np.eye(self.size) + 30 * root @ root.T
        self.right = self.layout.pad(rng.standard_normal((2, *shape)).astype(dtype))
        self.calls = 0

    def product(self, matrix):
        def apply(w, out):
            self.calls += 1
            inside = self.layout.interior
            inside(out)[...] = (matrix @ inside(w).reshape(-1)).reshape(inside(out).shape)

        return apply

    def expected(self):
        return np.linalg.solve(self.matrix, self.layout.interior(self.right).reshape(-1))

    def values(self, w):
        return self.layout.interior(w).reshape(-1)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_equals_a_dense_solve(shape):
    problem = Problem(shape)
    solver, out = ConjugateGradients(problem.layout, 2), problem.layout.zeros(2)
    count = solver.solve(problem.product(problem.matrix), lambda w, z: np.copyto(z, w), problem.right, out, rtol=1e-12)
    assert 20 < count < 160
    np.testing.assert_allclose(problem.values(out), problem.expected(), rtol=0, atol=1e-10)
    before = problem.calls
    assert solver.solve(problem.product(problem.matrix), lambda w, z: np.copyto(z, w), problem.right, out, True, 1e-11) == 0
    assert problem.calls == before + 1


def test_preconditioners():
    """The exact inverse needs one iteration; an unsymmetric one near it few, where steepest descent would need more."""
    problem = Problem(SHAPES["2D"])
    solver, out = ConjugateGradients(problem.layout, 2), problem.layout.zeros(2)
    apply, inverse = problem.product(problem.matrix), np.linalg.inv(problem.matrix)
    assert solver.solve(apply, problem.product(inverse), problem.right, out, rtol=1e-10) == 1
    noise = np.random.default_rng(3).standard_normal(inverse.shape) / np.sqrt(problem.size)
    # Still positive definite, but not symmetric.
    near = inverse + 0.1 * np.sqrt(inverse.diagonal())[:, None] * np.tril(noise) * np.sqrt(inverse.diagonal())
    assert solver.solve(apply, problem.product(near), problem.right, out, rtol=1e-10) < 40
    np.testing.assert_allclose(problem.values(out), problem.expected(), rtol=0, atol=1e-8)


def test_states_in_single_precision():
    problem = Problem(SHAPES["2D"], "float32")
    solver, out = ConjugateGradients(problem.layout, 2), problem.layout.zeros(2)
    solver.solve(problem.product(problem.matrix), lambda w, z: np.copyto(z, w), problem.right, out, rtol=1e-12)
    np.testing.assert_allclose(problem.values(out), problem.expected(), rtol=0, atol=1e-5)


def test_sums_do_not_depend_on_threads_nor_on_the_halo():
    layout = Layout.of(sft.Grid((40, 30, 50), [1.0] * 3), 2)
    rng = np.random.default_rng(1)
    one, other = (layout.pad(rng.standard_normal((2, 40, 30, 50))) for _ in range(2))
    expected = float(np.sum(layout.interior(one) * layout.interior(other)))
    for array in (one, other):
        inside = layout.interior(array).copy()
        array.fill(np.nan)
        layout.interior(array)[...] = inside
    found = {Passes(layout, 2, threads).dot(one, other) for threads in (1, 2, 3, 7)}
    assert len(found) == 1
    assert found.pop() == pytest.approx(expected, rel=1e-13)


def test_allocates_nothing():
    layout = Layout.of(sft.Grid((64, 64, 64), [1.0] * 3), 1)
    right, out = layout.pad(np.random.default_rng(0).standard_normal((1, 64, 64, 64))), layout.zeros(1)
    solver, weights = ConjugateGradients(layout), layout.pad(1 + np.random.default_rng(1).random((1, 64, 64, 64)))

    def apply(w, image):
        np.multiply(w, weights, out=image)

    def precondition(w, better):
        np.copyto(better, w)

    assert peak_of(lambda: solver.solve(apply, precondition, right, out)) < 0.02 * right.nbytes


def test_the_right_side_may_vanish_and_failure_is_told():
    problem = Problem(SHAPES["1D"])
    solver, out = ConjugateGradients(problem.layout, 2, limit=3), problem.layout.zeros(2)
    out.fill(1.0)
    apply = problem.product(problem.matrix)
    assert solver.solve(apply, apply, problem.layout.zeros(2), out, True) == 0
    assert not out.any()
    with pytest.raises(StepError, match="does not converge"):
        solver.solve(apply, lambda w, z: np.copyto(z, w), problem.right, out, rtol=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_comes_through(bad):
    problem = Problem(SHAPES["1D"])
    solver, out = ConjugateGradients(problem.layout, 2), problem.layout.zeros(2)
    problem.layout.interior(problem.right)[0, 3] = bad
    assert solver.solve(problem.product(problem.matrix), lambda w, z: np.copyto(z, w), problem.right, out) == 0
    assert np.isnan(problem.values(out)).all()
