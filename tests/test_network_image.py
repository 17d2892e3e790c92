"""The image filter: outputs against a slow loop, gradient against differences, the field theory against both."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import correlate

import sftsolve.network.image as image_module
from sftsolve.errors import ConfigError, GridError, StepError
from sftsolve.network import image_filter, square_offsets

OFFSETS = [(0, 0), (0, 1), (-1, 0), (2, -1), (1, 1)]


def random_filter(offsets=OFFSETS, kappa=0.3, examples=4, image=(6, 5), seed=11):
    rng = np.random.default_rng(seed)
    inputs, targets = rng.standard_normal((2, examples, *image))
    network = image_filter(inputs, targets, offsets, kappa)
    return network, rng.standard_normal(network.shape)


def slow_outputs(network, w):
    examples, ny, nx = network.inputs.shape
    outputs = np.zeros((examples, ny, nx))
    for (k, (dy, dx)), y, x in ((o, y, x) for o in enumerate(network.offsets) for y in range(ny) for x in range(nx)):
        if 0 <= y + dy < ny and 0 <= x + dx < nx:
            outputs[:, y, x] += w[k, y, x] * network.inputs[:, y + dy, x + dx]
    return outputs


def slow_stiffness(network, w):
    total = 0.0
    _, ny, nx = network.shape
    for y in range(ny):
        for x in range(nx):
            total += ((w[:, y + 1, x] - w[:, y, x]) ** 2).sum() if y + 1 < ny else 0
            total += ((w[:, y, x + 1] - w[:, y, x]) ** 2).sum() if x + 1 < nx else 0
    return network.kappa / 2 * total


def quadratic_form(network, w):
    """The cost from the action's data: w M w / 2 - b w + Y2, and the stiffness."""
    mass = np.einsum("ayx,abyx,byx->", w, network.mass_matrix, w) / 2
    return mass - np.vdot(network.drive, w) + network.target_square.sum() + slow_stiffness(network, w)


def test_outputs_and_cost_are_those_of_the_definition():
    network, w = random_filter()
    outputs = slow_outputs(network, w)
    assert np.allclose(network.outputs(w), outputs, rtol=0, atol=1e-14)
    expected = ((outputs - network.targets) ** 2).sum() / (2 * 4) + slow_stiffness(network, w)
    assert network.cost(w) == pytest.approx(expected, rel=1e-13)


