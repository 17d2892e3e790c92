"""Walls of order 4: measured orders, exact gradients, the linear part, and what is refused."""

import numpy as np
import pytest
import sympy
from manufactured import X, by_factors, on, stationary, variation
from reference_rule import uncompiled

import sftsolve as sft
from sftsolve.codegen import mirrors, plan
from sftsolve.errors import ActionError, GridError

FRICTION = sft.Friction(gamma=1.0)
x, y, z = X
t = sympy.Symbol("t")
LINE = sympy.cos(2.3 * x + 0.4) + x**2
OTHER = sympy.sin(1.7 * x + 0.3) + x / 2
PLANE = sympy.sin(2 * x + y) + x * y**2 / 2


def condition(exact, key, axis, side):
    """What an exact field obeys on a face of the unit box, as text."""
    sign = 1 if side == "upper" else -1
    return {key: str(exact if key == "value" else sign * sympy.diff(exact, axis))}


def boundary(exact, kinds):
    """From (lower, upper) keys by axis."""
    found = {}
    for name, keys in kinds.items():
        axis = X["xyz".index(name)]
        sides = zip(("lower", "upper"), keys, strict=True)
        found[name] = {side: {field: condition(part, key, axis, side) for field, part in exact.items()} for side, key in sides}
    return found


def error(text, exact, values, kinds, shape, norm=lambda error: np.abs(error).max()):
    """The error of the stationary point whose sources are the continuum's."""
    sources = variation(text, exact, "zyx"[-len(shape) :], values)
    grid = sft.Grid(shape, 1.0, boundary=boundary(exact, kinds))
    given = {f"J_{name}": on(grid, source) for name, source in zip(exact, sources, strict=True)}
    given |= {name: on(grid, expression) for name, expression in values.items()}
    forced = text + "".join(f" - J_{name}*{name}" for name in exact)
    system = sft.discretise(sft.Action(list(exact), forced, {"D": 0.7}, given, friction=FRICTION), grid, order=4)
    reference = np.stack([on(grid, part) for part in exact.values()])
    return norm(stationary(system, reference, by_factors) - reference)


