"""Generated cost and force against the slow reference of the discrete rule, in every dimension, periodic and walled.

The generated modules run as plain Python here (`uncompiled`); `test_force.py` looks at the compiled ones.
"""

import random

import numpy as np
import pytest
from reference_rule import Rule, uncompiled

import sftsolve as sft
from sftsolve.errors import ActionError

SHAPES = {1: (7,), 2: (4, 5), 3: (3, 4, 3)}
LENGTHS = {1: (1.3,), 2: (0.9, 1.4), 3: (0.8, 1.1, 0.7)}
PARAMETERS = {"m": 1.7}
D, N = (lambda value: {"value": value}), (lambda slope: {"derivative": slope})
ZERO = {"value": 0.0}


@pytest.fixture(autouse=True)
def as_python(monkeypatch):
    uncompiled(monkeypatch)


def sources_on(shape):
    rng = np.random.default_rng(11)
    return {"S": 1 + rng.random(shape), "K": rng.standard_normal(shape), "J": rng.standard_normal(shape)}


def both(dimension, fields, text, boundary="periodic", reference=None, surfaces=(), t=0.0):
    """(system, rule, random fields) of one theory."""
    shape = SHAPES[dimension]
    grid = sft.Grid(shape, LENGTHS[dimension], origin=0.1, boundary=boundary)
    sources = sources_on(shape)
    action = sft.Action(fields, text, PARAMETERS, sources, friction=sft.Friction(gamma=1.0))
    w = 0.7 * np.random.default_rng(12).standard_normal((len(fields), *shape))
    return sft.discretise(action, grid), Rule(fields, reference or text, grid, PARAMETERS, sources, surfaces, t), w


def compare(system, rule, w, t=0.0):
    """Cost, force, its linearisation and the symmetry of that."""
    assert system.cost(w, t) == pytest.approx(rule.cost(w), rel=1e-13, abs=1e-13)
    force = system.force(w, t)
    np.testing.assert_allclose(force, rule.force(w), rtol=0, atol=1e-11 * (1 + np.max(np.abs(force))))
    rng = np.random.default_rng(13)
    one, two = rng.standard_normal((2, *w.shape))
    jacobian_one, jacobian_two = system.jvp(w, one, t), system.jvp(w, two, t)
    scale = np.sum(np.abs(two * jacobian_one)) + 1e-300
    assert abs(np.sum(two * jacobian_one) - np.sum(one * jacobian_two)) <= 1e-12 * scale
    h = 2e-4
    difference = 8 * (system.force(w + h * one, t) - system.force(w - h * one, t))
    difference -= system.force(w + 2 * h * one, t) - system.force(w - 2 * h * one, t)
    np.testing.assert_allclose(jacobian_one, difference / (12 * h), rtol=0, atol=1e-8 * (1 + np.max(np.abs(jacobian_one))))


PERIODIC = [
    (1, ["w"], "S/2*grad2(w) + m*w**4/4 - J*w"),
    (1, ["w", "v"], "K*w*d(v, x) + K*v*d(w, x, 2) + S*d(w, x)**3 + d(v, x)**4/4 + x*w**2"),
    (1, ["w", "v"], "S*sqrt(1 + grad2(w)) + exp(v/2)*cos(w)*d(v, x)**2 + log(2 + sin(v)) + tanh(d(w, x)*w)"),
    (1, ["w", "v"], "S*d(w, x, 2)**2 + d(w, x, 2)*d(v, x) + (2 + w)**-2 + (2 + v**2)**-1*d(w, x) + cosh(w)*sin(t)"),
    (1, ["w"], "S*d(w, x)**2*sqrt(1 + grad2(w))*(2 + d(w, x)**2)**-1 + d(w, x)**2*(2 + d(w, x)**3)**2"),
    (2, ["w", "v"], "S*d(w, x)*d(v, y) + d(w, x, y)**2/2 + K*v*d(w, x, y) + sqrt(1 + grad2(w)) + y*v"),
    (2, ["w", "v"], "(d(w, x)*d(v, y) - d(w, y)*d(v, x))**2/2 + S*lap(w)**2 + d(w, x)**2*d(v, y)"),
    (3, ["w", "v"], "S/2*grad2(w) + d(w, x)*d(v, y)*d(w, z) + lap(v)**2/8 + d(w, x, z)*d(v, x) + z*w*v"),
]


@pytest.mark.parametrize(("dimension", "fields", "text"), PERIODIC, ids=[text for _, _, text in PERIODIC])
def test_periodic(dimension, fields, text):
    compare(*both(dimension, fields, text, t=0.6), t=0.6)


