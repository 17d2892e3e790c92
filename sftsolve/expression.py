"""Typed expressions: a safe parser from text to trees.

The text is parsed by Python's own grammar and then walked against a whitelist: numbers, declared names, + - * / **, and
calls of known functions. Nothing is ever evaluated as Python, so configuration files may come from anywhere. In a cost the
fields may be differentiated: ``d(w, x)``, ``d(w, x, 2)``, ``d(w, x, y)``, ``lap(w)`` and ``grad2(w)`` = |grad w|^2, where w may
also be an expression of fields (the chain rule is applied).
"""

from __future__ import annotations

import ast
import itertools
import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import NoReturn

import sftsolve.functions  # noqa: F401  (fills the table of functions)
from sftsolve.algebra import (
    FUNCTIONS,
    ONE,
    ZERO,
    Leaf,
    Node,
    Number,
    Symbol,
    add,
    call,
    differentiate,
    evaluate,
    leaves,
    multiply,
    power,
)
from sftsolve.errors import ExpressionError, nearest

__all__ = ["CONSTANTS", "Derivative", "Names", "evaluate", "parse"]

CONSTANTS = {"pi": 3.141592653589793}
OPERATORS = ("d", "lap", "grad2")
_LONGEST = 20_000
_DEEPEST = 50
_LARGEST = 60_000  # characters of the tree's canonical text; what is larger takes minutes to compile


class Derivative(Leaf):
    """A first or second derivative of a field: `axes` is sorted, ("x",), ("x", "x") or ("x", "y")."""

    __slots__ = ("axes", "field")

    def __init__(self, field: str, axes: tuple[str, ...]):
        self.field = field
        self.axes = tuple(sorted(axes))
        self._seal(f"d({field}; {','.join(self.axes)})")


@dataclass(frozen=True)
class Names:
    """What the names in an expression may mean.

    Attributes
    ----------
    values : names that stand for a value (parameters, sources, coordinates, "t")
    fields : names of fields; they may be differentiated along `axes`
    constant : the subset of `values` that does not vary in space, whose derivatives vanish
    """

    values: Iterable[str] = ()
    fields: Iterable[str] = ()
    axes: tuple[str, ...] = ()
    constant: frozenset[str] = field(default_factory=frozenset)

    def known(self) -> list[str]:
        return sorted({*self.values, *self.fields, *CONSTANTS})


def parse(text: str, names: Names | Iterable[str] = (), what: str = "the expression") -> Node:
    """Parse `text` into a tree whose leaves are `Symbol` and `Derivative`.

    Parameters
    ----------
    text : e.g. ``"m2/2*w**2 + J*w + grad2(w)/2"``
    names : the names that may occur (a plain iterable means values only)
    what : how error messages call the text, e.g. "the cost"

    Raises
    ------
    ExpressionError : anything outside the language, with the offending column shown
    """
    if not isinstance(names, Names):
        names = Names(values=tuple(names))
    if not isinstance(text, str) or not text.strip():
        problem = "is empty" if isinstance(text, str) else "is not text"
        raise ExpressionError(f"{what} {problem}", expected='an expression such as "w**2/2"', given=repr(text))
    if len(text) > _LONGEST:
        raise ExpressionError(f"{what} is too long", expected=f"at most {_LONGEST} characters", given=f"{len(text)} characters")
    return _Parser(text, names, what).tree()


