"""Wall data that vary along the face and in time: the discrete rule, order 2, closed forms, and what is compiled."""

import numpy as np
import pytest
import sympy
from manufactured import X, by_factors, on, stationary, variation
from reference_rule import Rule, uncompiled

import sftsolve as sft
from sftsolve.codegen.plan import plan
from sftsolve.errors import ExpressionError, GridError

FRICTION = sft.Friction(gamma=1.0)
x, y, z = X
t = sympy.Symbol("t")


def walled(shape, boundary, length=None):
    return sft.Grid(shape, length or (1.0,) * len(shape), boundary=boundary)


PLANE = {
    "y": {"lower": {"w": {"value": "0.3 + x*cos(t)"}, "v": {"derivative": "0.2"}}, "upper": {"derivative": "x**2 - A*t"}},
    "x": {"lower": {"derivative": "sin(y + t)"}, "upper": {"w": {"value": "y**2 - t"}, "v": {"value": "A*y"}}},
}
BOX = {
    "z": {"value": "x - y*cos(t)"},
    "y": {"lower": {"derivative": "x*z"}, "upper": {"value": "exp(z*t)"}},
    "x": {"lower": {"value": "y + z"}, "upper": {"derivative": "sin(t)"}},
}
SURFACES = (  # by hand: -n S g w where w has a slope, S extrapolated to the wall
    ("y", "lower", "-S*v_data*v"),
    ("y", "upper", "-S*w_data*w - S*v_data*v"),
    ("x", "lower", "-S*w_data*w - S*v_data*v"),
)
SLIDING = {"x": {"lower": {"w": {"value": "sin(2*pi*y)"}, "v": {"derivative": 0}}, "upper": {"value": 0}}}
VALUES = {"y": {"value": "x + cos(t)*x**2"}, "x": {"value": "sin(3*y - t)"}}
MIXED = "S/2*grad2(w) + d(w, x)*d(w, y)/4 + d(w, x, y)**2/50 + w**4/4 + v**2"


def fields(system, seed=1):
    return np.random.default_rng(seed).standard_normal((len(system.fields), *system.grid.shape))


@pytest.mark.parametrize(
    ("boundary", "cost", "surfaces"),
    [
        (PLANE, "S/2*(grad2(w) + grad2(v)) + w**2*v", SURFACES),
        (VALUES, MIXED, ()),
        # -n K b_y v: the slope of w along its wall is known there, and v is free
        (SLIDING, "grad2(w)/2 + grad2(v)/2 + A*d(v, x)*d(w, y)", [("x", "lower", "A*2*pi*cos(2*pi*y)*v")]),
    ],
)
def test_the_rule_with_data_along_the_faces(boundary, cost, surfaces, monkeypatch):
    """Against the independent rule; with mixed derivatives the corner ghosts matter."""
    uncompiled(monkeypatch)
    grid, parameters = walled((5, 6), boundary), {"A": 0.7}
    sources = {"S": 1 + np.random.default_rng(0).random(grid.shape)}
    rule = Rule(["w", "v"], cost, grid, parameters, sources, surfaces, t=0.4)
    system = sft.discretise(sft.Action(["w", "v"], cost, parameters, sources, friction=FRICTION), grid)
    w = fields(system)
    np.testing.assert_allclose(system.force(w, 0.4), rule.force(w), rtol=0, atol=1e-12 * np.abs(rule.force(w)).max())
    assert system.cost(w, 0.4) == pytest.approx(rule.cost(w), rel=1e-12)


@pytest.mark.parametrize(
    ("shape", "boundary", "cost"),
    [
        ((9,), {"x": {"lower": {"value": "cos(t)"}, "upper": {"mixed": "1 + t", "const": "exp(-t)"}}}, "S/2*grad2(w) + w**4/4"),
        ((5, 6), VALUES, MIXED.replace("v**2", "w**2*K")),
        (
            (5, 6),
            {"y": {"mixed": "1 + x**2", "const": "cos(x)*t"}, "x": {"lower": {"derivative": "y*t"}, "upper": {"value": "y"}}},
            "S/2*grad2(w) + w**4/4",
        ),
        ((5, 6), {"x": {"derivative": "y*t - y**2"}}, "(1 + w**2)*S/2*grad2(w)"),
        ((4, 5, 4), BOX, "S/2*grad2(w) + w**2"),
    ],
)
def test_the_force_is_the_gradient_of_the_cost(shape, boundary, cost, monkeypatch):
    uncompiled(monkeypatch)
    grid = walled(shape, boundary)
    sources = {"S": "1 + x**2/3", "K": "cos(x)"}
    system = sft.discretise(sft.Action(["w"], cost, sources=sources, friction=FRICTION), grid)
    assert system.time_dependent
    w, d = fields(system), fields(system, 2)
    for time in (0.0, 0.6):
        slope = (system.cost(w + 1e-4 * d, time) - system.cost(w - 1e-4 * d, time)) / 2e-4
        assert slope == pytest.approx(-grid.cell_volume * np.sum(system.force(w, time) * d), rel=2e-7)
        change = (system.force(w + 1e-4 * d, time) - system.force(w - 1e-4 * d, time)) / 2e-4
        np.testing.assert_allclose(system.jvp(w, d, time), change, rtol=0, atol=2e-6 * np.abs(change).max())
    e = fields(system, 3)
    assert np.sum(e * system.jvp(w, d, 0.6)) == pytest.approx(np.sum(d * system.jvp(w, e, 0.6)), rel=1e-10)


