"""Sources as expressions of x and t: how they are taken apart, the force at every time, and what is compiled."""

import numpy as np
import pytest
from reference_rule import uncompiled

import sftsolve as sft
from sftsolve.codegen.plan import plan
from sftsolve.errors import ActionError, GridError, StepError
from sftsolve.expression import parse
from sftsolve.sources.separation import separated
from sftsolve.state import Layout

GRID = sft.Grid((6, 8), (1.0, 2.0), boundary={"y": {"lower": {"value": 0.1}, "upper": {"derivative": 0.2}}})
FRICTION = sft.Friction(gamma=1.0)
COST = "S/2*grad2(w) + w**4/4 - J*w"


def action(source, parameters=None, cost=COST, **more):
    return sft.Action(["w"], cost, parameters, {"J": source, "S": "1 + x/4"} | more, friction=FRICTION)


def parts(text, parameters=(), mesh=None):
    mesh = GRID.mesh if mesh is None else mesh
    names = dict.fromkeys(parameters, 1.3)
    return separated("J", parse(text, ["x", "y", "t", *names]), mesh, names)


@pytest.mark.parametrize(
    ("text", "arrays", "scalars"),
    [
        ("cos(2*pi*x)*cos(t/900)", 1, 1),
        ("cos(t)", 0, 1),
        ("x**2 + y*cos(t)", 2, 1),
        ("sin(3*x - 5*t)", 2, 2),
        ("sin(3*x + 2*y - 5*t)**2", 3, 3),
        ("exp(-t/3 - x**2)*(1 + cos(t))", 1, 1),
        ("(x + t)*cos(t)", 1, 2),
        ("cos(t)*x + cos(t)*y + 2*cos(t)", 1, 1),
        ("x*cos(t) + x*sin(t) + 3*x", 1, 1),
        ("cos(x)/exp(x - t)", 1, 1),
        ("exp(3*(x - t)/2)", 1, 1),
        ("cos(2*(x + y - t))", 2, 2),
    ],
)
def test_what_factors(text, arrays, scalars):
    found = parts(text)
    assert (len(found.arrays), len(found.scalars)) == (arrays, scalars)
    assert "x" not in str(found.form.tree).replace("exp", "")


@pytest.mark.parametrize("text", ["exp(-(x - t)**2)", "(x - t)**2", "1/(3 + x + t)", "tanh(x - A*t)", "exp(900*(x - t))"])
def test_what_does_not_factor_stays_an_expression_of_coordinates(text):
    found = parts(text, ["A"])
    assert not found.arrays and "x" in found.form.tree.text and "t" not in found.scalars


EXPRESSIONS = [
    "cos(2*pi*x)*cos(t/900)",
    "sin(A*x - B*t) + exp(-t)*y",
    "exp(-(x - t)**2/A) + cos(t)",
    "cos(2*x - B*t + 1)*exp(B*(y - t))",
    "exp(A*(y - B*t))/(1 + t**2) + tanh(3*x + t) + x*y",
    "(x - t)**2*y/3 + hypot(x, t)**0.5",
]


@pytest.mark.parametrize("text", EXPRESSIONS)
@pytest.mark.parametrize("t", [0.0, 0.7, -3.0, 1e4])
def test_the_force_is_that_of_the_source_frozen_at_t(text, t, monkeypatch):
    uncompiled(monkeypatch)
    parameters = {"A": 1.4, "B": 0.3}
    theory = action(text, parameters)
    frozen = action(theory.sources_at(GRID, t)["J"], parameters)
    w, d = np.random.default_rng(0).standard_normal((2, 1, *GRID.shape))
    moving, still = sft.discretise(theory, GRID), sft.discretise(frozen, GRID)
    assert moving.time_dependent and not still.time_dependent
    scale = np.abs(still.force(w)).max()
    np.testing.assert_allclose(moving.force(w, t), still.force(w), rtol=0, atol=1e-13 * scale)
    np.testing.assert_allclose(moving.jvp(w, d, t), still.jvp(w, d), rtol=0, atol=1e-13 * scale)
    assert moving.cost(w, t) == pytest.approx(still.cost(w), rel=1e-13)


