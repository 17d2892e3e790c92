"""Sources given as expressions of the coordinates, the action's parameters and the time t."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sftsolve.algebra import FUNCTIONS, ONE, Call, Node, Product, Sum, Symbol, evaluate
from sftsolve.errors import GridError
from sftsolve.expression import Names, parse
from sftsolve.grid import Grid
from sftsolve.sources.arrays import on_grid
from sftsolve.sources.moving import Form, Moving, TimeSource
from sftsolve.sources.separation import TIME, Separated, separated, varies_in_time
from sftsolve.sources.static import evaluate_on
from sftsolve.sources.steps import Steps, slope


@dataclass(frozen=True)
class ExpressionSource(TimeSource):
    """An expression, e.g. ``"A*cos(2*pi*x)*cos(t/900)"``, t being the physical time.

    floor, ceil, trunc, sign and abs of what is linear in t and does not vary in space jump, or have kinks, at known times.
    """

    text: str
    kind: ClassVar[str] = "an expression of the time"

    def moves(self, grid: Grid, parameters: Mapping[str, float]) -> bool:
        return varies_in_time(self._tree(grid, parameters))

    def values(self, grid: Grid, parameters: Mapping[str, float]) -> np.ndarray:
        return evaluate_on(grid, self.text, parameters)

    def values_at(self, grid: Grid, parameters: Mapping[str, float], t: float) -> np.ndarray:
        tree = self._tree(grid, parameters)
        with np.errstate(all="ignore"):
            tree = Steps([tree], parameters).frozen(tree, t)
            return np.asarray(evaluate(tree, {**grid.mesh, **parameters, "t": t}), float)

    def form(self, name: str, grid: Grid, parameters: Mapping[str, float]) -> Form:
        return self._separated(name, grid, parameters).form

    def bind(self, name: str, grid: Grid, parameters: Mapping[str, float]) -> MovingExpression:
        return MovingExpression(name, self, self._separated(name, grid, parameters), grid, parameters)

    def _separated(self, name: str, grid: Grid, parameters: Mapping[str, float]) -> Separated:
        return separated(name, self._tree(grid, parameters), grid.mesh, parameters)

    def _tree(self, grid: Grid, parameters: Mapping[str, float]) -> Node:
        return parse(self.text, Names(values=[*grid.axes, *parameters, "t"]))


class MovingExpression(Moving):
    """An expression on a grid: its factors g(x) are evaluated once, its factors f(t) before every evaluation."""

    def __init__(self, name: str, source: ExpressionSource, parts: Separated, grid: Grid, parameters: Mapping[str, float]):
        self.form = parts.form
        self._name, self._source, self._grid, self._parameters = name, source, grid, dict(parameters)
        self._arrays = parts.arrays
        self._trees = [parts.scalars[scalar] for scalar in parts.form.scalars]
        self._steps = Steps(self._trees, parameters)
        self.enter(0.0)

    def check(self, first: float, last: float) -> None:
        """Refuse an expression that is not finite where the run starts."""
        try:
            on_grid(self._grid, self._name, self._source.values_at(self._grid, self._parameters, first))
        except GridError as error:
            message = f"{error.message} at t = {first:g}"
            raise GridError(message, expected=error.expected, given=error.given, remedy="start later, or mend it") from None

    def switches(self, first: float, last: float) -> Sequence[float]:
        return self._steps.jumps(first, last)

    def enter(self, t: float) -> Sequence[str]:
        self.start, self.end = self._steps.piece(t)
        frozen = [self._steps.frozen(tree, t) for tree in self._trees]
        self._functions = [function_of_time(tree, self._parameters) for tree in frozen]
        self._slopes = [rate_of_time(tree, self._parameters) for tree in frozen]
        return ()

    def scalars(self, t: float) -> Sequence[float]:
        with np.errstate(all="ignore"):
            return [function(t) for function in self._functions]

    def rates(self, t: float) -> Sequence[float]:
        with np.errstate(all="ignore"):
            return [function(t) for function in self._slopes]

    def write(self, name: str, out: np.ndarray) -> None:
        with np.errstate(all="ignore"):
            values = np.asarray(evaluate(self._arrays[name], {**self._grid.mesh, **self._parameters}), float)
        out[...] = on_grid(self._grid, self._name, values)


def function_of_time(node: Node, parameters: Mapping[str, float]) -> Callable[[float], float]:
    """A tree over t and parameters as a Python function of t alone: it is called before every evaluation of a force."""
    if not varies_in_time(node):
        value = float(evaluate(node, parameters))
        return lambda t: value
    if isinstance(node, Symbol):
        return float
    inner = [function_of_time(child, parameters) for child in node.children]
    if isinstance(node, Sum):
        constant, pairs = node.constant, [(c, f) for (_, c), f in zip(node.terms, inner, strict=True)]
        return lambda t: constant + sum(c * f(t) for c, f in pairs)
    if isinstance(node, Product):
        powers = [(f, e) for (_, e), f in zip(node.factors, inner, strict=True)]
        return lambda t: _product(powers, t)
    assert isinstance(node, Call)
    apply = FUNCTIONS[node.name].numpy
    if len(inner) == 1:
        (argument,) = inner
        return lambda t: float(apply(argument(t)))
    return lambda t: float(apply(*(f(t) for f in inner)))


def rate_of_time(node: Node, parameters: Mapping[str, float]) -> Callable[[float], float]:
    """The derivative by t of such a tree, another function of t; NaN where it is not known (see `slope`)."""
    rate = slope(node, {TIME: ONE})
    return (lambda t: math.nan) if rate is None else function_of_time(rate, parameters)


def _product(powers: Sequence[tuple[Callable[[float], float], int]], t: float) -> float:
    value = 1.0
    for function, exponent in powers:
        value *= float(np.float64(function(t)) ** exponent)
    return value
