"""1/a(t) of an expanding space, as the hidden scalar that every spatial derivative of a density carries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import numpy as np

from sftsolve.algebra import Leaf, Node, Symbol, multiply, power, transform
from sftsolve.expression import Derivative
from sftsolve.grid import Grid
from sftsolve.sources.moving import Form, Moving, TimeSource

REDSHIFT = "1/a"  # no name that an expression can hold


class Redshift(TimeSource):
    """1/a(t) by a function of physical time, and H(t) = a_t/a by another."""

    kind: ClassVar[str] = "the redshift"

    def __init__(self, function: Callable[[float], float], hubble: Callable[[float], float]):
        self.function, self.hubble = function, hubble

    def values_at(self, grid: Grid, parameters: Mapping[str, float], t: float) -> np.ndarray:
        return np.asarray(self.function(t))

    def form(self, name: str, grid: Grid, parameters: Mapping[str, float]) -> Form:
        return Form(Symbol(REDSHIFT), scalars=(REDSHIFT,))

    def bind(self, name: str, grid: Grid, parameters: Mapping[str, float]) -> Moving:
        return _Bound(self.form(name, grid, parameters), self)


class _Bound(Moving):
    def __init__(self, form: Form, source: Redshift):
        self.form, self._source = form, source

    def scalars(self, t: float) -> Sequence[float]:
        return (self._source.function(t),)

    def rates(self, t: float) -> Sequence[float]:
        return (-self._source.hubble(t) * self._source.function(t),)


def redshifted(density: Node) -> Node:
    """The density with 1/a for every derivative in it: w' -> w'/a, w'' -> w''/a^2."""

    def carry(leaf: Leaf) -> Node:
        return multiply(power(Symbol(REDSHIFT), len(leaf.axes)), leaf) if isinstance(leaf, Derivative) else leaf

    return transform(density, carry)
