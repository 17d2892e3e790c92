"""Sources from arrays, numbers, expressions, files and functions, on the grid they meet."""

import math
from pathlib import Path

import h5py
import numpy as np
import pytest

import sftsolve as sft
from sftsolve.errors import ActionError, ExpressionError, FileError, GridError, SftError
from sftsolve.sources import evaluate_on

GRID = sft.Grid((3, 4), (1.5, 2.0), origin=(1.0, 0.0))
VALUES = np.random.default_rng(0).standard_normal((3, 4))


def on_grid(spec, parameters=None, grid=GRID):
    return sft.Action(["w"], "J*w", parameters, {"J": spec}).sources_at(grid)["J"]


def refused(spec, error, parameters=None):
    with pytest.raises(error) as caught:
        on_grid(spec, parameters)
    assert issubclass(error, SftError)
    return str(caught.value)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (VALUES, VALUES),
        (VALUES.tolist(), VALUES),
        (VALUES.astype("float32"), VALUES.astype("float32")),
        (VALUES > 0, VALUES > 0),
        (VALUES[::-1, ::-1], VALUES[::-1, ::-1]),
        (VALUES[:1], np.tile(VALUES[:1], (3, 1))),
        (VALUES[:, :1], np.tile(VALUES[:, :1], (1, 4))),
        (3, np.full((3, 4), 3.0)),
        (np.float32(0.5), np.full((3, 4), 0.5)),
        (np.int8(-2), np.full((3, 4), -2.0)),
        (lambda grid: VALUES * grid.size, VALUES * 12),
    ],
)
def test_arrays_numbers_and_functions(spec, expected):
    found = on_grid(spec)
    np.testing.assert_array_equal(found, expected)
    assert found.shape == GRID.shape and found.dtype == np.float64


def test_expressions_of_coordinates_and_parameters():
    y, x = np.meshgrid(*GRID.coordinates, indexing="ij")
    np.testing.assert_allclose(on_grid("A*cos(2*pi*x) + y**2", {"A": 3.0}), 3.0 * np.cos(2 * np.pi * x) + y**2)
    np.testing.assert_array_equal(on_grid({"expression": "2"}), np.full((3, 4), 2.0))
    np.testing.assert_allclose(on_grid("hypot(x, y)/gamma(3)"), np.hypot(x, y) / 2)
    np.testing.assert_allclose(evaluate_on(GRID, "y", {}), y[:, :1])


def test_data_sets_of_files(tmp_path):
    path = tmp_path / "sources.h5"
    with h5py.File(path, "w") as file:
        file["group/J"] = VALUES
        file["other"] = np.ones((5, 5))
        file["text"] = "hello"
    for given in (path, str(path)):
        np.testing.assert_array_equal(on_grid({"file": given, "dataset": "group/J"}), VALUES)
    assert "did you mean group/J?" in refused({"file": path, "dataset": "group/K"}, FileError)
    for name in ("group", "/", "", "..", "nothing"):
        assert "no data set" in refused({"file": path, "dataset": name}, FileError)
    assert "expected: shape (3, 4) (axes y, x)" in refused({"file": path, "dataset": "other"}, GridError)
    assert "not real" in refused({"file": path, "dataset": "text"}, GridError)
    assert "not found" in refused({"file": tmp_path / "absent.h5", "dataset": "J"}, FileError)
    assert "not found" in refused({"file": tmp_path, "dataset": "J"}, FileError)
    (tmp_path / "text.h5").write_text("no HDF5")
    assert "expected: an HDF5 file" in refused({"file": tmp_path / "text.h5", "dataset": "J"}, FileError)


def test_the_file_is_read_when_the_grid_is_met(tmp_path):
    action = sft.Action(["w"], "J*w", sources={"J": {"file": tmp_path / "later.h5", "dataset": "J"}})
    with h5py.File(tmp_path / "later.h5", "w") as file:
        file["J"] = VALUES
    np.testing.assert_array_equal(action.sources_at(GRID)["J"], VALUES)


class Wave:
    """A kind of source of one's own."""

    def values(self, grid, parameters):
        return np.sin(parameters["k"] * grid.mesh["x"])


