"""Convolutions in blocks that overlap: many short blocks against SciPy's filters at every kind of end, and what they promise."""

import tracemalloc

import numba
import numpy as np
import pytest
from direct_sums import check_gradient
from scipy import ndimage, signal

import sftsolve as sft
from sftsolve.kernels import overlap, transforms
from sftsolve.kernels.engines import Side, Space
from sftsolve.kernels.links import Linked
from sftsolve.kernels.methods import make_engine
from sftsolve.kernels.overlap import Overlap, Plan
from sftsolve.kernels.spectral import SpectralSum
from sftsolve.kernels.stencil import Stencil
from sftsolve.loops.convolution import MIRROR, PERIODIC, ZERO
from sftsolve.parallel import side_by_side
from sftsolve.state import Layout

WALL = {"derivative": 0.0}
MODES = {PERIODIC: "wrap", ZERO: "constant", MIRROR: "reflect"}
WALLS = {PERIODIC: "zero", ZERO: "zero", MIRROR: "mirror"}


@pytest.fixture
def short_blocks(monkeypatch):
    """Blocks as short as on a machine with hardly any cache, in groups of two."""
    monkeypatch.setattr(overlap, "BLOCK_BYTES", 1)
    monkeypatch.setattr(overlap, "GROUP_BYTES", 1)


def make_grid(shape, end):
    return sft.Grid(shape, [n / 10 for n in shape], boundary="periodic" if end == PERIODIC else WALL)


def make_space(grid, end, dtype="float64"):
    missing = 3 - grid.dimension
    return Space(Layout.of(grid, 0, dtype), (0,) * missing + (end,) * grid.dimension)


def make_system(grid, *kernels, fields=("a", "b"), **options):
    return sft.discretise(sft.Action(list(fields), kernels=list(kernels)), grid, dynamics="gradient-flow", **options)


def random_fields(grid, count=2):
    return np.random.default_rng(0).standard_normal((count, *grid.shape))


SHAPES = {
    "1D": ((403,), (31,), 4),
    "1D, as wide as the box": ((150,), (299,), 1),
    "2D": ((37, 60), (9, 5), 6),
    "2D, rows": ((37, 60), (1, 9), 6),
    "2D, columns": ((60, 37), (9, 1), 6),
    "2D, a point": ((37, 60), (1, 1), 6),
    "3D": ((24, 7, 40), (5, 3, 3), 4),
    "3D, planes": ((24, 20, 40), (3, 1, 5), 4),
}


