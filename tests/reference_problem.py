"""The problem at which orders in time are measured: 64 modes, nonlinear, driven, started at rest; its solutions by SciPy.

    w_theta = u,   eps u_theta = F - kappa u,   F = D w_xx + w - w^3 + A cos(f theta),   0 <= theta <= 1

with f = 3 and spectral radius 4 D/dx^2 = 102, for gamma = 0 ... 1e8 and the gradient flow (gamma = infinity here).
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from scipy.integrate import solve_ivp

import sftsolve as sft

CELLS, STIFFNESS, RADIUS = 64, 0.1, 102.0
LENGTH = CELLS * math.sqrt(4 * STIFFNESS / RADIUS)
SPACING = LENGTH / CELLS
COUPLING = STIFFNESS / SPACING**2
FLOW = math.inf
_LEFT, _RIGHT = np.arange(-1, CELLS - 1), np.arange(1, CELLS + 1) % CELLS


def system(gamma, *, drive=1.0, frequency=3.0, stiffness=STIFFNESS, cells=CELLS, dtype="float64", dynamics=None):
    """The problem discretised; all of them share one compiled module. `drive` is A, `frequency` f."""
    scale = 1.0 if gamma == FLOW else max(gamma, 1.0)
    friction = sft.Friction(gamma=1.0 if gamma == FLOW else gamma)
    dynamics = dynamics or ("gradient-flow" if gamma == FLOW else "damped")
    return _discretised(friction, dynamics, drive, frequency, stiffness, scale, cells, dtype)


def varying(gamma, dynamics):
    """The problem with gamma(t) of order one, driven by cos(3 t)."""
    return _discretised(sft.Friction(gamma=gamma), dynamics, 1.0, 3.0, STIFFNESS, 1.0, CELLS, "float64")


def _discretised(friction, dynamics, drive, frequency, stiffness, scale, cells, dtype):
    action = sft.Action(
        fields=["w"],
        cost="D/2*grad2(w) - w**2/2 + w**4/4 - A*w*cos(f*t/scale)",
        parameters={"D": stiffness, "A": drive, "f": frequency, "scale": scale},
        friction=friction,
    )
    grid = sft.Grid(shape=(cells,), length=(cells * SPACING,))
    return sft.discretise(action, grid, dynamics=dynamics, dtype=dtype)


def start():
    """w at theta = 0, (CELLS,); the velocity vanishes."""
    x = (np.arange(CELLS) + 0.5) / CELLS
    return 0.3 * np.sin(2 * np.pi * x) + 0.2 * np.cos(6 * np.pi * x)


def force(w, theta, drive=1.0, frequency=3.0):
    """F in plain NumPy."""
    return COUPLING * (w[_LEFT] + w[_RIGHT]) + (1 - 2 * COUPLING) * w - w * w * w + drive * math.cos(frequency * theta)


def jacobian(w):
    """dF/dw, (CELLS, CELLS)."""
    one = np.eye(CELLS)
    return COUPLING * (one[_LEFT] - 2 * one + one[_RIGHT]) + np.diag(1 - 3 * w**2)


def slaved(gamma):
    """u at theta = 0 on the slow manifold, to order eps: F - eps (F' F + F_theta), where F_theta vanishes; (CELLS,)."""
    push = force(start(), 0.0)
    return push - gamma**-2 * jacobian(start()) @ push


@cache
def reference(gamma, frequency=3.0, from_rest=True):
    """w and u at theta = 1, (2, CELLS), to about 1e-12; u is F for the gradient flow.

    From rest, or for friction up to 1000 from the slow manifold.

    From gamma = 1000 on, the solution outside its initial layer, w_theta = F - eps (F' F + F_theta) from w_0 - eps F_0: it lacks
    terms of (eps RADIUS)^2 only, and Radau on (w, u) finds the same to 3e-14 at a thousand times the price.
    """
    tight = {"rtol": 1e-13, "atol": 1e-14}
    scale = 1.0 if gamma == FLOW else max(gamma, 1.0)
    eps, kappa = (0.0, 1.0) if gamma == FLOW else (scale**-2, gamma / scale)
    if gamma >= 1000:

        def slow(theta, w):
            push = force(w, theta, 1.0, frequency)
            return push - eps * (jacobian(w) @ push - frequency * math.sin(frequency * theta))

        end = solve_ivp(slow, (0, 1), start() - eps * force(start(), 0.0, 1.0, frequency), method="DOP853", **tight).y[:, -1]
        return np.stack([end, slow(1.0, end)])

    def equation(theta, y):
        return np.concatenate([y[CELLS:], (force(y[:CELLS], theta, 1.0, frequency) - kappa * y[CELLS:]) / eps])

    velocity = np.zeros(CELLS) if from_rest else slaved(gamma)
    y = solve_ivp(equation, (0, 1), np.concatenate([start(), velocity]), method="DOP853", **tight).y[:, -1]
    return y.reshape(2, CELLS)
