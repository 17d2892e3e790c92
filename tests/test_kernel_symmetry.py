"""Symbols of kernels have the symmetries of the kernels to the last bit, so that tables of them hold equal rows once."""

import numpy as np
import pytest

import sftsolve as sft
from sftsolve.linear.foresight import foresee

CUSP = "exp(-r/0.1)"
LINE = np.array([0.3, 1.0, 0.3])
WALL = {"derivative": 0.0}


def reflected(*numbers):
    """How many of so many circular waves differ in more than their sign."""
    return int(np.prod([n // 2 + 1 for n in numbers]))


# kernel, cells, boundary, rows that differ
CASES = {
    "isotropic": (CUSP, (12, 12, 10), "periodic", 7 * 8 // 2),
    "isotropic odd": (CUSP, (9, 9, 10), "periodic", 5 * 6 // 2),
    "unequal sides": (CUSP, (12, 9, 10), "periodic", reflected(12, 9)),
    "unequal axes": ("exp(-sqrt(x**2 + y**2 + 3*z**2)/0.1)", (12, 12, 10), "periodic", reflected(12, 12)),
    "only its even part acts": ("(1 + sin(9*y))*" + CUSP, (9, 9, 10), "periodic", 5 * 6 // 2),
    "no reflection": ("exp(-sqrt(x**2 + y**2 + z**2 + (z*y + y*x + z*x)/2)/0.1)", (12, 9, 10), "periodic", 12 * 9),
    "no reflection but an exchange": (
        "exp(-sqrt(x**2 + y**2 + z**2 + (z*y + y*x + z*x)/2)/0.1)",
        (12, 12, 10),
        "periodic",
        12 * 13 // 2,
    ),
    "one reflection": ("exp(-sqrt(x**2 + y**2 + z**2 + z*x)/0.1)", (12, 9, 10), "periodic", 12 * 5),
    "plane": (CUSP, (12, 10), "periodic", 7),
    "mirrors": (CUSP, (8, 8, 8), dict.fromkeys("zyx", WALL), 8 * 9 // 2),
    "a mirror across rows": (CUSP, (12, 10, 8), {"x": WALL}, 7 * 6),
    "an array": (np.multiply.outer(np.multiply.outer(LINE, LINE), 2 * LINE), (12, 12, 10), "periodic", 7 * 8 // 2),
    "a lopsided array": (np.multiply.outer(LINE, np.diag(LINE)), (12, 12, 10), "periodic", 7 * 12),
}


@pytest.mark.parametrize("cost", ["w**2/2", "w**2/2 + grad2(w)/2"])
@pytest.mark.parametrize("name", CASES)
def test_symbols_of_kernels_fold_as_far_as_the_kernel_is_symmetric(name, cost):
    k, shape, boundary, rows = CASES[name]
    grid = sft.Grid(shape, [0.1 * n for n in shape], boundary=boundary)
    kernel = sft.Convolution("w", "w", k, walls="mirror", method="fft")
    action = sft.Action(["w"], cost, kernels=[kernel])
    whole = sft.discretise(action, grid, dynamics="gradient-flow")
    modes = whole.linear.modes
    assert len(modes.table.values) == rows
    foreseen = foresee(action, grid, 2, whole.layout)
    # Axes that are alike are foreseen as half of all rows, without the diagonal.
    assert 0.8 * modes.table.values.nbytes <= foreseen.table <= 1.001 * modes.table.values.nbytes
    # And they are still what the force is.
    wave = np.random.default_rng(0).standard_normal((1, *grid.shape))
    storage, spectrum = whole.layout.pad(wave), modes.empty()
    modes.forward(storage, spectrum)
    spectrum *= modes.eigenvalues
    modes.backward(spectrum, storage)
    image = whole.jvp(np.zeros_like(wave), wave)
    np.testing.assert_allclose(whole.layout.interior(storage), image, rtol=0, atol=1e-13 * np.abs(image).max())


def test_an_odd_kernel_between_two_fields_folds_along_the_other_axes():
    grid = sft.Grid((12, 9, 10), (1.2, 0.9, 1.0))
    whole = sft.discretise(
        sft.Action(["a", "b"], "a**2 + b**2", kernels=[sft.Convolution("a", "b", "y*" + CUSP)]), grid, dynamics="gradient-flow"
    )
    # Eigenvalues depend on the size of the symbol alone.
    blocks = whole.operators[-1].symbol()[0, 1]
    assert np.array_equal(blocks[1:6], blocks[:6:-1]) and np.abs(blocks.imag).max() > 0.0
    assert not np.array_equal(blocks[:, 1:5], blocks[:, :4:-1])
