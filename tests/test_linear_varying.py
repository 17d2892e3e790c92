"""Linear forces with coefficients that vary: which of them are taken, as matrices and in solves."""

import numpy as np
import pytest
from allocations import peak_of
from linear_parts import applied, assert_close, clipped, flow, jacobian, matrix, solved

import sftsolve as sft
from sftsolve.linear.varying import FacePart, VaryingPart

D, N, R = {"value": 0.3}, {"derivative": -0.2}, {"mixed": 1.7, "const": 0.4}
RNG = np.random.default_rng(5)


def box(shape, boundary="periodic"):
    return sft.Grid(shape, tuple(0.31 * n for n in shape), boundary=boundary)


def face(lower, upper):
    return {"lower": lower, "upper": upper}


def positive(shape):
    return 0.2 + 3.0 * RNG.random(shape)


def matrices(count, shape):
    """Symmetric positive semidefinite matrices in every cell, of low rank in some."""
    vectors = RNG.standard_normal((count, 2 * count, *shape)) * (RNG.random((1, 2 * count, *shape)) < 0.4)
    return np.einsum("ak...,bk...->ab...", vectors, vectors)


PLANE = (6, 7)
S, M = positive(PLANE), positive(PLANE)
BOTH = {"S": S, "M": M}
THEORIES = {
    # fields, cost, boundary, order, kernels
    "stiffness": (("w",), "S*grad2(w)", "periodic", 2, ()),
    "stiffness and mass": (("w",), "S*grad2(w)/2 + M*w**2/2 + J*w", {"x": face(D, N)}, 2, ()),
    "order 6": (("w",), "S*grad2(w)/2 + M*w**2/2", "periodic", 6, ()),
    "mass": (("w",), "grad2(w)/3 + M*w**2/2", {"y": D}, 2, ()),
    "coordinates": (("w",), "(1 + x**2)*grad2(w)/3 + w**4", {"x": N, "y": N}, 2, ()),
    "mixed walls": (("w",), "S*grad2(w)/2 + M*w**2", {"x": face(R, N), "y": R}, 2, ()),
    "mixed walls, constant": (("w",), "grad2(w)/2 + w**2", {"y": face(D, R)}, 2, ()),
    "cross stiffness": (("a", "b"), "S*(grad2(a) + 2*grad2(b) + 1.8*d(a, x)*d(b, x)) + M*a**2", "periodic", 2, ()),
    "tensor": (("w",), "S*(d(w, x)**2 + 1.6*d(w, x)*d(w, y) + 0.7*d(w, y)**2) + w**2/5", "periodic", 4, ()),
    "fourth derivatives": (("w",), "S*lap(w)**2/9 + M*d(w, x)**2", "periodic", 2, ()),
    "fourth derivatives at walls": (("w",), "S*lap(w)**2/9", {"x": {"value": 0.0}, "y": {"derivative": 0.0}}, 2, ()),
    "matrices": (("a", "b", "c"), "grad2(a) + 2*grad2(b)", {"y": N}, 2, "bca"),
    "only matrices": (("a", "b", "c"), "M*a**2", "periodic", 2, "ab"),
    "matrices of all": (("a", "b"), "M*a**2 + S*b**2 + S*a*b/9", "periodic", 2, "ab"),
    "slopes": (("a", "b"), "grad2(a) + 3*S*grad2(b) + 2*S*b**2 + S*b*d(a, x)", "periodic", 2, ()),
}


def theory(name, shape=PLANE, **options):
    fields, cost, boundary, order, kernels = THEORIES[name]
    rng = np.random.default_rng(1)
    sources = BOTH if shape == PLANE else {name: 1.0 + 1.5 * rng.random(shape) for name in BOTH}
    sources = {key: value for key, value in (sources | {"J": rng.random(shape)}).items() if key in cost}
    if kernels:
        kernels = [sft.PointwiseMatrix(list(kernels), matrices(len(kernels), shape), rng.random((len(kernels), *shape)))]
    return flow(fields, cost, box(shape, boundary), order, sources=sources, kernels=kernels, **options)


@pytest.mark.parametrize("name", THEORIES)
def test_operator_is_the_linear_force(name):
    whole = theory(name)
    found = matrix(whole)
    linear = jacobian(whole)
    assert_close(found, linear, 3e-13)
    eigenvalues = np.linalg.eigvalsh(found)
    assert -eigenvalues[0] <= whole.linear.radius * (1 + 1e-12) <= -8 * eigenvalues[0]
    mean = mean_matrix(whole)
    assert np.abs(np.linalg.eigvalsh(found - mean)).max() <= whole.linear.deviation * (1 + 1e-12)


