"""A network small enough to train by hand: y = b . tanh(A x), 8 parameters, 10 examples, as an operator on a grid of 8 cells."""

import numpy as np

import sftsolve as sft
from sftsolve.kernels.protocol import Estimate


class SmallNetwork:
    """C = sum (f - y)^2 / (2 n) of weights w = (A (4), b (4)); the grid's cells have unit volume."""

    fields = ("w",)

    def __init__(self):
        self.x = np.linspace(-1.5, 1.5, 10)
        self.y = np.sin(2 * self.x) + 0.3

    def start(self):
        return np.array([0.9, -0.6, 0.4, 1.3, 0.5, 0.3, -0.7, 0.2])

    def force(self, w):
        """-dC/dw by back-propagation."""
        a, b = w[:4], w[4:]
        hidden = np.tanh(np.outer(a, self.x))
        error = (b @ hidden - self.y) / len(self.x)
        return -np.concatenate([b * ((1 - hidden**2) @ (error * self.x)), hidden @ error])

    def jvp(self, w, d):
        """F' d, by complex steps."""
        return self.force(w + 1e-30j * d).imag * 1e30

    def bind(self, fields, grid, layout):
        return _Bound(self, layout)

    def problem(self, **friction):
        """(action, grid) of the network's training."""
        action = sft.Action(["w"], "0", kernels=[self], friction=sft.Friction(**friction) if friction else None)
        return action, sft.Grid(shape=(8,), length=(8.0,))


class _Bound:
    def __init__(self, network, layout):
        self.network, self.layout = network, layout

    def add_force(self, state, out, t):
        out.w[0] += self.network.force(state.w[0])

    def add_jvp(self, state, direction, out, t):
        out.w[0] += self.network.jvp(state.w[0], direction.w[0])

    def energy(self, state, t):
        a, b = state.w[0, :4], state.w[0, 4:]
        return float(np.mean((b @ np.tanh(np.outer(a, self.network.x)) - self.network.y) ** 2) / 2)

    def symbol(self):
        return None

    def bound(self, t=0.0):
        return None

    def estimate(self):
        return Estimate(0.0, 0.0, 0.0)
