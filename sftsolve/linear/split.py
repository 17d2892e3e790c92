"""The linear split, found from the action: what of its local cost is a quadratic form of the fields.

The density is written as monomials in the fields and their derivatives. Those of degree two give the force that is linear in the
fields with a coefficient that holds none, by the same discretisation as the whole; all other terms stay nonlinear.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sftsolve.algebra import (
    ZERO,
    Leaf,
    Node,
    Product,
    Sum,
    Symbol,
    TooManyTerms,
    add,
    expand,
    leaves,
    multiply,
    split_coefficient,
)
from sftsolve.expression import Derivative


@dataclass
class Quadratic:
    """Terms of a density that are quadratic in the fields.

    Attributes
    ----------
    constant : those whose coefficients are numbers and parameters
    varying : those whose coefficients hold sources or coordinates
    notes : what was left out although it is quadratic, in words
    """

    constant: Node = ZERO
    varying: Node = ZERO
    notes: list[str] = field(default_factory=list)


def quadratic(density: Node, fields: tuple[str, ...], arrays: set[str], moving: set[str]) -> Quadratic:
    """Find the quadratic terms of a density.

    Parameters
    ----------
    fields : names of the fields
    arrays : names that vary from cell to cell, sources and coordinates
    moving : names that vary in time, and t itself
    """
    found = Quadratic()

    def is_field(leaf: Leaf) -> bool:
        return (isinstance(leaf, Symbol) and leaf.name in fields) or (isinstance(leaf, Derivative) and leaf.field in fields)

    def matters(leaf: Leaf) -> bool:
        return is_field(leaf) or leaf.text in moving

    for term in _terms(density):
        try:
            pieces = expand(term, matters)
        except TooManyTerms:
            found.notes.append("a term of the cost is too long to be searched for a linear force; it is taken as nonlinear")
            continue
        for piece in pieces:
            if degree(piece, is_field) != 2:
                continue
            names = {leaf.name for leaf in leaves(piece) if isinstance(leaf, Symbol)}
            if names & moving:
                found.notes.append(f"the linear force of {piece.text} changes in time and is taken as nonlinear")
            elif names & arrays:
                found.varying = add(found.varying, piece)
            else:
                found.constant = add(found.constant, piece)
    return found


def _terms(density: Node) -> list[Node]:
    if not isinstance(density, Sum):
        return [density]
    return [multiply(coefficient, term) for term, coefficient in density.terms]


def degree(monomial: Node, is_field) -> int | None:  # type: ignore[no-untyped-def]
    """Degree in the fields and their derivatives; None where they stand in a function, a denominator or a sum."""
    total = 0
    rest = split_coefficient(monomial)[1]
    for base, exponent in rest.factors if isinstance(rest, Product) else ((rest, 1),):
        if isinstance(base, Leaf) and is_field(base):
            if exponent < 0:
                return None
            total += exponent
        elif any(is_field(leaf) for leaf in leaves(base)):
            return None
    return total
