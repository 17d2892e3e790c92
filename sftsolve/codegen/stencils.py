"""Slots: the linear stencils of order 2 that stand for fields and derivatives in the discrete density.

A slot L acts on a field (or on a pointwise function of fields); its value in cell i is sum_o L[o] w_{i+o}. Values are written
with differences of neighbours, `Edge`, so that nearly equal numbers are subtracted first and a generated kernel shows
fluxes. Every first derivative is forward (sign +1), backward (-1) or central (0, the mean of both).
"""

from __future__ import annotations

from collections.abc import Callable

from sftsolve.algebra import ONE, Leaf, Node, Symbol, add, multiply
from sftsolve.expression import Derivative

Offset = tuple[int, int, int]  # (z, y, x)
Signs = dict[str, int]
HERE: Offset = (0, 0, 0)
_UNIT: dict[str, Offset] = {"z": (1, 0, 0), "y": (0, 1, 0), "x": (0, 0, 1)}


class Tap(Leaf):
    """Value of `kind`[index] in the cell at `offset`.

    The kinds: "w" field, "s" source, "d" direction, and on faces "g", a source's rise over one cell towards the wall.
    """

    __slots__ = ("index", "kind", "offset")

    def __init__(self, kind: str, index: int, offset: Offset):
        self.kind, self.index, self.offset = kind, index, offset
        self._seal(f"{kind}{index}{list(offset)}")


class Edge(Leaf):
    """Difference to the next cell along `axis`: value(offset + unit) - value(offset)."""

    __slots__ = ("axis", "index", "kind", "offset")

    def __init__(self, kind: str, index: int, axis: str, offset: Offset):
        self.kind, self.index, self.axis, self.offset = kind, index, axis, offset
        self._seal(f"e{axis}:{kind}{index}{list(offset)}")

    @property
    def ends(self) -> tuple[Tap, Tap]:
        """(lower, upper) cell of the difference."""
        return Tap(self.kind, self.index, self.offset), Tap(self.kind, self.index, shifted(self.offset, self.axis, 1))


class Composite(Leaf):
    """First derivative along `axis` of a pointwise function of fields and sources, differenced as a whole.

    It stands for P in a term P w'' that was integrated by parts at walls, -P' w' (discretisation rule, walls, trap 4).
    """

    __slots__ = ("axis", "function")

    def __init__(self, function: Node, axis: str):
        self.function, self.axis = function, axis
        self._seal(f"d[{function.text}; {axis}]")


class WallSlope(Leaf):
    """Outward normal derivative of a source on a face of `axis`, from its three outermost cells."""

    __slots__ = ("axis", "source")

    def __init__(self, source: str, axis: str):
        self.source, self.axis = source, axis
        self._seal(f"slope({source}; {axis})")


def shifted(offset: Offset, axis: str, by: int) -> Offset:
    """The offset moved by `by` cells along `axis`."""
    z, y, x = _UNIT[axis]
    return (offset[0] + by * z, offset[1] + by * y, offset[2] + by * x)


def minus(offset: Offset) -> Offset:
    return (-offset[0], -offset[1], -offset[2])


def inverse_spacing(axis: str) -> Symbol:
    """The scalar 1/h of an axis as the generated code names it."""
    return Symbol(f"1/h{axis}")


def odd_axes(leaf: Leaf) -> tuple[str, ...]:
    """Axes along which a leaf holds one derivative."""
    if isinstance(leaf, Composite):
        return (leaf.axis,)
    if isinstance(leaf, Derivative) and len(set(leaf.axes)) == len(leaf.axes):
        return leaf.axes
    return ()


def first_taps(sign: int) -> list[tuple[int, float]]:
    """(cells along the axis, weight) of h times the first derivative, forward, backward or central."""
    return {1: [(0, -1.0), (1, 1.0)], -1: [(-1, -1.0), (0, 1.0)], 0: [(-1, -0.5), (1, 0.5)]}[sign]


def first_edges(sign: int) -> list[tuple[int, float]]:
    """The same as weights of edges, an edge being named by its lower cell."""
    return {1: [(0, 1.0)], -1: [(-1, 1.0)], 0: [(-1, 0.5), (0, 0.5)]}[sign]


def taps(leaf: Leaf, signs: Signs) -> list[tuple[Offset, Node]]:
    """The stencil of a slot as (offset, coefficient) pairs; fields themselves are the identity."""
    if isinstance(leaf, Symbol):
        return [(HERE, ONE)]
    if isinstance(leaf, Derivative) and len(leaf.axes) == 2 and leaf.axes[0] == leaf.axes[1]:
        axis = leaf.axes[0]
        square = inverse_spacing(axis) ** 2
        return [(shifted(HERE, axis, by), multiply(weight, square)) for by, weight in ((-1, 1.0), (0, -2.0), (1, 1.0))]
    stencil: list[tuple[Offset, Node]] = [(HERE, ONE)]
    for axis in odd_axes(leaf):
        scale: Node = inverse_spacing(axis)
        stencil = [
            (shifted(offset, axis, by), multiply(weight, scale, coefficient))
            for offset, coefficient in stencil
            for by, weight in first_taps(signs.get(axis, 0))
        ]
    return stencil


def value(leaf: Leaf, signs: Signs, cell: Offset, index: Callable[[str], int], at: Callable[[Node, Offset], Node]) -> Node:
    """The value of a derivative slot in a cell, written with edges.

    Parameters
    ----------
    index : number of a field by name
    at : value of a pointwise function in a cell
    """
    if isinstance(leaf, Composite):
        scale = inverse_spacing(leaf.axis)
        points = first_taps(signs.get(leaf.axis, 0))
        return add(*[multiply(w, scale, at(leaf.function, shifted(cell, leaf.axis, by))) for by, w in points])
    assert isinstance(leaf, Derivative)
    number = index(leaf.field)
    inner = leaf.axes[-1]
    if len(leaf.axes) == 2 and leaf.axes[0] == inner:
        square = inverse_spacing(inner) ** 2
        here, before = Edge("w", number, inner, cell), Edge("w", number, inner, shifted(cell, inner, -1))
        return multiply(square, add(here, multiply(-1.0, before)))
    cells: list[tuple[Offset, Node]] = [(cell, inverse_spacing(inner))]
    for axis in leaf.axes[:-1]:
        cells = [
            (shifted(offset, axis, by), multiply(weight, inverse_spacing(axis), scale))
            for offset, scale in cells
            for by, weight in first_taps(signs.get(axis, 0))
        ]
    edges = first_edges(signs.get(inner, 0))
    return add(
        *[multiply(w, scale, Edge("w", number, inner, shifted(offset, inner, by))) for offset, scale in cells for by, w in edges]
    )
