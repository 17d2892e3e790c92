"""A system written in NumPy, cell by cell: what the tests of the steppers step, so that they rest on no other room."""

from __future__ import annotations

import numpy as np

from sftsolve.friction import Friction
from sftsolve.grid import Grid
from sftsolve.state import Layout, State


class PointwiseSystem:
    """F = force(w, t) in every cell, without neighbours; `force(w, t, out)` writes into `out`, all shaped (field, *shape)."""

    action = None
    order = 2
    linear = None
    time_dependent = drifting = True
    corrected = False

    def __init__(self, shape, force, *, fields=("w",), gamma=1.0, dynamics="damped", dtype="float64", radius=0.0):
        self.grid = Grid(shape=shape, length=[1.0] * len(shape))
        self.fields = tuple(fields)
        self.dynamics, self.dtype = dynamics, dtype
        self.layout = Layout.of(self.grid, 2, dtype)
        self.clock = Friction(gamma=gamma).clock(self.grid.dimension, dynamics)
        self.pointwise = force
        self.radius = radius
        self.calls = 0

    def state(self, w, velocity=0.0, t=0.0):
        count = len(self.fields)
        momentum = self.layout.zeros(count) if self.dynamics == "damped" else None
        state = State(self.layout, self.layout.zeros(count), momentum, t)
        state.w[...] = w
        if momentum is not None:
            state.u[...] = np.asarray(velocity) * self.clock.scale
        return state

    def force_into(self, state, out, t=None):
        self.calls += 1
        interior = self.layout.interior
        self.pointwise(interior(state.storage), state.t if t is None else t, interior(out.storage))

    def cost_of(self, state, t=None):
        return float((state.w**2).sum() / 2 * self.grid.cell_volume)

    def power_of(self, state, t=None):
        return np.nan  # the forces of the tests tell nothing of their rates

    def switches(self, first, last):
        return []

    def enter(self, t):
        pass

    def check_times(self, first, last):
        pass

    def spectral_radius(self, state):
        return self.radius


def springs(stiffness):
    """F = -stiffness * w."""

    def force(w, t, out):
        np.multiply(w, stiffness, out=out)
        np.negative(out, out=out)

    return force


def damped_mode(t, stiffness, gamma, w0, v0):
    """w and w_t of w'' + gamma w' + stiffness w = 0, any damping (theory of the damped oscillator)."""
    root = np.sqrt(np.asarray(gamma**2 / 4 - stiffness, dtype=complex))
    safe = np.where(root == 0, 1.0, root)
    sine = np.where(root == 0, t, np.sinh(safe * t) / safe)
    decay = np.exp(-gamma * t / 2)
    w = decay * (w0 * np.cosh(root * t) + (v0 + gamma * w0 / 2) * sine)
    v = decay * (v0 * np.cosh(root * t) - (stiffness * w0 + gamma * v0 / 2) * sine)
    return w.real, v.real
