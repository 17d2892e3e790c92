"""Discretise the action, then vary it: from a density to the discrete cost and its exact gradient.

    C_h = h^d sum_i sum_s weight_s c(slots^s_i),      F_a = -h^-d dC_h/dw_a = -sum_s weight_s sum_slots L^T (dc/dslot)

The rule for every density and order (radius of the force in brackets):

    T0  only w, w''                                     `second` [p/2; p in squares]
    T1  linear in the first derivatives of each axis    `central` [p/2]
    T2  f(x, w, w'') times two first derivatives        pair form [p/2]
        along one axis, nothing else odd
    T3  everything else                                 mean of `upwind` over both signs of every such axis [p - 1]

At order 2 all of it is the mean over forward and backward differences. The force is assembled by cells: contribution `cells[o]`
of the cell at offset o, so that walls can leave out the cells beyond them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from sftsolve.algebra import (
    ZERO,
    Leaf,
    Node,
    Product,
    Sum,
    Symbol,
    TooManyTerms,
    add,
    differentiate,
    expand,
    leaves,
    multiply,
    power,
    rebuild,
    split_coefficient,
    transform,
)
from sftsolve.codegen.scheme import Scheme
from sftsolve.codegen.stencils import (
    HERE,
    Bend,
    Composite,
    Edge,
    Offset,
    Pair,
    Signs,
    Tap,
    WallSlope,
    inverse_spacing,
    minus,
    odd_axes,
    pair_gradient,
    shifted,
    taps,
    value,
)
from sftsolve.errors import ActionError
from sftsolve.expression import Derivative


@dataclass(frozen=True)
class Names:
    """Numbers of the names in the compiled code: fields and arrays by index, everything else is a scalar."""

    fields: tuple[str, ...]
    arrays: tuple[str, ...]

    def is_field(self, leaf: Leaf) -> bool:
        return isinstance(leaf, Symbol) and leaf.name in self.fields


@dataclass(frozen=True)
class Term:
    """Part of the density: its tree and the axes along which it is averaged over both signs."""

    density: Node
    signed: tuple[str, ...]

    def patterns(self) -> list[Signs]:
        """All sign patterns; each has weight 1 / their number."""
        return [dict(zip(self.signed, signs, strict=True)) for signs in itertools.product((1, -1), repeat=len(self.signed))]


def is_derivative(leaf: Leaf) -> bool:
    """Whether a leaf reaches to other cells."""
    return isinstance(leaf, (Derivative, Composite, Pair))


def monomials(density: Node) -> tuple[Node, ...]:
    """The density as a sum whose terms are products in their derivatives (as far as that stays small)."""
    try:
        return expand(density, is_derivative)
    except TooManyTerms:
        return (density,)


def integrate_by_parts(density: Node, walled: Iterable[str]) -> Node:
    """P w'' -> -(P)' w' along walled axes, P a pointwise function: as typed such a term has no condition at a wall.

    Raises
    ------
    ActionError : a second derivative along a walled axis that is neither so, nor only in powers of second derivatives
    """
    axes = set(walled)
    if not axes:
        return density
    parts: list[Node] = []
    for term in monomials(density):
        second = [
            leaf for leaf in leaves(term) if isinstance(leaf, Derivative) and len(leaf.axes) == 2 and leaf.axes[0] == leaf.axes[1]
        ]
        walls = [leaf for leaf in second if leaf.axes[0] in axes]
        others = [leaf for leaf in leaves(term) if is_derivative(leaf) and leaf not in second]
        if not walls:
            parts.append(term)
        elif len(second) == 1 and not others and differentiate(differentiate(term, walls[0]), walls[0]) == ZERO:
            axis = walls[0].axes[0]
            factor = differentiate(term, walls[0])
            parts.append(multiply(-1.0, Composite(factor, axis), Derivative(walls[0].field, (axis,))))
        elif not others:
            parts.append(term)
        else:
            raise ActionError(
                f"the term {term.text} mixes first and second derivatives at the {walls[0].axes[0]} walls",
                expected="second derivatives there linearly with fields and sources, or in squares of second derivatives",
                remedy="integrate it by parts, or make the axis periodic",
            )
    return add(*parts)


def split(density: Node) -> tuple[Term, ...]:
    """Sort the terms of a density by their kind: pair forms put in (T2), grouped by the axes that need both signs (T3)."""
    groups: dict[tuple[str, ...], list[Node]] = {}
    for term in monomials(density):
        paired = _paired(term)
        groups.setdefault(_signed_axes(paired), []).append(paired)
    return tuple(Term(add(*terms), signed) for signed, terms in sorted(groups.items()))


def _paired(term: Node) -> Node:
    """The term with its two first derivatives along one axis as a pair form, where that is all that is odd in it."""
    coefficient, rest = split_coefficient(term)
    factors = rest.factors if isinstance(rest, Product) else ((rest, 1),)
    odd = [(base, exponent) for base, exponent in factors if any(odd_axes(leaf) for leaf in leaves(base))]
    names = [base.field for base, exponent in odd if isinstance(base, Derivative) for _ in range(exponent)]
    axes = {base.axes for base, _ in odd if isinstance(base, Derivative)}
    plain = all(isinstance(base, Derivative) and exponent > 0 for base, exponent in odd)
    if not plain or len(names) != 2 or len(axes) != 1 or len(next(iter(axes))) != 1:
        return term
    others = [power(base, exponent) for base, exponent in factors if (base, exponent) not in odd]
    return multiply(coefficient, Pair(names[0], names[1], next(iter(axes))[0]), *others)


def _signed_axes(term: Node) -> tuple[str, ...]:
    """Axes along which a term is not linear in its odd derivatives."""
    rest = split_coefficient(term)[1]
    factors = rest.factors if isinstance(rest, Product) else ((rest, 1),)
    degree: dict[str, int] = {}
    for base, exponent in factors:
        for leaf in leaves(base):
            for axis in odd_axes(leaf):
                degree[axis] = degree.get(axis, 0) + (exponent if base == leaf and exponent > 0 else 2)
    return tuple(sorted(axis for axis, count in degree.items() if count > 1))


class Variation:
    """The discrete cost and force of a list of terms, as trees over taps and edges.

    Parameters
    ----------
    terms : from `split`
    names : which symbols are fields and arrays; all others are scalars
    scheme : the stencils
    """

    def __init__(self, terms: Iterable[Term], names: Names, scheme: Scheme):
        self.terms = tuple(terms)
        self.names = names
        self.scheme = scheme

    def at(self, node: Node, cell: Offset, signs: Signs | None = None) -> Node:
        """A tree over slots, evaluated in a cell."""

        def place(leaf: Leaf) -> Node:
            if isinstance(leaf, Symbol):
                if leaf.name in self.names.fields:
                    return Tap("w", self.names.fields.index(leaf.name), cell)
                if leaf.name in self.names.arrays:
                    return Tap("s", self.names.arrays.index(leaf.name), cell)
                return leaf
            if isinstance(leaf, WallSlope):
                return multiply(inverse_spacing(leaf.axis), Tap("g", self.names.arrays.index(leaf.source), cell))
            return value(leaf, signs or {}, self.scheme, cell, self.names.fields.index, self.at)

        return transform(node, place)

    def cost(self) -> Node:
        """Discrete density of the cell at offset zero."""
        parts = []
        for term in self.terms:
            patterns = term.patterns()
            parts += [multiply(1.0 / len(patterns), self.at(term.density, HERE, signs)) for signs in patterns]
        return add(*parts)

    def force_by_cell(self) -> list[dict[Offset, Node]]:
        """For every field, what the density of the cell at each offset contributes to the force in the cell at zero."""
        contributions: list[dict[Offset, list[Node]]] = [{} for _ in self.names.fields]
        for term in self.terms:
            patterns = term.patterns()
            slots = [leaf for leaf in leaves(term.density) if is_derivative(leaf) or self.names.is_field(leaf)]
            for signs in patterns:
                for slot in sorted(slots, key=lambda leaf: leaf.text):
                    gradient = differentiate(term.density, slot)
                    for field, cell, factor in self._reach(slot, signs):
                        part = multiply(-1.0 / len(patterns), self.at(gradient, cell, signs), factor)
                        contributions[field].setdefault(cell, []).append(part)
        return [{cell: add(*parts) for cell, parts in sorted(cells.items())} for cells in contributions]

    def _reach(self, slot: Leaf, signs: Signs) -> list[tuple[int, Offset, Node]]:
        """How the slot in the cells around depends on the fields in the cell at zero: (field, cell of the slot, derivative)."""
        if isinstance(slot, Pair):
            return pair_gradient(slot, self.scheme, self.names.fields.index)
        stencil = taps(slot, signs, self.scheme)
        return [(field, minus(o), multiply(c, factor)) for o, c in stencil for field, factor in self._acts_on(slot)]

    def _acts_on(self, slot: Leaf) -> list[tuple[int, Node]]:
        """(field number, factor in the cell at zero) of the fields whose values a slot reads."""
        fields = self.names.fields
        if isinstance(slot, Composite):
            inner = [leaf for leaf in leaves(slot.function) if isinstance(leaf, Symbol) and leaf.name in fields]
            return [(fields.index(leaf.name), self.at(differentiate(slot.function, leaf), HERE)) for leaf in inner]
        name = slot.field if isinstance(slot, Derivative) else slot.text
        return [(fields.index(name), self.at(add(1.0), HERE))]

    def force(self) -> list[Node]:
        """The force of every field in the cell at zero, all cells counted (no walls in reach)."""
        return [by_flux(add(*cells.values())) for cells in self.force_by_cell()]


def linearise(node: Node) -> Node:
    """Directional derivative: every field value replaced in turn by that of the direction "d"."""
    parts = []
    for leaf in sorted(leaves(node), key=lambda leaf: leaf.text):
        if isinstance(leaf, Tap) and leaf.kind == "w":
            parts.append(multiply(differentiate(node, leaf), Tap("d", leaf.index, leaf.offset)))
        elif isinstance(leaf, Edge) and leaf.kind == "w":
            parts.append(multiply(differentiate(node, leaf), Edge("d", leaf.index, leaf.axis, leaf.offset, leaf.span)))
    return by_flux(add(*parts))


def stencil(forces: Iterable[Node]) -> dict[tuple[int, int, Offset], Node]:
    """Coefficients of the linearised forces: (force of, field, offset) -> tree."""
    parts: dict[tuple[int, int, Offset], list[Node]] = {}
    for number, force in enumerate(forces):
        direction = linearise(force)
        for leaf in leaves(direction):
            if isinstance(leaf, Tap) and leaf.kind == "d":
                parts.setdefault((number, leaf.index, leaf.offset), []).append(differentiate(direction, leaf))
            elif isinstance(leaf, Edge) and leaf.kind == "d":
                coefficient = differentiate(direction, leaf)
                end = shifted(leaf.offset, leaf.axis, leaf.span)
                parts.setdefault((number, leaf.index, end), []).append(coefficient)
                parts.setdefault((number, leaf.index, leaf.offset), []).append(multiply(-1.0, coefficient))
    return {key: add(*nodes) for key, nodes in parts.items()}


def moved(node: Node, by: Offset) -> Node:
    """The same tree read in the cell at offset `by`."""

    def move(leaf: Leaf) -> Node:
        if isinstance(leaf, Tap):
            return Tap(leaf.kind, leaf.index, _plus(leaf.offset, by))
        if isinstance(leaf, (Bend, Edge)):
            return type(leaf)(leaf.kind, leaf.index, leaf.axis, _plus(leaf.offset, by), leaf.span)
        return leaf

    return transform(node, move)


def bent(node: Node) -> Node:
    """The same tree with opposite fluxes of constant weight, c E(i) - c E(i - span), written as second differences c B(i)."""
    if not isinstance(node, Sum):
        return rebuild(node, [bent(child) for child in node.children]) if isinstance(node, Product) else node
    weights = {term: c for term, c in node.terms if isinstance(term, Edge)}
    parts: list[Node] = [add(node.constant)]
    for term, coefficient in node.terms:
        if not isinstance(term, Edge):
            parts.append(multiply(coefficient, bent(term)))
            continue
        ahead = Edge(term.kind, term.index, term.axis, shifted(term.offset, term.axis, term.span), term.span)
        behind = Edge(term.kind, term.index, term.axis, shifted(term.offset, term.axis, -term.span), term.span)
        if weights.get(behind) == -coefficient and weights.get(ahead) != -coefficient:
            parts.append(multiply(coefficient, Bend(term.kind, term.index, term.axis, term.offset, term.span)))
        elif not (weights.get(ahead) == -coefficient and weights.get(behind) != -coefficient):
            parts.append(multiply(coefficient, term))
    return add(*parts)


def _plus(a: Offset, b: Offset) -> Offset:
    return (a[0] + b[0], a[1] + b[1], a[2] + b[2])


def by_flux(node: Node) -> Node:
    """Collect a sum by its scalar factors and edges: scalar * sum over edges of edge * (sum of weights)."""
    if not isinstance(node, Sum):
        return node
    groups: dict[Node, dict[Node, list[Node]]] = {}
    rest: list[Node] = [add(node.constant)]
    for term, coefficient in node.terms:
        factors = term.factors if isinstance(term, Product) else ((term, 1),)
        edges = [base for base, exponent in factors if isinstance(base, Edge) and exponent == 1]
        if not edges:
            rest.append(multiply(coefficient, term))
            continue
        scalar = multiply(*[base**exponent for base, exponent in factors if is_scalar(base)])
        weight = multiply(coefficient, *[b**e for b, e in factors if not is_scalar(b) and b != edges[0]])
        groups.setdefault(scalar, {}).setdefault(edges[0], []).append(weight)
    sums = [
        multiply(scalar, add(*[multiply(edge, add(*weights)) for edge, weights in edges_of.items()]))
        for scalar, edges_of in groups.items()
    ]
    return add(*rest, *sums)


def is_scalar(node: Node) -> bool:
    """Whether a tree holds no value of a cell, so that it can be computed before the loops."""
    return not any(isinstance(leaf, (Tap, Edge, Bend)) for leaf in leaves(node))


def radius(nodes: Iterable[Node]) -> int:
    """How many cells away from the cell at zero the trees read."""
    reach = 0
    for node in nodes:
        for leaf in leaves(node):
            ends: tuple[Leaf, ...] = leaf.ends if isinstance(leaf, Edge) else (leaf,)
            reach = max([reach, *(abs(c) for end in ends if isinstance(end, Tap) for c in end.offset)])
    return reach