S = 1 + sympy.sin(2 * x) / 2
SLOPES = ("derivative", "derivative")
CASES = {
    "values": ("7*grad2(w)/20 + w**4/4", {"w": LINE}, {}, {"x": ("value", "value")}, (20, 40)),
    "slopes": ("grad2(w)/2 + w**4/4 + w**2", {"w": LINE}, {}, {"x": SLOPES}, (60, 120)),
    "a value and a slope": ("grad2(w) + S*w**2", {"w": LINE}, {"S": 1 + x**2}, {"x": ("value", "derivative")}, (20, 40)),
    "slopes and coefficients": ("grad2(w)/2 + S*w**2 + x*w**4/9", {"w": LINE}, {"S": S}, {"x": SLOPES}, (120, 160)),
    "two coupled fields": (
        "7*grad2(w)/20 + grad2(v) + w**2*v**2/2 + w**2 + v**2",
        {"w": LINE, "v": OTHER},
        {},
        {"x": ("value", "derivative")},
        (40, 80),
    ),
    "a plane": (
        "grad2(w)/2 + w**4/4 + w**2",
        {"w": PLANE},
        {},
        {"x": ("value", "derivative"), "y": ("derivative", "value")},
        (24, 40),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_order_four(case, monkeypatch):
    uncompiled(monkeypatch)
    text, exact, values, kinds, counts = CASES[case]
    norm = {"norm": lambda error: np.sqrt(np.mean(error**2))} if len(kinds) > 1 else {}
    errors = [error(text, exact, values, kinds, (count,) * len(kinds), **norm) for count in counts]
    assert np.log(errors[0] / errors[1]) / np.log(counts[1] / counts[0]) == pytest.approx(4.0, abs=0.15)


def test_without_its_data_a_mirror_is_of_order_two(monkeypatch):
    """The test can fail: what the equation says about the wall is what makes order 4."""
    uncompiled(monkeypatch)
    # Broken plans are neither found on disk nor left there.
    monkeypatch.setattr(plan.cache, "recall", lambda key: None)
    monkeypatch.setattr(plan.cache, "keep", lambda key, found: None)
    moment = mirrors._Face._moment
    text, exact, values, kinds, counts = CASES["a value and a slope"]
    for lost in (2, 3):  # w_nn and w_nnn
        broken = lambda self, layer, exponent, lost=lost: moment(self, layer, exponent) * (exponent != lost)  # noqa: E731
        monkeypatch.setattr(mirrors._Face, "_moment", broken)
        monkeypatch.setattr(plan, "_PLANS", {})
        errors = [error(text, exact, values, kinds, (2 * count,)) for count in counts]
        assert np.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.2)


@pytest.mark.parametrize(
    ("shape", "walls", "cost"),
    [
        ((9,), {"x": {"lower": {"value": "cos(t)"}, "upper": {"derivative": "exp(-t)"}}}, "D/2*grad2(w) + S*w**4/4 + x*w"),
        (
            (6, 7),
            {"y": {"value": "x + cos(t)*x**2"}, "x": {"lower": {"derivative": "sin(3*y - t)"}, "upper": {"value": "A*y"}}},
            "D*grad2(w) + S*w**2 + w**3/9",
        ),
        ((5, 4, 6), {"z": {"derivative": "x*y"}, "x": {"derivative": 0.3}}, "grad2(w)/2 + S*w**4 - t*w"),
    ],
)
def test_the_force_is_the_gradient_of_the_cost(shape, walls, cost, monkeypatch):
    uncompiled(monkeypatch)
    grid = sft.Grid(shape, 1.0, boundary=walls)
    action = sft.Action(["w"], cost, {"D": 0.7, "A": 1.2}, {"S": "1 + x**2/3 + sin(t)*x"}, friction=sft.Friction(gamma=2.0))
    system = sft.discretise(action, grid, order=4)
    w, d, e = np.random.default_rng(1).standard_normal((3, 1, *shape))
    for time in (0.0, 0.6):
        slope = (system.cost(w + 1e-4 * d, time) - system.cost(w - 1e-4 * d, time)) / 2e-4
        assert slope == pytest.approx(-grid.cell_volume * np.sum(system.force(w, time) * d), rel=2e-7)
        change = (system.force(w + 1e-4 * d, time) - system.force(w - 1e-4 * d, time)) / 2e-4
        np.testing.assert_allclose(system.jvp(w, d, time), change, rtol=0, atol=2e-6 * np.abs(change).max())
    assert np.sum(e * system.jvp(w, d, 0.6)) == pytest.approx(np.sum(d * system.jvp(w, e, 0.6)), rel=1e-10)


def test_the_cost_converges(monkeypatch):
    """To int w'^2/2, less g w on walls with a slope; midpoint sums are of order 2 at walls."""
    uncompiled(monkeypatch)
    energy_of_slopes = float(sympy.Integral(sympy.diff(LINE, x) ** 2 / 2, (x, 0, 1)).evalf())
    slope = float((LINE * sympy.diff(LINE, x)).subs(x, 0))
    for kinds, exact in ((("value", "value"), energy_of_slopes), (("derivative", "value"), energy_of_slopes + slope)):
        errors = []
        for count in (20, 40):
            grid = sft.Grid(count, 1.0, boundary=boundary({"w": LINE}, {"x": kinds}))
            # the force of a source is what bends w at the wall, and int J w is taken out again
            action = sft.Action(["w"], "grad2(w)/2 - J*w", sources={"J": on(grid, -sympy.diff(LINE, x, 2))}, friction=FRICTION)
            w = on(grid, LINE)[None]
            energy = sft.discretise(action, grid, order=4).cost(w) + np.mean(on(grid, -sympy.diff(LINE, x, 2)) * w[0])
            errors.append(abs(energy - exact))
        assert errors[1] < 0.3 * errors[0] < 0.02


def test_order_four_with_data_that_move():
    """w_tt + 2 w_t = w_xx - w^3 + J between a moving value and a moving slope, by the whole path."""
    exact = sympy.sin(2 * x - t) + x**2 * sympy.cos(t) / 2
    source = sympy.diff(exact, t, 2) + 2 * sympy.diff(exact, t) - sympy.diff(exact, x, 2) + exact**3
    walls = {"x": {"lower": condition(exact, "value", x, "lower"), "upper": condition(exact, "derivative", x, "upper")}}
    friction = sft.Friction(gamma=2.0)
    action = sft.Action(["w"], "grad2(w)/2 + w**4/4 - J*w", sources={"J": str(source)}, friction=friction)
    errors = []
    for count in (24, 48):
        grid = sft.Grid(count, 1.0, boundary=walls)
        start, speed = (str(part.subs(t, 0)) for part in (exact, sympy.diff(exact, t)))
        options = {"clock": "t", "rtol": 1e-10, "atol": 1e-12, "order": 4, "method": "tsit5", "progress": False}
        result = sft.solve(action, grid, {"w": start}, {"w": speed}, end=1.0, **options)
        errors.append(np.abs(result.w[-1, 0] - on(grid, exact.subs(t, 1))).max())
    assert np.log2(errors[0] / errors[1]) == pytest.approx(4.0, abs=0.15)


def test_gradient_flows_know_no_acceleration(monkeypatch):
    """The rate of the data is gamma b_t there, and b_tt + gamma b_t in a damped theory."""
    uncompiled(monkeypatch)
    grid = sft.Grid(8, 1.0, boundary={"x": {"value": "t**3"}})
    action = sft.Action(["w"], "grad2(w)/2", friction=sft.Friction(gamma=5.0))
    for dynamics, rate in (("damped", 12.0 + 60.0), ("gradient-flow", 60.0)):
        system = sft.discretise(action, grid, order=4, dynamics=dynamics)
        system.walls.at(2.0)
        assert system.walls.scalars["wall x lower w rate"] == pytest.approx(rate)


def test_the_linear_part_is_diagonal_in_sines_and_cosines():
    grid = sft.Grid((6, 8), 1.0, boundary={"y": {"value": "x"}, "x": {"derivative": 0.2}})
    system = sft.discretise(sft.Action(["w"], "D/2*grad2(w) + w**2", {"D": 0.7}, friction=FRICTION), grid, order=4)
    w = np.random.default_rng(0).standard_normal((1, 6, 8))
    state, out = system.state({"w": w[0]}), system.state({"w": 0.0})
    assert system.linear is not None and system.linear.modes is not None
    system.linear.apply(state.storage, out.storage)
    expected = system.jvp(w, w)
    np.testing.assert_allclose(out.w, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


VALUE, SLOPE = {"value": 0.5}, {"derivative": 0.5}


@pytest.mark.parametrize(
    ("cost", "wall", "order", "hint"),
    [
        ("grad2(w)/2", VALUE, 6, "walls of order 6 do not exist"),
        ("grad2(w)/2", VALUE, 8, "next derivative beyond the wall"),
        ("S*grad2(w)/2", VALUE, 4, "constant coefficients"),
        ("(1 + w**2)*grad2(w)/2", VALUE, 4, "constant coefficients"),
        ("grad2(w)/2 + d(w, x)*v", VALUE, 4, "constant coefficients"),
        ("grad2(w)/2 + d(w, x)*d(v, x)", VALUE, 4, "constant coefficients"),
        ("d(w, x, 2)**2", VALUE, 4, "constant coefficients"),
        ("sqrt(1 + grad2(w))", VALUE, 4, "constant coefficients"),
        ("grad2(w)/2", {"mixed": 1.0, "const": 0.0}, 4, "no mixed condition"),
        ("grad2(w)/2 + grad2(v)/2 + w*v", {"w": VALUE, "v": SLOPE}, 4, "same condition for the coupled fields"),
    ],
)
def test_what_is_refused(cost, wall, order, hint):
    action = sft.Action(["w", "v"], cost, sources={"S": "1 + x"}, friction=FRICTION)
    with pytest.raises(ActionError) as caught:
        sft.discretise(action, sft.Grid(12, 1.0, boundary={"x": wall}), order=order)
    assert hint in str(caught.value) and "order=2" in str(caught.value)


def test_different_conditions_are_fine_where_nothing_couples(monkeypatch):
    uncompiled(monkeypatch)
    action = sft.Action(["w", "v"], "grad2(w)/2 + grad2(v)/2 + w**4 + v**2", friction=FRICTION)
    walls = {"x": {"w": VALUE, "v": SLOPE}}
    assert sft.discretise(action, sft.Grid(12, 1.0, boundary=walls), order=4).force(np.ones((2, 12))).shape == (2, 12)
    with pytest.raises(GridError, match="at least 4 cells"):
        sft.discretise(action, sft.Grid(3, 1.0, boundary=walls), order=4)