NEUMANN = {"lower": N(0.3), "upper": N(-0.4)}
WALLS = {
    "values, everything nonlinear": (
        1,
        ["w", "v"],
        "S*d(w, x)**3 + d(v, x)**4/4 + sqrt(1 + grad2(w)) + K*w*d(v, x) + exp(w)*grad2(v)",
        {"x": {"lower": {"w": D(0.3), "v": D(-1.0)}, "upper": D(0.8)}},
        None,
        (),
    ),
    "slopes need their energies": (
        1,
        ["w"],
        "S/2*grad2(w) + m*w**4/4 - J*w",
        {"x": NEUMANN},
        None,
        [("x", "lower", "-0.3*S*w"), ("x", "upper", "0.4*S*w")],
    ),
    "stiffness of the field itself": (
        1,
        ["w"],
        "S*(1 + w**2)/2*grad2(w)",
        {"x": NEUMANN},
        None,
        [("x", "lower", "-0.3*S*(w + w**3/3)"), ("x", "upper", "0.4*S*(w + w**3/3)")],
    ),
    "powers of slopes": (
        1,
        ["w"],
        "grad2(w)/2 + d(w, x)**4/4",
        {"x": NEUMANN},
        None,
        [("x", "lower", "-(0.3 + 0.3**3)*w"), ("x", "upper", "(0.4 + 0.4**3)*w")],
    ),
    "first-order coupling, value and slope": (
        1,
        ["w", "v"],
        "K*w*d(v, x) + grad2(w)/2 + grad2(v)/2",
        {"x": {"lower": {"w": D(0.6), "v": N(0.2)}, "upper": {"w": D(-0.5), "v": N(0.0)}}},
        None,
        [("x", "lower", "-(0.2 - K*0.6)*v"), ("x", "upper", "-(K*(-0.5))*v")],
    ),
    "second derivative by parts, values": (
        1,
        ["w", "v"],
        "K*v*d(w, x, 2) + S*d(w, x, 2) + exp(v)*d(v, x, 2)",
        {"x": {"lower": {"w": D(0.6), "v": D(0.2)}, "upper": {"w": D(-0.5), "v": D(0.1)}}},
        "-d(K*v, x)*d(w, x) - d(S, x)*d(w, x) - d(exp(v), x)*d(v, x)",
        (),
    ),
    "second derivative by parts, slopes": (
        1,
        ["w"],
        "K*w*d(w, x, 2)",
        {"x": NEUMANN},
        "-d(K*w, x)*d(w, x)",
        [("x", "lower", "2*K*0.3*w + K_n*w**2/2"), ("x", "upper", "-2*K*0.4*w + K_n*w**2/2")],
    ),
    "squares of second derivatives": (
        1,
        ["w", "v"],
        "S*d(w, x, 2)**2 + d(v, x, 2)**2",
        {"x": {"w": ZERO, "v": N(0.0)}},
        None,
        (),
    ),
    "faces and fields of a plane": (
        2,
        ["w", "v"],
        "S/2*grad2(w) + S*d(w, x)*d(v, y)/4 + grad2(v)/2 + d(w, x, y)**2",
        {
            "x": {"lower": {"w": D(0.4), "v": N(0.2)}, "upper": D(-0.3)},
            "y": {"lower": {"w": D(0.1), "v": N(0.0)}, "upper": {"w": N(0.7), "v": D(0.5)}},
        },
        None,
        [("x", "lower", "-0.2*v"), ("y", "upper", "-0.7*S*w")],
    ),
    "one axis walled": (
        2,
        ["w"],
        "S/2*grad2(w) + d(w, x)**2*d(w, y)**2 + K*w*d(w, y)",
        {"y": NEUMANN},
        None,
        [("y", "lower", "-0.3*S*w + K*w**2/2"), ("y", "upper", "0.4*S*w - K*w**2/2")],
    ),
    "corners": (2, ["w"], "lap(w)**2/2 + d(w, x, y)**2 + d(w, x)**4*d(w, y)**2", {"x": ZERO, "y": N(0.0)}, None, ()),
    "a box": (
        3,
        ["w"],
        "S/2*grad2(w) + (1 + w**2)*d(w, y)**2",
        {"x": D(0.4), "y": {"lower": N(0.2), "upper": D(0.1)}, "z": "periodic"},
        None,
        [("y", "lower", "-0.2*(S*w + 2*(w + w**3/3))")],
    ),
}


# d(w, x)**2*d(w, y)**2 at a y wall with a slope g has the momentum 2 w_x^2 g, which no boundary energy gives: see below.
WALLS["one axis walled"] = (2, ["w"], "S/2*grad2(w) + d(w, x)**4 + K*w*d(w, y)", *WALLS["one axis walled"][3:])


@pytest.mark.parametrize("name", sorted(WALLS))
def test_walls(name):
    dimension, fields, text, boundary, reference, surfaces = WALLS[name]
    compare(*both(dimension, fields, text, boundary, reference, surfaces))


def random_density(rng, dimension, walled):
    """A sum of a few monomials with factors of every kind."""
    axes = "xyz"[:dimension]
    fields = ("w", "v")
    terms = []
    for _ in range(rng.randrange(2, 5)):
        factors = [rng.choice(["S", "K", "m", "0.5", "x", "-1.5"])]
        for _ in range(rng.randrange(1, 4)):
            field, axis, other = rng.choice(fields), rng.choice(axes), rng.choice(axes)
            kinds = ["{f}", "{f}**2", "d({f}, {a})", "d({f}, {a})", "d({f}, {a})**2", "grad2({f})", "cos({f})", "exp({f}/2)"]
            kinds += ["sqrt(1 + grad2({f}))", "(2 + d({f}, {a})**2)**-1"]
            kinds += ["d({f}, {a}, {b})"] if axis != other else []
            kinds += [] if walled else ["lap({f})", "d({f}, {a}, 2)", "d({f}, {a}, 2)**2"]
            factors.append(rng.choice(kinds).format(f=field, a=axis, b=other))
        terms.append("*".join(factors))
    return " + ".join(terms)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("boundary", ["periodic", "walls"])