@pytest.mark.parametrize("end", MODES)
@pytest.mark.parametrize("shape, extents, least", SHAPES.values(), ids=SHAPES)
def test_many_blocks_agree_with_scipy(short_blocks, shape, extents, least, end):
    grid, rng = make_grid(shape, end), np.random.default_rng(1)
    extents = tuple(min(n, size) for n, size in zip(extents, shape, strict=True)) if end == PERIODIC else extents
    extents = tuple(n - 1 + n % 2 for n in extents)
    stencil = rng.standard_normal(extents)
    if end == MIRROR:
        for axis in range(len(shape)):
            stencil = stencil + np.flip(stencil, axis)
    plan = Plan.of(Stencil(stencil, tuple(-(n // 2) for n in extents)), make_space(grid, end))
    assert plan.blocks >= least
    w = random_fields(grid)
    system = make_system(grid, sft.Convolution("a", "b", stencil, walls=WALLS[end], method="overlap"))
    tolerance = 1e-14 * np.abs(stencil).sum() * grid.cell_volume
    force = -grid.cell_volume * ndimage.convolve(w[1], stencil, mode=MODES[end])
    adjoint = -grid.cell_volume * ndimage.correlate(w[0], stencil, mode=MODES[end])
    np.testing.assert_allclose(system.force(w), [force, adjoint], rtol=0, atol=tolerance)
    assert system.cost(w) == pytest.approx(-grid.cell_volume * float(np.sum(w[0] * force)), rel=1e-11)
    check_gradient(system, w)


@pytest.mark.parametrize("lowest", [-40, -25, -4, 0, 11])
@pytest.mark.parametrize("end", [PERIODIC, ZERO])
def test_one_sided_stencils_and_their_transposes(short_blocks, lowest, end):
    """Displacements need not lie about zero; masks and references on both sides; the transpose is the adjoint."""
    grid = make_grid((211,), end)
    space, rng = make_space(grid, end), np.random.default_rng(2)
    stencil = Stencil(rng.standard_normal(30), (lowest,))
    assert Plan.of(stencil, space).blocks > 5
    layout = space.layout
    fields, reference = layout.zeros(2), layout.zeros(2)
    layout.interior(fields)[...], layout.interior(reference)[...] = rng.standard_normal((2, 2, 211))
    before, after = rng.standard_normal((2, 1, 1, 211))
    given = (layout.interior(fields) - layout.interior(reference)) * np.stack([before[0, 0], after[0, 0]])
    full = np.convolve(given[0], stencil.values)
    cells = np.zeros(211)
    for index, value in enumerate(full):
        cell = index + lowest
        if end == PERIODIC or 0 <= cell < 211:
            cells[cell % 211] += value
    source, target = Side(fields, 0, reference, before), Side(fields, 1, reference, after)
    engine = make_engine("overlap", stencil, space)
    wanted = float(given[1] @ cells)
    size = np.abs(given[1]) @ np.abs(cells)
    assert abs(engine.dot(source, target) - wanted) < 1e-14 * size
    assert abs(engine.transposed().dot(target, source) - wanted) < 1e-14 * size
    assert abs(engine.transposed().transposed().dot(source, target) - wanted) < 1e-14 * size
    out = layout.zeros(1)
    engine.add(source, Side(out, 0, space.none(4), after), 0.3)
    engine.add(source, Side(out, 0, space.none(4), after), 0.4)
    np.testing.assert_allclose(layout.interior(out)[0], 0.7 * after[0, 0] * cells, rtol=0, atol=1e-13)


def test_blocks_stay_in_the_cache_and_scratch_does_not_grow_with_the_grid():
    stencil = Stencil(np.ones(101), (-50,))
    for n in (1 << 18, 1 << 22):
        space = make_space(make_grid((n,), ZERO), ZERO)
        plan = Plan.of(stencil, space)
        assert plan.points[2] * 16 <= overlap.BLOCK_BYTES
        assert plan.group * plan.points[2] * 16 <= overlap.GROUP_BYTES
        engine = Overlap.of(stencil, space)
        held = engine._scratch.work.nbytes + engine._scratch.spectra.nbytes + engine._scratch.symbol.nbytes
        assert held < 1.1 * overlap.GROUP_BYTES * plan.parts
    estimate = sft.Convolution("a", "a", np.ones(101), method="overlap").estimate(make_grid((n,), ZERO))
    assert 0.8 < held / estimate.memory < 1.2


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bits_do_not_depend_on_threads(dtype, monkeypatch):
    limit = numba.get_num_threads()
    n = 140_001
    grid, w = make_grid((n,), ZERO), np.random.default_rng(3).standard_normal((2, n)).astype(dtype)
    stencil = np.random.default_rng(4).standard_normal(301)
    results = []
    try:
        for threads in (1, 2, 2):
            if threads > numba.config.NUMBA_NUM_THREADS:
                pytest.skip("one processor")
            monkeypatch.setenv("SFTSOLVE_THREADS", str(threads))
            system = make_system(grid, sft.Convolution("a", "b", stencil, method="overlap"), dtype=dtype)
            assert system.kernels[0].links[0].engine._scratch.plan.parts == threads
            results.append((system.force(w), system.cost(w)))
    finally:
        numba.set_num_threads(limit)
    for force, cost in results[1:]:
        np.testing.assert_array_equal(force, results[0][0])
        assert cost == results[0][1]
    wanted = -grid.cell_volume * signal.oaconvolve(w[1].astype(float), stencil, mode="same")
    accuracy = 1e-6 if dtype == "float32" else 1e-14
    np.testing.assert_allclose(results[0][0][0], wanted, rtol=0, atol=accuracy * np.abs(wanted).max())


def test_nothing_of_field_size_is_allocated():
    if not transforms.preallocated_works():
        pytest.skip("this SciPy makes arrays of its own")
    grid = make_grid((1 << 16,), MIRROR)
    kernel = sft.Convolution("a", "b", "exp(-r**2/(2*s**2))", {"s": 3.0}, about={"a": 1.0}, walls="mirror", method="overlap")
    system = make_system(grid, kernel)
    state = system.state({"a": "x", "b": "1/(1 + x)"})
    out, direction = state.like(), state.copy()
    for _ in range(2):
        tracemalloc.start()
        system.force_into(state, out)
        system.cost_of(state)
        system.jvp_into(state, direction, out)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 16_000  # of 524288 bytes a field; the halves of the threads' errands are among them


def test_blocks_beside_transforms_of_the_whole():
    """A kernel in blocks does not keep the others of its field from sharing a transform."""
    grid = make_grid((5000,), PERIODIC)
    rng = np.random.default_rng(5)
    stencils = rng.standard_normal((3, 41))
    kernels = [sft.Convolution("a", "b", k, method=m) for k, m in zip(stencils, ("fft", "overlap", "fft"), strict=True)]
    together, w = make_system(grid, *kernels), random_fields(grid)
    assert sorted(type(operator).__name__ for operator in together.kernels) == [Linked.__name__, SpectralSum.__name__]
    whole = make_system(grid, sft.Convolution("a", "b", stencils.sum(axis=0), method="direct"))
    wanted = whole.force(w)
    np.testing.assert_allclose(together.force(w), wanted, rtol=0, atol=1e-13 * np.abs(wanted).max())
    assert together.cost(w) == pytest.approx(whole.cost(w), rel=1e-11)


def test_the_symbol_enters_implicit_steps():
    """A stiff kernel in blocks is taken out of the force, as is one in modes: the same steps, however large."""
    grid = sft.Grid((512,), (8.0,))
    found = {}
    for method in ("overlap", "fft"):
        kernel = sft.Convolution("w", "w", "c*exp(-r**2)", {"c": 2e3}, method=method)
        action = sft.Action(["w"], "w**4/4", kernels=[kernel])
        system = sft.discretise(action, grid, dynamics="gradient-flow")
        assert system.linear is not None and system.linear.modes is not None
        assert system.linear.radius == pytest.approx(2 * 2e3 * np.sqrt(np.pi), rel=1e-6)
        found[method] = sft.solve(
            action, grid, initial={"w": "sin(2*pi*x/8)"}, end=1.0, method="ark436", dynamics="gradient-flow"
        )
    assert found["overlap"].stats.steps < 200
    np.testing.assert_allclose(found["overlap"].w[-1], found["fft"].w[-1], rtol=0, atol=1e-9)


def test_errors_of_one_thread_reach_the_caller_and_leave_nobody_at_work():
    done = []

    def work(part):
        if part == 1:
            raise ValueError("part 1")
        done.append(part)

    with pytest.raises(ValueError, match="part 1"):
        side_by_side(work, 3)
    assert sorted(done) == [0, 2]
    side_by_side(done.append, 1)
    assert done[-1] == 0