@pytest.mark.parametrize("key", ["value", "derivative"])
def test_constants_take_the_fast_path_and_agree_with_the_general_one(key, monkeypatch):
    uncompiled(monkeypatch)
    forms = (0.3, "0.3", "0.3*cos(t - t)", "0.3 + 1e-300*(x + y)", np.full(6, 0.3))
    forces = []
    for data in forms:
        upper = data if not isinstance(data, np.ndarray) else np.full(5, 0.3)
        grid = walled(
            (5, 6), {"y": {"lower": {key: data}, "upper": {key: 0.3}}, "x": {"lower": {key: 0.1}, "upper": {key: upper}}}
        )
        system = sft.discretise(sft.Action(["w"], "S/2*grad2(w) + w**4/4", sources={"S": "1 + x"}, friction=FRICTION), grid)
        assert (system.walls._shifts is None) == (isinstance(data, float) or str(data) in ("0.3", "0.3*cos(t - t)"))
        w = fields(system)
        forces.append((system.force(w), np.array(system.cost(w)), system.jvp(w, w)))
    for other in forces[1:]:
        for one, found in zip(forces[0], other, strict=True):
            np.testing.assert_allclose(found, one, rtol=0, atol=1e-13 * np.abs(one).max())


def test_arrays_are_expressions_at_the_cells(monkeypatch):
    uncompiled(monkeypatch)
    points = (np.arange(6) + 0.5) / 6
    w = np.random.default_rng(0).standard_normal((1, 5, 6))
    found = []
    for data in ("sin(3*x)", np.sin(3 * points), np.sin(3 * points).tolist()):
        grid = walled((5, 6), {"y": {"lower": {"derivative": data}, "upper": {"value": data}}})
        found.append(
            sft.discretise(sft.Action(["w"], "S/2*grad2(w)", sources={"S": "1 + x*y"}, friction=FRICTION), grid).force(w)
        )
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=0, atol=1e-13 * np.abs(found[0]).max())


def data_of(expression, axis, side):
    """Value and outward slope of an exact field as texts."""
    sign = 1 if side == "upper" else -1
    return {"value": str(expression), "derivative": str(sign * sympy.diff(expression, axis))}


def test_order_two_with_data_along_the_faces(monkeypatch):
    """A stationary point in the plane: a value, a slope and a mixed condition on curved data, S varying."""
    uncompiled(monkeypatch)
    exact = sympy.sin(2 * x + y) + x * y**2 / 2
    stiffness = sympy.Rational(3, 2) + sympy.sin(2 * x + y) / 2
    text = "S/2*grad2(w) + w**2"
    (source,) = variation(text, {"w": exact}, "yx", {"S": stiffness})
    low, up, top = data_of(exact, x, "lower"), data_of(exact, x, "upper"), data_of(exact, y, "upper")
    boundary = {
        "x": {"lower": {"value": low["value"]}, "upper": {"derivative": up["derivative"]}},
        "y": {
            "lower": {"value": data_of(exact, y, "lower")["value"]},
            "upper": {"mixed": "1 + x", "const": f"{top['derivative']} + (1 + x)*({exact})"},
        },
    }
    errors = []
    for count in (16, 32):
        grid = walled((count, count), boundary)
        sources = {"S": on(grid, stiffness), "J": on(grid, source)}
        system = sft.discretise(sft.Action(["w"], text + " - J*w", sources=sources, friction=FRICTION), grid)
        reference = on(grid, exact)[None]
        errors.append(np.abs(stationary(system, reference, by_factors) - reference).max())
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.1)


