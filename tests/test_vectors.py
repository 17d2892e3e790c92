"""Sweeps of explicit vectors: to rounding those of the compiler's own vectorisation, on cells of the interior alone."""

import importlib.util
import re

import llvmlite.binding
import numpy as np
import pytest

import sftsolve as sft
from sftsolve.codegen import vectors
from sftsolve.codegen.plan import plan
from sftsolve.kernels import local, strides
from sftsolve.loops import boxes

pytestmark = pytest.mark.skipif(not vectors.lanes("float64"), reason="this machine's vectors are left to the compiler")
REACTION = "S*grad2(w)/2 + D/2*grad2(v) + w**4/(4 + v**2) - J*w*v + v*d(w, x)"
LINEAR = "D/2*grad2(w) + w**4/4 - J*w"


def bind(text, fields, shape, order=2, dtype="float64", boundary="periodic"):
    rng = np.random.default_rng(3)
    sources = {name: rng.random(shape) for name in "SJ" if name in text}
    action = sft.Action(fields, text, {"D": 1.3}, sources, friction=sft.Friction(gamma=1.0))
    system = sft.discretise(action, sft.Grid(shape, 1.3, boundary=boundary), order=order, dtype=dtype)
    state = system.state({name: rng.standard_normal(shape) for name in fields})
    system.fill_ghosts(state)
    return system, state


def swept(system, state, monkeypatch, sweep, wide, large):
    """The whole storage after a sweep into an array of sevens."""
    monkeypatch.setattr(system.local, "wide", frozenset(["force", "jvp"]) if wide else frozenset())
    monkeypatch.setattr(local, "LARGE", large)
    out = state.like()
    out.storage.fill(7.0)
    if sweep == "force":
        system.local.set_force(state, out, 0.0)
    else:
        system.local.set_jvp(state, state.copy(), out, 0.0)
    return out.storage


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("order", [4, 8])
@pytest.mark.parametrize("wide", [True, False])
def test_a_constant_field_feels_no_stiffness_at_all(wide, order, dtype, monkeypatch):
    """Its weights cancel exactly, not to rounding: else 1e-8 D/h^2 would act on every vacuum in single precision."""
    system, state = bind("D/2*grad2(w)", ["w"], (9, 10, 35), order, dtype)
    for value in (0.7, -1.1, np.pi, 1e5 / 3):
        state.storage.fill(value)
        out = system.layout.interior(swept(system, state, monkeypatch, "force", wide, 0))
        np.testing.assert_array_equal(out, 0.0)


@pytest.mark.parametrize(
    ("text", "fields", "order", "dtype", "shapes"),
    [
        (LINEAR, ["w"], 8, "float32", [(16,), (37,)]),
        (REACTION, ["w", "v"], 2, "float64", [(2, 8), (7, 9), (33, 40)]),
        (LINEAR, ["w"], 4, "float64", [(2, 2, 8), (5, 6, 19), (4, 35, 16)]),
    ],
    ids=["1D", "2D", "3D"],
)
def test_vectors_give_the_same_values(text, fields, order, dtype, shapes, monkeypatch):
    for shape in shapes:
        system, state = bind(text, fields, shape, order, dtype)
        assert system.local.wide >= {"force", "jvp"}
        for sweep in ("force", "jvp") if len(shape) < 3 else ("force",):
            plain = swept(system, state, monkeypatch, sweep, False, 0)
            ghosts = np.ones(plain.shape, bool)
            system.layout.interior(ghosts)[...] = False
            assert np.all(plain[ghosts] == 7.0) and not np.any(plain[~ghosts] == 7.0)
            rounding = 2 * np.finfo(dtype).eps * np.abs(plain).max()
            found = [swept(system, state, monkeypatch, sweep, True, large) for large in (0, 1 << 40)]
            np.testing.assert_array_equal(found[0], found[1])
            np.testing.assert_array_equal(found[0][ghosts], 7.0)
            np.testing.assert_allclose(found[0], plain, rtol=0, atol=rounding)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", [(40,), (4, 17), (3, 5, 21)], ids=["1D", "2D", "3D"])
