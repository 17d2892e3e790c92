"""What nonlocal kernels must equal: double sums over all cells, written out with NumPy."""

import numpy as np
from allocations import peak_of

import sftsolve as sft

FIELDS = ("b", "c", "a")
GRIDS = {
    "1D, circle": sft.Grid((23,), (1.7,)),
    "2D, walls and a circle": sft.Grid(
        (6, 7), (0.9, 1.4), boundary={"y": {"lower": {"value": 0.0}, "upper": {"derivative": 0.0}}}
    ),
    "3D, walls": sft.Grid((3, 4, 5), (1.1, 0.8, 1.3), boundary={"derivative": 0.0}),
}
PAIRS = [("a", "a"), ("a", "b"), ("b", "a")]


def system(kernel, grid, fields=FIELDS):
    return sft.discretise(sft.Action(fields, kernels=[kernel]), grid, dynamics="gradient-flow")


def random_fields(grid, seed=0, fields=FIELDS):
    return np.random.default_rng(seed).standard_normal((len(fields), *grid.shape))


def points(grid):
    """Coordinates of all cells by axis, in C order."""
    return {
        axis: values.reshape(-1) for axis, values in zip(grid.axes, np.meshgrid(*grid.coordinates, indexing="ij"), strict=True)
    }


class DoubleSum:
    """h^2d sum_ij A_ij (a - a_ref)_i (b - b_ref)_j for an array A over the cells in C order."""

    def __init__(self, matrix, first, second, grid, reference=None):
        self.matrix, self.grid = matrix, grid
        self.volume = float(np.prod([side / n for side, n in zip(grid.length, grid.shape, strict=True)]))
        self.index = FIELDS.index(first), FIELDS.index(second)
        self.reference = np.zeros((len(FIELDS), grid.size)) if reference is None else reference.reshape(len(FIELDS), -1)

    def energy(self, w):
        a, b = ((w.reshape(len(FIELDS), -1) - self.reference)[i] for i in self.index)
        return self.volume**2 * np.einsum("ij,i,j->", self.matrix, a, b)

    def force(self, w):
        return self.linear(w.reshape(len(FIELDS), -1) - self.reference).reshape(w.shape)

    def linear(self, w):
        """The force without reference, which is its own linearisation."""
        a, b = (w.reshape(len(FIELDS), -1)[i] for i in self.index)
        out = np.zeros((len(FIELDS), self.grid.size))
        out[self.index[0]] -= self.volume * np.einsum("ij,j->i", self.matrix, b)
        out[self.index[1]] -= self.volume * np.einsum("ij,i->j", self.matrix, a)
        return out.reshape(w.shape)

    def jacobian(self):
        """F' as an array over fields and cells."""
        unit = np.eye(len(FIELDS) * self.grid.size).reshape(-1, len(FIELDS), *self.grid.shape)
        return np.stack([self.linear(column).reshape(-1) for column in unit], axis=1)


def assert_equals_double_sum(kernel, expected, grid, tolerance=1e-12):
    """Force, energy and Jacobian of a kernel are those of a double sum."""
    whole, w, d = system(kernel, grid), random_fields(grid), random_fields(grid, 1)
    for found, wanted in ((whole.force(w), expected.force(w)), (whole.jvp(w, d), expected.linear(d))):
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * np.abs(wanted).max())
    # The sum may cancel: its own rounding is that of the terms' sizes.
    scale = abs(expected.volume**2 * np.abs(expected.matrix).sum() * np.abs(w).max() ** 2) ** 0.5 * abs(expected.energy(w)) ** 0.5
    assert abs(whole.cost(w) - expected.energy(w)) <= tolerance * max(scale, abs(expected.energy(w)))


def assert_single_precision(kernel, grid):
    """States in single precision meet the same kernel, whose sums stay in double precision."""
    w = random_fields(grid)
    double = system(kernel, grid)
    single = sft.discretise(sft.Action(FIELDS, kernels=[kernel]), grid, dynamics="gradient-flow", dtype="float32")
    found, wanted = single.force(w.astype(np.float32)), double.force(w)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6 * np.abs(wanted).max())
    rounded = double.cost(w.astype(np.float32).astype(np.float64))
    assert abs(single.cost(w.astype(np.float32)) - rounded) <= 1e-6 * abs(rounded)


def assert_gradient(kernel, grid, w, step=1e-5, tolerance=1e-8):
    """The force is the gradient of the energy, and the Jacobian that of the force, by central differences."""
    whole, d = system(kernel, grid), random_fields(grid, 2)
    volume = grid.cell_volume
    slope = (whole.cost(w + step * d) - whole.cost(w - step * d)) / (2 * step)
    assert abs(slope + volume * np.sum(whole.force(w) * d)) <= tolerance * abs(slope)
    change = (whole.force(w + step * d) - whole.force(w - step * d)) / (2 * step)
    np.testing.assert_allclose(whole.jvp(w, d), change, rtol=0, atol=tolerance * np.abs(change).max())


def assert_allocates_nothing(whole):
    """Force, Jacobian product and energy of the first kernel of a system make nothing of the size of a field (16000 bytes)."""
    state = whole.state(dict.fromkeys(FIELDS, 1.0))
    out = state.like()
    operator = whole.kernels[0]
    calls = [lambda: operator.add_force(state, out, 0.0), lambda: operator.add_jvp(state, state, out, 0.0)]
    for call in [*calls, lambda: operator.energy(state, 0.0)]:
        assert peak_of(call) < 4096
