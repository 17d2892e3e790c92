"""Tables of additive Runge-Kutta methods (an explicit and an implicit part with common weights), which check themselves."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property
from pathlib import Path

import numpy as np

from sftsolve.stepping.tableaus import TableauError
from sftsolve.stepping.trees import Tree, density, trees

# The tables are printed as quotients of rounded integers.
_TOLERANCE = 1e-13

Rows = tuple[tuple[Fraction, ...], ...]


@dataclass(frozen=True)
class AdditiveTableau:
    """w' = N(w) + L w with stages  W_i = w + h sum_{j<i} aE_ij N_j + h sum_{j<=i} aI_ij L W_j  and common weights b.

    The implicit part has an explicit first stage, one diagonal element and ends in the new state (stiffly accurate).

    Attributes
    ----------
    explicit, implicit : rows of the two matrices, of i and of i + 1 entries
    b, b_hat, c : weights, embedded weights, abscissae

    Raises
    ------
    TableauError : rows that do not sum to their abscissa, two-coloured trees up to the order that are violated, or a shape other
        than the one above
    """

    method: str
    order: int
    embedded: int
    explicit: Rows
    implicit: Rows
    b: tuple[Fraction, ...]
    b_hat: tuple[Fraction, ...]
    c: tuple[Fraction, ...]
    reference: str

    def __post_init__(self) -> None:
        stages = len(self.c)
        sizes = [len(row) for row in self.explicit] == list(range(stages)) and [len(row) for row in self.implicit] == [
            i + 1 for i in range(stages)
        ]
        self._require(sizes and len(self.b) == len(self.b_hat) == stages, "rows of a wrong length")
        for rows in (self.explicit, self.implicit):
            for row, abscissa in zip(rows, self.c, strict=True):
                self._require(abs(float(sum(row) - abscissa)) <= _TOLERANCE, "a row does not sum to its abscissa")
        diagonal = {row[-1] for row in self.implicit[1:]}
        self._require(self.implicit[0] == (0,) and len(diagonal) == 1, "the diagonal is not 0, a, a, ...")
        self._require(self.implicit[-1] == self.b, "the implicit part does not end in the new state")
        for weights, order in ((self.b, self.order), (self.b_hat, self.embedded)):
            for vertices in range(1, order + 1):
                self._require(self._residual(weights, vertices) <= _TOLERANCE, f"a condition of order {vertices} is violated")
            self._require(self._residual(weights, order + 1) > 1e-6, f"it is of a higher order than {order}")

    def _require(self, fulfilled: bool, what: str) -> None:
        if not fulfilled:
            raise TableauError(f"additive tableau {self.method}: {what}")

    def _residual(self, weights: Sequence[Fraction], vertices: int) -> float:
        """Largest violation of the conditions of the trees of so many vertices, in every colouring."""
        b = np.array([float(w) for w in weights])
        matrices = (_full(self.explicit), _full(self.implicit))

        @cache
        def vectors(tree: Tree) -> tuple[tuple[float, ...], ...]:
            """Phi of the tree in every colouring of its edges."""
            choices = [[matrix @ np.array(inner) for inner in vectors(child) for matrix in matrices] for child in tree]
            return tuple(tuple(np.prod([np.ones(len(b)), *chosen], axis=0)) for chosen in itertools.product(*choices))

        return max(abs(float(b @ np.array(vector)) - 1 / density(tree)) for tree in trees(vertices) for vector in vectors(tree))

    @property
    def stages(self) -> int:
        return len(self.c)

    @property
    def diagonal(self) -> float:
        """aI_ii of the implicit stages."""
        return float(self.implicit[-1][-1])

    @cached_property
    def error_weights(self) -> tuple[float, ...]:
        """b - b_hat."""
        return tuple(float(b - b_hat) for b, b_hat in zip(self.b, self.b_hat, strict=True))

    @cached_property
    def closing_weights(self) -> tuple[float, ...]:
        """b minus the last explicit row: what the last stage lacks of the order of b."""
        last = (*self.explicit[-1], Fraction(0))
        return tuple(float(b - a) for b, a in zip(self.b, last, strict=True))

    @cached_property
    def trend(self) -> tuple[float, float]:
        """What the second stage lacks of an N that is linear in time, h^2 dN/dt times the first of these; the N that the last
        stage takes where friction is infinite then lacks h dN/dt times the second. No other stage lacks any."""
        c, implicit = np.array([float(abscissa) for abscissa in self.c]), _full(self.implicit)
        lacking = (implicit - _full(self.explicit)) @ c
        self._require(bool(np.abs(np.delete(lacking, 1)).max() <= _TOLERANCE), "a later stage is not exact for linear N")
        return float(lacking[1]), float(np.linalg.solve(implicit[1:, 1:], lacking[1:])[-1])

    @cached_property
    def limit_weights(self) -> tuple[float, ...]:
        """Weights n_j of sum_j n_j N_j, the N that the last stage takes at its end where friction is infinite: last row of
        AI^-1 AE, with the first stage known."""
        implicit, explicit = _full(self.implicit)[1:], _full(self.explicit)[1:]
        inner = np.linalg.solve(implicit[:, 1:], explicit - np.outer(implicit[:, 0], np.eye(self.stages)[0]))
        return tuple(inner[-1])


def _full(rows: Rows) -> np.ndarray:
    matrix = np.zeros((len(rows), len(rows)))
    for i, row in enumerate(rows):
        matrix[i, : len(row)] = [float(a) for a in row]
    return matrix


@cache
def additive(method: str) -> AdditiveTableau:
    """The checked table of a method, by the name that users write."""
    entries = json.loads(Path(__file__).with_name("additive.json").read_text(encoding="utf-8"))
    (entry,) = [entry for entry in entries.values() if entry["method"] == method]

    def rationals(texts: Sequence[str]) -> tuple[Fraction, ...]:
        return tuple(Fraction(text) for text in texts)

    return AdditiveTableau(
        method=method,
        order=entry["order"],
        embedded=entry["embedded"],
        explicit=tuple(rationals(row) for row in entry["A_E"]),
        implicit=tuple(rationals(row) for row in entry["A_I"]),
        b=rationals(entry["b"]),
        b_hat=rationals(entry["b_hat"]),
        c=rationals(entry["c"]),
        reference=entry["reference"],
    )
