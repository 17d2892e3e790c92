"""The algebra of trees against SymPy: values, derivatives, expansion, and the canonical form."""

import math

import mpmath
import numpy as np
import pytest
import sympy

from sftsolve.algebra import (
    FUNCTIONS,
    ONE,
    ZERO,
    Number,
    Product,
    Sum,
    Symbol,
    TooManyTerms,
    add,
    call,
    differentiate,
    evaluate,
    expand,
    leaves,
    multiply,
    power,
    rebuild,
    split_coefficient,
    substitute,
)
from sftsolve.errors import ExpressionError
from sftsolve.expression import parse

NAMES = ("a", "b", "c")
OURS = {name: Symbol(name) for name in NAMES}
THEIRS = dict(zip(NAMES, sympy.symbols(NAMES, positive=True), strict=True))
POINTS = {name: np.random.default_rng(number).uniform(0.3, 1.4, 7) for number, name in enumerate(NAMES)}
SMOOTH = ("sin", "cos", "tanh", "atan", "erf", "asinh")

# Every function of the language in SymPy, and an interval inside its domain.
REFERENCE = {
    "sin": (sympy.sin, 0.2, 1.2),
    "cos": (sympy.cos, 0.2, 1.2),
    "tan": (sympy.tan, 0.2, 1.2),
    "asin": (sympy.asin, 0.1, 0.9),
    "acos": (sympy.acos, 0.1, 0.9),
    "atan": (sympy.atan, -2.0, 2.0),
    "sinh": (sympy.sinh, -2.0, 2.0),
    "cosh": (sympy.cosh, -2.0, 2.0),
    "tanh": (sympy.tanh, -2.0, 2.0),
    "asinh": (sympy.asinh, -2.0, 2.0),
    "acosh": (sympy.acosh, 1.2, 3.0),
    "atanh": (sympy.atanh, -0.9, 0.9),
    "exp": (sympy.exp, -2.0, 2.0),
    "expm1": (lambda x: sympy.exp(x) - 1, 0.5, 2.0),
    "exp2": (lambda x: 2**x, -2.0, 2.0),
    "log": (sympy.log, 0.2, 3.0),
    "log1p": (lambda x: sympy.log(1 + x), 0.5, 3.0),
    "log2": (lambda x: sympy.log(x, 2), 0.2, 3.0),
    "log10": (lambda x: sympy.log(x, 10), 0.2, 3.0),
    "sqrt": (sympy.sqrt, 0.2, 3.0),
    "erf": (sympy.erf, -2.0, 2.0),
    "erfc": (sympy.erfc, -2.0, 2.0),
    "gamma": (sympy.gamma, 0.5, 3.0),
    "lgamma": (sympy.loggamma, 0.5, 3.0),
    "abs": (sympy.Abs, -2.0, 2.0),
    "fabs": (sympy.Abs, -2.0, 2.0),
    "sign": (sympy.sign, -2.0, 2.0),
    "floor": (sympy.floor, -2.0, 2.0),
    "ceil": (sympy.ceiling, -2.0, 2.0),
    "atan2": (sympy.atan2, 0.2, 2.0),
    "trunc": (lambda x: sympy.sign(x) * sympy.floor(sympy.Abs(x)), -2.0, 2.0),
    "degrees": (lambda x: x * 180 / sympy.pi, -2.0, 2.0),
    "radians": (lambda x: x * sympy.pi / 180, -2.0, 2.0),
    "cbrt": (sympy.cbrt, 0.2, 3.0),
    "copysign": (lambda x, y: sympy.Abs(x) * sympy.sign(y), 0.2, 2.0),
    "hypot": (lambda x, y: sympy.sqrt(x**2 + y**2), 0.2, 2.0),
    "pow": (sympy.Pow, 0.2, 2.0),
}


def random_pair(rng, depth):
    """The same random expression in our algebra and in SymPy, finite and smooth at the points."""
    if depth == 0 or rng.random() < 0.15:
        if rng.random() < 0.3:
            value = float(rng.integers(-6, 7)) / 4
            return Number(value), sympy.Float(value)
        name = NAMES[rng.integers(len(NAMES))]
        return OURS[name], THEIRS[name]
    kind = rng.choice(["add", "subtract", "multiply", "multiply", "divide", "power", "call", "root"])
    ours, theirs = random_pair(rng, depth - 1)
    if kind in ("add", "subtract", "multiply"):
        other, their_other = random_pair(rng, depth - 1)
        rule = {"add": lambda p, q: p + q, "subtract": lambda p, q: p - q, "multiply": lambda p, q: p * q}[kind]
        return rule(ours, other), rule(theirs, their_other)
    if kind == "divide":
        return ours / add(2.0, call("sin", ours)), theirs / (2 + sympy.sin(theirs))
    if kind == "power":
        exponent = int(rng.choice([2, 3, 5]))
        return power(ours, exponent), theirs**exponent
    if kind == "root":
        exponent = float(rng.choice([-2, -0.5, 0.5, 1.5]))
        return power(add(1.0, power(ours, 2)), exponent), (1 + theirs**2) ** exponent
    name = str(rng.choice(SMOOTH))
    return call(name, ours), getattr(sympy, name)(theirs)


