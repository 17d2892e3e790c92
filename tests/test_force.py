"""The compiled cost, force and Jacobian: each other's derivatives, equal to the slow reference, whatever the threads."""

from dataclasses import dataclass
from functools import cache

import numba
import numpy as np
import pytest
from manufactured import BOX, PLANE, forced
from reference_rule import Rule

import sftsolve as sft
from sftsolve.algebra import FUNCTIONS, Number, Symbol, add, call, differentiate, evaluate
from sftsolve.kernels import local, wall_data
from sftsolve.parallel import SMALL, slabs

D, N = (lambda value: {"value": value}), (lambda slope: {"derivative": slope})


@dataclass(frozen=True)
class Theory:
    """Fields, density, boundary, the reference's density and boundary energies, shape of a small grid."""

    fields: tuple
    text: str
    boundary: object
    reference: str
    surfaces: tuple
    shape: tuple


THEORIES = {
    "torus": Theory(
        ("w", "v"),
        "sqrt(1 + grad2(w)) + S*d(w, x)*d(v, y) + d(w, x, y)**2/2 + exp(v/2)*cos(w - t) + grad2(v)/2 + m*x*y*v**2",
        "periodic",
        "sqrt(1 + grad2(w)) + S*d(w, x)*d(v, y) + d(w, x, y)**2/2 + exp(v/2)*cos(w - t) + grad2(v)/2 + m*x*y*v**2",
        (),
        (6, 7),
    ),
    # The momentum of b on its x faces is n (S db/dx + K a/4), that of a on its y faces S da/dn, of b S db/dn.
    "plane": Theory(
        ("a", "b", "c"),
        forced(PLANE, "abc"),
        {
            "x": {"lower": {"a": D(0.6), "b": N(0.2), "c": D(0.1)}, "upper": {"a": D(-0.5), "b": N(-0.1), "c": D(0.3)}},
            "y": {"lower": {"a": N(0.0), "b": N(0.0), "c": D(0.2)}, "upper": {"a": N(0.0), "b": N(-1.0), "c": D(0.4)}},
        },
        forced(PLANE, "abc").replace("K*a*d(a, x, 2)/4", "(-d(K*a, x)*d(a, x))/4"),
        (
            ("x", "lower", "-(S*0.2 - K*0.6/4)*b"),
            ("x", "upper", "-(-S*0.1 - K*0.5/4)*b"),
            ("y", "upper", "S*b"),
        ),
        (5, 6),
    ),
    "box": Theory(
        ("w",),
        forced(BOX, "w"),
        {"x": {"lower": D(0.4), "upper": N(0.2)}, "y": N(0.0), "z": "periodic"},
        forced(BOX, "w"),
        (("x", "upper", "-0.2*S*w"),),
        (3, 4, 5),
    ),
}


@cache
def theory(name):
    """(system, rule) of one theory."""
    given = THEORIES[name]
    grid = sft.Grid(given.shape, tuple(0.13 * n for n in given.shape), origin=-0.3, boundary=given.boundary)
    rng = np.random.default_rng(3)
    names = [source for source in ("K", *(f"J_{field}" for field in given.fields)) if source in given.text]
    sources = {"S": 1 + rng.random(given.shape)} | {source: rng.standard_normal(given.shape) for source in names}
    parameters = {"m": 1.3} if name == "torus" else {}
    action = sft.Action(given.fields, given.text, parameters, sources, friction=sft.Friction(gamma=2.0))
    rule = Rule(given.fields, given.reference, grid, parameters, sources, given.surfaces, t=0.4)
    return sft.discretise(action, grid), rule


def fields_of(system, seed=0):
    return 0.5 * np.random.default_rng(seed).standard_normal((len(system.fields), *system.grid.shape))


def slope(function, h):
    """Central difference of sixth order at zero."""
    return (45 * (function(h) - function(-h)) - 9 * (function(2 * h) - function(-2 * h)) + function(3 * h) - function(-3 * h)) / (
        60 * h
    )


@pytest.mark.parametrize("name", sorted(THEORIES))
def test_cost_and_force_are_those_of_the_reference(name):
    system, rule = theory(name)
    w = fields_of(system)
    assert system.cost(w, 0.4) == pytest.approx(rule.cost(w), rel=1e-13)
    force = system.force(w, 0.4)
    np.testing.assert_allclose(force, rule.force(w), rtol=0, atol=1e-12 * np.max(np.abs(force)))


@pytest.mark.parametrize("name", sorted(THEORIES))
def test_force_is_minus_the_gradient_of_cost(name):
    system, _ = theory(name)
    w = fields_of(system)
    for seed in range(3):
        d = fields_of(system, 10 + seed)
        expected = -system.grid.cell_volume * np.sum(system.force(w) * d)
        assert slope(lambda h, d=d: system.cost(w + h * d), 1e-3) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", sorted(THEORIES))