def test_order_two_in_space_and_time():
    """w_tt + w_t = lap w - w^3 + J in the plane with data in (x, t) on all faces, by the whole path."""
    exact = sympy.sin(x + 2 * y - t) + x * y * sympy.cos(t) / 2
    source = sympy.diff(exact, t, 2) + sympy.diff(exact, t) - sympy.diff(exact, x, 2) - sympy.diff(exact, y, 2) + exact**3
    boundary = {
        "x": {"lower": {"value": str(exact)}, "upper": {"derivative": str(sympy.diff(exact, x))}},
        "y": {"lower": {"derivative": str(-sympy.diff(exact, y))}, "upper": {"value": str(exact)}},
    }
    action = sft.Action(["w"], "grad2(w)/2 + w**4/4 - J*w", sources={"J": str(source)}, friction=FRICTION)
    errors = []
    for count in (10, 20):
        grid = walled((count, count), boundary)
        start, speed = (str(part.subs(t, 0)) for part in (exact, sympy.diff(exact, t)))
        result = sft.solve(action, grid, {"w": start}, {"w": speed}, end=1.0, rtol=1e-7, atol=1e-9, progress=False)
        errors.append(np.abs(result.w[-1, 0] - on(grid, exact.subs(t, 1))).max())
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.1)


KINK = "4*atan(exp((x - v*t - c)/sqrt(1 - v**2)))"


def test_a_boosted_kink_between_moving_values():
    """w_tt = w_xx - sin w: the kink passes through walls that follow it; order 2."""
    speed = {"v": 0.6, "c": 0.0}

    def kink(points, time):
        return 4 * np.arctan(np.exp((points - 0.6 * time) / 0.8))

    errors = []
    for count in (60, 120):
        grid = sft.Grid(count, 6.0, origin=-2.0, boundary={"x": {"value": KINK}})
        action = sft.Action(["w"], "grad2(w)/2 - cos(w)", speed, friction=sft.Friction(gamma=0.0))
        rate = "-2*v/sqrt(1 - v**2)/cosh((x - c)/sqrt(1 - v**2))"
        initial = {"w": KINK.replace("v*t", "0")}
        result = sft.solve(action, grid, initial, {"w": rate}, end=8.0, clock="t", rtol=1e-8, atol=1e-10, progress=False)
        errors.append(np.abs(result.w[-1, 0] - kink(grid.coordinates[0], 8.0)).max())
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.1)


def text_of(boundary, parameters=None, shape=(5, 6)):
    action = sft.Action(["w"], "S/2*grad2(w)", parameters, {"S": "1 + x"}, friction=FRICTION)
    return plan(action, walled(shape, boundary)).text


def test_values_compile_nothing_and_roles_do():
    scalars = [{"x": {"derivative": data}} for data in (0.3, -2, "cos(t)", "A*x + t")]
    assert len({text_of(boundary, {"A": 1.0}) for boundary in scalars}) == 1
    along = [{"x": {"derivative": data}} for data in ("y", "sin(y - t)*A", np.arange(5.0))]
    assert len({text_of(boundary, {"A": 1.0}) for boundary in along}) == 1
    assert len({text_of(boundary, {"A": 1.0}) for boundary in (scalars[0], along[0], {"x": {"derivative": 0}})}) == 3
    assert text_of({"x": {"value": 0.3}}) == text_of({"x": {"value": "sin(y)"}})  # ghosts alone carry it


def test_grids_describe_their_data():
    grid = walled((5, 6), {"x": {"lower": {"value": "sin(y)"}, "upper": {"derivative": np.arange(5)}}})
    again = sft.Grid(**grid.description())
    assert again == grid and hash(again) == hash(grid)
    assert grid.boundary["x"]["upper"] == {"derivative": [0.0, 1.0, 2.0, 3.0, 4.0]}


def test_what_is_refused():
    def system(boundary):
        return sft.discretise(sft.Action(["w"], "grad2(w)", friction=FRICTION), walled((5, 6), boundary))

    with pytest.raises(ExpressionError, match="data of 'w' on the upper y face has an unknown name 'q'"):
        system({"y": {"lower": {"value": 0}, "upper": {"value": "q*x"}}})
    with pytest.raises(GridError, match="on the lower x face are not finite"):
        system({"x": {"value": "1/x"}})
    moving = system({"x": {"value": "1/t"}})
    moving.check_times(0.1, 1.0)
    with pytest.raises(GridError, match="not finite at t = 0"):
        moving.check_times(0.0, 1.0)
    with pytest.raises(GridError, match="lower x face: .*unknown function"):
        system({"x": {"value": "__import__('os')"}})