class _Parser:
    """One parse: keeps the text so that every refusal can point at its column."""

    def __init__(self, text: str, names: Names, what: str):
        flat = text.replace("\n", " ").replace("\r", " ").replace("\t", " ").replace("\f", " ")
        self.indent = len(flat) - len(flat.lstrip(" "))
        self.text = flat
        self.names = names
        self.what = what
        self.values = frozenset(names.values)
        self.fields = frozenset(names.fields)

    def tree(self) -> Node:
        source = self.text.strip(" ")
        if "#" in source:  # Python would drop the rest of the text, also its next lines
            self.refuse("holds a comment", self.text.index("#"), expected="an expression without #")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Python warns of oddities such as 1(2), which are refused below
                root = ast.parse(source, mode="eval").body
        except SyntaxError as error:
            column = max((error.offset or 1) - 1, 0) + self.indent
            self.refuse("is not a well-formed expression", column, remedy=None)
        except (ValueError, RecursionError, MemoryError, OverflowError):
            self.refuse(
                "is not a well-formed expression", None, remedy="shorten it; very long numbers and deep nesting are refused"
            )
        found = self.visit(root, 0)
        if len(found.text) > _LARGEST:
            self.refuse("grows too long when its derivatives are written out", None, remedy="nest fewer functions inside them")
        return found

    def refuse(
        self, problem: str, at: ast.AST | int | None, *, expected: str | None = None, remedy: str | None = None
    ) -> NoReturn:
        column = at
        if isinstance(at, ast.AST):
            prefix = self.text.strip(" ").encode()[: getattr(at, "col_offset", 0)]
            column = len(prefix.decode(errors="ignore")) + self.indent
        shown = ""
        if isinstance(column, int):
            start = max(0, column - 60)
            shown = f"\n    {self.text[start : column + 40]}\n    {' ' * (column - start)}^ column {column + 1}"
        raise ExpressionError(f"{self.what} {problem}{shown}", expected=expected, remedy=remedy)

    def visit(self, node: ast.AST, depth: int) -> Node:
        if depth > _DEEPEST:
            self.refuse("is nested too deeply", node, expected=f"at most {_DEEPEST} levels", remedy="split it")
        visitor = _VISITORS.get(type(node))
        if visitor is None:
            self.refuse(
                f"holds something that is not in the language ({_DESCRIPTIONS.get(type(node), type(node).__name__)})",
                node,
                expected="numbers, names, + - * / **, parentheses and functions such as " + ", ".join(sorted(FUNCTIONS)[:6]),
            )
        return visitor(self, node, depth + 1)

    def constant(self, node: ast.Constant, depth: int) -> Node:
        if isinstance(node.value, bool) or not isinstance(node.value, (int, float)):
            self.refuse("holds a constant that is not a real number", node, expected="numbers such as 2 or 1.5e-3")
        try:
            value = float(node.value)
        except OverflowError:
            value = math.inf
        return self.attempt(Number, node, value)  # type: ignore[arg-type]

    def name(self, node: ast.Name, depth: int) -> Node:
        if node.id in self.values or node.id in self.fields:
            return Symbol(node.id)
        if node.id in CONSTANTS:
            return Number(CONSTANTS[node.id])
        self.refuse(f"has an unknown name {node.id!r}", node, remedy=nearest(node.id, self.names.known()))

    def unary(self, node: ast.UnaryOp, depth: int) -> Node:
        operand = self.visit(node.operand, depth)
        if isinstance(node.op, ast.UAdd):
            return operand
        if isinstance(node.op, ast.USub):
            return multiply(-1.0, operand)
        self.refuse("has an operator that is not in the language", node, expected="+ - * / **")

    def binary(self, node: ast.BinOp, depth: int) -> Node:
        chain = [node]  # a + b + c is nested to the left; walking it keeps long sums shallow
        while isinstance(chain[-1].left, ast.BinOp):
            chain.append(chain[-1].left)
        kinds = [isinstance(link.op, (ast.Add, ast.Sub)) for link in chain]
        depth += sum(a != b for a, b in itertools.pairwise(kinds)) + sum(isinstance(link.op, ast.Pow) for link in chain)
        left = self.visit(chain[-1].left, depth)
        for link in reversed(chain):
            rule = _OPERATORS.get(type(link.op))
            if rule is None:
                self.refuse("has an operator that is not in the language", link, expected="+ - * / **")
            right = self.visit(link.right, depth)
            if isinstance(link.op, ast.Div) and right == ZERO:
                self.refuse("divides by zero", link.right)
            left = self.attempt(rule, link, left, right)
        return left

    def attempt(self, rule: Callable[..., Node], at: ast.AST, *operands: Node) -> Node:
        """Apply a rule of the algebra; what it refuses is shown at its column."""
        try:
            return rule(*operands)
        except ExpressionError as error:
            self.refuse(f"cannot be used: {error.message}", at, expected=error.expected, remedy=error.remedy)

    def function(self, node: ast.Call, depth: int) -> Node:
        if not isinstance(node.func, ast.Name):
            self.refuse("calls something that is not a named function", node, expected="functions such as sin(x)")
        name = node.func.id
        if node.keywords or any(isinstance(argument, ast.Starred) for argument in node.args):
            self.refuse(f"calls {name}() with keywords or *", node, expected="plain arguments")
        if name in _FIELD_OPERATORS:
            return _FIELD_OPERATORS[name](self, node, depth)
        if name not in FUNCTIONS:
            known = sorted([*FUNCTIONS, *(OPERATORS if self.fields else ())])
            self.refuse(f"calls an unknown function {name!r}", node, remedy=nearest(name, known))
        if len(node.args) != FUNCTIONS[name].arguments:
            self.refuse(f"calls {name}() with {len(node.args)} arguments", node, expected=f"{FUNCTIONS[name].arguments}")
        return self.attempt(partial(call, name), node, *(self.visit(argument, depth) for argument in node.args))

    def operand(self, node: ast.Call, depth: int, usage: str) -> Node:
        if not self.fields:
            self.refuse("uses a derivative, which only a cost may", node)
        if not node.args:
            self.refuse("has a derivative of nothing", node, expected=usage)
        return self.visit(node.args[0], depth)

    def derivative(self, node: ast.Call, depth: int) -> Node:
        usage = "d(w, x), d(w, x, 2) or d(w, x, y)"
        operand = self.operand(node, depth, usage)
        axes: list[str] = []
        for argument in node.args[1:]:
            if isinstance(argument, ast.Name) and argument.id in self.names.axes:
                axes.append(argument.id)
            elif isinstance(argument, ast.Constant) and axes and repr(argument.value) in ("1", "2") and len(node.args) == 3:
                axes *= 1 if argument.value == 1 else 2
            else:
                expected = f"{usage}, with the axes {', '.join(self.names.axes)} of this grid"
                self.refuse("has a derivative that is not understood", argument, expected=expected)
        if not 1 <= len(axes) <= 2:
            self.refuse("has a derivative that is not understood", node, expected=usage)
        for axis in axes:
            operand = self.along(operand, axis, node)
        return operand

    def laplacian(self, node: ast.Call, depth: int) -> Node:
        operand = self.operand(node, depth, "lap(w)")
        if len(node.args) != 1:
            self.refuse("calls lap() with more than one argument", node, expected="lap(w)")
        return add(*[self.along(self.along(operand, axis, node), axis, node) for axis in self.names.axes])

    def gradient_squared(self, node: ast.Call, depth: int) -> Node:
        operand = self.operand(node, depth, "grad2(w)")
        if len(node.args) != 1:
            self.refuse("calls grad2() with more than one argument", node, expected="grad2(w)")
        return add(*[power(self.along(operand, axis, node), 2) for axis in self.names.axes])

    def along(self, operand: Node, axis: str, at: ast.AST) -> Node:
        """Total derivative of an expression of fields along an axis, by the chain rule."""
        parts = []
        for leaf in leaves(operand):
            if isinstance(leaf, Derivative):
                if len(leaf.axes) == 2:
                    self.refuse(
                        "has a derivative of more than second order", at, expected="first and second derivatives of fields"
                    )
                inner: Node = Derivative(leaf.field, (*leaf.axes, axis))
            elif isinstance(leaf, Symbol) and leaf.name in self.fields:
                inner = Derivative(leaf.name, (axis,))
            elif isinstance(leaf, Symbol) and leaf.name in (*self.names.constant, *self.names.axes, "t"):
                inner = ONE if leaf.name == axis else ZERO
            else:
                name = leaf.name if isinstance(leaf, Symbol) else leaf.text
                self.refuse(
                    f"differentiates the source {name!r}", at, remedy=f"give the derivative of {name} as a source of its own"
                )
            parts.append(multiply(self.attempt(differentiate, at, operand, leaf), inner))
        return add(*parts)


