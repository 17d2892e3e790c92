"""Rooted trees and the order conditions of Runge-Kutta methods (J. C. Butcher; Hairer, Norsett, Wanner I, section II.2).

A tree is the sorted tuple of the subtrees at its root; the tree of one vertex is ``()``. A method with matrix A and
weights b is of order p when for every tree t of at most p vertices

    sum_i b_i Phi_i(t) = 1 / gamma(t),    Phi_i(t) = prod over subtrees s of sum_j A_ij Phi_j(s),    Phi_i(()) = 1,

with the density gamma(t) = |t| prod gamma(s), |t| the number of vertices.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cache

Tree = tuple["Tree", ...]


@cache
def trees(order: int) -> tuple[Tree, ...]:
    """All rooted trees of `order` vertices, each once (1, 1, 2, 4, 9, 20, 48, ... of them)."""
    return tuple(_forests(order - 1, order - 1))


def _forests(vertices: int, largest: int, below: int | None = None) -> list[Tree]:
    """Multisets of trees of `vertices` in all, each of at most `largest`, and of those the first `below` only."""
    if vertices == 0:
        return [()]
    found = []
    for size in range(min(largest, vertices), 0, -1):
        stop = below if size == largest and below is not None else len(trees(size))
        for number, first in enumerate(trees(size)[:stop]):
            found += [(first, *rest) for rest in _forests(vertices - size, size, number + 1)]
    return found


@cache
def size(tree: Tree) -> int:
    """Number of vertices."""
    return 1 + sum(size(child) for child in tree)


@cache
def density(tree: Tree) -> int:
    """The density gamma(t)."""
    product = size(tree)
    for child in tree:
        product *= density(child)
    return product


class OrderConditions:
    """The residuals of one lower triangular matrix A; the vectors of subtrees are computed once.

    Parameters
    ----------
    matrix : rows of A below the diagonal, row i of i entries
    """

    def __init__(self, matrix: Sequence[Sequence[Fraction]]):
        self._matrix = matrix
        self._vectors: dict[Tree, list[Fraction]] = {(): [Fraction(1)] * len(matrix)}

    def residual(self, weights: Sequence[Fraction], order: int) -> Fraction:
        """Largest violation of the conditions of exactly `order` vertices."""
        return max(
            abs(sum(w * p for w, p in zip(weights, self.vector(tree), strict=True)) - Fraction(1, density(tree)))
            for tree in trees(order)
        )

    def vector(self, tree: Tree) -> list[Fraction]:
        """Phi_i(tree) for every stage i."""
        if tree not in self._vectors:
            vector = [Fraction(1)] * len(self._matrix)
            for child in tree:
                inner = self.vector(child)
                for i, row in enumerate(self._matrix):
                    vector[i] *= sum((a * p for a, p in zip(row, inner, strict=False) if a), Fraction(0))
            self._vectors[tree] = vector
        return self._vectors[tree]