def test_random_theories(seed, boundary):
    rng = random.Random(seed)
    dimension = 1 + seed % 3
    text = random_density(rng, dimension, boundary == "walls")
    faces = {"lower": {"w": D(0.3), "v": D(-0.2)}, "upper": D(0.5)}
    walls = (
        "periodic" if boundary == "periodic" else dict.fromkeys(rng.sample("xyz"[:dimension], rng.randint(1, dimension)), faces)
    )
    compare(*both(dimension, ["w", "v"], text, walls))


@pytest.mark.parametrize(
    ("text", "boundary", "hint"),
    [
        ("lap(w)**2", {"x": D(0.5)}, "homogeneous data on the lower x face"),
        ("lap(w)**2", {"x": {"lower": ZERO, "upper": N(1.0)}}, "homogeneous data on the upper x face"),
        ("d(w, x, 2)*d(w, x)", {"x": ZERO}, "mixes first and second derivatives"),
        ("sqrt(1 + v**2)*grad2(w)", {"x": N(0.5)}, "no exact discretisation is known for 'w'"),
        ("exp(w)*grad2(w)", {"x": N(0.5)}, "no exact discretisation is known for 'w'"),
        ("(1 + w + w**2 + x)**8*grad2(w)", {"x": N(0.5)}, "too many terms"),
    ],
)
def test_what_has_no_exact_discretisation_is_refused(text, boundary, hint):
    action = sft.Action(["w", "v"], text, friction=sft.Friction(gamma=1.0))
    with pytest.raises(ActionError, match=hint):
        sft.discretise(action, sft.Grid(8, 1.0, boundary=boundary))


def test_natural_conditions_are_reported(caplog):
    action = sft.Action(["w", "v"], "K*w*d(v, x) + grad2(w) + grad2(v)", sources={"K": 1.0}, friction=sft.Friction(gamma=1.0))
    sft.discretise(action, sft.Grid(8, 1.0, boundary={"x": {"w": N(0.0), "v": N(0.0)}}))
    assert "on the lower x face 'v' takes the natural condition of the cost: its momentum holds (-1.0*K*w)" in caplog.messages
    assert len(caplog.messages) == 2


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("K*w*d(v, x, y)", 2),  # v loses its condition on both x faces
        ("K*d(w, x)*d(v, y)", 2),
        ("d(w, x, y)**2", 0),  # w_xy vanishes there with w_x
        ("m*d(w, x, y)", 0),
    ],
)
def test_natural_conditions_of_mixed_derivatives_are_reported(text, count, caplog):
    boundary = {"x": {"w": N(0.0), "v": N(0.0)}, "y": {"w": ZERO, "v": ZERO}}
    both(2, ["w", "v"], f"{text} + grad2(w) + grad2(v)", boundary)
    assert len(caplog.messages) == count


def test_the_chain_rule_is_that_of_the_continuum():
    one, _, w = both(2, ["w"], "grad2(w**2)/8 + d(sin(w), x)")
    two, _, _ = both(2, ["w"], "w**2*grad2(w)/2 + cos(w)*d(w, x)")
    np.testing.assert_allclose(one.force(w), two.force(w), rtol=0, atol=1e-13)
    assert one.cost(w) == pytest.approx(two.cost(w), rel=1e-14)


def test_constants_and_nothing():
    for text, cost in (("0", 0.0), ("3", 3.0), ("m - m", 0.0), ("J", None)):
        system, rule, w = both(1, ["w", "v"], text)
        assert system.cost(w) == pytest.approx(rule.cost(w) if cost is None else cost * system.grid.length[0])
        assert not system.force(w).any() and not system.jvp(w, w).any()


def test_smallest_grids():
    rng = np.random.default_rng(5)
    for shape, boundary in (((1, 1, 1), "periodic"), ((1, 1), N(0.3)), ((1,), D(0.3)), ((2, 1), {"y": D(0.2)})):
        grid = sft.Grid(shape, 1.0, boundary=boundary)
        text = "grad2(w)/2 + w**4"
        system = sft.discretise(sft.Action(["w"], text, friction=sft.Friction(gamma=1.0)), grid)
        surfaces = [(axis, side, "-0.3*w") for axis in grid.walls for side in ("lower", "upper")] if boundary == N(0.3) else ()
        rule = Rule(["w"], text, grid, surfaces=surfaces)
        w = rng.standard_normal((1, *shape))
        if surfaces:
            rule.sources = {}
        assert system.cost(w) == pytest.approx(rule.cost(w), rel=1e-13)
        np.testing.assert_allclose(system.force(w), rule.force(w), rtol=1e-11, atol=1e-11)
