"""Trees to source text: every distinct subexpression is computed once, scalars before the loops.

The text is plain Python that Numba compiles; user text never reaches it, only indices and numbers do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sftsolve.algebra import FUNCTIONS, Call, Node, Number, Product, Sum, Symbol, multiply, power, split_coefficient
from sftsolve.codegen.stencils import Edge, Tap
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
    """

    def __init__(self, scalars: Sequence[str], tap: Callable[[Tap], str]):
        self.scalars = list(scalars)
        self.tap = tap
        self.prelude: list[str] = []
        self.body: list[str] = []
        self._known: dict[Node, str] = {}

    def name(self, node: Node) -> str:
        """The variable or literal that holds a tree; its statements are appended where they belong."""
        found = self._known.get(node)
        if found is None:
            found = self._known[node] = self._emit(node)
        return found

    def _emit(self, node: Node) -> str:
        if isinstance(node, Number):
            return repr(node.value)
        if isinstance(node, Tap):
            return self._store(node, self.tap(node))
        if isinstance(node, Edge):
            lower, upper = node.ends
            return self._store(node, f"{self.name(upper)} - {self.name(lower)}")
        if isinstance(node, Symbol):
            return self._store(node, f"p[{self.scalars.index(node.name)}]")
        if isinstance(node, Sum):
            return self._store(node, self._sum(node))
        if isinstance(node, Product):
            return self._store(node, self._product(node))
        assert isinstance(node, Call)
        return self._store(node, FUNCTIONS[node.name].code.format(*(self.name(argument) for argument in node.arguments)))

    def _store(self, node: Node, text: str) -> str:
        scalar = is_scalar(node)
        lines = self.prelude if scalar else self.body
        variable = f"{'c' if scalar else 't'}{len(lines)}"
        lines.append(f"{variable} = {text}")
        return variable

    def _sum(self, node: Sum) -> str:
        parts: list[str] = [repr(node.constant)] if node.constant else []
        for term, coefficient in node.terms:
            sign = "-" if coefficient < 0 else "+"
            text = self._scaled(abs(coefficient), term)
            parts.append(f"{sign} {text}" if parts else (f"-{text}" if sign == "-" else text))
        return " ".join(parts)

    def _scaled(self, coefficient: float, term: Node) -> str:
        """coefficient * term, with the coefficient folded into the term's scalar factors."""
        scalar, rest = split_scalar(term)
        if isinstance(rest, Number) or isinstance(scalar, Number):
            return self.name(term) if coefficient == 1.0 else f"{coefficient!r} * {self.name(term)}"
        return f"{self.name(multiply(coefficient, scalar))} * {self.name(rest)}"

    def _product(self, node: Product) -> str:
        scalar, rest = split_scalar(node)
        if not isinstance(scalar, Number) and not isinstance(rest, Number):
            return f"{self.name(scalar)} * {self.name(rest)}"
        above = [self._power(base, exponent) for base, exponent in node.factors if exponent > 0]
        below = [self._power(base, -exponent) for base, exponent in node.factors if exponent < 0]
        text = " * ".join(above) if above else "1.0"
        return f"{text} / ({' * '.join(below)})" if below else text

    def _power(self, base: Node, exponent: int) -> str:
        """base ** exponent by repeated squaring, each square computed once."""
        if exponent == 1:
            return self.name(base)
        half = power(base, exponent // 2)
        root = self.name(half)
        whole = power(base, exponent - exponent % 2)
        if whole not in self._known:
            self._known[whole] = self._store(whole, f"{root} * {root}")
        return f"{self._known[whole]} * {self.name(base)}" if exponent % 2 else self._known[whole]


def split_scalar(node: Node) -> tuple[Node, Node]:
    """(scalar, rest) with node = scalar * rest, `scalar` all that does not vary from cell to cell."""
    if is_scalar(node):
        return node, Number(1.0)
    coefficient, rest = split_coefficient(node)
    factors = rest.factors if isinstance(rest, Product) else ((rest, 1),)
    scalars = [power(base, exponent) for base, exponent in factors if is_scalar(base)]
    others = [power(base, exponent) for base, exponent in factors if not is_scalar(base)]
    return multiply(coefficient, *scalars), multiply(*others)