def test_sources_at_a_time():
    theory = action("A*cos(x)*cos(t)", {"A": 2.0})
    for t in (0.0, 0.4):
        expected = np.broadcast_to(2 * np.cos(GRID.mesh["x"]) * np.cos(t), GRID.shape)
        np.testing.assert_allclose(theory.sources_at(GRID, t)["J"], expected, rtol=1e-15)
    assert theory.sources_at(GRID)["J"][0, 0] == pytest.approx(2 * np.cos(GRID.coordinates[1][0]))


def test_single_precision(monkeypatch):
    uncompiled(monkeypatch)
    w = np.random.default_rng(0).standard_normal((1, *GRID.shape)).astype("float32")
    theory = action("sin(3*x - 5*t) + 1/(3 + x + t)")
    single, double = (sft.discretise(theory, GRID, dtype=dtype).force(w, 0.7) for dtype in ("float32", "float64"))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, double, rtol=0, atol=3e-6 * np.abs(double).max())


def text_of(source, parameters=None):
    return plan(action(source, parameters), GRID).text


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("cos(2*pi*x)*cos(t/900)", "A*x**2*y*exp(-B*t)"),
        ("sin(2*x - t)", "cos(2.5*x - A*t)"),
        ("exp(-(x - t)**2/2)", "exp(-3*(2*x - A*t)**2/(4*B))"),
        ("cos(t)", "A*t**3 + 1"),
    ],
)
def test_values_of_a_source_compile_nothing(one, other):
    assert text_of(one, {"A": 1.0, "B": 2.0}) == text_of(other, {"A": 3.0, "B": 4.0})


def test_roles_compile():
    texts = [text_of(source) for source in ("x", "cos(t)*x", "cos(t)", "cos(x - t)", "tanh(x - t)")]
    assert len(set(texts)) == len(texts)


def test_time_in_the_cost_and_in_amplitudes_counts():
    def depends(cost, **more):
        return sft.discretise(sft.Action(["w"], cost, friction=FRICTION, **more), sft.Grid(8, 1.0)).time_dependent

    assert depends("exp(-t)*w**2") and not depends("w**2")
    kernel = "exp(-r**2)"
    assert depends("0", kernels=sft.Convolution("w", "w", kernel, amplitude="exp(-t)"))
    assert not depends("0", kernels=sft.Convolution("w", "w", kernel, amplitude="2*3"))
    assert not depends("w**2", sources={"J": "cos(t)"})  # not in the cost


def test_a_source_that_is_not_finite_where_the_run_starts(monkeypatch):
    uncompiled(monkeypatch)
    system = sft.discretise(action("1/t + x"), GRID)
    system.check_times(0.5, 1.0)
    with pytest.raises(GridError, match="not finite at t = 0"):
        system.check_times(0.0, 1.0)


def test_a_driven_oscillator():
    """w'' + w' + w = cos(2 t): the closed form, through the whole path."""
    theory = sft.Action(["w"], "w**2/2 - J*w", sources={"J": "cos(2*t)"}, friction=FRICTION)
    result = sft.solve(theory, sft.Grid(2, 1.0), {"w": -3 / 13}, {"w": 4 / 13}, end=3.0, rtol=1e-9, atol=1e-12, progress=False)
    assert result.w[-1] == pytest.approx((-3 * np.cos(6.0) + 2 * np.sin(6.0)) / 13, abs=1e-8)


def test_where_time_may_not_enter():
    with pytest.raises(ActionError, match="cannot change in time"):
        sft.Dense("w", "w", np.eye(4), about=sft.MiniBatches(np.ones((2, 4)), 1)).bind(
            ("w",), sft.Grid(4, 1.0), Layout.of(sft.Grid(4, 1.0), 0)
        )