def test_the_cost_counts_every_cell_once(shape, dtype, monkeypatch):
    """Vectors that overlap, and rows in pieces that no vector fits, against the compiler's own sweep."""
    monkeypatch.setattr(boxes, "COLUMNS", 18)
    system, state = bind("D/2*grad2(w) + w**4/4 - J*w", ["w"], shape, 4, dtype)
    assert "cost" in system.local.wide
    with_vectors = system.cost(state.w)
    monkeypatch.setattr(system.local, "wide", frozenset())
    np.testing.assert_allclose(with_vectors, system.cost(state.w), rtol=1e-13 if dtype == "float64" else 1e-6)


def test_walls_that_only_need_ghosts_take_vectors(monkeypatch):
    system, state = bind(REACTION.replace("+ v*d(w, x)", ""), ["w", "v"], (9, 21), boundary={"x": {"derivative": 0.0}})
    assert system.local.wide >= {"force", "jvp"}
    plain = swept(system, state, monkeypatch, "force", False, 0)
    rounding = 2 * np.finfo(float).eps * np.abs(plain).max()
    np.testing.assert_allclose(swept(system, state, monkeypatch, "force", True, 0), plain, rtol=0, atol=rounding)


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize(
    ("text", "fields", "order", "shapes"),
    [(REACTION, ["w", "v"], 2, [(7, 9), (40, 16)]), (LINEAR, ["w"], 4, [(5, 6, 19), (9, 70, 8)])],
    ids=["2D", "3D"],
)
def test_kick_and_drift_in_one_sweep(text, fields, order, shapes, parts, monkeypatch):
    monkeypatch.setattr(strides, "slabs", lambda cells: parts)
    for shape in shapes:
        system, state = bind(text, fields, shape, order)
        state.u[...] = np.random.default_rng(5).standard_normal(state.u.shape)
        u = 0.7 * state.u + 1e-3 * system.force(state.w.copy())
        w = state.w + 0.2 * u
        before = state.copy()
        assert system.kick_drift(state, 0.7, 1e-3, 0.2)
        np.testing.assert_allclose(state.u, u, rtol=0, atol=1e-15 * np.max(np.abs(u)))
        np.testing.assert_allclose(state.w, w, rtol=0, atol=1e-15 * np.max(np.abs(w)))
        outside = np.ones(u.shape[:1] + system.layout.padded, bool)
        system.layout.interior(outside)[...] = False
        np.testing.assert_array_equal(state.momentum[outside], before.momentum[outside])


def test_kick_and_drift_where_one_sweep_will_not_do():
    walls = {"x": {"lower": {"value": 0.0}, "upper": {"derivative": 0.0}}}
    for text, shape, boundary in (
        (LINEAR, (30,), "periodic"),  # one axis
        ("grad2(w)/2 + cos(w)", (9, 9), "periodic"),  # a function
        ("S*grad2(w) + w*d(w, x)*S", (9, 9), walls),  # folded walls
        (LINEAR, (9, 7), "periodic"),  # rows shorter than a vector
    ):
        system, state = bind(text, ["w"], shape, boundary=boundary)
        before = state.copy()
        assert not system.kick_drift(state, 0.7, 1e-3, 0.2)
        np.testing.assert_array_equal(state.w, before.w)


def test_functions_and_small_grids_are_left_to_the_compiler():
    grid, steps = sft.Grid((9, 21), 1.0), {"flow", "swing", "march"}
    assert plan(sft.Action(["w"], "grad2(w)/2 + cos(w)"), grid).wide == set()
    assert plan(sft.Action(["w"], "grad2(w)/2 + exp(m)*w**2", {"m": 1.0}), grid).wide == {"force", "jvp", "cost"} | steps
    assert plan(sft.Action(["w", "v"], "grad2(w)/2 + v"), grid).wide == {"cost"}  # a force that is a number, not a field
    for shape in ((9, 7), (1, 21)):
        assert bind(LINEAR, ["w"], shape)[0].local.wide == set()


