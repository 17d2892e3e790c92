"""Ring networks on their lattice: cost against one neuron at a time, gradient against differences, training, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from ring_networks import ACTIVATION, smooth_data, smooth_weights, two_layer

from sftsolve.errors import ActionError, ConfigError, GridError, StepError
from sftsolve.grid import Grid
from sftsolve.network import low_pass, ring_perceptron, ring_two_layer

# --- the lattice -------------------------------------------------------------------------------------------------------


def by_position(values, first, step):
    """Values as a function of the position in units of a, on a ring of 4N of them."""
    turn = step * len(values)
    table = {first + step * k: value for k, value in enumerate(values)}
    return lambda position: table[(position - first) % turn + first]


def slow_sum_of_squares(network, w, activation, kind):
    """sum (Y - Z)^2 from the formulas of the two geometries, one neuron at a time."""

    def sigma(z):
        return sum(c * z**k for k, c in enumerate(activation))

    total = 0.0
    for example_inputs, example_targets in zip(network.inputs, network.targets, strict=True):
        fields = [by_position(field, 1, 2) for field in w]
        target = by_position(example_targets, 0, 4)
        for i in range(network.units):
            x = 4 * i
            if kind == "perceptron":
                unit = by_position(example_inputs, 2, 4)
                z = sigma(fields[0](x + 1) * unit(x + 2) + fields[0](x - 1) * unit(x - 2))
            else:
                unit = by_position(example_inputs, 0, 4)

                def hidden(y, unit=unit, fields=fields):
                    return sigma(fields[0](y + 1) * unit(y + 2) + fields[0](y - 1) * unit(y - 2))

                z = fields[1](x + 1) * hidden(x + 2) + fields[1](x - 1) * hidden(x - 2)
            total += (target(x) - z) ** 2
    return total


CASES = [
    ("two-layer", [0.4, 0.7]),
    ("two-layer", [0.4, 0.7, -0.3]),
    ("two-layer", [0.1, 0.7, -0.3, 0.2]),
    ("perceptron", None),
    ("perceptron", [0.2, 0.9, 0.4]),
]


def random_network(kind, activation, units=5):
    rng = np.random.default_rng(7)
    inputs, targets = rng.standard_normal((2, 3, units))
    make = ring_perceptron if kind == "perceptron" else ring_two_layer
    network = make(inputs, targets, activation, 0.05)
    return network, rng.standard_normal(network.shape)


@pytest.mark.parametrize(("kind", "activation"), CASES)
def test_cost_is_that_of_the_neurons_one_by_one(kind, activation):
    network, w = random_network(kind, activation)
    squares = slow_sum_of_squares(network, w, activation or [0, 1], kind)
    assert network.cost(w, normalisation="network") == pytest.approx(squares, rel=1e-13)
    assert network.cost(w) == pytest.approx(squares / (2 * 3), rel=1e-13)
    residual = network.outputs(w) - network.targets
    assert np.sum(residual**2) == pytest.approx(squares, rel=1e-13)


@pytest.mark.parametrize("normalisation", ["mean", "network"])
@pytest.mark.parametrize(("kind", "activation"), CASES)
def test_gradient_is_the_finite_difference_of_the_cost(kind, activation, normalisation):
    network, w = random_network(kind, activation)
    numeric = np.zeros_like(w)
    h = 2e-3
    for place in np.ndindex(w.shape):
        values = []
        for step in (-2, -1, 1, 2):
            moved = w.copy()
            moved[place] += step * h
            values.append(network.cost(moved, normalisation))
        numeric[place] = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * h)
    gradient = network.gradient(w, normalisation)
    assert np.abs(gradient - numeric).max() < 1e-8 * np.abs(gradient).max()


@pytest.mark.parametrize("units", [1, 2, 3])
def test_smallest_rings(units):
    network, w = random_network("two-layer", ACTIVATION, units)
    squares = slow_sum_of_squares(network, w, ACTIVATION, "two-layer")
    assert network.cost(w, "network") == pytest.approx(squares, rel=1e-13)


def test_other_inputs_and_a_single_field_without_its_axis():
    network, w = random_network("perceptron", None)
    assert np.array_equal(network.outputs(w[0], network.inputs[1:2]), network.outputs(w)[1:2])
    assert network.gradient(w[0]).shape == (10,)
    assert np.array_equal(network.gradient(w[0]), network.gradient(w)[0])


def test_training_is_descent_on_the_cost():
    network, w = two_layer(), 0.3 * smooth_weights(8)
    costs = []
    trained = network.train(w, learning_rate=0.05, steps=40, history=costs)
    assert len(costs) == 41
    assert costs[0] == network.cost(w) and costs[-1] == network.cost(trained)
    assert np.all(np.diff(costs) < 0)
    by_hand = w.copy()
    for _ in range(40):
        by_hand = by_hand - 0.05 * network.gradient(by_hand)
    assert np.allclose(trained, by_hand, rtol=0, atol=1e-15)
    # 1/(2L) against 1: the sum takes 2L times shorter steps.
    scaled = network.train(w, learning_rate=0.05 / 6, steps=40, normalisation="network")
    assert np.allclose(scaled, trained, rtol=0, atol=1e-13)
    assert np.array_equal(network.train(w, 0.1, 0), w)


def test_linear_perceptron_relaxes_as_its_normal_modes():
    # X = 1, Y = 0: Z_i = w(x+a) + w(x-a), and in outputs Z -> (1 - 4 eta) Z for the plain sum of squares.
    network = ring_perceptron(np.ones((1, 6)), np.zeros((1, 6)), spacing=0.1)
    w = np.random.default_rng(1).standard_normal((1, 12))
    after = network.train(w, learning_rate=0.05, steps=3, normalisation="network")
    assert np.allclose(network.outputs(after), (1 - 4 * 0.05) ** 3 * network.outputs(w), rtol=1e-13)


def test_leaving_a_saddle_is_no_divergence():
    network = two_layer(activation=[0.0, 0.7])
    w = smooth_weights(8, 1e-8)
    trained = network.train(w, learning_rate=0.3, steps=400)
    assert np.abs(network.gradient(trained)).max() < np.abs(trained).max()
    assert network.cost(trained) < 0.5 * network.cost(w)


# --- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"inputs": np.ones(8)}, GridError, "examples on the first axis"),
        ({"targets": np.ones((3, 9))}, GridError, "belong together"),
        ({"inputs": np.full((3, 8), np.nan)}, ConfigError, "24 NaN"),
        ({"inputs": [["a"] * 8] * 3}, ConfigError, "not real numbers"),
        ({"inputs": [[1, 2], [3]]}, GridError, "ragged"),
        ({"spacing": 0.0}, ConfigError, "spacing"),
        ({"spacing": "wide"}, ConfigError, "spacing"),
        ({"activation": []}, ConfigError, "ascending order"),
        ({"activation": [1.0, np.inf]}, ConfigError, "ascending order"),
        ({"activation": "relu"}, ConfigError, "ascending order"),
    ],
)
def test_bad_arguments_are_named(change, error, words):
    inputs, targets = smooth_data(8)
    arguments = {"inputs": inputs, "targets": targets, "activation": [0.4, 0.7], "spacing": 0.1} | change
    with pytest.raises(error, match=words):
        ring_two_layer(**arguments)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda n: n.action(labels="coupling"), ActionError, "labels='talk'"),
        (lambda n: n.action(derivatives_order=4), ActionError, "derivatives_order in"),
        (lambda n: n.action(fields_order=1), ActionError, "fields_order in"),
        (lambda n: n.action(fields_order=2.5), ActionError, "fields_order in"),
        (lambda n: n.action(normalisation="means"), ConfigError, "did you mean mean"),
        (lambda n: n.cost(n.zeros(), "talk"), ConfigError, "mean, network"),
        (lambda n: n.gradient(np.zeros((2, 15))), GridError, r"\(2, 16\)"),
        (lambda n: n.outputs(n.zeros(), np.ones((1, 7))), ConfigError, "8 units"),
        (lambda n: n.train(n.zeros(), learning_rate=-1, steps=3), ConfigError, "learning_rate"),
        (lambda n: n.train(n.zeros(), learning_rate=0.1, steps=2.5), ConfigError, "steps"),
        (lambda n: n.train(n.zeros() + 1, learning_rate=1e3, steps=50), StepError, "lower learning_rate"),
        (lambda n: n.grid(0), ConfigError, "points"),
        (lambda n: n.action().sources_at(Grid(shape=(16,), length=(2.0,))), GridError, "network.grid"),
        (lambda n: n.action().sources_at(Grid(shape=(16,), length=(1.0,), boundary={"value": 0})), GridError, "network.grid"),
        (lambda n: low_pass(n.zeros(), -1), ConfigError, "modes"),
    ],
)
def test_bad_calls_are_named(call, error, words):
    with pytest.raises(error, match=words):
        call(two_layer())
