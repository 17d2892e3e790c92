"""J(x, t) as a sum of products f(t) g(x), as far as it is one.

Sums, products and powers are expanded; sin and cos of a(x) + b(t) by the angle-addition formulas, exp of it into a product.
Nothing is expanded that would lose digits: powers and products of sums that mix x and t stay whole, and exp(a(x)) is taken
relative to the middle of its range, if that range is small. What is left stays an expression of coordinates in which all that
does not vary in space is a hidden scalar, so that numbers and parameters never decide what is compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from sftsolve.algebra import (
    ONE,
    ZERO,
    Call,
    Node,
    Number,
    Product,
    Sum,
    Symbol,
    add,
    call,
    evaluate,
    leaves,
    multiply,
    power,
    rebuild,
    split_coefficient,
)
from sftsolve.grid import AXES
from sftsolve.sources.moving import Form, hidden

TIME = Symbol("t")
_MOST_ARRAYS = 6  # beyond this an expression in the kernel is cheaper than reading them
_MOST_TERMS = 64
_WIDEST = 50.0  # range of a(x) in exp(a(x) + b(t))

Factors = list[tuple[Node, Node]]  # sum of f(t) g(x)


@dataclass
class Separated:
    """The parts of a source.

    Attributes
    ----------
    form : how it enters the density
    arrays : g(x) by hidden name
    scalars : f(t) by hidden name
    """

    form: Form = field(default_factory=lambda: Form(ZERO))
    arrays: dict[str, Node] = field(default_factory=dict)
    scalars: dict[str, Node] = field(default_factory=dict)


def varies_in_space(node: Node) -> bool:
    return any(isinstance(leaf, Symbol) and leaf.name in AXES for leaf in leaves(node))


def varies_in_time(node: Node) -> bool:
    return TIME in leaves(node)


def separated(name: str, tree: Node, mesh: Mapping[str, np.ndarray], parameters: Mapping[str, float]) -> Separated:
    """Take a source apart.

    Parameters
    ----------
    name : of the source
    tree : over coordinates, t and parameters
    mesh, parameters : their values, which decide on the range of exponents alone
    """

    def spread(node: Node) -> tuple[float, float]:
        with np.errstate(all="ignore"):
            values = np.asarray(evaluate(node, {**mesh, **parameters}), float)
        return float(values.min()), float(values.max())

    splitter = _Splitter(spread)
    terms: Factors = []
    rest: list[Node] = []
    for part in _summands(tree):
        found = splitter.split(part)
        if found is None:
            rest.append(part)
        else:
            terms += found
    joined = _joined(terms)
    if sum(g != ONE for _, g in joined) > _MOST_ARRAYS:
        joined, rest = [], [tree]
    return _Builder(name).build(joined, add(*rest))


def _summands(tree: Node) -> list[Node]:
    if not isinstance(tree, Sum):
        return [tree]
    return [multiply(c, term) for term, c in tree.terms] + ([Number(tree.constant)] if tree.constant else [])


class _Splitter:
    """The rules, one method a kind of node; None where there is none."""

    def __init__(self, spread: Callable[[Node], tuple[float, float]]):
        self._spread = spread

    def split(self, node: Node) -> Factors | None:
        if not varies_in_time(node):
            return [(ONE, node)]
        if not varies_in_space(node):
            return [(node, ONE)]
        number, rest = split_coefficient(node)
        if number != 1.0:
            found = self.split(rest)
            return None if found is None else [(f, multiply(number, g)) for f, g in found]
        if isinstance(node, Sum):
            return self._sum(node)
        if isinstance(node, Product):
            return self._product(node)
        return self._call(node) if isinstance(node, Call) else None

    def _sum(self, node: Sum) -> Factors | None:
        found: Factors = []
        for part in _summands(node):
            factors = self.split(part)
            if factors is None:
                return None
            found += factors
        return found

    def _product(self, node: Product) -> Factors | None:
        """At most one factor may be a sum that mixes x and t, and that to the first power: more would cancel."""
        found: Factors = [(ONE, ONE)]
        mixed = 0
        for base, exponent in node.factors:
            factors = self.split(power(base, exponent) if _pure(base) else base)
            mixed += isinstance(base, Sum) and not _pure(base)
            if factors is None or mixed > 1 or (mixed and isinstance(base, Sum) and not _pure(base) and exponent != 1):
                return None
            if not _pure(base) and exponent < 0:
                if len(factors) > 1:
                    return None
                factors = [(power(f, -1), power(g, -1)) for f, g in factors]
            for _ in range(1 if _pure(base) else abs(exponent)):
                found = [(multiply(f, a), multiply(g, b)) for f, g in found for a, b in factors]
                if len(found) > _MOST_TERMS:
                    return None
        return found

    def _call(self, node: Call) -> Factors | None:
        if node.name not in ("sin", "cos", "exp"):
            return None
        inner = self.split(node.arguments[0])
        parts = [multiply(f, g) for f, g in inner or ()]
        if inner is None or any(varies_in_space(part) and varies_in_time(part) for part in parts):
            return None
        a = add(*[part for part in parts if varies_in_space(part)])
        b = add(*[part for part in parts if not varies_in_space(part)])
        if node.name == "exp":
            low, high = self._spread(a)
            if not high - low <= _WIDEST:
                return None
            middle = 0.5 * (low + high)
            return [(call("exp", add(b, middle)), call("exp", add(a, -middle)))]
        sine = [(call("cos", b), call("sin", a)), (call("sin", b), call("cos", a))]
        cosine = [(call("cos", b), call("cos", a)), (-call("sin", b), call("sin", a))]
        return sine if node.name == "sin" else cosine


def _pure(node: Node) -> bool:
    return not (varies_in_space(node) and varies_in_time(node))


def _joined(terms: Factors) -> Factors:
    """The same sum in as few products as sharing an f or a g gives."""
    by_time: dict[Node, list[Node]] = {}
    for f, g in terms:
        number, monic = split_coefficient(f)
        by_time.setdefault(monic, []).append(multiply(number, g))
    by_space: dict[Node, list[Node]] = {}
    for f, gs in by_time.items():
        number, monic = split_coefficient(add(*gs))
        if number:
            by_space.setdefault(monic, []).append(multiply(number, f))
    return [(f, g) for g, fs in by_space.items() if (f := add(*fs)) != ZERO]


class _Builder:
    """Names the hidden arrays and scalars."""

    def __init__(self, name: str):
        self._name = name
        self._found = Separated()
        self._symbols: dict[Node, Symbol] = {}

    def build(self, terms: Factors, rest: Node) -> Separated:
        parts: list[Node] = []
        static = [multiply(f, g) for f, g in terms if isinstance(f, Number) and g != ONE]
        if static:
            parts.append(self._array(add(*static)))
        alone = [multiply(f, g) for f, g in terms if g == ONE]
        if alone:
            parts.append(self._scalar(add(*alone)))
        parts += [multiply(self._scalar(f), self._array(g)) for f, g in terms if not isinstance(f, Number) and g != ONE]
        if rest != ZERO:
            parts.append(self._hoisted(rest))
        found = self._found
        found.form = Form(add(*parts), tuple(found.arrays), tuple(found.scalars))
        return found

    def _array(self, node: Node) -> Node:
        symbol = hidden(self._name, "array", len(self._found.arrays))
        self._found.arrays[symbol.name] = node
        return symbol

    def _scalar(self, node: Node) -> Node:
        """A hidden scalar."""
        if node not in self._symbols:
            symbol = self._symbols[node] = hidden(self._name, "scalar", len(self._found.scalars))
            self._found.scalars[symbol.name] = node
        return self._symbols[node]

    def _hoisted(self, node: Node) -> Node:
        """The tree with all that does not vary in space as hidden scalars, one a term of a sum."""
        if not varies_in_space(node):
            return self._scalar(node)
        if isinstance(node, Sum) and not (node.constant == 0.0 and len(node.terms) == 1):
            still = [part for part in _summands(node) if not varies_in_space(part)]
            terms = [self._term(part, self._scalar) for part in _summands(node) if varies_in_space(part)]
            return add(*terms, *([self._scalar(add(*still))] if still else []))
        if isinstance(node, (Sum, Product)):
            return self._term(node, lambda scalar: ONE if scalar == ONE else self._scalar(scalar))
        return rebuild(node, [self._hoisted(child) for child in node.children])

    def _term(self, node: Node, scalar: Callable[[Node], Node]) -> Node:
        """A product as what `scalar` makes of its factors that do not vary in space, times the others."""
        number, rest = split_coefficient(node)
        factors = rest.factors if isinstance(rest, Product) else ((rest, 1),)
        still = [power(base, e) for base, e in factors if not varies_in_space(base)]
        parts = [power(self._hoisted(base), e) for base, e in factors if varies_in_space(base)]
        return multiply(scalar(multiply(number, *still)), *parts)
