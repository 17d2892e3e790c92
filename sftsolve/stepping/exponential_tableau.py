"""Tables of exponential Runge-Kutta methods, which check themselves."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import factorial

from sftsolve.stepping.tableaus import TableauError
from sftsolve.stepping.trees import OrderConditions

Phi = tuple[Fraction, Fraction, Fraction]


@dataclass(frozen=True)
class Row:
    """One stage: Y = exp(cA') y + H sum_j sum_k weights[j][k] phi_k(cA') N_j with A' = hA, H = c h.

    Attributes
    ----------
    c : abscissa
    weights : for every earlier stage the weights of phi_1, phi_2, phi_3
    """

    c: Fraction
    weights: tuple[Phi, ...]

    @property
    def chosen(self) -> tuple[int, ...]:
        """Stages that have a weight."""
        return tuple(j for j, phi in enumerate(self.weights) if any(phi))


@dataclass(frozen=True)
class ExponentialTableau:
    """An explicit exponential Runge-Kutta method for y' = Ay + N(y), first same as last.

    Raises
    ------
    TableauError : a row that is not exact for constant N, a last row that is not exact for quadratic N, or what is left at A = 0
        is not of the order
    """

    method: str
    order: int
    rows: tuple[Row, ...]
    reference: str

    def __post_init__(self) -> None:
        last = len(self.rows) - 1
        abscissae = [row.c for row in self.rows]
        for number, row in enumerate(self.rows[1:], start=1):
            # N = s^(m-1)/(m-1)! on the whole step is reproduced where sum_j c_j^(m-1) w_jk / (m-1)! = c^(m-1) delta_mk.
            for moment in range(1, 4 if number == last else 2):
                found = [
                    sum((c ** (moment - 1) * phi[k] for c, phi in zip(abscissae, row.weights, strict=False)), Fraction(0))
                    for k in range(3)
                ]
                wanted = [row.c ** (moment - 1) * factorial(moment - 1) if k == moment - 1 else Fraction(0) for k in range(3)]
                self._require(found == wanted, f"row {number} is not exact for N = s^{moment - 1}")
        matrix = [
            tuple(row.c * sum((phi[k] / factorial(k + 1) for k in range(3)), Fraction(0)) for phi in row.weights)
            for row in self.rows
        ]
        conditions = OrderConditions(matrix[:-1])
        for vertices in range(1, self.order + 1):
            self._require(conditions.residual(matrix[-1], vertices) == 0, f"without A it is not of order {vertices}")

    def _require(self, fulfilled: bool, what: str) -> None:
        if not fulfilled:
            raise TableauError(f"exponential tableau {self.method}: {what}")


def _row(c: str, *weights: tuple[int, int, int]) -> Row:
    return Row(Fraction(c), tuple((Fraction(a), Fraction(b), Fraction(d)) for a, b, d in weights))


KROGSTAD = ExponentialTableau(
    method="etdrk4",
    order=4,
    rows=(
        _row("0"),
        _row("1/2", (1, 0, 0)),
        _row("1/2", (1, -2, 0), (0, 2, 0)),
        _row("1", (1, -2, 0), (0, 0, 0), (0, 2, 0)),
        _row("1", (1, -3, 4), (0, 2, -4), (0, 2, -4), (0, -1, 4)),
    ),
    reference="S. Krogstad, J. Comput. Phys. 203 (2005) 72-88",
)

STAGES = len(KROGSTAD.rows) - 1
# Error estimate h (4 phi_3 - phi_2)(N_4 - N(y_1)): the weights of phi_1, phi_2, phi_3. Three times it, because steps are long:
# where the linear part is exact, a run may take ten of them, each with its whole error.
ERROR = (0.0, -3.0, 12.0)
# Both of these forces are at t + h, and do not tell how the force moves on the way there. Where it does so by itself, what it has
# at a time between the stages beside the parabola through them, -h^3 N'''/128, is taken off their difference, with this factor.
# The estimate is then at least 0.96 of the error that a cubic force makes in a decaying mode, for all h l. The sign is that of
# N_4 - N(y_1) = h^3 N'''/12 + ... in a flow without a linear part: the two do not cancel.
BETWEEN, MISSED = 0.75, 1.0 / 3.0
# N_1, ..., N_4 all have a part in the parabola that a step rests on.
PARABOLA = (0, 1, 2, 3)


def parabola_at(c: float) -> list[float]:
    """Weights of N_1, ..., N_4 in the parabola through N_1, (N_2 + N_3)/2 and N_4, at the fraction c of the step."""
    half = 2.0 * c - 2.0 * c * c
    return [1.0 - 3.0 * c + 2.0 * c * c, half, half, 2.0 * c * c - c]


def parabola_over(c: float) -> tuple[tuple[float, float, float], ...]:
    """The same parabola over the part c of a step: weights of phi_1, phi_2, phi_3."""
    half = (0.0, 2.0 * c, -4.0 * c * c)
    return (1.0, -3.0 * c, 4.0 * c * c), half, half, (0.0, -c, 4.0 * c * c)