def test_the_code_is_made_of_the_widest_vectors(tmp_path):
    text = plan(sft.Action(["w"], "grad2(w)/2 - w**2/2"), sft.Grid((8, 8), 1.0)).text.replace("cache=True, ", "")
    (tmp_path / "fresh.py").write_text(text)
    spec = importlib.util.spec_from_file_location("fresh", tmp_path / "fresh.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    system, state = bind("grad2(w)/2 - w**2/2", ["w"], (8, 16))
    for past in (None, True):
        arguments = state.storage, system.local.arrays, system.local._scalars
        module.force_wide(*arguments, state.like().storage, past, system.local._ring, system.local._boxes)
    ordinary, past = (module.force_wide_box.inspect_asm(signature) for signature in module.force_wide_box.signatures)
    features = llvmlite.binding.get_host_cpu_features()
    register = "zmm" if features["avx512f"] else "ymm"
    for code in (ordinary, past):
        assert len(re.findall(rf"vaddpd.*%{register}", code)) >= 6 and "prefetch" in code
    assert "vmovntp" in past and "sfence" in past and "vmovntp" not in ordinary


def test_boxes_hold_a_vector_however_many_threads():
    region = ((1, 2), (1, 4), (3, 393))
    for parts in (1, 7, 64, 128):
        found = boxes.for_threads(region, parts, (1, 2, 16))
        assert np.all(found[:, 5] - found[:, 4] >= 16) and np.all(found[1:, 4] == found[:-1, 5])
        assert (found[0, 4], found[-1, 5]) == region[2]


@pytest.mark.parametrize("shape", [(18, 19), (14, 8, 16)], ids=["2D", "3D"])
def test_cells_that_are_worked_on_together_do_not_depend_on_threads(shape, monkeypatch):
    """What neighbouring rows or planes share is added up otherwise in the one than in the other."""
    results = []
    for parts in (1, 2, 3):
        monkeypatch.setattr(local, "slabs", lambda cells, parts=parts: parts)
        monkeypatch.setattr(strides, "slabs", lambda cells, parts=parts: parts)
        system, state = bind("(1 + S)*grad2(w)/2 + (2 - S)*grad2(v)/2 + S*v*d(w, x) + w**4/4", ["w", "v"], shape, 4)
        force = system.force(state.w)
        assert system.kick_drift(state, 0.5, 1e-3, 1e-3)
        results.append((force, system.jvp(state.w, force), state.w.copy()))
        for one, other in zip(results[0], results[-1], strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize(
    ("text", "fields", "order", "shapes"),
    [
        (LINEAR, ["w"], 8, [(64,), (37,)]),
        (REACTION, ["w", "v"], 4, [(7, 19), (40, 16)]),
        (LINEAR, ["w"], 8, [(8, 8, 17), (12, 9, 32)]),
    ],
    ids=["1D", "2D", "3D"],
)
def test_fields_go_round_the_grid_without_ghosts(text, fields, order, shapes, parts, dtype, monkeypatch):
    """No result depends on ghosts, whether they are filled or not: with all of them lost it is the same, bit by bit."""
    monkeypatch.setattr(local, "slabs", lambda cells: parts)
    for shape in shapes:
        system, state = bind(text, fields, shape, order, dtype)
        assert system.local.rounds("force") == (parts == 1 or len(shape) > 1) == system.local.rounds("jvp")
        direction, kept = state.copy(), state.w.copy()
        for sweep in ("force", "jvp"):
            outs = []
            for ghosts in (0.0, np.nan):
                for given in (state, direction):
                    given.storage.fill(ghosts)
                    given.w[...] = kept
                outs.append(state.like())
                outs[-1].storage.fill(7.0)
                if sweep == "force":
                    system.local.set_force(state, outs[-1], 0.0)
                else:
                    system.local.set_jvp(state, direction, outs[-1], 0.0)
            np.testing.assert_array_equal(outs[0].storage, outs[1].storage)
            assert np.all(np.isfinite(outs[0].storage))
            np.testing.assert_array_equal(state.w, kept)


def test_ghosts_are_filled_where_a_sweep_cannot_do_without():
    filled = [
        ("d(w, x)**2*d(w, y)**2", {}),  # cells round two axes at once
        ("grad2(w)/2 + cos(w)", {}),  # no vectors
        ("grad2(w)/2", {"boundary": {"y": {"derivative": 0.0}}}),
    ]
    for text, options in filled:
        system = sft.discretise(sft.Action(["w"], text, friction=sft.Friction(gamma=1.0)), sft.Grid((12, 24), 1.0, **options))
        assert not system.local.rounds("force") and not system.local.rounds("jvp")
        w = np.random.default_rng(1).standard_normal((1, 12, 24))
        state, out = system.state({"w": w[0]}), system.state({"w": 0.0})
        expected = system.force(w)
        state.storage[...] = np.nan
        state.w[...] = w
        system.force_into(state, out)
        np.testing.assert_array_equal(out.w, expected)
