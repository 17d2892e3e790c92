"""The networks' theories once discretised: the solver's force and cost against the real networks."""

from __future__ import annotations

import numpy as np
import pytest

from sftsolve.network import image_filter, ring_perceptron, ring_two_layer, square_offsets
from sftsolve.system import discretise


def smooth_network(units, activation=(0.4, 0.7)):
    x = np.arange(units) / units
    number = np.arange(3)[:, None]
    inputs = 1 + 0.3 * np.cos(2 * np.pi * (x - 0.13 * number))
    targets = 0.5 * np.sin(2 * np.pi * x + 0.7 * number) + 0.2
    return ring_two_layer(inputs, targets, activation, 1 / (4 * units))


def smooth_weights(network, amplitude):
    x = (np.arange(network.shape[1]) + 0.5) / network.shape[1]
    return amplitude * np.stack([np.cos(2 * np.pi * x), np.sin(2 * np.pi * x) + 0.6])


@pytest.mark.parametrize(("offsets", "kappa"), [(square_offsets(), 0.1), ([(0, 0), (2, -1)], 0.7), ([(0, 1)], 0.0)])
def test_image_filter_is_its_action_to_rounding(offsets, kappa):
    rng = np.random.default_rng(4)
    inputs, targets = rng.standard_normal((2, 5, 7, 6))
    network = image_filter(inputs, targets, offsets, kappa)
    system = discretise(network.action(), network.grid(), order=2, dynamics="gradient-flow")
    for w in (network.zeros(), rng.standard_normal(network.shape)):
        assert system.cost(w) == pytest.approx(network.cost(w), rel=1e-12)
        gradient = network.gradient(w)
        assert np.abs(system.force(w) + gradient).max() < 1e-12 * np.abs(gradient).max()


def test_ring_force_is_the_smooth_gradient_to_first_and_second_order_in_the_amplitude():
    network = smooth_network(256)
    system = discretise(network.action(), network.grid(), order=2, dynamics="gradient-flow")

    def errors(amplitude):
        w = smooth_weights(network, amplitude)
        gradient = network.low_pass(network.gradient(w))
        return np.abs(system.force(w) + gradient).max(axis=1) / np.abs(gradient).max(axis=1)

    amplitudes = np.array([1e-2, 3e-3, 1e-3, 3e-4])
    measured = np.array([errors(amplitude) for amplitude in amplitudes])
    slopes = np.diff(np.log(measured), axis=0) / np.diff(np.log(amplitudes))[:, None]
    assert np.abs(slopes - [1, 2]).max() < 0.06
    # Derivatives carry a^2, so that differences of order 2 on the spacing 2a add errors of order a^4 only.
    assert errors(1e-9).max() < 2e-8


@pytest.mark.parametrize("activation", [None, (0.2, 0.9, 0.4)])
def test_perceptron_theory_errs_by_the_spacing_to_the_fourth_power(activation):
    errors = []
    for units in (32, 64, 128):
        two_layer = smooth_network(units)
        network = ring_perceptron(two_layer.inputs, two_layer.targets, activation, two_layer.spacing)
        action = network.action(fields_order=4, normalisation="network")
        system = discretise(action, network.grid(), order=2, dynamics="gradient-flow")
        w = smooth_weights(network, 0.5)[:1]
        gradient = network.low_pass(network.gradient(w, "network"))
        cost = system.cost(w) / (2 * network.spacing) / network.cost(w, "network") - 1
        errors.append([np.abs(system.force(w) + gradient).max() / np.abs(gradient).max(), abs(cost)])
    assert np.abs(np.diff(np.log2(errors), axis=0) + 4).max() < 0.1


def test_talk_normalisation_scales_the_force_and_reverses_the_second_layer():
    network = smooth_network(16)
    talk, plain = (
        discretise(network.action(normalisation=n), network.grid(), order=2, dynamics="gradient-flow")
        for n in ("talk", "network")
    )
    w, reverse = smooth_weights(network, 0.3), np.array([[1.0], [-1.0]])
    expected = 2 / network.spacing * plain.force(w) * reverse
    assert np.abs(talk.force(w * reverse) - expected).max() < 1e-12 * np.abs(expected).max()
