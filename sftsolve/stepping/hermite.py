"""Dense output from what is known at both ends of a step: the polynomial that meets values and derivatives there."""

from __future__ import annotations

from functools import cache

import numpy as np


@cache
def _coefficients(derivatives: int) -> np.ndarray:
    """Columns: ascending coefficients of the polynomials that meet one of the data by 1 and the others by 0.

    The data are p, p', ..., p^(derivatives) at 0 and then at 1.
    """
    size = 2 * (derivatives + 1)
    rows = []
    for place in (0.0, 1.0):
        for order in range(derivatives + 1):
            factors = [np.prod(np.arange(power - order + 1, power + 1)) if power >= order else 0.0 for power in range(size)]
            rows.append([f * place ** max(power - order, 0) for power, f in enumerate(factors)])
    return np.linalg.inv(np.array(rows, dtype=np.float64))


def hermite(c: float, derivatives: int) -> tuple[list[float], list[float]]:
    """Weights of the data in the value and in the slope of the Hermite polynomial at c of [0, 1].

    Parameters
    ----------
    derivatives : 1 is the cubic, of order 4 in h; 2 the quintic, of order 6

    Returns
    -------
    values, slopes : each 2 (derivatives + 1) weights, of p, p' (p'') at 0 and then at 1, derivatives taken with respect to c
    """
    coefficients = _coefficients(derivatives)
    powers = np.arange(len(coefficients))
    value = float(c) ** powers
    slope = powers * float(c) ** np.maximum(powers - 1, 0)
    return (value @ coefficients).tolist(), (slope @ coefficients).tolist()
