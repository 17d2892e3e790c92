"""Multigrid against sparse matrices, and its convergence as a number of cycles."""

import tracemalloc

import numpy as np
import pytest
from face_operators import FaceOperator
from scipy.sparse import eye_array
from scipy.sparse.linalg import spsolve

from sftsolve.errors import GridError, StepError
from sftsolve.linear.hierarchy import plans_of
from sftsolve.linear.multigrid import Multigrid, can_coarsen
from sftsolve.loops import multigrid_planes as planes

SMALL_GRIDS = [
    ((16,), "p"),
    ((24,), "d"),
    ((12, 16), "pd"),
    ((20, 8), "nm"),
    ((18, 15), "nd"),
    ((8, 12, 8), "pdn"),
    ((6, 8, 10), "mpp"),
]
BOUNDARIES = ["ppp", "nnn", "ddd", "pnd", "mpd", "pp", "nn", "dd", "pd", "mn"]


def multigrid(operator, **options):
    return Multigrid(operator.layout, operator.periodic, operator.faces, operator.reaction, **options)


def solve(operator, solver, sigma, rtol=1e-8, right=None, guess=None):
    """(solution, cycles, relative residual) by the solver's own operator, which a test of its own compares with matrices."""
    right = operator.random() if right is None else right
    out = operator.layout.zeros(1)[0] if guess is None else guess
    cycles = solver.solve(right, sigma, out, guess is not None, rtol)
    image = operator.layout.zeros(1)[0]
    solver.apply(out, image, 1.0, -sigma)
    residual = np.linalg.norm(operator.inside(right) - operator.inside(image)) / np.linalg.norm(operator.inside(right))
    return out, cycles, residual


@pytest.mark.parametrize("shape, walls", SMALL_GRIDS, ids=str)
def test_the_operator_is_the_matrix(shape, walls):
    operator = FaceOperator(shape, walls, "noise", 10.0, mass=3.0)
    w, out = operator.random(), operator.layout.zeros(1)[0]
    solver = multigrid(operator)
    solver.apply(w, out)
    expected = operator.matrix() @ operator.inside(w).reshape(-1)
    np.testing.assert_allclose(operator.inside(out).reshape(-1), expected, rtol=0, atol=1e-13 * np.abs(expected).max())
    values = np.linalg.eigvalsh(operator.matrix().toarray())
    assert -values[0] <= solver.radius < -3 * values[0]


@pytest.mark.parametrize("shape, walls", SMALL_GRIDS, ids=str)
@pytest.mark.parametrize("kind", ["smooth", "noise", "blocks"])
def test_equals_a_sparse_solve(shape, walls, kind):
    operator = FaceOperator(shape, walls, kind, 30.0, mass=0.5)
    solver, right = multigrid(operator), operator.random()
    for stiffness in (1e-3, 1.0, 1e3, 1e7):
        sigma = stiffness / operator.largest
        out, _, _ = solve(operator, solver, sigma, 1e-11, right)
        matrix = eye_array(operator.grid.size) - sigma * operator.matrix()
        expected = spsolve(matrix.tocsc(), operator.inside(right).reshape(-1))
        difference = operator.inside(out).reshape(-1) - expected
        assert np.linalg.norm(difference) <= 1e-8 * np.linalg.norm(expected)


@pytest.mark.parametrize("walls", BOUNDARIES)
def test_reduction_per_cycle(walls):
    """On the average below 0.07 from a rough right side and 0.09 from a smooth one, whose errors are the slowest ones alone."""
    shape = (128, 128) if len(walls) == 2 else (64, 64, 64) if walls == "ppp" else (32, 32, 32)
    operator = FaceOperator(shape, walls)
    solver = multigrid(operator)
    axes = np.meshgrid(*((np.arange(n) + 0.5) / n for n in shape), indexing="ij")
    smooth = operator.layout.pad(3.0 + np.prod([np.cos(2 * np.pi * x) for x in axes], axis=0)[None])[0]
    for stiffness in (1e-2, 1.0, 30.0, 1e2, 1e4, 1e6, 1e8):
        for right, most, bound in ((operator.random(), 7, 0.07), (smooth, 8, 0.09)):
            _, cycles, residual = solve(operator, solver, stiffness / operator.largest, right=right)
            assert residual <= (1e-8 if stiffness < 1e8 else 2e-8)
            assert cycles <= most
            assert np.prod(solver.reductions) ** (1 / cycles) < bound
            if stiffness < 1e8:  # beyond, the last cycle meets rounding
                assert max(solver.reductions[1:], default=0.0) < 0.09


