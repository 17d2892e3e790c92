"""Random texts, right and wrong, and an independent judge of them: Python's own float arithmetic on an allowed syntax tree."""

from __future__ import annotations

import ast
import math
import operator

FUNCTIONS = {
    name: getattr(math, name)
    for name in (
        "sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh exp expm1 exp2 log log1p log2 log10 sqrt erf erfc "
        "gamma lgamma fabs atan2 hypot pow"
    ).split()
} | {"abs": abs, "floor": math.floor, "ceil": math.ceil, "sign": lambda x: float((x > 0) - (x < 0))}
TWO = ("atan2", "hypot", "pow")
OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
EVIL = (
    "__import__('os').system('true')",
    "().__class__.__bases__[0]",
    "open('x')",
    "exec('1')",
    "(lambda: 0)()",
    "[i for i in (1,)]",
    "(q := 2)",
    "f'{x}'",
    "10**10**10",
    "9**9**9**9",
    "x.real",
    "x[0]",
    "*x",
    "**x",
    "x=1",
    "x if y else a",
    "x and y",
    "not x",
    "x < y",
    "x // y",
    "x % y",
    "x @ y",
    "~x",
    "'text'",
    "1j",
    "None",
    "True",
    "...",
    "# x",
    "\\",
    "\n",
    "\0",
    "\u00a0",
    "\u0430",
    "$",
    "?",
    "`",
    ";",
    "::",
    "((",
    "))",
    "}",
    "unknown",
    "unknown(x)",
    "sin",
    "1e999",
    "0x",
    "00",
    "1__0",
    "yield",
    "await x",
    "import os",
    "del x",
    "d(x, x)",
    "lap(x)",
)


class Refused(Exception):
    """The text is not in the language."""


class Undefined(Exception):
    """In the language, but without a finite real value here."""


def random_text(rng, depth: int, names: tuple[str, ...]) -> str:
    """A text in the language, from an instance of `random.Random`."""
    if depth == 0 or rng.random() < 0.2:
        if rng.random() < 0.4:
            return rng.choice(["1", "2", "0.5", "3.", "1e-3", ".25", "7", "1_0", "0x1f", "2E1", "pi"])
        return rng.choice(names)
    kind = rng.randrange(10)
    one = random_text(rng, depth - 1, names)
    if kind < 5:
        other = random_text(rng, depth - 1, names)
        space = rng.choice(["", " ", "  ", "\t"])
        return f"{one}{space}{rng.choice('+-*/')}{space}{other}"
    if kind == 5:
        return f"({one})**{rng.choice(['2', '3', '-1', '0.5', '1.5', '0'])}"
    if kind == 6:
        return rng.choice("+-") + one
    if kind == 7:
        return f"({one})"
    name = rng.choice(sorted(FUNCTIONS))
    return f"{name}({one}, {random_text(rng, depth - 1, names)})" if name in TWO else f"{name}({one})"


def mutated(rng, text: str) -> str:
    """The text with a piece cut out, doubled, moved or replaced by something that has no business there."""
    start = rng.randrange(len(text) + 1)
    stop = min(len(text), start + rng.randrange(4))
    piece = rng.choice([rng.choice(EVIL), text[start:stop] * 2, "", rng.choice("+-*/()., \t\n=!^%&|~<>[]{}:;'\"#@\\_0e")])
    return text[:start] + piece + text[stop:]


def judge(text: str, values: dict[str, float]) -> tuple[float, float]:
    """(value, largest intermediate) by Python's floats.

    Raises
    ------
    Refused, Undefined
    """
    flat = text
    for blank in "\n\r\t\f":
        flat = flat.replace(blank, " ")
    if "#" in flat or not flat.strip(" "):
        raise Refused
    try:
        root = ast.parse(flat.strip(" "), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise Refused from None
    judged = _Judge(values)
    judged.check(root)
    try:
        value = judged.value(root)
    except (ArithmeticError, ValueError):
        raise Undefined from None
    if not math.isfinite(judged.largest):
        raise Undefined
    return value, judged.largest


class _Judge:
    def __init__(self, values: dict[str, float]):
        self.values = values
        self.largest = 0.0

    def check(self, node: ast.AST) -> None:
        """Raise `Refused` unless the whole tree is allowed."""
        if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
            children = [node.left, node.right]
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.UAdd, ast.USub)):
            children = [node.operand]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            if node.func.id not in FUNCTIONS or len(node.args) != (2 if node.func.id in TWO else 1):
                raise Refused
            children = node.args
        elif isinstance(node, ast.Name) and (node.id in self.values or node.id == "pi"):
            return
        elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
            return
        else:
            raise Refused
        for child in children:
            self.check(child)

    def value(self, node: ast.AST) -> float:
        found = self._value(node)
        if isinstance(found, complex):
            raise ValueError
        self.largest = max(self.largest, abs(found), 1e300 if not math.isfinite(found) else 0.0)
        if not math.isfinite(found):
            raise ValueError
        return found

    def _value(self, node: ast.AST) -> float:
        if isinstance(node, ast.BinOp):
            return OPERATORS[type(node.op)](self.value(node.left), self.value(node.right))
        if isinstance(node, ast.UnaryOp):
            operand = self.value(node.operand)
            return -operand if isinstance(node.op, ast.USub) else operand
        if isinstance(node, ast.Call):
            return float(FUNCTIONS[node.func.id](*map(self.value, node.args)))
        if isinstance(node, ast.Name):
            return self.values.get(node.id, math.pi)
        return float(node.value)
