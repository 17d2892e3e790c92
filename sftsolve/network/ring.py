"""The two toy networks on a ring whose continuum limit is a local field theory: perceptron and two layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sftsolve.action import Action
from sftsolve.errors import ConfigError
from sftsolve.friction import Friction
from sftsolve.grid import Grid
from sftsolve.network import checks
from sftsolve.network.descent import descend
from sftsolve.network.expansion import Monomial
from sftsolve.network.interpolation import TrigonometricInterpolant, low_pass
from sftsolve.network.ring_theory import (
    LATTICE_NORMALISATIONS,
    PERCEPTRON_NAMES,
    TWO_LAYER_NAMES,
    RingData,
    ring_action,
    theory_table,
)
from sftsolve.network.wiring import Layer, backward, forward

Array = np.ndarray[Any, np.dtype[np.float64]]


class RingNetwork:
    """A locally wired network on a ring: exact on its lattice, and as a field theory by `action`.

    Weights `w` are arrays (field, 2N): field after field on the odd multiples a, 3a, 5a, ... of the spacing, the cell
    centres of `grid()`. A network of one field also takes (2N,). Make one by `ring_perceptron` or `ring_two_layer`.

    Attributes: fields, inputs and targets (L, N), spacing a, length 4aN, shape (field, 2N).
    """

    def __init__(
        self, layers: Sequence[Layer], names: Mapping[Monomial, str], inputs: ArrayLike, targets: ArrayLike, spacing: float
    ):
        checked_inputs, checked_targets = checks.examples(inputs, targets, ("N",))
        self.inputs = checked_inputs.astype(np.float64)
        self.targets = checked_targets.astype(np.float64)
        self.spacing = checks.number("spacing", spacing, positive=True)
        self.fields = tuple(layer.field for layer in layers)
        self.examples, self.units = self.inputs.shape
        self.length = 4 * self.spacing * self.units
        self.shape = (len(layers), 2 * self.units)
        self._layers = tuple(layers)
        self._names = dict(names)

    def __repr__(self) -> str:
        return f"RingNetwork(fields={self.fields}, examples={self.examples}, units={self.units}, spacing={self.spacing:g})"

    def zeros(self) -> Array:
        """Weights that all vanish, (field, 2N)."""
        return np.zeros(self.shape)

    def grid(self, points: int | None = None) -> Grid:
        """The ring as a periodic Grid of length 4aN: the 2N sites of the weights, or `points` cells of any number."""
        count = self.shape[1] if points is None else checks.whole("points", points, least=1)
        return Grid(shape=(count,), length=(self.length,), boundary="periodic")

    def outputs(self, w: ArrayLike, inputs: ArrayLike | None = None) -> Array:
        """Z, shape (L, N), of the training inputs or of others."""
        data = self.inputs if inputs is None else checks.examples(inputs, inputs, ("N",))[0].astype(np.float64)
        if data.shape[1] != self.units:
            raise ConfigError("the inputs do not fit the ring", expected=f"{self.units} units", given=f"shape {data.shape}")
        return forward(self._layers, checks.weights(w, self.shape), data)[0]

    def cost(self, w: ArrayLike, normalisation: str = "mean") -> float:
        """`factor * sum_l sum_i (Y - Z)^2`, factor 1/(2L) for "mean" and 1 for "network"."""
        residual = self.outputs(w) - self.targets
        return self._factor(normalisation) * float(np.vdot(residual, residual))

    def gradient(self, w: ArrayLike, normalisation: str = "mean") -> Array:
        """dC/dW_k for every single weight, shaped like `w`: back-propagation on the exact lattice, no interpolation."""
        weights = checks.weights(w, self.shape)
        outputs, tape = forward(self._layers, weights, self.inputs)
        error = 2 * self._factor(normalisation) * (outputs - self.targets)
        return backward(self._layers, weights, tape, error).reshape(np.shape(w))

    def train(
        self,
        w: ArrayLike,
        learning_rate: float,
        steps: int,
        normalisation: str = "mean",
        history: list[float] | None = None,
    ) -> Array:
        """Gradient descent `w <- w - learning_rate dC/dw`, `steps` times; the final weights, a new array.

        `history`, a list, receives the steps + 1 costs. Raises ConfigError for a learning rate or a number of steps out
        of range, StepError where descent diverges.
        """
        return descend(
            checks.weights(w, self.shape),
            lambda weights: self.gradient(weights, normalisation),
            lambda weights: self.cost(weights, normalisation),
            learning_rate=learning_rate,
            steps=steps,
            history=history,
        ).reshape(np.shape(w))

    def low_pass(self, w: Array, modes: int | None = None) -> Array:
        """The smooth part of a field or a gradient: waves of at most `modes` (default N/2) periods around the ring."""
        return low_pass(w, modes)

    def action(
        self,
        fields_order: int = 2,
        derivatives_order: int = 2,
        labels: str = "talk",
        normalisation: str = "mean",
        friction: Friction | None = None,
    ) -> Action:
        """The network's field theory, derived from its wiring by expansion in the spacing and in the fields.

        Its force at a smooth state is minus the low-passed `gradient` of the same normalisation, up to the orders left
        out; `System.cost` is 2a times `cost`. The sources are functions of the grid (trigonometric interpolation of the
        data), so any grid of this length and periodicity will do.

        Parameters
        ----------
        fields_order : highest power of the fields kept, 2 (bilinear), 3 or 4
        derivatives_order : highest power of the spacing kept, 0 or 2
        labels : "talk", one field per layer on the odd multiples of a
        normalisation : "mean", 1/(2L) sum; "network", the sum, so that time counts steps; "talk", the printed table: per
            output, times 1/a, with the opposite sign on what is linear in the targets (w2 -> -w2)
        friction : handed to the Action

        Sources: the talk's J1..J3, K1..K7 and the parameter m2 for two layers (arXiv:2503.08827); for the perceptron J1
        (constant), J2 (w), J3 (w**2), K1 (w w'), K2 (w w''), K3 (w'), K4 (w''). Any further one spells its monomial:
        S_w1_w2xx multiplies w1 d(w2, x, 2).

        Raises
        ------
        ActionError : orders or labels that are not available
        ConfigError : an unknown normalisation
        """
        sites = self._layers[0].input_site, self._layers[-1].output_site
        inputs, targets = (
            TrigonometricInterpolant(samples, self.length, self.spacing * site)
            for samples, site in zip((self.inputs, self.targets), sites, strict=True)
        )
        return ring_action(
            self._layers,
            self._names,
            RingData(inputs, targets, self.examples, self.length),
            self.spacing,
            fields_order=fields_order,
            derivatives_order=derivatives_order,
            labels=labels,
            normalisation=normalisation,
            friction=friction,
        )

    def table(self, fields_order: int = 2, derivatives_order: int = 2) -> dict[str, Any]:
        """The derived coefficients as SymPy expressions: of c = sum (Y - Z)^2 per output, before any normalisation.

        Symbols: a, r, q, p, X, Xx, Xxx, Y (a sum over the examples understood) and N_l, their number; m2/2 multiplies w2**2.
        """
        return theory_table(self._layers, self._names, fields_order, derivatives_order)

    def _factor(self, normalisation: str) -> float:
        return checks.choice("normalisation of a network's cost", normalisation, LATTICE_NORMALISATIONS)(
            self.examples, self.spacing
        )


def ring_perceptron(
    inputs: ArrayLike, targets: ArrayLike, activation: Sequence[float] | None = None, spacing: float = 1.0
) -> RingNetwork:
    """One layer on a ring, field `w`: `Z(x) = sigma( w(x+a) X(x+2a) + w(x-a) X(x-2a) )`.

    Outputs sit at x = 4ai, inputs at 4ai + 2a, i = 0..N-1 (arXiv:2503.08827).

    Parameters
    ----------
    inputs, targets : (L, N), X at 4ai + 2a and Y at 4ai
    activation : coefficients [r, q, p, ...] of sigma(z) = r + q z + p z**2 + ...; None is the linear Z
    spacing : a

    Raises
    ------
    GridError, ConfigError : shapes that do not match, numbers that are not finite
    """
    coefficients = None if activation is None else _coefficients(activation)
    return RingNetwork([Layer("w", 0, 2, coefficients)], PERCEPTRON_NAMES, inputs, targets, spacing)


def ring_two_layer(inputs: ArrayLike, targets: ArrayLike, activation: Sequence[float], spacing: float) -> RingNetwork:
    """Two layers on a ring, fields `w1` and `w2`, with one hidden unit between every two outputs.

        h(x) = sigma( w1(x+a) X(x+2a) + w1(x-a) X(x-2a) ),      Z(x) = w2(x+a) h(x+2a) + w2(x-a) h(x-2a)

    Inputs and outputs sit at x = 4ai, hidden units at 4ai + 2a, i = 0..N-1 (arXiv:2503.08827).

    Parameters
    ----------
    inputs, targets : (L, N), X and Y at 4ai
    activation : coefficients [r, q, p, ...] of sigma(z) = r + q z + p z**2 + ...
    spacing : a

    Raises
    ------
    GridError, ConfigError : shapes that do not match, numbers that are not finite
    """
    layers = [Layer("w1", 2, 0, _coefficients(activation)), Layer("w2", 0, 2)]
    return RingNetwork(layers, TWO_LAYER_NAMES, inputs, targets, spacing)


def _coefficients(activation: Sequence[float]) -> tuple[float, ...]:
    array = np.asarray(activation)
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "biuf" or not np.isfinite(array).all():
        raise ConfigError(
            "the activation is not a polynomial",
            expected="its finite coefficients in ascending order, [r, q, p, ...] for r + q z + p z**2",
            given=repr(activation),
        )
    return tuple(float(c) for c in array)
