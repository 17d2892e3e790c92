"""Several steps of one length at once: bit for bit what single steps give, at the same times, for any number of threads."""

import ast

import numpy as np
import pytest

import sftsolve as sft
from sftsolve.codegen import vectors
from sftsolve.errors import StepError
from sftsolve.kernels import strides
from sftsolve.simulation import run, simulate
from sftsolve.simulation import stride as planning
from sftsolve.stepping import make_stepper
from sftsolve.stepping.symplectic import Leapfrog, Leapfrog4

pytestmark = pytest.mark.skipif(not vectors.lanes("float64"), reason="this machine's vectors are left to the compiler")
COUPLED = "S*D*grad2(w)/2 + D/2*grad2(v) + w**4/4 - J*w*v + v*d(w, x)/5"
SINGLE = "D/2*grad2(w) + w**4/4 - w**2/2 - J*w"
WALLS = {"y": {"lower": {"derivative": 0.0}, "upper": {"value": 0.3}}}
FRICTIONS = {
    "descent": sft.Friction(schedule=lambda t: 1e-3 / (1 + t / 20)),
    "heavy-ball": sft.Friction.matching_descent(1e-3, momentum=0.8),
    "leapfrog": sft.Friction(gamma=lambda t: 2 + np.sin(5 * t)),
    "leapfrog4": sft.Friction(gamma=2.0),
}
H = 0.02


def bound(method, shape, text=SINGLE, order=2, dtype="float64", boundary="periodic", sources=None):
    rng = np.random.default_rng(3)
    fields = [name for name in "wv" if f"grad2({name})" in text]
    values = {name: 0.5 + rng.random(shape) for name in "SJ" if name in text} | (sources or {})
    action = sft.Action(fields, text, {"D": 1.3e-3}, values, friction=FRICTIONS[method])
    dynamics = "gradient-flow" if method == "descent" else "damped"
    system = sft.discretise(
        action, sft.Grid(shape, [0.05 * n for n in shape], boundary=boundary), order=order, dtype=dtype, dynamics=dynamics
    )
    return system, system.state({name: rng.standard_normal(shape) for name in fields})


def ran(method, single=False, steps=26, bound_to=bound, **given):
    """Result and final state of a run with things due within steps and at the ends of some, in strides or in single steps."""
    system, state = bound_to(method, **given)
    if single:
        vars(system)["sweeps"] = None
    else:
        assert system.strides is not None
    kinds = {"leapfrog": Leapfrog, "leapfrog4": Leapfrog4}
    stepper = kinds[method](system, H) if method in kinds else make_stepper(method, system)
    h = stepper.fixed_step
    due = [7.3 * h, 11 * h, 20.5 * h, 20.8 * h] if method in kinds else [7 * h, 8 * h, 20 * h]
    result = simulate(system, state, stepper, end=steps * h, clock="t", save_at=due, progress=False)
    return result, state


def assert_same(one, other):
    (result, state), (expected, last) = one, other
    for name in ("t", "tau", "w", "v"):
        np.testing.assert_array_equal(getattr(result, name), getattr(expected, name))
    assert (state.t, state.step) == (last.t, last.step)
    assert result.stats.steps == expected.stats.steps
    rounding = 1e-12 if state.w.dtype == "float64" else 1e-5
    assert result.stats.energy_residual == pytest.approx(expected.stats.energy_residual, rel=rounding, abs=rounding)


@pytest.fixture
def rows_at_a_time(monkeypatch):
    """Several steps in one sweep on small planes too."""
    monkeypatch.setattr(strides, "LARGE", 0)