STEPS = {  # switches inside (0, 3), values before and after the first
    "floor(2*t)*x": ([0.5, 1.0, 1.5, 2.0, 2.5], 0.0, 1.0),
    "(1 + sign(A - t))*x": ([1.3], 2.0, 0.0),
    "abs(t - 1)*x": ([1.0], 0.0, 0.0),
    "ceil(1/4 - t)*x": ([0.25, 1.25, 2.25], 1.0, 0.0),
    "exp(-(x - floor(t))**2)": ([1.0, 2.0], None, None),
    "floor(x - t)": ([], None, None),
}


@pytest.mark.parametrize("text", STEPS)
def test_jumps_and_kinks_of_expressions_are_switches(text, monkeypatch):
    uncompiled(monkeypatch)
    switches, before, after = STEPS[text]
    theory = sft.discretise(action(text, {"A": 1.3}, "-J*w"), GRID)
    assert theory.switches(0.0, 3.0) == pytest.approx(switches, abs=1e-14)
    state = theory.state({"w": 0.0})
    out = state.like()
    for time in switches[:1]:
        seen = []
        for begin, at in ((time - 0.1, time), (time - 1e-12, time)):  # the piece that ends there, then the one that starts
            theory.enter(begin)
            theory.force_into(state, out, at)
            seen.append(out.w[0].copy())
        near = [theory.action.sources_at(GRID, time + side)["J"] for side in (-1e-6, 1e-6)]
        for found, expected in zip(seen, near, strict=True):
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
        if before is not None:
            x = np.broadcast_to(GRID.mesh["x"], GRID.shape)
            np.testing.assert_allclose(seen, [before * x, after * x], rtol=0, atol=1e-14)


UNDEFINED = {
    "everywhere": ("sqrt(1 - t)", "source 'J' is not finite at t = 1\n  expected: finite values everywhere\n  given:    nan"),
    "in a cell": ("log(1 + x - t)", "source 'J' is not finite at t = 1.08333(.|\n)*1 values are NaN or infinite"),
    "after the start": ("sqrt(-t)", "source 'J' is not finite at t = [0-9.]*e-"),
}


@pytest.mark.parametrize(("method", "dynamics"), [("rk32", "damped"), ("etdrk4", "damped"), ("descent", "gradient-flow")])
@pytest.mark.parametrize(("text", "message"), UNDEFINED.values(), ids=UNDEFINED)
def test_a_source_that_has_no_value_is_blamed_itself(text, message, method, dynamics, tmp_path):
    grid = sft.Grid((8, 6), (2.0, 1.0))
    theory = sft.Action(["w"], "grad2(w)/2e3 + w**2/2 - J*w", sources={"J": text}, friction=FRICTION)
    # Steps of descent have a length of their own.
    with pytest.raises(StepError, match="source 'J' is not finite at t = [12]\\n" if method == "descent" else message) as caught:
        sft.solve(
            theory,
            grid,
            {"w": 0.0},
            end=3.0,
            clock="t",
            method=method,
            dynamics=dynamics,
            output=tmp_path / "run.h5",
            progress=False,
        )
    assert "end the run before" in caught.value.remedy
    if text != "sqrt(-t)":
        assert "run.h5" in caught.value.remedy


def test_values_at_walls_that_end_are_blamed_themselves():
    grid = sft.Grid((8,), (1.0,), boundary={"x": {"value": "sqrt(1 - t)"}})
    theory = sft.Action(["w"], "grad2(w)/200", friction=FRICTION)
    with pytest.raises(StepError, match=r"on the lower x face are not finite at t = 1\b"):
        sft.solve(theory, grid, {"w": 1.0}, end=3.0, clock="t", progress=False)


def test_a_cost_without_value_is_still_blamed_itself():
    theory = sft.Action(["w"], "w + sqrt(w)**5 - J*w/100", sources={"J": "cos(t)"}, friction=FRICTION)
    with pytest.raises(StepError, match="the solution is not finite(.|\n)*undefined there"):
        sft.solve(theory, sft.Grid((8,), (1.0,)), {"w": 1.0}, end=3.0, clock="t", method="rk32", rtol=1e-3, progress=False)