def mean_matrix(whole):
    modes = whole.linear.mean_modes

    def apply(w):
        spectrum, out = modes.empty(), whole.layout.zeros(len(w))
        modes.forward(whole.layout.pad(w), spectrum)
        spectrum *= modes.eigenvalues
        modes.backward(spectrum, out)
        return whole.layout.interior(out).copy()

    count, shape = len(whole.fields), whole.grid.shape
    unit = np.eye(count * whole.grid.size).reshape(-1, count, *shape)
    return np.stack([apply(column).reshape(-1) for column in unit], axis=1)


@pytest.mark.parametrize("name", ["stiffness", "cross stiffness", "matrices", "fourth derivatives"])
def test_mean_modes_are_those_of_the_mean_coefficients(name):
    fields, cost, boundary, order, kernels = THEORIES[name]
    whole = theory(name)
    if kernels:
        kernel = whole.action.kernels[0]
        mean = np.broadcast_to(kernel.matrix.mean(axis=(-2, -1), keepdims=True), kernel.matrix.shape)
        kernels = [sft.PointwiseMatrix(kernel.fields, mean)]
    for source, values in whole.action.sources_at(whole.grid).items():
        cost = cost.replace(source, repr(float(values.mean())))
    assert_close(mean_matrix(whole), jacobian(flow(fields, cost, whole.grid, order, kernels=kernels)), 1e-12)


def test_only_what_damps_is_taken():
    grid = box(PLANE)
    signed = RNG.standard_normal(PLANE)
    cases = {
        "S*grad2(a) + grad2(b) + J*a*d(b, x)": "S*grad2(a) + grad2(b)",
        "S*grad2(a) + grad2(b) + 9*J*d(a, x)*d(b, y)": "S*grad2(a) + grad2(b)",
        "S*grad2(a) + grad2(b) + J*d(a, y)**2": "S*d(a, x)**2 + grad2(b) + (S + J + abs(S + J))*d(a, y)**2/2",
        "S*grad2(a) + grad2(b) - b**2 - S*a**2": "S*grad2(a) + grad2(b)",
        "S*grad2(a) + grad2(b) + J*a**2": "S*grad2(a) + grad2(b) + (J + abs(J))*a**2/2",
        "S*grad2(a) + grad2(b) + t*a**2 + (2 + L)*b**2": "S*grad2(a) + grad2(b) + 2*b**2",
    }
    for cost, taken in cases.items():
        sources = {"S": S, "J": signed, "L": "x*exp(-t)"}
        whole = flow(["a", "b"], cost, grid, sources=sources)
        wanted = flow(["a", "b"], taken, grid, sources=sources)
        assert_close(matrix(whole), jacobian(wanted), 3e-13)
        assert np.linalg.eigvalsh(matrix(whole)).max() <= 1e-12 * whole.linear.radius


def test_matrices_that_grow_are_projected():
    grid = box(PLANE)
    values = RNG.standard_normal((2, 2, *PLANE))
    values = 0.5 * (values + values.swapaxes(0, 1))
    whole = flow(["a", "b"], "0", grid, kernels=sft.PointwiseMatrix(["a", "b"], values))
    wanted = -clipped_cells(-values)
    other = flow(["a", "b"], "0", grid, kernels=sft.PointwiseMatrix(["a", "b"], wanted))
    assert_close(matrix(whole), jacobian(other), 1e-13)


def clipped_cells(values):
    out = np.empty_like(values)
    for index in np.ndindex(values.shape[2:]):
        out[(slice(None), slice(None), *index)] = clipped(values[(slice(None), slice(None), *index)])
    return out


@pytest.mark.parametrize("name", THEORIES)
def test_solve_is_that_of_dense_linear_algebra(name):
    whole = theory(name)
    right = RNG.standard_normal((len(whole.fields), *PLANE))
    dense = jacobian(whole)
    for sigma in (0.0, 1e-3, 1.0, 1e3):
        wanted = np.linalg.solve(np.eye(right.size) - sigma * dense, right.reshape(-1))
        found = solved(whole, right, sigma, 1e-13).reshape(-1)
        residual = found - sigma * dense @ found - right.reshape(-1)
        assert np.linalg.norm(residual) <= 1e-12 * (1 + sigma * whole.linear.radius) * np.linalg.norm(right)
        assert_close(found, wanted, 1e-10)