def test_constant_filter_is_a_correlation_with_zero_padding():
    network, _ = random_filter(square_offsets())
    stencil = np.random.default_rng(0).standard_normal((3, 3))
    w = np.broadcast_to(stencil.reshape(9, 1, 1), network.shape)
    expected = [correlate(image, stencil, mode="constant") for image in network.inputs]
    assert np.allclose(network.outputs(w), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("kappa", [0.0, 0.3])
def test_gradient_is_the_finite_difference_of_the_cost(kappa):
    network, w = random_filter(kappa=kappa)
    numeric = np.zeros_like(w)
    for place in np.ndindex(w.shape):
        up, down = w.copy(), w.copy()
        up[place] += 0.1  # the cost is quadratic: the central difference is exact for any step
        down[place] -= 0.1
        numeric[place] = (network.cost(up) - network.cost(down)) / 0.2
    gradient = network.gradient(w)
    assert np.abs(gradient - numeric).max() < 1e-8 * np.abs(gradient).max()


@pytest.mark.parametrize("offsets", [OFFSETS, square_offsets(2), [(0, 0)], [(5, 4), (-5, -4), (0, 0)]])
def test_mass_matrix_and_drive_are_the_network(offsets):
    network, w = random_filter(offsets)
    images = np.pad(network.inputs, ((0, 0), (5, 5), (5, 5)))
    shifted = np.array([images[:, 5 + dy : 11 + dy, 5 + dx : 10 + dx] for dy, dx in offsets])
    assert np.allclose(network.mass_matrix, np.einsum("alyx,blyx->abyx", shifted, shifted) / 4, rtol=0, atol=1e-14)
    assert np.allclose(network.drive, np.einsum("alyx,lyx->ayx", shifted, network.targets) / 4, rtol=0, atol=1e-14)
    assert quadratic_form(network, w) == pytest.approx(network.cost(w), rel=1e-13)


def test_examples_in_blocks_give_the_same(monkeypatch):
    whole, w = random_filter(examples=7)
    monkeypatch.setattr(image_module, "CHUNK_BYTES", 2 * 8 * 30)
    blocks, _ = random_filter(examples=7)
    assert len(list(image_module._chunks(blocks.inputs))) == 4
    for name in ("mass_matrix", "drive", "target_square"):
        assert np.allclose(getattr(blocks, name), getattr(whole, name), rtol=0, atol=1e-14)
    assert np.allclose(blocks.gradient(w), whole.gradient(w), rtol=0, atol=1e-14)
    assert np.array_equal(blocks.outputs(w), whole.outputs(w))
    assert blocks.cost(w) == pytest.approx(whole.cost(w), rel=1e-14)


def test_integer_and_single_precision_images_are_worked_in_double():
    rng = np.random.default_rng(2)
    inputs, targets = rng.integers(0, 256, (2, 3, 4, 4), dtype=np.uint8)
    network = image_filter(inputs, targets, [(0, 0), (0, 1)], 0.1)
    exact = image_filter(inputs.astype(float), targets.astype(float), [(0, 0), (0, 1)], 0.1)
    w = rng.standard_normal((2, 4, 4))
    assert network.inputs is inputs
    assert network.cost(w) == exact.cost(w)
    assert np.array_equal(network.gradient(w), exact.gradient(w))
    assert np.array_equal(network.mass_matrix, exact.mass_matrix)
    single = image_filter(inputs.astype(np.float32), targets.astype(np.float32), [(0, 0), (0, 1)], 0.1)
    assert np.array_equal(single.drive, exact.drive)


def test_training_is_descent_with_the_examples_gradient():
    network, _ = random_filter(kappa=0.2)
    costs = []
    trained = network.train(network.identity(), learning_rate=0.1, steps=30, history=costs)
    by_hand = network.identity()
    for _ in range(30):
        by_hand = by_hand - 0.1 * network.gradient(by_hand)
    assert np.allclose(trained, by_hand, rtol=0, atol=1e-13)
    assert len(costs) == 31 and np.all(np.diff(costs) < 0)
    assert costs[0] == pytest.approx(network.cost(network.identity()), rel=1e-13)
    assert costs[-1] == pytest.approx(network.cost(trained), rel=1e-13)


def test_identity_returns_the_input():
    network, _ = random_filter()
    assert np.array_equal(network.outputs(network.identity()), network.inputs)
    assert not network.zeros().any()
    with pytest.raises(ConfigError, match=r"\(0, 0\)"):
        random_filter([(0, 1)])[0].identity()


def test_grid_has_a_cell_for_every_pixel_and_walls_without_flux():
    grid = random_filter()[0].grid()
    assert grid.shape == (6, 5) and grid.spacing == (1.0, 1.0) and grid.axes == ("y", "x")
    assert grid.boundary == {a: {s: {"derivative": 0.0} for s in ("lower", "upper")} for a in ("y", "x")}


def test_action_is_the_cost_in_the_language_of_the_solver():
    network, _ = random_filter()
    action = network.action()
    assert action.fields == network.fields == ("w0", "w1", "w2", "w3", "w4")
    assert action.parameters == {"kappa": 0.3}
    assert np.allclose(action.sources_at(network.grid())["Y2"], (network.targets**2).sum(0) / 8, rtol=1e-14)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"inputs": np.ones((6, 5))}, GridError, r"array\[None\]"),
        ({"inputs": np.ones((0, 6, 5)), "targets": np.ones((0, 6, 5))}, GridError, "L >= 1"),
        ({"targets": np.ones((4, 5, 6))}, GridError, "belong together"),
        ({"targets": np.full((4, 6, 5), np.inf)}, ConfigError, "120 NaN or infinite"),
        ({"inputs": np.ones((4, 6, 5), complex)}, ConfigError, "complex"),
        ({"offsets": []}, ConfigError, "malformed"),
        ({"offsets": [(0, 0), (0,)]}, ConfigError, "malformed"),
        ({"offsets": [(0.5, 0)]}, ConfigError, "malformed"),
        ({"offsets": [(0, 0), (0, 1), (0, 0)]}, ConfigError, "repetitions"),
        ({"offsets": [(0, 0), (6, 0)]}, ConfigError, "beyond"),
        ({"kappa": -0.1}, ConfigError, "kappa"),
        ({"kappa": float("nan")}, ConfigError, "kappa"),
    ],
)
def test_bad_arguments_are_named(change, error, words):
    arguments = {"inputs": np.ones((4, 6, 5)), "targets": np.ones((4, 6, 5)), "offsets": [(0, 0)], "kappa": 0.1} | change
    with pytest.raises(error, match=words):
        image_filter(**arguments)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda n, w: n.cost(w[1:]), GridError, r"\(5, 6, 5\)"),
        (lambda n, w: n.outputs(w, np.ones((2, 5, 5))), GridError, "do not fit the filter"),
        (lambda n, w: n.train(w, learning_rate=1e4, steps=3), StepError, "lower learning_rate"),
        (lambda n, w: n.train(w, learning_rate=1e4, steps=3000), StepError, "lower learning_rate"),
        (lambda n, w: n.train(w, learning_rate=0.0, steps=3), ConfigError, "learning_rate"),
    ],
)
def test_bad_calls_are_named(call, error, words):
    with pytest.raises(error, match=words):
        call(*random_filter())


def test_a_perfect_start_is_no_divergence():
    network, w = random_filter(kappa=0.0)
    fit = image_filter(network.inputs, network.outputs(w), OFFSETS, 0.0)
    assert np.allclose(fit.train(w, learning_rate=0.1, steps=20), w, rtol=0, atol=1e-13)
