"""Trees to source text: every distinct subexpression is computed once, scalars before the loops.

The text is plain Python that Numba compiles; user text never reaches it, only indices and numbers do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sftsolve.algebra import FUNCTIONS, ONE, Call, Node, Number, Product, Sum, Symbol, multiply, power, split_coefficient
from sftsolve.codegen.stencils import Bend, Edge, Tap
from sftsolve.codegen.terms import is_scalar


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

    def name(self, node: Node) -> str:
        """The variable that holds a tree in each cell; its statements are appended where they belong."""
        return self._round(self._name(node)) if is_scalar(node) else self._name(node)

    def new_cell(self) -> None:
        """Forget what was computed in the cell, keep the scalars."""
        self.body = []
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
        parts: list[str] = [name(Number(node.constant))] if node.constant else []
        for term, coefficient in node.terms:
            sign = "-" if coefficient < 0 else "+"
            text = self._scaled(abs(coefficient), term, name)
            parts.append(f"{sign} {text}" if parts else (f"-{text}" if sign == "-" else text))
        return " ".join(parts)

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


def split_scalar(node: Node) -> tuple[Node, Node]:
    """(scalar, rest) with node = scalar * rest, `scalar` all that does not vary from cell to cell."""
    if is_scalar(node):
        return node, Number(1.0)
    coefficient, rest = split_coefficient(node)
    factors = rest.factors if isinstance(rest, Product) else ((rest, 1),)
    scalars = [power(base, exponent) for base, exponent in factors if is_scalar(base)]
    others = [power(base, exponent) for base, exponent in factors if not is_scalar(base)]
    return multiply(coefficient, *scalars), multiply(*others)
