"""Grids: cell centres, conditions per face and per field, plain-data description, errors. And the storage on them."""

import dataclasses
import json
import math
from fractions import Fraction

import numpy as np
import pytest

import sftsolve as sft
from sftsolve.boundary import _CONDITIONS, Dirichlet, Neumann, make_condition
from sftsolve.errors import ConfigError, GridError
from sftsolve.parallel import slabs, thread_count
from sftsolve.state import Layout, State

VALUE, SLOPE = {"value": 0.5}, {"derivative": -2.0}


def refused(*arguments, **keywords):
    with pytest.raises(GridError) as caught:
        sft.Grid(*arguments, **keywords)
    return str(caught.value)


def test_points_are_cell_centres_x_last():
    grid = sft.Grid((2, 3, 4), (1.0, 3.0, 8.0), origin=(0.0, -1.0, 10.0))
    assert grid.axes == ("z", "y", "x") and grid.spacing == (0.5, 1.0, 2.0) and grid.cell_volume == 1.0
    assert grid.dimension == 3 and grid.size == 24
    z, y, x = grid.coordinates
    np.testing.assert_array_equal(z, [0.25, 0.75])
    np.testing.assert_array_equal(y, [-0.5, 0.5, 1.5])
    np.testing.assert_array_equal(x, [11.0, 13.0, 15.0, 17.0])
    assert {name: points.shape for name, points in grid.mesh.items()} == {"z": (2, 1, 1), "y": (1, 3, 1), "x": (1, 1, 4)}
    assert np.broadcast_shapes(*(points.shape for points in grid.mesh.values())) == grid.shape


@pytest.mark.parametrize("shape", [5, [5], (5,), np.array([5]), np.int64(5), np.array(5)])
@pytest.mark.parametrize("length", [2, 2.0, [2], np.array([2.0]), np.float32(2), Fraction(2)])
def test_one_axis_in_many_spellings(shape, length):
    grid = sft.Grid(shape, length)
    assert grid == sft.Grid((5,), (2.0,), origin=0) and grid.axes == ("x",) and grid.spacing == (0.4,)
    assert hash(grid) == hash(sft.Grid((5,), (2.0,)))


def test_one_length_serves_every_axis():
    assert sft.Grid((4, 8), 2.0, origin=1.0) == sft.Grid((4, 8), (2.0, 2.0), origin=(1.0, 1.0))


@pytest.mark.parametrize(
    ("boundary", "walls"),
    [
        ("periodic", ()),
        ({}, ()),
        ({"x": "periodic", "y": "periodic"}, ()),
        (VALUE, ("y", "x")),
        ({"x": VALUE}, ("x",)),
        ({"y": {"lower": VALUE, "upper": SLOPE}}, ("y",)),
        ({"x": {"w": VALUE, "v": SLOPE}, "y": "periodic"}, ("x",)),
        ({"x": {"lower": {"w": VALUE, "v": SLOPE}, "upper": VALUE}}, ("x",)),
        (Dirichlet(0.5), ("y", "x")),
    ],
)
def test_boundaries_and_their_plain_form(boundary, walls):
    grid = sft.Grid((4, 5), 1.0, boundary=boundary)
    assert grid.walls == walls and all(grid.periodic(axis) == (axis not in walls) for axis in grid.axes)
    again = sft.Grid(**json.loads(json.dumps(grid.description())))
    assert again == grid and again.boundary == grid.boundary and eval_free(repr(grid))


def eval_free(text):
    """A representation that shows the arguments."""
    return text.startswith("Grid(shape=(4, 5), length=(1.0, 1.0), origin=(0.0, 0.0), boundary=")


def test_conditions_per_face_and_per_field():
    faces = {"lower": {"w": VALUE, "v": SLOPE}, "upper": {"derivative": 3}}
    grid = sft.Grid((4, 5), 1.0, boundary={"x": faces})
    assert grid.condition("x", "lower", "w") == Dirichlet(0.5) and grid.condition("x", "lower", "v") == Neumann(-2.0)
    assert grid.condition("x", "upper", "w") == grid.condition("x", "upper", "v") == Neumann(3.0)
    assert grid.named_fields() == {"w", "v"}
    with pytest.raises(GridError, match="no condition for field 'u'"):
        grid.condition("x", "lower", "u")
    with pytest.raises(GridError, match="no condition for field 'u'"):
        sft.discretise(sft.Action(["w", "v", "u"], "grad2(u)", friction=sft.Friction(gamma=1)), grid)
    with pytest.raises(GridError, match="names unknown field 'v'"):
        sft.discretise(sft.Action(["w"], "grad2(w)", friction=sft.Friction(gamma=1)), grid)


def test_ghosts_put_a_quadratic_on_its_wall():
    # The mean of the two cells at a wall is the value there, their difference over the spacing the outward derivative.
    h, wall, slope = 0.1, 1.7, -0.6
    mirror = wall - slope * h / 2
    assert (mirror + (Dirichlet.factor * mirror + Dirichlet(wall).lift(1, h) * wall)) / 2 == pytest.approx(wall)
    ghost = Neumann.factor * mirror + Neumann(slope).lift(1, h) * slope
    assert (ghost - mirror) / h == pytest.approx(slope)
    mirror = wall - slope * 3 * h / 2
    assert (Neumann.factor * mirror + Neumann(slope).lift(2, h) * slope - mirror) / (3 * h) == pytest.approx(slope)
    assert (mirror + Dirichlet.factor * mirror + Dirichlet(wall).lift(2, h) * wall) / 2 == pytest.approx(wall)


