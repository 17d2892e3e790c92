"""The field theory of the ring networks: derived tables against the printed ones, forces and costs against the lattice."""

from __future__ import annotations

import numpy as np
import pytest
import sympy
from ring_networks import ACTIVATION, perceptron, smooth_weights, two_layer

from sftsolve.grid import Grid
from sftsolve.network import TrigonometricInterpolant, low_pass

# --- the table ---------------------------------------------------------------------------------------------------------


def test_two_layer_table_is_the_published_one():
    a, r, q, count, x0, x1, x2, y = sympy.symbols("a r q N_l X Xx Xxx Y")
    expected = {
        "m2": 8 * count * r**2,
        "J1": y**2,
        "J2": -4 * r * y,
        "J3": -8 * q * (x0 + 4 * a**2 * x2) * y,
        "K1": -48 * a**2 * q * y * x1,
        "K2": 4 * a**2 * count * r**2,
        "K3": -20 * a**2 * q * x0 * y,
        "K4": -16 * a**2 * q * x0 * y,
        "K5": -16 * a**2 * q * y * x1,
        "K6": -2 * r * a**2 * y,
        "K7": -4 * a**2 * q * x0 * y,
    }
    for activation in ([0.4, 0.7], ACTIVATION):
        table = two_layer(activation=activation).table()
        assert set(table) == set(expected)
        for name, entry in expected.items():
            assert sympy.expand(table[name] - entry) == 0, name
    ultralocal = two_layer().table(derivatives_order=0)
    assert set(ultralocal) == {"m2", "J1", "J2", "J3"}
    assert sympy.expand(ultralocal["J3"] + 8 * q * x0 * y) == 0


def test_perceptron_table_is_the_published_one():
    a, x0, x1, x2, y = sympy.symbols("a X Xx Xxx Y")
    expected = {
        "J1": y**2,
        "J2": -4 * y * (x0 + 2 * a**2 * x2),
        "J3": 4 * x0 * (x0 + 4 * a**2 * x2),
        "K1": 16 * a**2 * x0 * x1,
        "K2": 4 * a**2 * x0**2,
        "K3": -8 * a**2 * x1 * y,
        "K4": -2 * a**2 * x0 * y,
    }
    table = perceptron().table()
    assert set(table) == set(expected)
    for name, entry in expected.items():
        assert sympy.expand(table[name] - entry) == 0, name


def exact_data(x, examples=3):
    """X, X', X'', Y of `smooth_data` in closed form."""
    number = np.arange(examples)[:, None]
    phase = 2 * np.pi * (x - 0.13 * number)
    k = 2 * np.pi
    big_x = 1 + 0.3 * np.cos(phase), -0.3 * k * np.sin(phase), -0.3 * k**2 * np.cos(phase)
    return *big_x, 0.5 * np.sin(k * x + 0.7 * number) + 0.2


@pytest.mark.parametrize("points", [None, 5, 64, 101])
@pytest.mark.parametrize("units", [8, 9])
def test_talk_normalisation_gives_the_printed_entries(units, points):
    r, q = 0.4, 0.7
    network = two_layer(units, [r, q])
    a = network.spacing
    grid = network.grid(points)
    x0, x1, x2, y = exact_data(grid.coordinates[0])
    printed = {
        "J1": (y**2).sum(0) / a,
        "J2": 4 * r / a * y.sum(0),
        "J3": 8 * q / a * ((x0 + 4 * a**2 * x2) * y).sum(0),
        "K1": 48 * a * q * (y * x1).sum(0),
        "K2": np.full(grid.shape, 4 * a * 3 * r**2),
        "K3": 20 * q * a * (x0 * y).sum(0),
        "K4": 16 * a * q * (x0 * y).sum(0),
        "K5": 16 * a * q * (y * x1).sum(0),
        "K6": 2 * r * a * y.sum(0),
        "K7": 4 * q * a * (x0 * y).sum(0),
    }
    action = network.action(labels="talk", normalisation="talk")
    sources = action.sources_at(grid)
    assert set(sources) == set(printed)
    for name, entry in printed.items():
        assert np.abs(sources[name] - entry).max() < 1e-11 * np.abs(entry).max(), name
    assert action.parameters == pytest.approx({"m2": 8 * 3 * r**2 / a})


