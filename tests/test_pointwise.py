"""PointwiseMatrix against einsum: any number of fields, any place among the others, any grid; and beside a local cost."""

import numpy as np
import pytest
from numba.core import event

import sftsolve as sft
from sftsolve.errors import ActionError, GridError
from sftsolve.kernels import pointwise, wall_data

SHAPES = [(7,), (4, 5), (3, 2, 4)]


def parts(count, shape, seed=0):
    """(matrix, vector, fields) at random; the matrix is not symmetric."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(size) for size in ((count, count, *shape), (count, *shape), (count, *shape)))


def system_of(kernels, fields, shape, cost="0", boundary="periodic"):
    action = sft.Action(fields, cost, kernels=kernels, friction=sft.Friction(gamma=1.0))
    return sft.discretise(action, sft.Grid(shape, tuple(0.3 * n for n in shape), boundary=boundary))


def names(count):
    return [f"w{number}" for number in range(count)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [1, 2, 9, 25])
def test_force_cost_and_jacobian(count, shape):
    matrix, vector, w = parts(count, shape)
    system = system_of([sft.PointwiseMatrix(names(count), matrix, vector)], names(count), shape)
    symmetric = (matrix + np.swapaxes(matrix, 0, 1)) / 2
    product = np.einsum("ab...,b...->a...", symmetric, w)
    cost = np.sum(w * product / 2 - vector * w) * system.grid.cell_volume
    assert system.cost(w) == pytest.approx(cost, rel=1e-12)
    np.testing.assert_allclose(system.force(w), vector - product, rtol=0, atol=1e-12 * count)
    d = np.random.default_rng(1).standard_normal(w.shape)
    np.testing.assert_allclose(system.jvp(w, d), -np.einsum("ab...,b...->a...", symmetric, d), rtol=0, atol=1e-12 * count)
    # and the force is minus the cost's gradient: the cost is quadratic, so central differences are exact
    slope = (system.cost(w + d) - system.cost(w - d)) / 2
    assert slope == pytest.approx(-np.sum(system.force(w) * d) * system.grid.cell_volume, rel=1e-10)


def test_any_number_of_fields_is_one_compilation():
    compiled = []

    class Listener(event.Listener):
        def on_start(self, started):
            compiled.append(started)

        def on_end(self, ended):
            pass

    def use(count, shape):
        matrix, vector, w = parts(count, shape)
        system = system_of([sft.PointwiseMatrix(names(count), matrix, vector)], names(count), shape)
        return system.force(w), system.cost(w), system.jvp(w, w)

    use(2, (5,))
    with event.install_listener("numba:compile", Listener()):
        for count, shape in ((1, (5,)), (7, (3, 4)), (25, (2, 3, 4))):
            use(count, shape)
    assert compiled == []


def test_some_of_the_fields_in_another_order():
    matrix, vector, w = parts(2, (6,))
    fields = ["a", "b", "c", "d"]
    fields_w = np.random.default_rng(2).standard_normal((4, 6))
    system = system_of([sft.PointwiseMatrix(["d", "b"], matrix, vector)], fields, (6,))
    one = system_of([sft.PointwiseMatrix(["a", "b"], matrix, vector)], ["a", "b"], (6,))
    chosen = fields_w[[3, 1]]
    expected = np.zeros((4, 6))
    expected[[3, 1]] = one.force(chosen)
    np.testing.assert_array_equal(system.force(fields_w), expected)
    assert system.cost(fields_w) == one.cost(chosen)


def test_kernels_add_to_each_other_and_to_the_local_cost():
    shape = (4, 5)
    matrix, vector, w = parts(2, shape)
    boundary = {"x": {"derivative": 0.3}, "y": {"value": 0.1}}
    kernel = sft.PointwiseMatrix(names(2), matrix, vector)
    local, bare = "grad2(w0)/2 + w1**4", system_of([], names(2), shape, "grad2(w0)/2 + w1**4", boundary)
    both = system_of([kernel, kernel], names(2), shape, local, boundary)
    alone = system_of([kernel], names(2), shape)
    np.testing.assert_allclose(both.force(w), bare.force(w) + 2 * alone.force(w), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(both.jvp(w, w[::-1]), bare.jvp(w, w[::-1]) + 2 * alone.jvp(w, w[::-1]), rtol=1e-12, atol=1e-11)
    assert both.cost(w) == pytest.approx(bare.cost(w) + 2 * alone.cost(w), rel=1e-13)


def test_it_is_the_cost_written_out():
    rng = np.random.default_rng(4)
    matrix, vector, w = parts(2, (6,))
    sources = {f"M{a}{b}": matrix[a, b] for a in range(2) for b in range(2)} | {f"b{a}": vector[a] for a in range(2)}
    cost = "+".join(f"w{a}*M{a}{b}*w{b}/2" for a in range(2) for b in range(2)) + "-b0*w0-b1*w1"
    action = sft.Action(names(2), cost, sources=sources, friction=sft.Friction(gamma=1.0))
    written = sft.discretise(action, sft.Grid(6, 1.8))
    kernel = system_of([sft.PointwiseMatrix(names(2), matrix, vector)], names(2), (6,))
    d = rng.standard_normal(w.shape)
    np.testing.assert_allclose(kernel.force(w), written.force(w), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(kernel.jvp(w, d), written.jvp(w, d), rtol=1e-12, atol=1e-13)
    assert kernel.cost(w) == pytest.approx(written.cost(w), rel=1e-13)


def test_results_do_not_depend_on_threads(monkeypatch):
    shape, count = (70, 90), 3
    matrix, vector, w = parts(count, shape)
    results = {}
    for number in (1, 2, 5):
        for module in (pointwise, wall_data):
            monkeypatch.setattr(module, "slabs", lambda cells, number=number: number)
        system = system_of([sft.PointwiseMatrix(names(count), matrix, vector)], names(count), shape)
        results[number] = (system.force(w), system.jvp(w, w), np.array(system.cost(w)))
        for one, other in zip(results[1], results[number], strict=True):
            np.testing.assert_array_equal(one, other)


def test_vector_is_optional():
    matrix, _, w = parts(2, (5,))
    without = system_of([sft.PointwiseMatrix(names(2), matrix)], names(2), (5,))
    zero = system_of([sft.PointwiseMatrix(names(2), matrix, np.zeros((2, 5)))], names(2), (5,))
    np.testing.assert_array_equal(without.force(w), zero.force(w))


def test_the_arrays_given_are_left_alone():
    matrix, vector, w = parts(2, (5,))
    before = matrix.copy(), vector.copy(), w.copy()
    system_of([sft.PointwiseMatrix(names(2), matrix, vector)], names(2), (5,)).force(w)
    for one, other in zip(before, (matrix, vector, w), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("fields", "matrix", "vector", "hint"),
    [
        (["a", "b"], np.ones((2, 3, 4)), None, "array (2, 2, *grid.shape)"),
        (["a", "b"], np.ones((2, 2)), None, "array (2, 2, *grid.shape)"),
        (["a", "a"], np.ones((2, 2, 4)), None, "distinct fields"),
        ([], np.ones((0, 0, 4)), None, "distinct fields"),
        (["a"], np.ones((1, 1, 4)), np.ones((1, 5)), "shape (1, 4)"),
        (["a"], np.ones((1, 1, 4)), np.ones(4), "shape (1, 4)"),
        (["a"], np.full((1, 1, 4), np.nan), None, "the matrix of PointwiseMatrix is not finite"),
        (["a"], np.ones((1, 1, 4)), np.full((1, 4), np.inf), "the vector of PointwiseMatrix is not finite"),
        (["a"], "text", None, "real numbers"),
        (["a"], np.ones((1, 1, 4)) * 1j, None, "real numbers"),
        (["a"], [[[1.0, 2.0], [3.0]]], None, "real numbers"),
        (["a"], np.ones((1, 1, 4)), [1j, 0, 0, 0], "real numbers"),
    ],
)
def test_what_is_refused(fields, matrix, vector, hint):
    with pytest.raises(ActionError) as caught:
        sft.PointwiseMatrix(fields, matrix, vector)
    assert hint in str(caught.value)


def test_it_must_fit_the_grid_and_the_fields():
    kernel = sft.PointwiseMatrix(["a"], np.ones((1, 1, 4)))
    with pytest.raises(GridError, match=r"expected: \(n, n, 5\)"):
        system_of([kernel], ["a"], (5,))
    with pytest.raises(ActionError, match="unknown field 'a'"):
        system_of([kernel], ["b"], (4,))