def their_values(expression):
    """SymPy's value at the points, in arithmetic of 30 digits."""
    function = sympy.lambdify(list(THEIRS.values()), expression, "mpmath")
    with mpmath.workdps(30):
        return np.array([float(function(*point)) for point in zip(*POINTS.values(), strict=True)])


def our_values(node):
    return np.broadcast_to(np.asarray(evaluate(node, POINTS), float), (7,))


def pairs(count, depth):
    rng = np.random.default_rng(20)
    return [random_pair(rng, depth) for _ in range(count)]


def test_values_are_those_of_sympy():
    for ours, theirs in pairs(150, 5):
        np.testing.assert_allclose(our_values(ours), their_values(theirs), rtol=1e-11, atol=1e-11)


def test_derivatives_are_those_of_sympy():
    for ours, theirs in pairs(60, 4):
        for name in NAMES:
            expected = their_values(sympy.diff(theirs, THEIRS[name]))
            np.testing.assert_allclose(our_values(differentiate(ours, OURS[name])), expected, rtol=1e-9, atol=1e-9)


def test_second_derivatives_commute():
    for ours, _ in pairs(60, 4):
        one = differentiate(differentiate(ours, OURS["a"]), OURS["b"])
        two = differentiate(differentiate(ours, OURS["b"]), OURS["a"])
        np.testing.assert_allclose(our_values(one), our_values(two), rtol=1e-9, atol=1e-9)


def test_every_function_is_in_the_reference():
    assert set(REFERENCE) == set(FUNCTIONS)


@pytest.mark.parametrize("name", sorted(REFERENCE))
def test_functions_and_their_derivatives(name):
    theirs, low, high = REFERENCE[name]
    row = FUNCTIONS[name]
    values = np.random.default_rng(3).uniform(low, high, (row.arguments, 5))
    arguments = [Symbol(f"x{number}") for number in range(row.arguments)]
    symbols = sympy.symbols([leaf.name for leaf in arguments], real=True)
    at = [dict(zip([leaf.name for leaf in arguments], column, strict=True)) for column in values.T]
    tree, expression = call(name, *arguments), theirs(*symbols)
    for point in at:
        where = {symbol: point[symbol.name] for symbol in symbols}
        assert evaluate(tree, point) == pytest.approx(float(expression.subs(where)), rel=1e-12)
        for leaf, symbol in zip(arguments, symbols, strict=True):
            if row.derivatives is None:
                with pytest.raises(ExpressionError, match="no derivative"):
                    differentiate(tree, leaf)
                continue
            slope = (
                0.0 if name in ("floor", "ceil", "sign", "trunc") else float(sympy.diff(expression, symbol).subs(where).doit())
            )
            assert float(evaluate(differentiate(tree, leaf), point)) == pytest.approx(slope, rel=1e-11)


@pytest.mark.parametrize("name", sorted(name for name in REFERENCE if hasattr(math, name)))
def test_functions_are_those_of_math(name):
    _, low, high = REFERENCE[name]
    for values in np.random.default_rng(4).uniform(low, high, (5, FUNCTIONS[name].arguments)).tolist():
        assert call(name, *map(Number, values)).value == pytest.approx(getattr(math, name)(*values), rel=1e-14)


def test_expansion_is_that_of_sympy():
    rng = np.random.default_rng(21)
    for _ in range(40):
        ours, theirs = ONE, sympy.Integer(1)
        for _ in range(rng.integers(1, 4)):
            exponent = int(rng.integers(1, 3))
            coefficients = [float(n) for n in rng.integers(-3, 4, 4)]
            ours = ours * power(
                add(coefficients[0], *[OURS[n] * c for n, c in zip(NAMES, coefficients[1:], strict=True)]), exponent
            )
            their_sum = int(coefficients[0]) + sum(int(c) * THEIRS[n] for n, c in zip(NAMES, coefficients[1:], strict=True))
            theirs = theirs * their_sum**exponent
        terms = expand(ours, lambda leaf: True, limit=100_000)
        polynomial = sympy.Poly(theirs, *THEIRS.values())
        expected = {} if polynomial.is_zero else dict(polynomial.terms())
        found = {}
        for term in terms:
            coefficient, rest = split_coefficient(term)
            factors = dict(rest.factors) if isinstance(rest, Product) else ({} if rest == ONE else {rest: 1})
            found[tuple(factors.pop(OURS[name], 0) for name in NAMES)] = coefficient
            assert not factors
        assert found == {powers: float(value) for powers, value in expected.items()}