def test_normalisations_differ_by_their_factors():
    network = two_layer()
    grid = network.grid()
    talk, plain, mean = (network.action(normalisation=n).sources_at(grid) for n in ("talk", "network", "mean"))
    for name in talk:
        sign = 1 if name in ("J1", "K2") else -1
        assert np.allclose(plain[name], sign * network.spacing / 2 * talk[name], rtol=1e-13)
        assert np.allclose(mean[name], plain[name] / (2 * network.examples), rtol=1e-13)


def test_names_stay_when_entries_vanish():
    talk = {"J1", "J2", "J3", "K1", "K2", "K3", "K4", "K5", "K6", "K7"}
    network = two_layer(activation=[0.0, 0.7])
    assert set(network.action().sources_at(network.grid())) == talk
    assert network.action().parameters == {"m2": 0.0}
    constant = two_layer(activation=[0.4])
    assert set(constant.action().sources_at(constant.grid())) == talk


# --- the theory against the lattice ------------------------------------------------------------------------------------


def density_value_and_force(action, grid, w):
    """The cost integral and its functional derivative from the action's own text, with Fourier derivatives.

    F = -sum_n (-D)^n dc/d(D^n w), every factor evaluated on the points of the grid.
    """
    fields, deepest = action.fields, 2
    jets = {(field, n): sympy.Symbol(f"{field}_{n}") for field in fields for n in range(deepest + 1)}
    x = sympy.Symbol("x")
    sources = action.sources_at(grid)
    names = {name: sympy.Symbol(name) for name in (*sources, *action.parameters)}
    field_of = {jets[field, 0]: field for field in fields}
    local = {**names, **{field: jets[field, 0] for field in fields}, "x": x, "d": lambda f, _, n=1: jets[field_of[f], int(n)]}
    density = sympy.sympify(str(action.cost), locals=local)

    waves = 2j * np.pi * np.fft.rfftfreq(grid.shape[0], d=grid.spacing[0])

    def derivative(values, n):
        return np.fft.irfft(waves**n * np.fft.rfft(values), n=grid.shape[0])

    values = {jets[field, n]: derivative(w[k], n) for k, field in enumerate(fields) for n in range(deepest + 1)}
    values |= {names[name]: value for name, value in (sources | dict(action.parameters)).items()}
    symbols = list(values)

    def evaluate(expression):
        result = sympy.lambdify(symbols, expression, "numpy")(*values.values())
        return np.broadcast_to(result, grid.shape)

    force = [
        -sum((-1) ** n * derivative(evaluate(sympy.diff(density, jets[field, n])), n) for n in range(deepest + 1))
        for field in fields
    ]
    return float(evaluate(density).sum() * grid.spacing[0]), np.array(force)


def gradient_errors(network, normalisation, amplitudes, **orders):
    """Relative distance, per layer, between the low-passed gradient and minus the theory's force."""
    action = network.action(normalisation=normalisation, **orders)
    errors = []
    for amplitude in amplitudes:
        w = smooth_weights(network.units, amplitude)
        gradient = network.low_pass(network.gradient(w, normalisation))
        force = density_value_and_force(action, network.grid(), w)[1]
        errors.append(np.abs(gradient + force).max(axis=1) / np.abs(gradient).max(axis=1))
    return np.array(errors)


@pytest.mark.parametrize("normalisation", ["mean", "network"])
def test_force_is_the_smooth_gradient_to_first_and_second_order_in_the_amplitude(normalisation):
    network = two_layer(256, [0.4, 0.7])
    amplitudes = np.array([1e-2, 3e-3, 1e-3, 3e-4])
    errors = gradient_errors(network, normalisation, amplitudes)
    slopes = np.diff(np.log(errors), axis=0) / np.diff(np.log(amplitudes))[:, None]
    assert np.abs(slopes - [1, 2]).max() < 0.06
    # What is left at vanishing amplitude is the truncation in a, (k a)^4 = 1.4e-9 for the longest wave.
    assert gradient_errors(network, normalisation, [1e-9]).max() < 5e-9


