"""Stencil weights of orders 2, 4, 6 and 8: exact rationals, read from `stencils.json`, that check themselves when loaded.

What each is for (w' and w'' in a density that is varied afterwards):

    second      w''                        symmetric, radius p/2
    central     w' where it is linear      antisymmetric, radius p/2
    upwind      w' in powers               order p - 1; the mean over its two mirror images is `central`
    pairs       f w'_a w'_b                sum_m A_m (a_{i+m} - a_i)(b_{i+m} - b_i), A_m a mean of f: compact, order p,
                                           positive semidefinite for any f >= 0
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from importlib.resources import files

from sftsolve.errors import ActionError

Weights = dict[int, Fraction]


@dataclass(frozen=True)
class Scheme:
    """The stencils of one order at unit spacing, offset -> weight.

    Raises
    ------
    ValueError : a weight that breaks an order condition
    """

    order: int
    second: Weights
    central: Weights
    upwind: Weights
    pairs: dict[int, Weights]

    def __post_init__(self) -> None:
        p = self.order
        checks = {
            "second": all(_moment(self.second, n) == (2 if n == 2 else 0) for n in range(p + 2)),
            "central": all(_moment(self.central, n) == (n == 1) for n in range(p + 1)),
            "upwind": all(_moment(self.upwind, n) == (n == 1) for n in range(p)),
            "pairs": all(self._pair_moment(a, b) == (a == b == 1) for a in range(1, p + 1) for b in range(1, p + 2 - a)),
        }
        wrong = [name for name, right in checks.items() if not right]
        if wrong:
            raise ValueError(f"the weights of {', '.join(wrong)} are not of order {p}")

    def _pair_moment(self, a: int, b: int) -> Fraction:
        """The pair form of x^a and x^b with f = 1 at x = 0."""
        total = Fraction(0)
        for m, weights in self.pairs.items():
            for o, weight in weights.items():
                total += weight * ((m - o) ** a - (-o) ** a) * ((m - o) ** b - (-o) ** b)
        return total

    def first(self, sign: int) -> Weights:
        """Weights of the first derivative: forward-biased (+1), backward-biased (-1) or central (0)."""
        if sign == 0:
            return self.central
        return self.upwind if sign > 0 else {-offset: -weight for offset, weight in self.upwind.items()}


def _moment(weights: Weights, power: int) -> Fraction:
    return sum((weight * Fraction(offset) ** power for offset, weight in weights.items()), Fraction(0))


def _centred(texts: list[str]) -> Weights:
    middle = len(texts) // 2
    return {number - middle: Fraction(text) for number, text in enumerate(texts) if Fraction(text)}


@lru_cache(maxsize=1)
def _tables() -> dict[int, dict]:
    text = files("sftsolve.codegen").joinpath("stencils.json").read_text()
    return {int(order): table for order, table in json.loads(text)["orders"].items()}


@lru_cache(maxsize=8)
def scheme(order: int) -> Scheme:
    """The stencils of an order of accuracy in space.

    Raises
    ------
    ActionError : no such order
    """
    tables = _tables()
    if order not in tables or isinstance(order, bool):
        raise ActionError("this order in space is not available", expected=f"one of {sorted(tables)}", given=f"order={order!r}")
    table = tables[order]
    return Scheme(
        order,
        _centred(table["second"]),
        _centred(table["central"]),
        {int(offset): Fraction(weight) for offset, weight in table["upwind"].items()},
        {int(m): {int(o): Fraction(w) for o, w in weights.items()} for m, weights in table["pairs"].items()},
    )