def test_jacobian_is_the_slope_of_force_and_symmetric(name):
    system, _ = theory(name)
    w, d, e = (fields_of(system, seed) for seed in (0, 1, 2))
    along_d, along_e = system.jvp(w, d, 0.4), system.jvp(w, e, 0.4)
    expected = slope(lambda h: system.force(w + h * d, 0.4), 1e-3)
    np.testing.assert_allclose(along_d, expected, rtol=0, atol=1e-9 * np.max(np.abs(along_d)))
    assert abs(np.sum(e * along_d) - np.sum(d * along_e)) <= 1e-12 * np.sum(np.abs(e * along_d))
    np.testing.assert_allclose(system.jvp(w, 2 * d - 3 * e, 0.4), 2 * along_d - 3 * along_e, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", sorted(THEORIES))
def test_gradient_flow_never_raises_the_cost(name):
    system, _ = theory(name)
    state = system.state(dict(zip(system.fields, fields_of(system), strict=True)))
    out = state.like()
    costs = [system.cost_of(state)]
    step = 0.02 / system.spectral_radius(state)
    for _ in range(60):
        system.force_into(state, out)
        state.w[...] += step * out.w
        costs.append(system.cost_of(state))
    assert np.all(np.diff(costs) < 0)


@pytest.mark.parametrize("potential", ["sin(w)", "w**4"], ids=["compiler", "vectors"])
@pytest.mark.parametrize("shape", [(40_001,), (181, 190), (9, 35, 133)], ids=["1D", "2D", "3D"])
def test_results_do_not_depend_on_threads(shape, potential, monkeypatch):
    grid = sft.Grid(shape, 3.0, boundary={"x": {"value": 0.4}})
    action = sft.Action(["w"], f"S/2*grad2(w) + {potential}", sources={"S": "1 + x**2"}, friction=sft.Friction(gamma=1.0))
    results = {}
    for parts in (1, 2, 3, 8):
        for module in (local, wall_data):
            monkeypatch.setattr(module, "slabs", lambda cells, parts=parts: parts)
        system = sft.discretise(action, grid)
        assert system.local._driver("force").__name__ == ("force" if parts == 1 else "force_threads")
        w = fields_of(system)
        results[parts] = (system.force(w), np.array(system.cost(w)))
        assert all(np.isfinite(found).all() for found in results[parts])
        for one, other in zip(results[1], results[parts], strict=True):
            np.testing.assert_array_equal(one, other)


def test_large_grids_use_every_thread(monkeypatch):
    available = numba.get_num_threads()
    assert slabs(10) == slabs(SMALL - 1) == 1 and slabs(SMALL) == available
    monkeypatch.setenv("SFTSOLVE_THREADS", "1")
    assert slabs(SMALL) == 1
    numba.set_num_threads(available)


def test_states_and_plain_arrays_agree():
    system, _ = theory("torus")
    w = fields_of(system)
    state = system.state({"w": w[0], "v": w[1]}, t=0.4)
    out = state.like()
    system.force_into(state, out)
    np.testing.assert_array_equal(out.w, system.force(w, 0.4))
    np.testing.assert_array_equal(state.w, w)
    system.force_into(state, out, 1.1)
    np.testing.assert_array_equal(out.w, system.force(w, 1.1))
    assert system.cost_of(state) == system.cost(w, 0.4) != system.cost(w, 1.1) == system.cost_of(state, 1.1)


def test_spectral_radius_is_that_of_the_dense_jacobian():
    system, _ = theory("plane")
    w = fields_of(system)
    dense = np.stack([system.jvp(w, unit.reshape(w.shape)).ravel() for unit in np.eye(w.size)], axis=1)
    np.testing.assert_allclose(dense, dense.T, rtol=0, atol=1e-12 * np.max(np.abs(dense)))
    exact = np.max(np.abs(np.linalg.eigvalsh((dense + dense.T) / 2)))
    state = system.state(dict(zip(system.fields, w, strict=True)))
    assert 0.9 * exact <= system.spectral_radius(state) <= exact * (1 + 1e-12)
    assert system.spectral_radius(state) == system.spectral_radius(state)


def test_every_function_of_the_language_compiles():
    # The cost is a weighted sum of all functions of one field in its own cells; those without derivative act on the coordinate.
    domain = {"acosh": 1.3, "atanh": 0.2, "asin": 0.2, "acos": 0.2}
    w, texts, trees = Symbol("w"), [], []
    for weight, (name, function) in enumerate(sorted(FUNCTIONS.items()), start=1):
        variable, shift = "x" if function.derivatives is None else "w", domain.get(name, 0.4)
        second = function.arguments == 2
        trees.append(call(name, add(Symbol(variable) * 0.3, shift), *[Number(0.7)] * second) * weight)
        texts.append(f"{weight}*{name}(0.3*{variable} + {shift}{', 0.7' * second})")
    grid = sft.Grid(11, 1.0)
    system = sft.discretise(sft.Action(["w"], " + ".join(texts), friction=sft.Friction(gamma=1.0)), grid)
    values = np.linspace(0.1, 0.9, 11)
    point = {"w": values, "x": grid.coordinates[0]}
    assert system.cost(values[None]) == pytest.approx(np.sum(evaluate(add(*trees), point)) * grid.cell_volume, rel=1e-13)
    force = -evaluate(differentiate(add(*trees), w), point)
    np.testing.assert_allclose(system.force(values[None])[0], force, rtol=1e-12)


def test_functions_of_large_numbers_and_of_nothing():
    # floor and ceil must not go through integers: these overflow, and hide what is not a number.
    system = sft.discretise(sft.Action(["w"], "floor(w) - ceil(w/2)", friction=sft.Friction(gamma=1.0)), sft.Grid(1, 1.0))
    for value in (1e30, -1e30, 0.5, -0.5):
        assert system.cost(np.array([[value]])) == np.floor(value) - np.ceil(value / 2)
    assert np.isnan(system.cost(np.array([[np.nan]])))