@pytest.mark.parametrize("key", sorted(_CONDITIONS))
def test_every_condition_describes_itself(key):
    cls = _CONDITIONS[key]
    found = cls(*(0.25 * number for number in range(1, 1 + len(dataclasses.fields(cls)))))
    again = make_condition(sft.Grid(4, 1.0, boundary=found).boundary["x"]["lower"], "a face")
    assert again == found and found.key == key


@pytest.mark.parametrize("shape", [(), (2, 2, 2, 2), (0,), (-3, 4), 2.0, (2, 2.5), True, "ab", None, (2**20, 2**20, 2)])
def test_impossible_shapes(shape):
    assert "given:" in refused(shape, 1.0)


@pytest.mark.parametrize(
    "length", [0, -1.0, math.inf, math.nan, "1", None, True, (1.0, 1.0, 1.0), 10**400, [[1.0, 1.0]], (1.0, 1j), np.zeros(2)]
)
def test_impossible_lengths(length):
    assert "given:" in refused((4, 4), length)


def test_impossible_origin():
    assert "origin" in refused((4, 4), 1.0, origin=(0.0, math.nan))


@pytest.mark.parametrize(
    ("boundary", "hint"),
    [
        (None, '"periodic", a condition'),
        ("walls", '"periodic", a condition'),
        (3, '"periodic", a condition'),
        (np.zeros(2), '"periodic", a condition'),
        ({"z": VALUE}, "boundary names axis 'z'"),
        ({"x": {"lower": VALUE}}, "name the other face too"),
        ({"x": {"lower": VALUE, "uper": VALUE}}, "did you mean upper?"),
        ({"x": {"lower": "periodic", "upper": VALUE}}, "condition of the lower x face is not understood"),
        ({"x": {}}, "is not understood"),
        ({"x": []}, "is not understood"),
        ({"x": {"valu": 1.0}}, "did you mean value?"),
        ({"x": {"w": {"valu": 1.0}}}, "did you mean value?"),
        ({"value": 1.0, "derivative": 1.0}, "is not understood"),
        ({"value": "0 +"}, "not a well-formed expression"),
        ({"value": True}, "finite number"),
        ({"value": math.nan}, "finite number"),
        ({"derivative": math.inf}, "finite number"),
        ({"derivative": 10**400}, "finite number"),
        ({"derivative": [1.0, 2.0]}, "shape (4,) (axes x)"),
        ({"derivative": [1.0, math.nan, 0.0, 0.0]}, "finite number"),
        ({"mixed": [[1.0], [2.0, 3.0]], "const": 0.0}, "finite number"),
    ],
)
def test_impossible_boundaries(boundary, hint):
    assert hint in refused((4, 4), 1.0, boundary=boundary)


def test_numpy_numbers_are_numbers():
    grid = sft.Grid(np.array([4, 4]), np.array([1, 2]), boundary={"value": np.int64(1)})
    assert grid.boundary == sft.Grid((4, 4), (1.0, 2.0), boundary={"value": 1.0}).boundary
    assert json.dumps(grid.description())


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("shape", "halo"), [((5,), 2), ((5, 7), 1), ((3, 4, 9), 2), ((3, 4, 9), 0)])
def test_storage_is_padded_and_aligned(shape, halo, dtype):
    grid = sft.Grid(shape, 1.0)
    layout = Layout.of(grid, halo, dtype)
    values = np.random.default_rng(0).standard_normal((2, *shape)).astype(dtype)
    storage = layout.pad(values)
    assert storage.dtype == dtype and storage.shape == (2, *layout.padded)
    inner = layout.interior(storage)
    assert np.shares_memory(inner, storage)
    np.testing.assert_array_equal(inner, values)
    assert np.count_nonzero(storage) == np.count_nonzero(values)
    rows = storage.reshape(-1, layout.padded[2])[:, layout.offset[2] :]
    assert all(row.ctypes.data % 64 == 0 for row in rows)
    # every neighbour within the halo exists, on the axes that the grid has
    assert layout.halo == (0,) * (3 - len(shape)) + (halo,) * len(shape)
    for offset, extent, width, padded in zip(layout.offset, layout.shape, layout.halo, layout.padded, strict=True):
        assert offset >= width and offset + extent + width <= padded


def test_states_copy_and_clone():
    layout = Layout.of(sft.Grid((3, 4), 1.0), 1)
    state = State(layout, layout.pad(np.ones((2, 3, 4))), layout.zeros(2), t=2.5, step=7)
    copy, blank = state.copy(), state.like()
    copy.w[...] = 3.0
    assert np.all(state.w == 1.0) and (copy.t, copy.step) == (2.5, 7) and copy.u.shape == (2, 3, 4)
    assert np.all(blank.w == 0.0) and blank.t == 2.5 and blank.u is not None
    flow = State(layout, layout.zeros(2), None)
    assert flow.u is None and flow.copy().u is None and "u=none" in repr(flow)


def test_number_of_threads(monkeypatch):
    import numba

    before = numba.get_num_threads()
    try:
        monkeypatch.setenv("SFTSOLVE_THREADS", "1")
        assert thread_count() == slabs(10**6) == slabs(10) == 1
        for wrong in ("0", "-1", "two", "1.5", "", "\u00b2", "100000"):
            monkeypatch.setenv("SFTSOLVE_THREADS", wrong)
            with pytest.raises(ConfigError, match="SFTSOLVE_THREADS"):
                thread_count()
        monkeypatch.delenv("SFTSOLVE_THREADS")
        assert thread_count() == slabs(10**6) == numba.get_num_threads()
    finally:
        numba.set_num_threads(before)