@pytest.mark.parametrize("walls", ["pp", "dn", "pdn"])
def test_ten_decades_of_stiffness(walls):
    operator = FaceOperator((32,) * len(walls), walls, contrast=100.0)
    solver = multigrid(operator)
    for exponent in range(-3, 9):
        _, cycles, residual = solve(operator, solver, 10.0**exponent / operator.largest)
        assert residual <= 1e-8
        assert cycles <= 10


def test_without_shift_to_speak_of():
    """sigma k = 1e12: rounding limits the residual, and the solver ends there."""
    operator = FaceOperator((32, 32), "pp")
    _, cycles, residual = solve(operator, multigrid(operator), 1e12 / operator.largest)
    assert residual < 1e-4
    assert cycles < 40


@pytest.mark.parametrize("kind", ["noise", "blocks", "inclusion"])
@pytest.mark.parametrize(
    "shape, walls", [((128, 128), "pp"), ((128, 128), "dn"), ((32, 32, 32), "ppp"), ((32, 32, 32), "dnp")], ids=str
)
def test_contrast_of_a_thousand(kind, shape, walls):
    operator = FaceOperator(shape, walls, kind, 1e3)
    solver = multigrid(operator, sweeps=(2, 1))
    for stiffness in (1.0, 1e4, 1e8):
        _, cycles, residual = solve(operator, solver, stiffness / operator.largest)
        assert cycles <= 40
        assert residual <= 2e-8


@pytest.mark.parametrize("lengths", [(1.0, 10.0), (30.0, 1.0), (1.0, 1.0, 8.0), (20.0, 1.0, 5.0)], ids=str)
def test_anisotropic_spacing(lengths):
    """Only the axes of strong coupling are coarsened first."""
    operator = FaceOperator((64,) * 2 if len(lengths) == 2 else (32,) * 3, "pn" if len(lengths) == 2 else "pdn", lengths=lengths)
    solver = multigrid(operator)
    for stiffness in (1.0, 1e4, 1e8):
        _, cycles, residual = solve(operator, solver, stiffness / operator.largest)
        assert cycles <= 14
        assert residual <= 2e-8


def test_warm_start_takes_fewer_cycles():
    operator = FaceOperator((64, 64), "pd")
    solver, sigma = multigrid(operator), 1e4 / operator.largest
    right = operator.random()
    exact, cold, _ = solve(operator, solver, sigma, 1e-12, right)
    guess = exact + 1e-6 * np.nan_to_num(operator.random(5))
    image = operator.layout.zeros(1)[0]
    _, warm, residual = solve(operator, solver, sigma, 1e-8, right, guess)
    assert warm < cold
    assert residual <= 1e-8
    solver.apply(exact, image, 1.0, -sigma)
    assert solver.solve(right, sigma, exact, True, 1e-10) == 0


def test_cycles_at_once_where_single_precision_allows():
    """They share their reduction; a smooth correction of a stiff problem is too rough in single precision."""
    operator = FaceOperator((64, 64), "pd")
    solver = multigrid(operator)
    _, cycles, residual = solve(operator, solver, 1e4 / operator.largest)
    assert residual <= 1e-8
    assert cycles == len(solver.reductions) == 7
    assert len(set(solver.reductions)) == 2
    assert max(solver.reductions) < 0.07
    solve(operator, solver, 1e-2 / operator.largest)
    assert len(set(solver.reductions[:6])) == 1
    operator = FaceOperator((256, 256), "pp")
    solver, wave = multigrid(operator), np.cos(2 * np.pi * (np.arange(256) + 0.5) / 256)
    smooth = operator.layout.pad(np.broadcast_to(wave, (1, 256, 256)))[0]
    solve(operator, solver, 1e8 / operator.largest, 1e-6, smooth)
    assert solver.reductions[0] != solver.reductions[1]
    assert max(solver.reductions) < 0.07


@pytest.mark.parametrize("shape, walls, kind", [((64, 64, 32), "pdn", "smooth"), ((512, 512), "dp", "noise")], ids=str)
def test_results_do_not_depend_on_threads(shape, walls, kind):
    operator = FaceOperator(shape, walls, kind, 1e3)
    found = []
    for threads in (1, 2, 3, 5):
        solver = multigrid(operator, threads=threads)
        out, cycles, _ = solve(operator, solver, 1e4 / operator.largest)
        found.append((operator.inside(out).tobytes(), cycles, tuple(solver.reductions)))
    assert all(other == found[0] for other in found[1:])


