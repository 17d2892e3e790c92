"""Expression trees and the little algebra that the generated kernels need.

A tree is made of leaves (`Symbol` and the leaf classes of other modules), sums with numeric coefficients,
products with integer exponents and function calls. The constructors `add`, `multiply`, `power` and `call`
keep a canonical form: equal sums and products are equal objects whatever the order in which they were typed, constants
are folded, like terms collected. Nothing is expanded unless `expand` is asked to. SymPy does far more and is the
reference in the tests; here a stencil with hundreds of terms takes milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from sftsolve.errors import ExpressionError


@dataclass(frozen=True)
class Function:
    """A function that trees may call.

    Attributes
    ----------
    arguments : how many it takes
    numpy : its value on numbers and arrays
    code : its value in generated code, a template with {0}, {1}
    derivatives : one rule an argument, from the argument nodes to the partial derivative; None where it has none here
    """

    arguments: int
    numpy: Callable[..., Any]
    code: str
    derivatives: tuple[Callable[..., Node], ...] | None


FUNCTIONS: dict[str, Function] = {}
"""Filled by `functions.py`, one row a function."""


class Node:
    """Base of all trees; two trees are equal when their canonical texts are."""

    __slots__ = ("_hash", "text")

    text: str

    def _seal(self, text: str) -> None:
        self.text = text
        self._hash = hash(text)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Node) and self.text == other.text

    def __repr__(self) -> str:
        return self.text

    def __add__(self, other: Node | float) -> Node:
        return add(self, other)

    def __sub__(self, other: Node | float) -> Node:
        return add(self, multiply(-1.0, other))

    def __mul__(self, other: Node | float) -> Node:
        return multiply(self, other)

    def __neg__(self) -> Node:
        return multiply(-1.0, self)

    def __truediv__(self, other: Node | float) -> Node:
        return multiply(self, power(_node(other), -1.0))

    def __rmul__(self, other: Node | float) -> Node:
        return multiply(self, other)

    def __pow__(self, exponent: float) -> Node:
        return power(self, exponent)

    @property
    def children(self) -> tuple[Node, ...]:
        return ()


class Number(Node):
    """A finite constant."""

    __slots__ = ("value",)

    def __init__(self, value: float):
        if not math.isfinite(value):
            raise ExpressionError("a constant is not finite", expected="finite numbers", given=value)
        self.value = float(value) + 0.0  # no negative zero
        self._seal(repr(self.value))


class Leaf(Node):
    """Base of everything that stands for a value from outside."""

    __slots__ = ()


class Symbol(Leaf):
    """A named scalar or array."""

    __slots__ = ("name",)

    def __init__(self, name: str):
        self.name = name
        self._seal(name)


class Sum(Node):
    """constant + sum of coefficient * term, at least one term."""

    __slots__ = ("constant", "terms")

    def __init__(self, constant: float, terms: tuple[tuple[Node, float], ...]):
        self.constant = constant
        self.terms = terms
        parts = [f"{coefficient!r}*{term.text}" for term, coefficient in terms]
        self._seal("(" + " + ".join(([repr(constant)] if constant else []) + parts) + ")")

    @property
    def children(self) -> tuple[Node, ...]:
        return tuple(term for term, _ in self.terms)


class Product(Node):
    """Product of factors with integer exponents, without a coefficient."""

    __slots__ = ("factors",)

    def __init__(self, factors: tuple[tuple[Node, int], ...]):
        self.factors = factors
        self._seal("*".join(base.text if exponent == 1 else f"{base.text}^{exponent}" for base, exponent in factors))

    @property
    def children(self) -> tuple[Node, ...]:
        return tuple(base for base, _ in self.factors)


class Call(Node):
    """A function of the table in `functions.py`."""

    __slots__ = ("arguments", "name")

    def __init__(self, name: str, arguments: tuple[Node, ...]):
        self.name = name
        self.arguments = arguments
        self._seal(f"{name}({', '.join(argument.text for argument in arguments)})")

    @property
    def children(self) -> tuple[Node, ...]:
        return self.arguments


ZERO, ONE = Number(0.0), Number(1.0)


def _node(value: Node | float) -> Node:
    return value if isinstance(value, Node) else Number(value)


def add(*operands: Node | float) -> Node:
    """Sum of nodes and numbers in canonical form."""
    constant = 0.0
    terms: dict[Node, float] = {}
    for operand in operands:
        node = _node(operand)
        if isinstance(node, Number):
            constant += node.value
        elif isinstance(node, Sum):
            constant += node.constant
            for term, coefficient in node.terms:
                terms[term] = terms.get(term, 0.0) + coefficient
        else:
            terms[node] = terms.get(node, 0.0) + 1.0
    kept = sorted(((term, c) for term, c in terms.items() if c != 0.0), key=_text_of_first)
    if not kept:
        return Number(constant)
    if constant == 0.0 and len(kept) == 1 and kept[0][1] == 1.0:
        return kept[0][0]
    if not math.isfinite(constant) or not all(math.isfinite(c) for _, c in kept):
        raise ExpressionError("a constant grows beyond the range of numbers")
    return Sum(constant, tuple(kept))


def _text_of_first(pair: tuple[Node, Any]) -> str:
    return pair[0].text


def split_coefficient(node: Node) -> tuple[float, Node]:
    """(c, rest) with node = c * rest and `rest` free of a numeric factor."""
    if isinstance(node, Number):
        return node.value, ONE
    if isinstance(node, Sum) and len(node.terms) == 1 and node.constant == 0.0:
        term, coefficient = node.terms[0]
        return coefficient, term
    return 1.0, node


def multiply(*operands: Node | float) -> Node:
    """Product of nodes and numbers in canonical form; sums are not expanded."""
    coefficient = 1.0
    factors: dict[Node, int] = {}
    for operand in operands:
        number, rest = split_coefficient(_node(operand))
        coefficient *= number
        for base, exponent in rest.factors if isinstance(rest, Product) else ((rest, 1),):
            if base != ONE:
                factors[base] = factors.get(base, 0) + exponent
    kept = sorted(((base, exponent) for base, exponent in factors.items() if exponent), key=_text_of_first)
    if coefficient == 0.0 or not kept:
        return Number(coefficient)
    monic = kept[0][0] if len(kept) == 1 and kept[0][1] == 1 else Product(tuple(kept))
    if coefficient == 1.0:
        return monic
    if isinstance(monic, Sum):  # a number times a sum is that sum scaled
        return add(*[_scaled(term, c * coefficient) for term, c in monic.terms], monic.constant * coefficient)
    return _scaled(monic, coefficient)


def _scaled(node: Node, coefficient: float) -> Node:
    if not math.isfinite(coefficient):
        raise ExpressionError("a constant grows beyond the range of numbers")
    return node if coefficient == 1.0 else Sum(0.0, ((node, coefficient),)) if coefficient else ZERO


def power(base: Node, exponent: float) -> Node:
    """base ** exponent; exponents that are not whole numbers become a call of pow or sqrt."""
    if exponent == 0.0:
        return ONE
    if exponent == 1.0:
        return base
    if isinstance(base, Number):
        try:
            value = base.value**exponent
        except (OverflowError, ZeroDivisionError, ValueError):
            value = math.nan
        if isinstance(value, complex) or not math.isfinite(value):
            raise ExpressionError(f"{base.value:g} ** {exponent:g} is not a finite real number", expected="finite constants")
        return Number(value)
    if not float(exponent).is_integer() or abs(exponent) > 1000:
        return Call("sqrt", (base,)) if exponent == 0.5 else Call("pow", (base, Number(exponent)))
    whole = int(exponent)
    coefficient, rest = split_coefficient(base)
    if isinstance(rest, Product):
        powered: Node = Product(tuple((factor, e * whole) for factor, e in rest.factors))
    else:
        powered = Product(((rest, whole),))
    return multiply(power(Number(coefficient), whole), powered)


def call(name: str, *arguments: Node) -> Node:
    """A function call; folded when all arguments are constants."""
    if name == "pow" and isinstance(arguments[1], Number):
        return power(arguments[0], arguments[1].value)
    constants = [argument.value for argument in arguments if isinstance(argument, Number)]
    if len(constants) == len(arguments):
        with np.errstate(all="ignore"):
            value = float(FUNCTIONS[name].numpy(*constants))
        if not math.isfinite(value):
            shown = ", ".join(argument.text for argument in arguments)
            raise ExpressionError(f"{name}({shown}) is not a finite number", expected="arguments inside the function's domain")
        return Number(value)
    return Call(name, arguments)


def rebuild(node: Node, children: Iterable[Node]) -> Node:
    """The node with other children, in canonical form."""
    new = list(children)
    if isinstance(node, Sum):
        return add(node.constant, *[multiply(c, child) for (_, c), child in zip(node.terms, new, strict=True)])
    if isinstance(node, Product):
        return multiply(*[power(child, e) for (_, e), child in zip(node.factors, new, strict=True)])
    if isinstance(node, Call):
        return call(node.name, *new)
    return node


def transform(node: Node, leaf: Callable[[Leaf], Node], memo: dict[Node, Node] | None = None) -> Node:
    """Replace every leaf by what the function `leaf` gives for it."""
    memo = {} if memo is None else memo
    found = memo.get(node)
    if found is None:
        if isinstance(node, Leaf):
            found = leaf(node)
        else:
            found = rebuild(node, [transform(child, leaf, memo) for child in node.children])
        memo[node] = found
    return found


def substitute(node: Node, values: Mapping[Node, Node]) -> Node:
    """Replace leaves by nodes."""
    return transform(node, lambda leaf: values.get(leaf, leaf))


@lru_cache(maxsize=20_000)
def leaves(node: Node) -> frozenset[Leaf]:
    """All leaves of a tree."""
    if isinstance(node, Leaf):
        return frozenset((node,))
    return frozenset().union(*(leaves(child) for child in node.children))


@lru_cache(maxsize=20_000)
def differentiate(node: Node, by: Leaf) -> Node:
    """Partial derivative of a tree with respect to one of its leaves."""
    if node == by:
        return ONE
    if by not in leaves(node):
        return ZERO
    if isinstance(node, Sum):
        return add(*[multiply(c, differentiate(term, by)) for term, c in node.terms])
    if isinstance(node, Product):
        parts = []
        for base, exponent in node.factors:
            inner = differentiate(base, by)
            if inner != ZERO:
                parts.append(multiply(exponent, node, power(base, -1.0), inner))
        return add(*parts)
    assert isinstance(node, Call)
    rules = FUNCTIONS[node.name].derivatives
    if rules is None:
        raise ExpressionError(f"{node.name}() has no derivative here, so it cannot act on a field")
    parts = []
    for rule, argument in zip(rules, node.arguments, strict=True):
        inner = differentiate(argument, by)
        if inner != ZERO:
            parts.append(multiply(rule(*node.arguments), inner))
    return add(*parts)


class TooManyTerms(Exception):
    """An expansion would exceed its limit."""


def expand(node: Node, matters: Callable[[Leaf], bool], limit: int = 400) -> tuple[Node, ...]:
    """Write a tree as a sum of terms in which no product or power of a sum that contains a leaf that `matters` is left.

    Raises
    ------
    TooManyTerms : more than `limit` terms
    """

    def relevant(part: Node) -> bool:
        return any(matters(leaf) for leaf in leaves(part))

    def terms_of(part: Node) -> list[Node]:
        if isinstance(part, Sum):
            out = [multiply(c, inner) for term, c in part.terms for inner in terms_of(term)]
            return out + [Number(part.constant)] if part.constant else out
        if isinstance(part, Product) and relevant(part):
            products: list[Node] = [ONE]
            for base, exponent in part.factors:
                wide = isinstance(base, Sum) and relevant(base) and exponent > 0
                choices = terms_of(base) if wide else [power(base, exponent)]
                for _ in range(exponent if wide else 1):
                    products = [multiply(a, b) for a in products for b in choices]
                    if len(products) > limit:
                        raise TooManyTerms
            return products
        return [part]

    collected = add(*terms_of(node))
    if isinstance(collected, Sum):
        pieces = [multiply(c, term) for term, c in collected.terms]
        return tuple(pieces + ([Number(collected.constant)] if collected.constant else []))
    return (collected,) if collected != ZERO else ()


def evaluate(node: Node, values: Mapping[Any, Any], memo: dict[Node, Any] | None = None) -> Any:
    """Value of a tree with NumPy; `values` maps leaves, or the names of symbols, to numbers or arrays that broadcast."""
    memo = {} if memo is None else memo
    if node in memo:
        return memo[node]
    if isinstance(node, Number):
        return node.value
    if isinstance(node, Leaf):
        value = values[node.name] if isinstance(node, Symbol) and node.name in values else values[node]
    elif isinstance(node, Sum):
        value = node.constant + sum(c * evaluate(term, values, memo) for term, c in node.terms)
    elif isinstance(node, Product):
        value = 1.0
        for base, exponent in node.factors:
            value = value * np.power(np.asarray(evaluate(base, values, memo), float), float(exponent))
    else:
        assert isinstance(node, Call)
        value = FUNCTIONS[node.name].numpy(*(evaluate(argument, values, memo) for argument in node.arguments))
    memo[node] = value
    return value