def test_a_good_guess_takes_fewer_iterations():
    whole = theory("stiffness and mass")
    right = whole.layout.pad(RNG.standard_normal((1, *PLANE)))
    out = whole.layout.zeros(1)
    cold = whole.linear.solve(right, 1.0, out, False, 1e-10)
    near = out + whole.layout.pad(1e-7 * RNG.standard_normal((1, *PLANE)))
    assert whole.linear.solve(right, 1.0, near, True, 1e-10) < cold
    assert whole.linear.solve(right, 1.0, out, True, 1e-9) == 0


@pytest.mark.parametrize("name", ["stiffness and mass", "matrices", "only matrices"])
def test_single_precision(name):
    double, single = theory(name), theory(name, dtype="float32")
    if "matrices" in name:
        single = flow(
            double.fields,
            double.action.cost,
            double.grid,
            dtype="float32",
            kernels=double.action.kernels,
            sources=double.action.sources_at(double.grid),
        )
    right = RNG.standard_normal((len(double.fields), *PLANE)).astype(np.float32)
    assert_close(applied(single, right), applied(double, right), 1e-6)
    found = solved(single, right, 0.3, 1e-6)
    assert found.dtype == np.float32
    assert_close(found, solved(double, right, 0.3), 1e-5)


@pytest.mark.parametrize("name", ["stiffness and mass", "matrices", "only matrices"])
def test_solves_allocate_nothing(name):
    shape = (100, 110)
    whole = theory(name, shape)
    right, out = (whole.layout.zeros(len(whole.fields)) for _ in range(2))
    whole.layout.interior(right)[...] = RNG.standard_normal((len(whole.fields), *shape))
    for work in (lambda: whole.linear.solve(right, 0.1, out, False, 1e-8), lambda: whole.linear.apply(right, out)):
        assert peak_of(work) < 8 * whole.grid.size / 4


def test_fractional_stiffness_beside_a_varying_one():
    kernels = [sft.Fractional("w", 1.5, 0.8), sft.Convolution("w", "w", "exp(-r**2/0.9)")]
    whole = flow(["w"], "S*grad2(w)/9", box(PLANE), sources={"S": S}, kernels=kernels)
    assert_close(matrix(whole), jacobian(whole), 1e-12)
    right = RNG.standard_normal((1, *PLANE))
    dense = np.eye(right.size) - 2.0 * jacobian(whole)
    assert_close(solved(whole, right, 2.0).reshape(-1), np.linalg.solve(dense, right.reshape(-1)), 1e-10)


LARGER = {
    # theory, shape, kind of part, most iterations at sigma = 1
    "multigrid": ("stiffness and mass", (32, 48), FacePart, 12),
    "multigrid at mixed walls": ("mixed walls", (48, 32), FacePart, 12),
    "multigrid inside conjugate gradients": ("matrices", (32, 48), FacePart, 30),
    "no coarser grid": ("mixed walls", (37, 31), VaryingPart, 60),
    "order 6 by multigrid of order 2": ("order 6", (32, 48), VaryingPart, 20),
    "cross stiffness": ("cross stiffness", (32, 48), VaryingPart, 30),
}


@pytest.mark.parametrize("name", LARGER)
def test_larger_grids(name):
    key, shape, kind, most = LARGER[name]
    whole = theory(key, shape)
    assert type(whole.linear) is kind
    w = np.random.default_rng(2).standard_normal((len(whole.fields), *shape))
    image = whole.jvp(np.zeros_like(w), w)
    assert_close(applied(whole, w), image, 3e-13)
    assert np.linalg.norm(image) <= whole.linear.radius * np.linalg.norm(w)
    storage, out = whole.layout.pad(w), whole.layout.zeros(len(w))
    iterations = whole.linear.solve(storage, 1.0, out, False, 1e-8)
    found = whole.layout.interior(out)
    residual = found - whole.jvp(np.zeros_like(w), found) - w
    assert np.linalg.norm(residual) <= 2e-8 * np.linalg.norm(w)
    assert 1 < iterations <= most


def test_a_stiffness_of_zero_leaves_the_matrices():
    shape = (32, 48)
    mass = matrices(2, shape)
    kernel = sft.PointwiseMatrix(["a", "b"], mass, np.zeros((2, *shape)))
    grid = box(shape, {"x": N, "y": face(N, D)})
    whole = flow(("a", "b"), "K/2*(grad2(a) + grad2(b))", grid, parameters={"K": 0.0}, kernels=[kernel])
    right = RNG.standard_normal((2, *shape))
    found = solved(whole, right, 3.0)
    assert_close(found + 3.0 * np.einsum("abyx,byx->ayx", mass, found), right, 1e-11)
