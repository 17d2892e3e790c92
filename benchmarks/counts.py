"""What a step of every method moves, counted by hand from its passes: an array read or written counts one, in every pass.

A pass is one loop over the cells: a force reads the fields and writes itself (2, no sources here), a sum of n arrays into another
n + 1, an array that is updated 2. Spectra count as arrays, what is real in them (eigenvalues, tables) as halves; transforms are
counted apart, since memory is not what limits them. The first number is for a gradient flow, or for what has velocities alone.

    design : the count that the method's author would write down for kernels fused to the utmost, as far as one was made
"""

from __future__ import annotations

from dataclasses import dataclass

from sftsolve.stepping.additive import additive
from sftsolve.stepping.exponential_tableau import KROGSTAD
from sftsolve.stepping.tableaus import explicit_methods, tableau

FORCE, RESIDUAL = 2, 3  # and F of an array less another one, in place: read twice, written
SOLVE = 2.5  # dividing a spectrum by its eigenvalues, beside two transforms


@dataclass(frozen=True)
class Count:
    """Arrays moved a step and transforms made, and the arrays of the fused ideal, or None."""

    arrays: float
    transforms: float = 0
    design: float | None = None


def explicit(method: str, damped: bool) -> Count:
    """Stages (all but the last, whose velocity is the new state's, keep their velocity where there is one) and the error."""
    table = tableau(method)
    rows = [*table.a[1:], table.error_weights]
    total = 0
    for number, row in enumerate(rows):
        used = [stage for stage, weight in enumerate(row) if weight]
        between = [stage for stage in used if 0 < stage < table.stages - 1] if damped else []
        error = number == len(rows) - 1
        total += len(used) + len(between) + (4 if damped else 2) + (0 if error else FORCE)
    return Count(total, design={"rk32": 23, "dp5": 52, "tsit5": 54}[method] if not damped else None)


def friction_exact(damped: bool) -> Count:
    own = 4 if damped else 2
    stages = sum(own + len(row.chosen) + FORCE for row in KROGSTAD.rows[1:])
    return Count(stages + own + 2, design=35 if damped else None)


def mode_exact(damped: bool) -> Count:
    """Per stage: advance and implicit part in modes, back, force, forth, added; then both fields back, and the error."""
    kinds = 2 if damped else 1
    tables, implicit = (2.5, 3.5) if damped else (2.0, 2.5)
    stages = sum(2 * kinds + tables + len(row.chosen) + implicit + FORCE + 3 for row in KROGSTAD.rows[1:])
    error = kinds + 3 + 1.5 + 3 * kinds
    return Count(stages + 2 * kinds + error, transforms=3 * 2 + kinds + 1 + kinds)


def additive_pair(damped: bool) -> Count:
    """Split of the force, copy of the guess; per stage right side(s), solve, what follows from it, N; error; closing move."""
    table = additive("ark436")
    begin, chosen = FORCE + SOLVE + 3 + 2, sum(1 for weight in table.error_weights if weight)
    total = begin
    for number in range(1, table.stages):
        if damped:
            total += 4 + 2 * number + (number - 1) + SOLVE + 5 + FORCE + 4
        else:
            total += 2 + 2 * number + SOLVE + 3 + FORCE + RESIDUAL
    total += 2 + (3 if damped else 2) * chosen + 2 + table.stages
    return Count(total, transforms=2 * table.stages, design=85 if damped else None)


def multistep(order: int, damped: bool) -> Count:
    """Force and split, right side(s), predictor, solve, error, what follows from the solve."""
    begin, predictor, error = FORCE + RESIDUAL, order + 2, order + 2
    form, finish = (2 + 3 * order, 5) if damped else (1 + 2 * order, 3)
    return Count(begin + form + predictor + SOLVE + error + finish, 2, 18 if damped and order == 4 else None)


def chebyshev(stages: int) -> Count:
    """First stage 3, force 2 each, second stage 5, the others 6, error 4."""
    return Count(3 + FORCE * stages + 5 + 6 * (stages - 2) + 4, design=5 * stages)


def discrete_gradient(newton: float, krylov: float, damped: bool) -> Count:
    """By iterations of Newton's method (two forces, a cost) and of conjugate gradients (one product, one solve)."""
    once, outer, inner = 15 + (3 if damped else 0), 32, 17 + SOLVE + 2
    return Count(once + outer * newton + inner * krylov - 3 * newton, 2 * krylov)


def splitting(method: str) -> Count:
    """Kick and drift into the proposal 5, kicks and drifts between 4 each, force, last kick 3; error 4, or 6 with forces."""
    return Count(5 + FORCE + 3 + 4) if method == "leapfrog" else Count(5 + 5 * 4 + FORCE + 3 + 6)


def count(method: str, damped: bool, stages: int = 0, newton: float = 0.0, krylov: float = 0.0) -> Count:
    """The count of a step by name; the last three as the steps at hand have them."""
    if method in explicit_methods():
        return explicit(method, damped)
    made = {
        "rk4-friction": lambda: friction_exact(damped),
        "etdrk4": lambda: mode_exact(damped),
        "ark436": lambda: additive_pair(damped),
        "leapfrog": lambda: splitting("leapfrog"),
        "leapfrog4": lambda: splitting("leapfrog4"),
        "rkc2": lambda: chebyshev(stages),
        "discrete-gradient": lambda: discrete_gradient(newton, krylov, damped),
        "descent": lambda: Count(2),
        "heavy-ball": lambda: Count(FORCE + 5 + 1),
        "nesterov": lambda: Count(FORCE + 5 + 1),
    }
    return made[method]() if method in made else multistep(int(method.removeprefix("sbdf")), damped)


def stride(method: str, steps: int) -> Count | None:
    """A step of several at once: one sweep, and for velocities a copy and the kick left over at the end of them all."""
    kicks = {"heavy-ball": steps, "leapfrog": steps + 1, "leapfrog4": 6 * steps + 1}
    if method == "descent":
        return Count(2)
    return Count(4 * (kicks[method] + 1) / steps, design=4 if method == "leapfrog" else None) if method in kicks else None
