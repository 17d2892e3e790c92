"""Butcher tableaus of the explicit pairs: tables in `tableaux.json`, checked when they are built.

A new explicit method is one entry of that file: its name for users, its coefficients as rationals, its orders and its paper.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property
from pathlib import Path

import numpy as np

from sftsolve.stepping.trees import OrderConditions, density, size, trees

# Tables printed as decimals hold their conditions to their last digit only.
_TOLERANCE = Fraction(1, 10**14)
# |R| may exceed one by this much before a mode counts as growing: near the imaginary axis pairs of odd order do, harmlessly.
_GROWTH = 1e-3


class TableauError(ValueError):
    """A table of coefficients is not what it says it is: a mistake in the package, never the user's."""


@dataclass(frozen=True)
class Tableau:
    """An explicit embedded pair, first same as last.

        W_i = w_n + h sum_{j<i} a_ij F(W_j, t_n + c_j h),    w_{n+1} = w_n + h sum b_j F_j,    error = h sum (b_j - b_hat_j) F_j

    Attributes
    ----------
    name : name of the table
    method : name that users write
    order, embedded : orders of b and of b_hat
    a : rows below the diagonal, row i of i entries
    b, b_hat, c : weights, embedded weights, abscissae; s entries each
    reference : the paper

    Raises
    ------
    TableauError : sizes differ, a row does not sum to its abscissa, the last row is not b, or b or b_hat is not of exactly
        its order (all rooted trees)
    """

    name: str
    method: str
    order: int
    embedded: int
    a: tuple[tuple[Fraction, ...], ...]
    b: tuple[Fraction, ...]
    b_hat: tuple[Fraction, ...]
    c: tuple[Fraction, ...]
    reference: str

    def __post_init__(self) -> None:
        stages = len(self.a)
        self._require([len(row) for row in self.a] == list(range(stages)), "row i must have i entries")
        self._require({len(self.b), len(self.b_hat), len(self.c)} == {stages}, "b, b_hat and c need one entry a stage")
        for number, (row, abscissa) in enumerate(zip(self.a, self.c, strict=True)):
            self._require(abs(sum(row) - abscissa) <= _TOLERANCE, f"row {number} does not sum to its abscissa")
        self._require(self.a[-1] == self.b[:-1] and self.b[-1] == 0, "the last stage is not the new state")
        conditions = OrderConditions(self.a)
        for label, weights, order in (("b", self.b, self.order), ("b_hat", self.b_hat, self.embedded)):
            for vertices in range(1, order + 1):
                fulfilled = conditions.residual(weights, vertices) <= _TOLERANCE
                self._require(fulfilled, f"{label} violates a condition of order {vertices}")
            exceeded = conditions.residual(weights, order + 1) <= _TOLERANCE
            self._require(not exceeded, f"{label} is of a higher order than {order}")

    def _require(self, fulfilled: bool, what: str) -> None:
        if not fulfilled:
            raise TableauError(f"tableau {self.name}: {what}")

    @property
    def stages(self) -> int:
        """Number of stages; one force evaluation less a step, because the last is the first of the next step."""
        return len(self.a)

    @cached_property
    def error_weights(self) -> tuple[float, ...]:
        """b - b_hat."""
        return tuple(float(b - b_hat) for b, b_hat in zip(self.b, self.b_hat, strict=True))

    @cached_property
    def stability_polynomial(self) -> np.ndarray:
        """Coefficients of R(z) = 1 + sum_k z^k b A^(k-1) 1, the growth of w' = lambda w at z = h lambda; ascending."""
        matrix = np.zeros((self.stages, self.stages))
        for number, row in enumerate(self.a):
            matrix[number, :number] = [float(entry) for entry in row]
        weights, vector = np.array([float(b) for b in self.b]), np.ones(self.stages)
        coefficients = [1.0]
        for _ in range(self.stages):
            coefficients.append(float(weights @ vector))
            vector = matrix @ vector
        return np.array(coefficients)

    def stability_limit(self, direction: complex) -> float:
        """Largest r for which |R(r' z)| <= 1 for all r' <= r, z = direction/|direction|: the reach of stable steps."""
        radii = np.linspace(0.0, 20.0, 4001)
        growth = np.abs(np.polynomial.polynomial.polyval(radii * (direction / abs(direction)), self.stability_polynomial))
        beyond = np.flatnonzero(growth > 1 + _GROWTH)
        return float(radii[beyond[0] - 1]) if len(beyond) else float(radii[-1])

    def dense(self, c: float) -> np.ndarray:
        """Weights b_i(c) of a continuous extension: w(t_n + c h) = w_n + h sum_i b_i(c) F_i, of order min(order, 4).

        Those of the cubic Hermite interpolant of both ends, plus the smallest change that fulfils the conditions
        sum_i b_i(c) Phi_i(t) = c^|t| / gamma(t) of all trees t of that order (Hairer, Norsett, Wanner I, section II.6).
        """
        first, last = np.zeros(self.stages), np.zeros(self.stages)
        first[0], last[-1] = 1.0, 1.0
        end = np.array([float(b) for b in self.b])
        weights = c**2 * (3 - 2 * c) * end + c * (1 - c) ** 2 * first + c**2 * (c - 1) * last
        matrix, inverse, orders, densities = self._dense_conditions
        return weights + inverse @ (c**orders / densities - matrix @ weights)

    @cached_property
    def _dense_conditions(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        conditions = OrderConditions(self.a)
        chosen = [tree for order in range(1, min(self.order, 4) + 1) for tree in trees(order)]
        matrix = np.array([[float(entry) for entry in conditions.vector(tree)] for tree in chosen])
        orders, densities = ([float(f(tree)) for tree in chosen] for f in (size, density))
        return matrix, np.linalg.pinv(matrix, rcond=1e-10), np.array(orders), np.array(densities)


@cache
def _tables() -> dict[str, tuple[str, dict]]:
    entries = json.loads(Path(__file__).with_name("tableaux.json").read_text(encoding="utf-8"))
    return {entry["method"]: (name, entry) for name, entry in entries.items()}


def explicit_methods() -> tuple[str, ...]:
    """Names of the methods that have a table, in the order of the file."""
    return tuple(_tables())


@cache
def tableau(method: str) -> Tableau:
    """The checked table of an explicit method, by the name that users write (`explicit_methods`)."""
    name, entry = _tables()[method]
    return Tableau(
        name=name,
        method=method,
        order=entry["order"],
        embedded=entry["embedded"],
        a=tuple(_rationals(row) for row in entry["A"]),
        b=_rationals(entry["b"]),
        b_hat=_rationals(entry["b_hat"]),
        c=_rationals(entry["c"]),
        reference=entry["reference"],
    )


def _rationals(texts: Sequence[str]) -> tuple[Fraction, ...]:
    return tuple(Fraction(text) for text in texts)
