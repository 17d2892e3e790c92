"""Slots: the linear stencils that stand for fields and derivatives in the discrete density.

A slot L acts on a field (or on a pointwise function of fields); its value in cell i is sum_o L[o] w_{i+o}. Values are
written with differences of cells, `Edge`, so that nearly equal numbers are subtracted first and a generated kernel shows fluxes.
"""

from __future__ import annotations

from collections.abc import Callable

from sftsolve.algebra import ONE, Leaf, Node, Symbol, add, multiply
from sftsolve.codegen.scheme import Scheme, Weights
from sftsolve.expression import Derivative

Offset = tuple[int, int, int]  # (z, y, x)
Signs = dict[str, int]
HERE: Offset = (0, 0, 0)
_UNIT: dict[str, Offset] = {"z": (1, 0, 0), "y": (0, 1, 0), "x": (0, 0, 1)}


class Tap(Leaf):
    """Value of `kind`[index] in the cell at `offset`.

    The kinds: "w" field, "s" source, "d" direction, and on faces "g", a source's rise over one cell towards the wall, and "b",
    wall data that vary along the face.
    """

    __slots__ = ("index", "kind", "offset")

    def __init__(self, kind: str, index: int, offset: Offset):
        self.kind, self.index, self.offset = kind, index, offset
        self._seal(f"{kind}{index}{list(offset)}")


class Edge(Leaf):
    """Difference over `span` cells along `axis`: value(offset + span units) - value(offset)."""

    __slots__ = ("axis", "index", "kind", "offset", "span")

    def __init__(self, kind: str, index: int, axis: str, offset: Offset, span: int = 1):
        self.kind, self.index, self.axis, self.offset, self.span = kind, index, axis, offset, span
        self._seal(f"e{axis}{span}:{kind}{index}{list(offset)}")

    @property
    def ends(self) -> tuple[Tap, Tap]:
        """(lower, upper) cell of the difference."""
        return Tap(self.kind, self.index, self.offset), Tap(self.kind, self.index, shifted(self.offset, self.axis, self.span))


class Bend(Leaf):
    """Second difference value(offset + span) + value(offset - span) - 2 value(offset): two equal fluxes of opposite sign.

    It takes fewer operations than its two edges and vanishes exactly, too, where the field is constant.
    """

    __slots__ = ("axis", "index", "kind", "offset", "span")

    def __init__(self, kind: str, index: int, axis: str, offset: Offset, span: int):
        self.kind, self.index, self.axis, self.offset, self.span = kind, index, axis, offset, span
        self._seal(f"b{axis}{span}:{kind}{index}{list(offset)}")

    @property
    def ends(self) -> tuple[Tap, Tap, Tap]:
        """(lower, upper, middle) cell of the difference."""
        lower, upper = (Tap(self.kind, self.index, shifted(self.offset, self.axis, by)) for by in (-self.span, self.span))
        return lower, upper, Tap(self.kind, self.index, self.offset)


class Composite(Leaf):
    """First derivative along `axis` of a pointwise function of fields and sources, differenced as a whole.

    It stands for P in a term P w'' that was integrated by parts at walls, -P' w' (discretisation rule, walls, trap 4).
    """

    __slots__ = ("axis", "function")

    def __init__(self, function: Node, axis: str):
        self.function, self.axis = function, axis
        self._seal(f"d[{function.text}; {axis}]")


class Pair(Leaf):
    """Product of the first derivatives of two fields along one axis in the pair form Q[a, b]."""

    __slots__ = ("axis", "first", "second")

    def __init__(self, first: str, second: str, axis: str):
        self.first, self.second, self.axis = *sorted((first, second)), axis
        self._seal(f"q[{self.first}, {self.second}; {axis}]")


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


