"""Convolutions in blocks that overlap: many short blocks against SciPy's filters at every kind of end, and what they promise."""

import numba
import numpy as np
import pytest
from allocations import peak_of_forces
from direct_sums import check_gradient, counted_calls
from scipy import ndimage, signal

import sftsolve as sft
from sftsolve.kernels import overlap, providers
from sftsolve.kernels.engines import Side, Space
from sftsolve.kernels.methods import make_engine
from sftsolve.kernels.overlap import Blocks, Plan
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
    plan = Plan.of(tuple(n // 2 for n in extents), make_space(grid, end))
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
    grid = make_grid((1211,), end)
    space, rng = make_space(grid, end), np.random.default_rng(2)
    stencil = Stencil(rng.standard_normal(30), (lowest,))
    assert Plan.of(stencil.reach, space).blocks > 2
    layout = space.layout
    fields, reference = layout.zeros(2), layout.zeros(2)
    layout.interior(fields)[...], layout.interior(reference)[...] = rng.standard_normal((2, 2, 1211))
    before, after = rng.standard_normal((2, 1, 1, 1211))
    given = (layout.interior(fields) - layout.interior(reference)) * np.stack([before[0, 0], after[0, 0]])
    full = np.convolve(given[0], stencil.values)
    cells = np.zeros(1211)
    for index, value in enumerate(full):
        cell = index + lowest
        if end == PERIODIC or 0 <= cell < 1211:
            cells[cell % 1211] += value
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
    for n in (1 << 18, 1 << 22):
        space = make_space(make_grid((n,), ZERO), ZERO)
        plan = Plan.of((50,), space)
        assert plan.points[2] * 16 <= overlap.BLOCK_BYTES
        assert plan.group * plan.points[2] * 16 <= overlap.GROUP_BYTES
        held = Blocks((50,), space, 1).bytes
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
            assert system.kernels[0]._parts.workspace.plan.parts == threads
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
    if not providers.works(providers.Preallocated(1)):
        pytest.skip("this SciPy makes arrays of its own")
    grid = make_grid((1 << 16,), MIRROR)
    kernel = sft.Convolution("a", "b", "exp(-r**2/(2*s**2))", {"s": 3.0}, about={"a": 1.0}, walls="mirror", method="overlap")
    system = make_system(grid, kernel)
    # Of 524288 bytes a field; the halves of the threads' errands are among them.
    assert peak_of_forces(system, {"a": "x", "b": "1/(1 + x)"}) < 16_000


def test_kernels_of_one_field_share_its_transforms(short_blocks, monkeypatch):
    """In blocks as in transforms of the whole grid; kernels of either kind keep to their own."""
    grid = make_grid((90, 70), ZERO)
    rng = np.random.default_rng(5)
    pairs = [("a", "a"), ("a", "b"), ("b", "c"), ("b", "a"), ("a", "c")]
    kernels = [
        sft.Convolution(
            *pair, rng.standard_normal(shape), amplitude=amplitude, about={"a": 0.3} if about else None, method="overlap"
        )
        for pair, shape, amplitude, about in zip(
            pairs, [(9, 7), (3, 5), (1, 1), (5, 9), (1, 3)], [1.0, -0.5, "cos(t)", 2.0, 1.0], [0, 0, 0, 0, 1], strict=True
        )
    ]
    together, t = make_system(grid, *kernels, fields="abc"), 0.7
    assert len(together.kernels) == 1
    w = random_fields(grid, 3)
    apart = [make_system(grid, kernel, fields="abc") for kernel in kernels]
    wanted = sum(system.force(w, t) for system in apart)
    np.testing.assert_allclose(together.force(w, t), wanted, rtol=0, atol=1e-13 * np.abs(wanted).max())
    assert together.cost(w, t) == pytest.approx(sum(system.cost(w, t) for system in apart), rel=1e-11)
    assert together.kernels[0].bound(t) <= sum(system.kernels[0].bound(t) for system in apart) * (1 + 1e-12)
    check_gradient(together, w, t)
    plan, counts = (
        together.kernels[0]._parts.workspace.plan,
        counted_calls(monkeypatch, overlap.BlockTransform, ("forward", "backward")),
    )
    together.force(w, t)
    groups = -(-plan.blocks // plan.group)
    assert plan.blocks > 9 and counts == {"forward": 5 * groups, "backward": 3 * groups}  # a and c with and without reference
    whole = sft.Convolution("a", "a", kernels[0].profile.array, method="fft")
    mixed = make_system(grid, whole, *kernels[1:], fields="abc")
    assert len(mixed.kernels) == 2
    np.testing.assert_allclose(mixed.force(w, t), wanted, rtol=0, atol=1e-13 * np.abs(wanted).max())


@pytest.mark.parametrize("end", MODES)
def test_the_bound_is_above_the_spectral_radius(short_blocks, end):
    """Modes of a block may miss the largest value of the symbol."""
    grid = make_grid((37,), end)
    line = np.array([0.3, -1.0, 0.2, 0.5, 0.2, -1.0, 0.3])
    system = make_system(grid, sft.Convolution("a", "a", line, amplitude=-2.0, walls=WALLS[end], method="overlap"), fields="a")
    jacobian = np.array([system.jvp(np.zeros((1, 37)), row[None])[0] for row in np.eye(37)])
    radius = np.abs(np.linalg.eigvalsh(jacobian)).max()
    assert radius <= system.kernels[0].bound() < 2.0 * radius


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
