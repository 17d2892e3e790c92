"""Plain gradient descent, the training that the field theory describes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sftsolve.errors import StepError
from sftsolve.network import checks

# Descent at the edge of stability may raise cost and gradient for a while; by such a factor it does not.
DIVERGED = 1e6

Array = np.ndarray[Any, np.dtype[np.float64]]


def descend(
    w: Array,
    gradient: Callable[[Array], Array],
    cost: Callable[[Array], float],
    *,
    learning_rate: float,
    steps: int,
    history: list[float] | None = None,
) -> Array:
    """`w <- w - learning_rate * gradient(w)`, `steps` times; the final `w`, a new array.

    `history`, when given, receives the cost before the first and after every step (steps + 1 numbers, each at the price
    of one evaluation of the cost).

    Raises
    ------
    ConfigError : learning_rate not finite and positive, steps not an integer >= 0
    StepError : the weights are no longer finite, or both cost and gradient have grown a millionfold
    """
    rate = checks.number("learning_rate", learning_rate, positive=True)
    count = checks.whole("steps", steps, least=0)
    start, w = w, w.copy()
    with np.errstate(over="ignore", invalid="ignore"):
        if history is not None:
            history.append(cost(w))
        for _ in range(count):
            w -= rate * gradient(w)
            if history is not None:
                history.append(cost(w))
        # The gradient alone grows on the way out of a saddle, the cost alone from a perfect fit by rounding.
        diverged = not np.isfinite(w).all() or (
            np.abs(gradient(w)).max() > DIVERGED * np.abs(gradient(start)).max() and cost(w) > DIVERGED * abs(cost(start))
        )
    if diverged:
        raise StepError(
            "gradient descent diverged",
            expected="a learning rate below 2 / (largest curvature of the cost)",
            given=f"learning_rate = {rate:g}, steps = {count}",
            remedy="lower learning_rate, or start nearer to the minimum",
        )
    return w
