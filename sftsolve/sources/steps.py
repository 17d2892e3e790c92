"""Expressions of time that jump or have kinks: where, and what they are in the pieces between."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from sftsolve.algebra import FUNCTIONS, Call, Leaf, Node, Number, Symbol, add, differentiate, evaluate, leaves, multiply, rebuild
from sftsolve.errors import ExpressionError
from sftsolve.sources.moving import ROUNDING
from sftsolve.sources.separation import TIME, varies_in_space, varies_in_time

_EVERY_UNIT = ("floor", "ceil", "trunc")
_AT_ZERO = ("sign", "abs", "fabs")
_JUMPING = (*_EVERY_UNIT, "sign", "copysign")  # in the last argument


def slope(tree: Node, rates: Mapping[Symbol, Node]) -> Node | None:
    """The derivative of a tree by time, its symbols changing at these rates; None where it is not known.

    That is so where a function has no derivative here, and where one jumps as its argument moves: no derivative tells of that.
    """
    if _jumping(tree, set(rates)):
        return None
    moving = [symbol for symbol in sorted(rates, key=lambda symbol: symbol.text) if symbol in leaves(tree)]
    try:
        return add(*[multiply(differentiate(tree, symbol), rates[symbol]) for symbol in moving])
    except ExpressionError:
        return None


def _jumping(tree: Node, moving: set[Symbol]) -> bool:
    ahead, seen = [tree], set()
    while ahead:
        node = ahead.pop()
        if node in seen or not moving & leaves(node):
            continue
        if isinstance(node, Call) and node.name in _JUMPING and moving & leaves(node.arguments[-1]):
            return True
        seen.add(node)
        ahead += node.children
    return False


@dataclass(frozen=True)
class Step:
    """A function of u = offset + rate t that is not smooth where u is a whole number, or where it vanishes."""

    call: Call
    offset: float
    rate: float

    def jumps(self, first: float, last: float) -> list[float]:
        """Times inside (first, last)."""
        slack = ROUNDING / abs(self.rate)
        if self.call.name in _AT_ZERO:
            times = [-self.offset / self.rate]
        else:
            ends = sorted(self.offset + self.rate * t for t in (first, last))
            times = [(n - self.offset) / self.rate for n in range(math.floor(ends[0]), math.ceil(ends[1]) + 1)]
        return [t for t in sorted(times) if first + slack < t < last - slack]

    def piece(self, t: float) -> tuple[float, float]:
        """The times around t in which it is smooth, the later ones where two meet."""
        u = self.offset + self.rate * t
        if self.call.name in _AT_ZERO:
            jump = -self.offset / self.rate
            return (jump, math.inf) if u * self.rate >= -ROUNDING * abs(self.rate) else (-math.inf, jump)
        low = math.floor(u + ROUNDING) if self.rate > 0 else math.ceil(u - ROUNDING) - 1
        ends = sorted(((low - self.offset) / self.rate, (low + 1 - self.offset) / self.rate))
        return ends[0], ends[1]

    def frozen(self, t: float) -> Node:
        """What it is in the piece that holds t."""
        start, end = self.piece(t)
        inside = 0.5 * (start + end) if math.isfinite(end - start) else (start + 1.0 if math.isfinite(start) else end - 1.0)
        u = self.offset + self.rate * inside
        if self.call.name in ("abs", "fabs"):
            return multiply(math.copysign(1.0, u), self.call.arguments[0])
        return Number(float(FUNCTIONS[self.call.name].numpy(u)))


class Steps:
    """All such functions in some trees whose argument is linear in time and does not vary in space."""

    def __init__(self, trees: Iterable[Node], parameters: Mapping[str, float]):
        self._steps: dict[Node, Step] = {}
        for tree in trees:
            self._collect(tree, parameters)

    def __bool__(self) -> bool:
        return bool(self._steps)

    def jumps(self, first: float, last: float) -> list[float]:
        """Times inside (first, last) where one of them is not smooth."""
        return sorted({t for step in self._steps.values() for t in step.jumps(first, last)})

    def piece(self, t: float) -> tuple[float, float]:
        """The times around t in which all are smooth, the later ones where two meet."""
        pieces = [step.piece(t) for step in self._steps.values()]
        return max((start for start, _ in pieces), default=-math.inf), min((end for _, end in pieces), default=math.inf)

    def frozen(self, tree: Node, t: float) -> Node:
        """A tree as it is in the piece that holds t."""
        if tree in self._steps:
            return self._steps[tree].frozen(t)
        if not self._steps or isinstance(tree, (Leaf, Number)) or not varies_in_time(tree):
            return tree
        return rebuild(tree, [self.frozen(child, t) for child in tree.children])

    def _collect(self, tree: Node, parameters: Mapping[str, float]) -> None:
        if not varies_in_time(tree) or isinstance(tree, Symbol):
            return
        if isinstance(tree, Call) and tree.name in (*_EVERY_UNIT, *_AT_ZERO) and not varies_in_space(tree):
            (argument,) = tree.arguments
            rate = differentiate(argument, TIME)
            if not varies_in_time(rate):
                with np.errstate(all="ignore"):
                    step = Step(tree, float(evaluate(argument, {**parameters, "t": 0.0})), float(evaluate(rate, parameters)))
                if math.isfinite(step.offset) and math.isfinite(step.rate) and step.rate != 0.0:
                    self._steps[tree] = step
                    return
        for child in tree.children:
            self._collect(child, parameters)
