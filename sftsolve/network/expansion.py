"""From the wiring to the field theory: the cost per output as a power series in the spacing and in the fields.

A displaced field is its Taylor series, `f(x + s a) = sum_n (s a)^n/n! f^(n)(x)`, so a layer becomes a polynomial in the
jets w, w', w'', X, X', X'', Y, the spacing a and the activation's coefficients r, q, p, c3, ... Inserting layer into
layer and squaring Y - Z gives

    c(x) = sum_examples (Y - Z)^2 = sum_monomials S_monomial[X, Y](x) * monomial[w]

truncated after `derivatives_order` powers of a and `fields_order` powers of the fields (Lee, Lee and Yi, arXiv:2503.08827).
SymPy's sparse polynomials over the rationals do the algebra, exactly and in milliseconds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from math import factorial
from typing import Any

from sftsolve.network.wiring import Layer

Jet = tuple[str, int]  # a name and the order of its derivative
Monomial = tuple[Jet, ...]  # factors sorted, repeated as often as they occur; () is the constant


@dataclass(frozen=True)
class Term:
    """`number * a**spacing * prod_k c_k**activation[k] * prod data`, one summand of a source; data are jets of X and Y."""

    number: Fraction
    spacing: int
    activation: tuple[int, ...]
    data: Monomial

    def to_sympy(self, letters: Sequence[str]) -> Any:
        """The term as a SymPy expression, summed over N_l examples where it does not depend on them."""
        import sympy

        symbols = [sympy.Symbol("a")] * self.spacing
        for letter, power in zip(letters, self.activation, strict=True):
            symbols += [sympy.Symbol(letter)] * power
        symbols += [sympy.Symbol(name + "x" * order) for name, order in self.data] or [sympy.Symbol("N_l")]
        return sympy.Mul(sympy.Rational(self.number.numerator, self.number.denominator), *symbols)


def activation_letters(count: int) -> tuple[str, ...]:
    """Names of an activation's coefficients in ascending order: r, q, p as in the talk, then c3, c4, ..."""
    return tuple(("r", "q", "p")[k] if k < 3 else f"c{k}" for k in range(count))


def expand_cost(layers: Sequence[Layer], fields_order: int, derivatives_order: int) -> dict[Monomial, list[Term]]:
    """The sources of the field theory: for every monomial in the fields' jets, the terms of its coefficient in c(x)."""
    algebra = _Jets(layers, fields_order, derivatives_order)
    difference = algebra.jet("Y", 0) - algebra.output(len(layers) - 1, 0)
    return algebra.collect(algebra.times(difference, difference))


class _Jets:
    """Polynomials in a, the activation's coefficients and all jets, with products truncated in a and in the fields."""

    def __init__(self, layers: Sequence[Layer], fields_order: int, derivatives_order: int):
        from sympy import QQ, ring

        self._layers = layers
        self._limits = (derivatives_order, fields_order)
        self._letters = activation_letters(max(len(layer.activation or ()) for layer in layers))
        self._fields = [layer.field for layer in layers]
        self._jets = [(name, order) for name in (*self._fields, "X", "Y") for order in range(derivatives_order + 1)]
        names = ["a", *self._letters, *(f"{name}_{order}" for name, order in self._jets)]
        self._ring, *generators = ring(names, QQ)
        self._generator = dict(zip(["a", *self._letters, *self._jets], generators, strict=True))
        first = 1 + len(self._letters)
        self._field_slots = slice(first, first + len(self._fields) * (derivatives_order + 1))

    def jet(self, name: str, shift: int) -> Any:
        """The Taylor series of `name` at x + shift a."""
        from sympy import Rational

        spacing = self._generator["a"]
        orders = range(self._limits[0] + 1)
        return sum((self._generator[name, n] * spacing**n * Rational(shift**n, factorial(n)) for n in orders), self._ring.zero)

    def times(self, left: Any, right: Any) -> Any:
        """The product without what lies beyond the orders kept."""
        product = left * right
        spacing_limit, fields_limit = self._limits
        kept = {
            powers: number
            for powers, number in product.items()
            if powers[0] <= spacing_limit and sum(powers[self._field_slots]) <= fields_limit
        }
        return self._ring.from_dict(kept)

    def output(self, m: int, shift: int) -> Any:
        """Output of layer m at x + shift a; layer -1 is the data X."""
        if m < 0:
            return self.jet("X", shift)
        layer = self._layers[m]
        links = (
            self.times(self.jet(layer.field, shift + weight), self.output(m - 1, shift + unit)) for weight, unit in layer.links
        )
        z = sum(links, self._ring.zero)
        if layer.activation is None:
            return z
        coefficients = [self._generator[letter] for letter in self._letters[: len(layer.activation)]]
        # Horner's rule; times() ends the series in z by itself, since every weight counts as one power of the fields.
        return reduce(lambda value, coefficient: self.times(value, z) + coefficient, reversed(coefficients), self._ring.zero)

    def collect(self, cost: Any) -> dict[Monomial, list[Term]]:
        sources: dict[Monomial, list[Term]] = defaultdict(list)
        first = 1 + len(self._letters)
        for powers, number in cost.terms():
            factors = [jet for jet, power in zip(self._jets, powers[first:], strict=True) for _ in range(power)]
            monomial = tuple(sorted(jet for jet in factors if jet[0] in self._fields))
            data = tuple(jet for jet in factors if jet[0] not in self._fields)
            exact = Fraction(int(number.numerator), int(number.denominator))
            sources[monomial].append(Term(exact, powers[0], tuple(powers[1:first]), data))
        return dict(sources)
