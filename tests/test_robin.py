"""Mixed walls dw/dn + a w = b: order, exactness, a closed form, and what has no discretisation there."""

import numpy as np
import pytest
from reference_rule import uncompiled
from scipy.optimize import brentq

import sftsolve as sft
from sftsolve.errors import ActionError

FRICTION = sft.Friction(gamma=1.0)


def stationary_error(count):
    """-(S w')' + w = J with S = 1 + x/2, w = sin 2x + x^2/2, whose walls have a = 1.3 (lower) and 0.7 (upper)."""
    lower, upper = {"mixed": 1.3, "const": -2.0}, {"mixed": 0.7, "const": 2 * np.cos(2) + 1 + 0.7 * (np.sin(2) + 0.5)}
    grid = sft.Grid(count, 1.0, boundary={"x": {"lower": lower, "upper": upper}})
    source = "-(2*cos(2*x) + x)/2 - (1 + x/2)*(1 - 4*sin(2*x)) + sin(2*x) + x**2/2"
    action = sft.Action(["w"], "S/2*grad2(w) + w**2/2 - J*w", sources={"S": "1 + x/2", "J": source}, friction=FRICTION)
    system, zero = sft.discretise(action, grid), np.zeros((1, count))
    jacobian = np.stack([system.jvp(zero, unit[None])[0] for unit in np.eye(count)], axis=1)
    np.testing.assert_allclose(jacobian, jacobian.T, rtol=0, atol=1e-12 * np.abs(jacobian).max())
    (x,) = grid.coordinates
    return np.abs(np.linalg.solve(-jacobian, system.force(zero)[0]) - np.sin(2 * x) - x**2 / 2).max()


def test_order_two():
    errors = [stationary_error(count) for count in (24, 48)]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.1)


def test_force_is_minus_the_gradient_of_cost(monkeypatch):
    uncompiled(monkeypatch)
    walls = {"y": {"mixed": 2.0, "const": 0.5}, "x": {"a": {"mixed": -0.3, "const": 0.1}, "b": {"derivative": 0.4}}}
    action = sft.Action(["a", "b"], "S*grad2(a)/2 + grad2(b)/2 + a**2*b", sources={"S": "1 + x*y"}, friction=FRICTION)
    grid = sft.Grid((8, 9), (1.0, 1.0), boundary=walls)
    system = sft.discretise(action, grid)
    w, d = np.random.default_rng(1).standard_normal((2, 2, 8, 9))
    slope = (system.cost(w + 1e-4 * d) - system.cost(w - 1e-4 * d)) / 2e-4
    assert slope == pytest.approx(-grid.cell_volume * np.sum(system.force(w) * d), rel=1e-7)


def test_a_cooling_rod_falls_as_its_lowest_mode():
    k = brentq(lambda k: k * np.tan(k) - 1.0, 0.1, 1.5)  # w = cos(k x), w' + w = 0 at x = 1
    grid = sft.Grid(96, 1.0, boundary={"x": {"lower": {"derivative": 0.0}, "upper": {"mixed": 1.0, "const": 0.0}}})
    mode = np.cos(k * grid.coordinates[0])
    result = sft.solve(sft.Action(["w"], "grad2(w)/2"), grid, {"w": mode}, end=0.3, dynamics="gradient-flow", progress=False)
    np.testing.assert_allclose(result.w[-1, 0], np.exp(-0.3 * k**2) * mode, rtol=0, atol=5e-6)


@pytest.mark.parametrize(
    ("cost", "other"), [("d(w, x)**4", "derivative"), ("d(w, x)*d(v, x)", "value"), ("d(w, x, 2)**2", "derivative")]
)
def test_other_terms_are_refused_at_mixed_walls(cost, other):
    walls = {"x": {"w": {"mixed": 1.0, "const": 0.0}, "v": {other: 0.0}}}
    with pytest.raises(ActionError, match="no discretisation with a mixed condition"):
        sft.discretise(sft.Action(["w", "v"], cost, friction=FRICTION), sft.Grid(8, 1.0, boundary=walls))


def test_walls_of_a_rough_stiffness_feed_nothing_in(monkeypatch):
    """(3 S_0 - S_1)/2 is negative on some of the faces; the linear part, which damps, holds all of the force."""
    uncompiled(monkeypatch)
    rough = 10.0 ** np.random.default_rng(2).uniform(-2, 1, (5, 6))
    lower, inner = rough[:, 0], rough[:, 1]
    assert (3 * lower < inner).any() and (3 * lower > inner).any()
    action = sft.Action(["w"], "S/2*grad2(w)", sources={"S": rough}, friction=FRICTION)
    walls = {"x": {"mixed": 4.0, "const": 0.5}, "y": {"mixed": 2.5, "const": 0.0}}
    grid = sft.Grid((5, 6), (1.0, 1.2), boundary=walls)
    system = sft.discretise(action, grid, dynamics="gradient-flow")
    zero, units = np.zeros((1, 5, 6)), np.eye(30).reshape(30, 1, 5, 6)
    jacobian = np.stack([system.jvp(zero, unit).reshape(-1) for unit in units], axis=1)
    assert np.linalg.eigvalsh(jacobian).max() < 0.0
    w, d = np.random.default_rng(1).standard_normal((2, 1, 5, 6))
    slope = (system.cost(w + d) - system.cost(w - d)) / 2
    assert slope == pytest.approx(-grid.cell_volume * np.sum(system.force(w) * d), rel=1e-12)
    source, image, found = system.layout.zeros(1), system.layout.zeros(1), []
    for unit in units:
        system.layout.interior(source)[...] = unit
        system.linear.apply(source, image)
        found.append(system.layout.interior(image).reshape(-1).copy())
    np.testing.assert_allclose(np.stack(found, axis=1), jacobian, rtol=0, atol=1e-13 * np.abs(jacobian).max())