def test_a_source_of_ones_own():
    expected = np.tile(np.sin(2.0 * GRID.coordinates[1]), (3, 1))
    np.testing.assert_array_equal(on_grid(Wave(), {"k": 2.0}), expected)


@pytest.mark.parametrize(
    ("spec", "error", "hint"),
    [
        (np.ones(4), GridError, "shape (3, 4)"),
        (np.ones((4, 3)), GridError, "shape (3, 4)"),
        (np.ones((1, 3, 4)), GridError, "shape (3, 4)"),
        (np.ones((2, 3, 4)), GridError, "shape (3, 4)"),
        (np.full((3, 4), np.nan), GridError, "12 values are NaN or infinite, the first at index (0, 0)"),
        (np.where(np.arange(12).reshape(3, 4) == 6, np.inf, 0.0), GridError, "the first at index (1, 2)"),
        (math.nan, GridError, "not finite"),
        (np.ones((3, 4)) * 1j, GridError, "not real"),
        ([["a", "b"]], GridError, "not real"),
        ([[1.0, 2.0], [3.0]], GridError, "rows of equal length"),
        ("1/x + log(-y)", GridError, "not finite"),
        ("sin(q)", ExpressionError, "unknown name 'q'"),
        ("z", ExpressionError, "unknown name 'z'"),
        ("J", ExpressionError, "unknown name 'J'"),
        ("d(x, x)", ExpressionError, "only a cost"),
        ("__import__('os')", ExpressionError, "unknown function"),
        ({"expression": "x +"}, ExpressionError, "not a well-formed expression"),
        (None, ActionError, "is not understood"),
        (True, ActionError, "is not understood"),
        ({}, ActionError, "is not understood"),
        ({"file": "x.h5"}, ActionError, "is not understood"),
        ({"file": 3, "dataset": "J"}, ActionError, "is not understood"),
        ({"expression": "x", "dataset": "J"}, ActionError, "is not understood"),
        (object(), ActionError, "is not understood"),
        (Path("x.h5"), ActionError, "is not understood"),
    ],
    ids=lambda value: repr(value)[:40].split(" at 0x")[0],
)
def test_what_is_refused(spec, error, hint):
    assert hint in refused(spec, error)


def test_initial_values_are_sources_too():
    action = sft.Action(["w", "v"], "0", {"A": 2.0}, friction=sft.Friction(gamma=4.0))
    system = sft.discretise(action, GRID)
    state = system.state({"w": "A*x", "v": VALUES}, {"v": 3.0}, t=1.5)
    np.testing.assert_array_equal(state.w[0], np.tile(2.0 * GRID.coordinates[1], (3, 1)))
    np.testing.assert_array_equal(state.w[1], VALUES)
    np.testing.assert_array_equal(state.u, np.stack([np.zeros((3, 4)), np.full((3, 4), 12.0)]))
    assert state.t == 1.5
    for initial, hint in (
        ({"w": 0.0}, "none for v"),
        ({"w": 0.0, "v": 0.0, "u": 0.0}, "unknown field 'u'"),
        ({"w": 0.0, "v": np.ones(4)}, "initial value of field 'v' does not fit"),
        ({"w": 0.0, "v": "1/(x - x)"}, "divides by zero"),
        ({"w": 0.0, "v": "log(-x)"}, "initial value of field 'v' is not finite"),
        ({"w": 0.0, "v": None}, "not real"),
        ({"w": 0.0, "v": "cos(t)"}, "only the sources of an action and wall data may depend on time"),
    ):
        with pytest.raises(SftError) as caught:
            system.state(initial)
        assert hint in str(caught.value)
    with pytest.raises(SftError, match="velocity for unknown field"):
        system.state({"w": 0.0, "v": 0.0}, {"u": 1.0})
    flow = sft.discretise(action, GRID, dynamics="gradient-flow")
    assert flow.state({"w": 0.0, "v": 0.0}).u is None
    with pytest.raises(SftError, match="no velocity"):
        flow.state({"w": 0.0, "v": 0.0}, {"v": 1.0})