def test_expansion_leaves_alone_what_does_not_matter():
    inner = power(add(OURS["b"], OURS["c"], 1.0), 3)
    terms = expand(inner * add(OURS["a"], 2.0), lambda leaf: leaf == OURS["a"])
    assert set(terms) == {inner * OURS["a"], inner * 2.0}
    assert expand(power(add(OURS["a"], 1.0), -2), lambda leaf: True) == (power(add(OURS["a"], 1.0), -2),)


def test_expansion_has_a_limit():
    wide = power(add(OURS["a"], OURS["b"], OURS["c"], 1.0), 12)
    with pytest.raises(TooManyTerms):
        expand(wide, lambda leaf: True)


def test_order_of_operands_does_not_matter():
    rng = np.random.default_rng(22)
    for _ in range(40):
        parts = [random_pair(rng, 2)[0] for _ in range(5)]
        for build in (add, multiply):
            one, two = build(*parts), build(*[parts[i] for i in rng.permutation(5)])
            if all(not isinstance(part, Number) for part in parts):
                assert one == two and hash(one) == hash(two) and one.text == two.text
            np.testing.assert_allclose(our_values(one), our_values(two), rtol=1e-12)


def test_constants_fold_and_like_terms_collect():
    a, b = OURS["a"], OURS["b"]
    assert a + a == a * 2.0 and a - a == ZERO and add(a, b) - add(b, a) == ZERO
    assert a * a == power(a, 2) and a / a == ONE and power(power(a, 2), 3) == power(a, 6)
    assert multiply(2.0, add(a, b)) == add(a * 2.0, b * 2.0)
    assert multiply(2.0, a, 3.0, b) == multiply(b, a, 6.0)
    assert power(a * 2.0, 3) == power(a, 3) * 8.0 and power(a, 0) == ONE and power(a, 0.5) == call("sqrt", a)
    assert call("pow", a, Number(2.0)) == power(a, 2) and call("cos", ZERO) == ONE
    assert isinstance(add(a, 1.0), Sum) and isinstance(a * b, Product)
    assert math.copysign(1.0, Number(-0.0).value) == 1.0 and repr(-a) == "(-1.0*a)"


def test_rebuilding_and_substituting():
    for ours, _ in pairs(40, 4):
        assert substitute(ours, {}) == ours and rebuild(ours, ours.children) == ours
        swapped = substitute(ours, {OURS["a"]: OURS["b"], OURS["b"]: OURS["a"]})
        values = {**POINTS, "a": POINTS["b"], "b": POINTS["a"]}
        np.testing.assert_allclose(our_values(swapped), np.broadcast_to(evaluate(ours, values), (7,)), rtol=1e-10)
        assert {leaf.name for leaf in leaves(ours)} <= set(NAMES)


def test_values_by_leaf_or_by_name_and_broadcasting():
    tree = parse("a*b + sin(a)", NAMES)
    column, row = np.linspace(0, 1, 3)[:, None], np.linspace(1, 2, 4)
    expected = column * row + np.sin(column)
    np.testing.assert_allclose(evaluate(tree, {"a": column, "b": row}), expected)
    np.testing.assert_allclose(evaluate(tree, {OURS["a"]: column, OURS["b"]: row}), expected)
    assert evaluate(ONE, {}) == 1.0


@pytest.mark.parametrize(
    "build",
    [
        lambda: Number(math.inf),
        lambda: Number(math.nan),
        lambda: power(ZERO, -1),
        lambda: power(Number(-1.0), 0.5),
        lambda: power(Number(10.0), 1e10),
        lambda: multiply(1e300, OURS["a"], 1e300),
        lambda: add(OURS["a"] * 1e308, OURS["a"] * 1e308),
        lambda: call("log", ZERO),
        lambda: call("exp", Number(1e4)),
    ],
)
def test_what_is_not_finite_is_refused(build):
    with pytest.raises(ExpressionError):
        build()