def taps(leaf: Leaf, signs: Signs, scheme: Scheme) -> list[tuple[Offset, Node]]:
    """The stencil of a linear slot as (offset, coefficient) pairs; fields themselves are the identity."""
    if isinstance(leaf, Symbol):
        return [(HERE, ONE)]
    if isinstance(leaf, Derivative) and leaf.axes == leaf.axes[:1] * 2:
        axis = leaf.axes[0]
        square = inverse_spacing(axis) ** 2
        return [(shifted(HERE, axis, by), multiply(float(weight), square)) for by, weight in scheme.second.items()]
    stencil: list[tuple[Offset, Node]] = [(HERE, ONE)]
    for axis in odd_axes(leaf):
        stencil = [
            (shifted(offset, axis, by), multiply(float(weight), inverse_spacing(axis), coefficient))
            for offset, coefficient in stencil
            for by, weight in scheme.first(signs.get(axis, 0)).items()
        ]
    return stencil


def differences(weights: Weights, kind: str, index: int, axis: str, cell: Offset) -> Node:
    """sum_o weights[o] value(cell + o) for weights that sum to zero, as weighted edges."""
    if all(weights.get(-offset, 0) == -weight for offset, weight in weights.items()):
        spans = [(float(w), Edge(kind, index, axis, shifted(cell, axis, -o), 2 * o)) for o, w in weights.items() if o > 0]
        return add(*[multiply(weight, edge) for weight, edge in spans])
    parts = []
    for offset, weight in weights.items():
        if offset:
            edge = Edge(kind, index, axis, shifted(cell, axis, min(offset, 0)), abs(offset))
            parts.append(multiply(float(weight) if offset > 0 else -float(weight), edge))
    return add(*parts)


def value(
    leaf: Leaf, signs: Signs, scheme: Scheme, cell: Offset, index: Callable[[str], int], at: Callable[[Node, Offset], Node]
) -> Node:
    """The value of a derivative slot in a cell, written with edges.

    Parameters
    ----------
    index : number of a field by name
    at : value of a pointwise function in a cell
    """
    if isinstance(leaf, Composite):
        points = scheme.first(signs.get(leaf.axis, 0)).items()
        rises = [multiply(float(w), at(leaf.function, shifted(cell, leaf.axis, by))) for by, w in points]
        return multiply(inverse_spacing(leaf.axis), add(*rises))
    if isinstance(leaf, Pair):
        products = []
        for m, weights in scheme.pairs.items():
            for o, weight in weights.items():
                start = shifted(cell, leaf.axis, -o)
                edges = [Edge("w", index(name), leaf.axis, start, m) for name in (leaf.first, leaf.second)]
                products.append(multiply(float(weight), *edges))
        return multiply(inverse_spacing(leaf.axis) ** 2, add(*products))
    assert isinstance(leaf, Derivative)
    number = index(leaf.field)
    inner = leaf.axes[-1]
    if leaf.axes == (inner, inner):
        return multiply(inverse_spacing(inner) ** 2, differences(scheme.second, "w", number, inner, cell))
    cells: list[tuple[Offset, Node]] = [(cell, inverse_spacing(inner))]
    for axis in leaf.axes[:-1]:
        cells = [
            (shifted(offset, axis, by), multiply(float(weight), inverse_spacing(axis), scale))
            for offset, scale in cells
            for by, weight in scheme.first(signs.get(axis, 0)).items()
        ]
    weights = scheme.first(signs.get(inner, 0))
    return add(*[multiply(scale, differences(weights, "w", number, inner, offset)) for offset, scale in cells])


def pair_gradient(leaf: Pair, scheme: Scheme, index: Callable[[str], int]) -> list[tuple[int, Offset, Node]]:
    """Derivatives of Q in the cells around zero by the fields in the cell at zero: (field, cell of Q, derivative)."""
    square = inverse_spacing(leaf.axis) ** 2
    found = []
    for name, other in ((leaf.first, leaf.second), (leaf.second, leaf.first)):
        for m, weights in scheme.pairs.items():
            ahead = Edge("w", index(other), leaf.axis, HERE, m)
            behind = Edge("w", index(other), leaf.axis, shifted(HERE, leaf.axis, -m), m)
            for o, weight in weights.items():
                found.append((index(name), shifted(HERE, leaf.axis, o), multiply(-float(weight), square, ahead)))
                found.append((index(name), shifted(HERE, leaf.axis, o - m), multiply(float(weight), square, behind)))
    return found