CASES = {
    "two fields": {"text": COUPLED, "shape": (17, 19)},
    "walls": {"text": SINGLE, "shape": (9, 21), "boundary": WALLS},
    "3D": {"text": SINGLE, "shape": (5, 36, 11), "order": 4},
    "1D": {"text": SINGLE, "shape": (9000,), "order": 8, "dtype": "float32"},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("method", FRICTIONS)
def test_strides_are_single_steps(method, case):
    given = CASES[case]
    if method != "descent" and case == "1D":
        assert not bound(method, **given)[0].strides.swings
        given = given | {"shape": (33, 16)}
    assert_same(ran(method, **given), ran(method, single=True, **given))


@pytest.mark.parametrize(("given", "parts"), [({"text": COUPLED, "shape": (17, 19)}, 1), ({"shape": (24, 16), "order": 6}, 3)])
def test_steps_that_follow_each_other_from_row_to_row(given, parts, rows_at_a_time, monkeypatch):
    monkeypatch.setattr(strides, "slabs", lambda cells: parts)
    found = ran("descent", **given)
    system, _ = bound("descent", **given)
    assert system.strides._march.depth == strides.DEEPEST
    assert_same(found, ran("descent", single=True, **given))


def test_sums_and_bits_do_not_depend_on_slabs(rows_at_a_time, monkeypatch):
    found = []
    for parts in (1, 2, 3, 50):
        monkeypatch.setattr(strides, "slabs", lambda cells, parts=parts: parts)
        system, state = bound("descent", (17, 19), COUPLED)
        other, spare = state.like(), state.like()
        squares = system.strides.flow(state, other, spare, [1e-3] * 11)
        found.append((other.w.copy(), squares))
    moved, state = bound("descent", (17, 19), COUPLED)
    expected = []
    for _ in range(11):
        force = moved.force(state.w.copy())
        expected.append(np.sum(force**2))
        state.w[...] += 1e-3 * force
    np.testing.assert_allclose(found[0][1], expected, rtol=1e-13)
    np.testing.assert_allclose(found[0][0], state.w, rtol=0, atol=1e-13)
    for w, squares in found[1:]:
        np.testing.assert_array_equal(w, found[0][0])
        np.testing.assert_array_equal(squares, found[0][1])


def test_threads_swing_alike(monkeypatch):
    found = []
    for parts in (1, 3):
        monkeypatch.setattr(strides, "slabs", lambda cells, parts=parts: parts)
        system, state = bound("leapfrog", (17, 19), COUPLED)
        squares = system.strides.swing(state, np.array([[0.9, 1e-3, 0.8, 2e-3, 0.1]] * 4))
        found.append((state.w.copy(), state.u.copy(), squares))
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("method", ["descent", "leapfrog"])
def test_what_diverges_within_a_stride_ends_where_single_steps_end(method):
    """The last good state is that before the step that fails."""

    def steep(method, **given):
        system, state = bound(method, **given)
        state.w[...] *= 300.0 if method == "leapfrog" else 100.0
        return system, state

    ends = []
    for single in (False, True):
        with np.errstate(over="ignore", invalid="ignore"), pytest.raises(StepError) as raised:
            ran(method, single, steps=4000, bound_to=steep, shape=(9, 21))
        ends.append((raised.value.result, str(raised.value)))
    assert ends[0][0].stats.steps == ends[1][0].stats.steps > 2
    assert ends[0][1] == ends[1][1]
    np.testing.assert_array_equal(ends[0][0].w[-1], ends[1][0].w[-1])
    assert np.isfinite(ends[0][0].w[-1]).all()


def test_a_failed_stride_leaves_the_state_alone():
    for method in ("descent", "leapfrog"):
        system, state = bound(method, (9, 21))
        state.w[0, 3, 4] = np.inf if method == "descent" else np.nan
        before = state.copy()
        stepper = Leapfrog(system, H) if method == "leapfrog" else make_stepper(method, system)
        h = stepper.fixed_step
        thetas = [system.clock.theta(n * h) for n in range(6)]
        stride = stepper.stride(state, [n * h for n in range(6)], np.diff(thetas))
        assert not stride.finite
        np.testing.assert_array_equal(state.w, before.w)
        assert (state.t, state.step) == (before.t, before.step)


def test_the_limit_of_steps_and_the_length_of_strides(monkeypatch):
    system, state = bound("descent", (9, 21))
    with pytest.raises(StepError) as raised:
        simulate(system, state, "descent", end=40, clock="t", max_steps=13, progress=False)
    assert raised.value.result.stats.steps == 13 and state.t == 13.0
    lengths, original = [], planning.steps_ahead

    def noted(*arguments):
        ahead = original(*arguments)
        lengths.append(len(ahead.lengths))
        return ahead

    monkeypatch.setattr(run, "steps_ahead", noted)
    monkeypatch.setattr(planning, "_WORK", 5 * state.storage.size)
    simulate(system, state, "descent", end=40, clock="t", save_at=[20.0, 21.0], progress=False)
    assert lengths == [5, 2, 1, 5, 5, 5, 4]


@pytest.mark.parametrize(
    ("text", "sources", "kernel"),
    [
        (SINGLE.replace("J*w", "J*w*cos(t)"), None, False),
        (SINGLE, {"J": sft.MiniBatches(np.ones((4, 9, 21)), 2, every=1.0, seed=1)}, False),
        (SINGLE + " + cos(w)", None, False),
        (SINGLE, None, True),
    ],
    ids=["time", "batches", "function", "kernel"],
)
def test_where_one_sweep_will_not_do(text, sources, kernel):
    system, _ = bound("descent", (9, 21), text, sources=sources)
    if kernel:
        kernels = [sft.Convolution("w", "w", "exp(-r**2/0.02)")]
        action = sft.Action(["w"], "w**4/4", kernels=kernels, friction=sft.Friction(eta=0.01))
        system = sft.discretise(action, system.grid, dynamics="gradient-flow")
    assert system.strides is None
    stepper = make_stepper("descent", system)
    assert stepper.stride(system.state({"w": 0.1}), [0.0, 1.0, 2.0], [0.01, 0.01]) is None


def stored(nodes):
    """Names that statements assign."""
    inner = [node for statement in nodes for node in ast.walk(statement)]
    return {node.id for node in inner if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


@pytest.mark.parametrize("shape", [(20,), (17, 19), (5, 36, 11)])
def test_what_is_computed_before_a_loop_stays_as_it_is(shape):
    """Also scalars that the force takes, whose names the sweeps do not know."""
    system, _ = bound("descent", shape)
    functions = [node for node in ast.parse(system.local.plan.text).body if isinstance(node, ast.FunctionDef)]
    sweeps = [function for function in functions if function.name in ("flow_box", "swing_box", "march_rows", "force_wide_box")]
    assert len(sweeps) == (2, 4, 3)[len(shape) - 1]
    for sweep in sweeps:
        loops = [node for node in sweep.body if isinstance(node, ast.For)]
        before = stored(node for node in sweep.body if node not in loops) - {"total0", "total1"}
        assert {"n", "c0"} <= before and not before & stored(loops)