def _power(base: Node, exponent: Node) -> Node:
    return power(base, exponent.value) if isinstance(exponent, Number) else call("pow", base, exponent)


_OPERATORS: dict[type, Callable[[Node, Node], Node]] = {
    ast.Add: add,
    ast.Sub: lambda a, b: add(a, multiply(-1.0, b)),
    ast.Mult: multiply,
    ast.Div: lambda a, b: multiply(a, power(b, -1.0)),
    ast.Pow: _power,
}
_VISITORS: dict[type, Callable[..., Node]] = {
    ast.Constant: _Parser.constant,
    ast.Name: _Parser.name,
    ast.UnaryOp: _Parser.unary,
    ast.BinOp: _Parser.binary,
    ast.Call: _Parser.function,
}
_FIELD_OPERATORS: dict[str, Callable[..., Node]] = {
    "d": _Parser.derivative,
    "lap": _Parser.laplacian,
    "grad2": _Parser.gradient_squared,
}
_DESCRIPTIONS: dict[type, str] = {
    ast.Attribute: "attribute access",
    ast.Lambda: "a lambda",
    ast.Subscript: "indexing",
    ast.Compare: "a comparison",
    ast.BoolOp: "and/or",
    ast.IfExp: "a conditional",
    ast.ListComp: "a comprehension",
    ast.GeneratorExp: "a comprehension",
    ast.Tuple: "a tuple",
    ast.List: "a list",
    ast.Dict: "a dictionary",
    ast.JoinedStr: "a formatted string",
    ast.NamedExpr: "an assignment",
    ast.Await: "await",
}
