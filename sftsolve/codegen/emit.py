"""Trees to source text: every distinct subexpression is computed once, scalars before the loops.

The text is plain Python that Numba compiles; user text never reaches it, only indices and numbers do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sftsolve.algebra import FUNCTIONS, ONE, Call, Node, Number, Product, Sum, Symbol, multiply, power, split_coefficient
from sftsolve.codegen.stencils import Bend, Edge, Tap
from sftsolve.codegen.terms import is_scalar

# So many terms of one coefficient are added up before they are multiplied by it.
_ALIKE = 3


class Emitter:
    """Collects the statements of one kernel.

    Parameters
    ----------
    scalars : names of the scalar arguments in the order of the argument `p`
    tap : how the value of a cell is written, e.g. ``w0_3[k]``

    Attributes
    ----------
    prelude, body : statements before the loops, and in each cell
    real : type of the cells, "float64" or "float32"; scalars are computed in double precision and rounded once
    """

    def __init__(self, scalars: Sequence[str], tap: Callable[[Tap], str], real: str = "float64"):
        self.scalars = list(scalars)
        self.tap = tap
        self.real = real
        self.prelude: list[str] = []
        self.body: list[str] = []
        self._known: dict[Node, str] = {}
        self._rounded: dict[str, str] = {}
        self._shared: dict[str, str] = {}

    def name(self, node: Node) -> str:
        """The variable that holds a tree in each cell; its statements are appended where they belong."""
        return self._round(self._name(node)) if is_scalar(node) else self._name(node)

    def new_cell(self) -> None:
        """Forget what was computed in the cell, keep the scalars."""
        self.body, self._shared = [], {}
        self._known = {node: name for node, name in self._known.items() if is_scalar(node)}

    def _round(self, scalar: str) -> str:
        """A scalar in the type of the cells, so that single precision stays single."""
        if self.real == "float64":
            return scalar
        if scalar not in self._rounded:
            self._rounded[scalar] = f"r{len(self._rounded)}"
            self.prelude.append(f"{self._rounded[scalar]} = {self.real}({scalar})")
        return self._rounded[scalar]

    def _name(self, node: Node) -> str:
        found = self._known.get(node)
        if found is None:
            found = self._known[node] = self._emit(node)
        return found

    def _emit(self, node: Node) -> str:
        if isinstance(node, Number):
            return repr(node.value)
        if isinstance(node, Tap):
            text = self.tap(node)
        elif isinstance(node, Edge):
            lower, upper = node.ends
            text = f"{self.name(upper)} - {self.name(lower)}"
        elif isinstance(node, Bend):
            lower, upper, middle = node.ends
            text = f"({self.name(upper)} + {self.name(lower)}) - {self.name(multiply(2.0, middle))}"
        elif isinstance(node, Symbol):
            text = f"p[{self.scalars.index(node.name)}]"
        else:
            name = self._name if is_scalar(node) else self.name
            if isinstance(node, Sum):
                text = self._sum(node, name)
            elif isinstance(node, Product):
                text = self._product(node, name)
            else:
                assert isinstance(node, Call)
                text = FUNCTIONS[node.name].code.format(*(name(argument) for argument in node.arguments))
        return self._store(node, text)

    def _store(self, node: Node, text: str) -> str:
        scalar = is_scalar(node)
        variable = f"{'c' if scalar else 't'}{len(self.prelude if scalar else self.body)}"
        (self.prelude if scalar else self.body).append(f"{variable} = {text}")
        return variable

    def _sum(self, node: Sum, name: Callable[[Node], str]) -> str:
        bends = [(term, coefficient) for term, coefficient in node.terms if isinstance(term, Bend)]
        middles = {term.ends[2] for term, _ in bends}
        if len(bends) > 1 and len(bends) == len(node.terms) and len(middles) == 1 and not node.constant:
            return self._curvature(bends, middles.pop())
        alike: dict[float, list[Node]] = {}
        for term, coefficient in node.terms:
            alike.setdefault(coefficient, []).append(term)
        texts = []
        for coefficient, terms in alike.items():
            if len(terms) < _ALIKE or any(split_scalar(term)[0] != ONE for term in terms) or abs(coefficient) == 1.0:
                texts += [(self._scaled(abs(coefficient), term, name), coefficient) for term in terms]
            else:
                total = " + ".join(name(term) for term in terms)
                texts.append((f"{name(Number(abs(coefficient)))} * ({total})", coefficient))
        return _signed([name(Number(node.constant))] if node.constant else [], texts)

    def _curvature(self, bends: Sequence[tuple[Bend, float]], middle: Tap) -> str:
        """Second differences of one cell with constant weights: its neighbours', less the same weights times the cell itself.

        The cell's part, which all axes share, goes through the same operations, so that constant fields still give zero exactly.
        """
        ends = [(bend.ends, abs(weight), weight) for bend, weight in bends]
        pairs = [f"({self.name(upper)} + {self.name(lower)})" for (lower, upper, _), _, _ in ends]
        weights = [self.name(Number(size)) for _, size, _ in ends]
        around = _signed([], [(f"{c} * {pair}", w) for c, pair, (_, _, w) in zip(weights, pairs, ends, strict=True)])
        twice = self.name(multiply(2.0, middle))
        own = _signed([], [(f"{c} * {twice}", w) for c, (_, _, w) in zip(weights, ends, strict=True)])
        if own not in self._shared:
            self._shared[own] = self._store(middle, own)
        return f"({around}) - {self._shared[own]}"

    def _scaled(self, coefficient: float, term: Node, name: Callable[[Node], str]) -> str:
        """coefficient * term, with the coefficient folded into the term's scalar factors."""
        scalar, rest = split_scalar(term)
        if isinstance(rest, Number) or isinstance(scalar, Number):
            return name(term) if coefficient == 1.0 else f"{name(Number(coefficient))} * {name(term)}"
        return f"{name(multiply(coefficient, scalar))} * {name(rest)}"

    def _product(self, node: Product, name: Callable[[Node], str]) -> str:
        scalar, rest = split_scalar(node)
        if not isinstance(scalar, Number) and not isinstance(rest, Number):
            return f"{name(scalar)} * {name(rest)}"
        above = [self._power(base, exponent, name) for base, exponent in node.factors if exponent > 0]
        below = [self._power(base, -exponent, name) for base, exponent in node.factors if exponent < 0]
        text = " * ".join(above) if above else name(ONE)
        return f"{text} / ({' * '.join(below)})" if below else text

    def _power(self, base: Node, exponent: int, name: Callable[[Node], str]) -> str:
        """base ** exponent by repeated squaring, each square computed once."""
        if exponent == 1:
            return name(base)
        root = name(power(base, exponent // 2))
        whole = power(base, exponent - exponent % 2)
        if whole not in self._known:
            self._known[whole] = self._store(whole, f"{root} * {root}")
        return f"{name(whole)} * {name(base)}" if exponent % 2 else name(whole)


def _signed(parts: list[str], terms: Sequence[tuple[str, float]]) -> str:
    """A sum of texts, each added or subtracted by the sign beside it, after `parts`."""
    for text, sign in terms:
        parts.append(f"{'-' if sign < 0 else '+'} {text}" if parts else (f"-{text}" if sign < 0 else text))
    return " ".join(parts)


def split_scalar(node: Node) -> tuple[Node, Node]:
    """(scalar, rest) with node = scalar * rest, `scalar` all that does not vary from cell to cell."""
    if is_scalar(node):
        return node, Number(1.0)
    coefficient, rest = split_coefficient(node)
    factors = rest.factors if isinstance(rest, Product) else ((rest, 1),)
    scalars = [power(base, exponent) for base, exponent in factors if is_scalar(base)]
    others = [power(base, exponent) for base, exponent in factors if not is_scalar(base)]
    return multiply(coefficient, *scalars), multiply(*others)