@pytest.mark.parametrize(
    ("make", "activation"),
    [(two_layer, [0.4, 0.7]), (perceptron, None), (perceptron, [0.2, 0.9, 0.4])],
)
def test_theory_complete_in_the_fields_errs_by_the_spacing_to_the_fourth_power(make, activation):
    # These costs are polynomials of degree four at most in the weights, so only the truncation in a is left.
    for derivatives_order, order in ((2, 4), (0, 2)):
        options = {"fields_order": 4, "derivatives_order": derivatives_order}
        errors, costs = [], []
        for units in (32, 64, 128):
            network = make(units, activation)
            w = smooth_weights(units, 0.5)[: len(network.fields)]
            action = network.action(**options)
            value, force = density_value_and_force(action, network.grid(), w)
            gradient = network.low_pass(network.gradient(w))
            errors.append(np.abs(gradient + force).max() / np.abs(gradient).max())
            costs.append(abs(value / (2 * network.spacing) / network.cost(w) - 1))
        assert np.abs(np.diff(np.log2(errors)) + order).max() < 0.1
        assert np.abs(np.diff(np.log2(costs)) + order).max() < 0.1


def test_talk_normalisation_is_the_same_theory_with_the_second_layer_reversed():
    network = two_layer(32)
    grid, w = network.grid(), smooth_weights(32, 0.3)
    reversed_w = w * np.array([[1], [-1]])
    value, force = density_value_and_force(network.action(normalisation="network"), grid, w)
    talk_value, talk_force = density_value_and_force(network.action(normalisation="talk"), grid, reversed_w)
    assert talk_value == pytest.approx(2 / network.spacing * value, rel=1e-12)
    assert np.allclose(
        talk_force * np.array([[1], [-1]]), 2 / network.spacing * force, rtol=0, atol=1e-10 * np.abs(talk_force).max()
    )


def test_finer_grids_carry_the_same_theory():
    network = two_layer(16)
    values = []
    for points in (32, 64, 96):
        grid = network.grid(points)
        x = grid.coordinates[0]
        w = np.stack([np.cos(2 * np.pi * x), np.sin(2 * np.pi * x) + 0.6])
        values.append(density_value_and_force(network.action(), grid, w)[0])
    assert values[1:] == pytest.approx(values[:1] * 2, rel=1e-12)


# --- between the sites -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 7, 8])
def test_interpolant_passes_through_its_samples(count):
    samples = np.random.default_rng(3).standard_normal((2, count))
    site, length = 0.37, 2.5
    on_sites = Grid(shape=(count,), length=(length,), origin=(site - length / count / 2,))
    assert np.allclose(TrigonometricInterpolant(samples, length, site).on(on_sites), samples, rtol=0, atol=1e-14)


def test_interpolant_takes_the_highest_wave_as_a_cosine():
    samples = np.array([[1.0, -1.0, 1.0, -1.0]])
    grid = Grid(shape=(50,), length=(1.0,))
    x, k = grid.coordinates[0], 4 * np.pi
    interpolant = TrigonometricInterpolant(samples, 1.0, 0.1)
    for derivative, expected in enumerate((np.cos(k * (x - 0.1)), -k * np.sin(k * (x - 0.1)), -(k**2) * np.cos(k * (x - 0.1)))):
        assert np.allclose(interpolant.on(grid, derivative)[0], expected, rtol=0, atol=1e-12 * k**derivative)


def test_interpolant_on_fewer_points_than_waves():
    x = (np.arange(16) + 0.5) / 16
    samples = np.sin(2 * np.pi * 7 * x)[None]
    grid = Grid(shape=(5,), length=(1.0,))
    found = TrigonometricInterpolant(samples, 1.0, 0.5 / 16).on(grid)
    assert np.allclose(found[0], np.sin(2 * np.pi * 7 * grid.coordinates[0]), rtol=0, atol=1e-13)


def test_low_pass_keeps_the_long_waves_and_drops_the_staggered_part():
    x = (np.arange(32) + 0.5) / 32
    smooth = 0.3 + np.cos(2 * np.pi * 3 * x)
    values = np.stack([smooth + 0.1 * (-1.0) ** np.arange(32), smooth])
    assert np.allclose(low_pass(values), smooth, rtol=0, atol=1e-14)
    assert np.allclose(low_pass(values, 0), 0.3, rtol=0, atol=1e-14)