@pytest.mark.parametrize("walls, lengths", [("ppp", None), ("ndp", None), ("ppp", (1.0, 20.0, 1.0))], ids=str)
@pytest.mark.parametrize("sweeps", [(1, 1), (2, 2)], ids=str)
def test_results_do_not_depend_on_blocks(walls, lengths, sweeps):
    """Of rows, in which large planes are swept, also where their axis is not coarsened, and of planes taken at once."""
    operator = FaceOperator((32, 36, 64), walls, "noise", 30.0, lengths=lengths)
    found = []
    for block, group, threads in ((36, 1, 1), (12, 1, 1), (14, 3, 2), (32, 2, 3)):
        solver = multigrid(operator, sweeps=sweeps, threads=threads)
        solver._table[:, planes.BLOCK], solver._table[:, planes.GROUP] = block, group
        solver._plans = plans_of(solver._table)
        out, cycles, _ = solve(operator, solver, 1e4 / operator.largest)
        found.append((operator.inside(out).tobytes(), cycles, tuple(solver.reductions)))
    assert all(other == found[0] for other in found[1:])


def test_allocates_nothing():
    operator = FaceOperator((64, 64, 64), "pdn", "inclusion", 1e3)
    solver, right, out = multigrid(operator), operator.random(), operator.layout.zeros(1)[0]
    sigma = 1e4 / operator.largest
    solver.solve(right, sigma, out, False, 1e-8)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    assert solver.solve(right, 2 * sigma, out, False, 1e-8) > len(solver.reductions)  # conjugate gradients were needed
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak - before < 0.1 * out.nbytes


def test_states_in_single_precision():
    operator = FaceOperator((32, 32), "pd", dtype="float32")
    solver = multigrid(operator)
    for stiffness in (1e-2, 1.0, 1e3):
        out, _, residual = solve(operator, solver, stiffness / operator.largest, 1e-6)
        assert out.dtype == np.float32
        assert residual < 1e-6 * max(2.0, stiffness)


def test_edges_of_the_range():
    operator = FaceOperator((16, 16), "pp", mass=2.0)
    solver, right = multigrid(operator), operator.random()
    out, cycles, _ = solve(operator, solver, 0.0, right=right)
    assert cycles == 0
    np.testing.assert_array_equal(operator.inside(out), operator.inside(right))
    out.fill(7.0)
    assert solver.solve(np.zeros_like(right), 1.0, out, True) == 0
    assert not operator.inside(out).any()
    still = Multigrid(operator.layout, [True, True], [np.zeros((16, 16))] * 2, 2.0)
    still.solve(right, 3.0, out, rtol=1e-10)
    np.testing.assert_allclose(operator.inside(out), operator.inside(right) / 7.0, rtol=0, atol=1e-9)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_noticed_at_once(value):
    operator = FaceOperator((16, 16), "pd")
    solver, right, out = multigrid(operator), operator.random(), operator.random(1)
    with pytest.raises(StepError, match="not finite"):
        solve(operator, solver, 1.0, right=np.where(right > 2.0, value, right))
    assert not solver.reductions
    operator.inside(out)[3, 3] = value
    with pytest.raises(StepError, match="not finite"):
        solve(operator, solver, 1.0, right=right, guess=out)
    assert not solver.reductions


def test_which_grids_can_be_coarsened():
    assert can_coarsen((256, 256, 256), [True] * 3)
    assert can_coarsen((96, 160), [True, False])
    assert can_coarsen((100, 100), [True, True])
    assert not can_coarsen((129, 128), [True, True])
    assert not can_coarsen((250, 250, 250), [False] * 3)


def test_bad_input_is_refused():
    operator = FaceOperator((16, 16), "pp")
    layout, periodic, faces = operator.layout, operator.periodic, operator.faces
    with pytest.raises(GridError, match="faces for every axis"):
        Multigrid(layout, periodic, faces[:1])
    with pytest.raises(GridError, match="does not fit"):
        Multigrid(layout, periodic, [faces[0], faces[1][:-1]])
    with pytest.raises(GridError, match="not negative"):
        Multigrid(layout, periodic, faces, -1.0)
    with pytest.raises(GridError, match="finite"):
        Multigrid(layout, periodic, [faces[0], np.full((16, 16), np.nan)])
    odd = FaceOperator((33, 36), "pp")
    with pytest.raises(GridError, match="cannot be coarsened"):
        multigrid(odd)
