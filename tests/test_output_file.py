"""The result file, read by libraries that know nothing of sftsolve: h5py and xarray with both of its netCDF engines."""

from __future__ import annotations

import json
import math

import h5py
import numpy as np
import pytest
import xarray
from output_runs import SHAPES, make_run

from sftsolve.errors import ActionError, ConfigError
from sftsolve.grid import Grid
from sftsolve.output import HDF5Writer, MemoryWriter, RunDescription, Stats, layout


@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
@pytest.mark.parametrize("shape", SHAPES)
def test_xarray_reads_values_times_and_coordinates(tmp_path, shape, engine):
    path = tmp_path / "run.h5"
    run = make_run(shape, path)
    with xarray.open_dataset(path, engine=engine) as data:
        axes = ("z", "y", "x")[-len(shape) :]
        assert set(data.data_vars) == {"a", "a_t", "b", "b_t"}
        assert set(data.coords) == {"t", "tau", *axes}
        for number, name in enumerate("ab"):
            assert data[name].dims == ("t", *axes)
            np.testing.assert_array_equal(data[name], run.w[:, number])
            np.testing.assert_array_equal(data[name + "_t"], run.v[:, number])
        np.testing.assert_array_equal(data["t"], run.t)
        np.testing.assert_array_equal(data["a"]["tau"], run.tau)
        for number, axis in enumerate(axes):
            h = (2.0 + number) / shape[number]
            np.testing.assert_allclose(data[axis], -1.0 - number + (np.arange(shape[number]) + 0.5) * h, rtol=1e-15)
            assert data[axis].attrs["axis"] == axis.upper()
        assert data.attrs["Conventions"] == "CF-1.11"
        assert data.attrs["complete"] == 1
        assert data["a"].attrs["units"] == "1"
        assert data["t"].attrs["axis"] == "T"
        xarray.testing.assert_identical(data.load(), run.result.to_xarray().load())


@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
def test_xarray_reads_time_series(tmp_path, engine):
    path = tmp_path / "run.h5"
    run = make_run((7,), path)
    with xarray.open_dataset(path, engine=engine, group="ts") as data:
        np.testing.assert_array_equal(data["time"], run.t)
        np.testing.assert_array_equal(data["tau"], run.tau)
        np.testing.assert_array_equal(data["cost"], run.rows[:, 0])
        assert data["norm"].dims == ("time",)


@pytest.mark.parametrize("shape", SHAPES)
def test_layout(tmp_path, shape):
    path = tmp_path / "run.h5"
    run = make_run(shape, path)
    axes = ("z", "y", "x")[-len(shape) :]
    with h5py.File(path) as file:
        assert file.attrs["sftsolve_format"] == 1
        assert file.attrs["sftsolve_format"].dtype == np.int64
        assert file.attrs["complete"].dtype == np.int8
        # In the order of creation, which netCDF asks of files that are to be appended to.
        assert list(file) == ["t", *axes, "tau", "a", "b", "a_t", "b_t", "ts", "VTKHDF", "meta"]
        for name in ("a", "a_t", "b", "b_t"):
            assert file[name].maxshape == (None, *shape)
            assert file[name].fletcher32
            assert [dimension[0].name for dimension in file[name].dims] == ["/t", *["/" + axis for axis in axes]]
        for scale in ("t", *axes):
            assert file[scale].is_scale
        assert file["t"].maxshape == (None,)
        assert file["t"].chunks == (1024,)
        assert file["tau"].dims[0][0] == file["t"]
        assert file["ts/cost"].chunks == (8192,)
        assert file["ts/cost"].dims[0][0] == file["ts/time"]
        np.testing.assert_array_equal(file["b_t"], run.v[:, 1])


@pytest.mark.parametrize("shape", SHAPES)
def test_vtk_group(tmp_path, shape):
    path = tmp_path / "run.h5"
    run = make_run(shape, path)
    missing = 3 - len(shape)
    with h5py.File(path) as file:
        group = file["VTKHDF"]
        np.testing.assert_array_equal(group.attrs["Version"], [2, 2])
        kind = h5py.h5a.open(group.id, b"Type").get_type()
        assert not kind.is_variable_str()
        assert (kind.get_size(), kind.get_cset()) == (9, h5py.h5t.CSET_ASCII)
        assert group.attrs["Type"] == b"ImageData"
        extent = [end for n in shape[::-1] for end in (0, n - 1)] + [0, 0] * missing
        np.testing.assert_array_equal(group.attrs["WholeExtent"], extent)
        np.testing.assert_array_equal(group.attrs["Direction"], np.eye(3).ravel())
        for name in ("a", "a_t", "b", "b_t"):
            assert group["PointData"][name] == file[name]
            assert h5py.h5o.get_info(file[name].id).rc == 2
            np.testing.assert_array_equal(group["Steps/PointDataOffsets"][name], np.arange(4))
        assert group["Steps"].attrs["NSteps"] == 4
        assert group["Steps/Values"] != file["t"]
        np.testing.assert_array_equal(group["Steps/Values"], run.t)


@pytest.mark.parametrize("levels", [0, 1, 40])
@pytest.mark.parametrize("snapshots", [None, 17])
@pytest.mark.parametrize("shape", [(5,), (4, 3)])
def test_any_number_of_snapshots(tmp_path, shape, snapshots, levels):
    run = make_run(shape, tmp_path / "run.h5", levels, snapshots=snapshots)
    assert run.result.w.shape == (levels, 2, *shape)
    np.testing.assert_array_equal(run.result.w, run.w)
    with h5py.File(tmp_path / "run.h5") as file:
        assert {file[name].shape[0] for name in ("t", "tau", "a", "b_t")} == {levels}


@pytest.mark.parametrize("shape", SHAPES)
def test_single_precision(tmp_path, shape):
    run = make_run(shape, tmp_path / "run.h5", dtype="float32")
    assert run.result.w.dtype == np.float32
    with h5py.File(tmp_path / "run.h5") as file:
        assert file["a"].dtype == np.dtype("<f4")
        np.testing.assert_array_equal(file["a"], run.w[:, 0].astype(np.float32))
        np.testing.assert_array_equal(file["t"], run.t)


def test_field_of_many_chunks(tmp_path):
    shape = (3, 300, 700)
    values = np.random.default_rng(0).random((2, 1, *shape))
    with HDF5Writer(tmp_path / "run.h5") as writer:
        writer.begin(RunDescription(Grid(shape, (1, 1, 1)), ("a",), has_velocity=False))
        for level in range(2):
            writer.snapshot(level, level, values[level])
        writer.finish(Stats())
    with h5py.File(tmp_path / "run.h5") as file:
        assert file["a"].chunks == (1, 1, 300, 700)
        assert "a_t" not in file
        np.testing.assert_array_equal(file["a"], values[:, 0])


@pytest.mark.parametrize("itemsize", [4, 8])
@pytest.mark.parametrize(
    "shape", [(28, 28), (2000, 1500), (64, 64, 64), (256, 256, 256), (5, 511, 513), (2, 4096, 4096), (10**7,)]
)
def test_large_fields_are_split_into_chunks_of_one_to_eight_mebibytes(shape, itemsize):
    chunk = layout.chunk_shape(shape, itemsize)
    assert chunk[0] == 1
    assert all(1 <= c <= n for c, n in zip(chunk[1:], shape, strict=True))
    size, whole = math.prod(chunk) * itemsize, math.prod(shape) * itemsize
    assert size == whole or 2**20 <= size <= 2**23


def test_lines_share_chunks():
    assert layout.chunk_shape((64,), 8) == (2048, 64)
    assert layout.chunk_shape((64,), 8, snapshots=40) == (40, 64)
    assert layout.chunk_shape((2**17,), 8) == (1, 2**17)


@pytest.mark.parametrize("stored", [False, True])
def test_twenty_thousand_rows_of_time_series(tmp_path, stored):
    rows = np.random.default_rng(0).standard_normal((20000, 3))
    with HDF5Writer(tmp_path / "run.h5") if stored else MemoryWriter() as writer:
        writer.begin(RunDescription(Grid((4,), (1,)), ("a",), scalar_names=("one", "two", "three")))
        for number, row in enumerate(rows):
            writer.scalars(0.5 * number, np.nan, tuple(row))
        result = writer.finish(Stats())
    assert list(result.scalars) == ["t", "tau", "one", "two", "three"]
    np.testing.assert_array_equal(np.column_stack([result.scalars[name] for name in ("one", "two", "three")]), rows)
    np.testing.assert_array_equal(result.scalars["t"], 0.5 * np.arange(20000))
    assert np.isnan(result.scalars["tau"]).all()
    if not stored:
        return
    with h5py.File(tmp_path / "run.h5") as file:
        np.testing.assert_array_equal(file["ts/time"], 0.5 * np.arange(20000))
        for column, name in enumerate(("one", "two", "three")):
            np.testing.assert_array_equal(file["ts"][name], rows[:, column])


def test_provenance(tmp_path):
    config = "[grid]\nshape = [7]  # größer später\n" + "# filler\n" * 10000
    settings = {"method": "rk32", "rtol": np.float64(1e-6), "list": [1, (2, 3)], "array": np.arange(3), "count": np.int64(4)}
    run = make_run((7,), tmp_path / "run.h5", config=config, settings=settings, seeds={"noise": 0}, title="a ring")
    with h5py.File(tmp_path / "run.h5") as file:
        assert file["meta/config"].asstr()[()] == config
        assert json.loads(file["meta/settings"].asstr()[()])["array"] == [0, 1, 2]
        assert json.loads(file["meta"].attrs["stats"])["steps"] == 12
        assert json.loads(file["meta"].attrs["versions"])["numpy"] == np.__version__
        assert file.attrs["title"] == "a ring"
    meta = run.result.meta
    assert meta["config"] == config
    assert meta["settings"] == {"method": "rk32", "rtol": 1e-6, "list": [1, [2, 3]], "array": [0, 1, 2], "count": 4}
    assert meta["seeds"] == {"noise": 0}
    assert {"host", "argv", "cpu", "threads", "started", "ended", "git", "run_id", "threading_layer"} <= set(meta)
    in_memory = make_run((7,), config=config, settings=settings, seeds={"noise": 0}, title="a ring").result.meta
    assert set(in_memory) == set(meta)
    assert in_memory["settings"] == meta["settings"]


@pytest.mark.parametrize(
    "fields", [("t",), ("a", "tau"), ("x",), ("y",), ("z",), ("ts",), ("meta",), ("VTKHDF",), ("a", "a_t"), ("a", "a")]
)
def test_names_that_collide_are_refused(fields):
    with pytest.raises(ActionError):
        RunDescription(Grid((4,), (1,)), fields)


def test_series_names_and_types_that_cannot_be_stored_are_refused():
    for options in ({"scalar_names": ("t",)}, {"scalar_names": ("time",)}, {"scalar_names": ("c", "c")}, {"dtype": "float16"}):
        with pytest.raises(ConfigError):
            RunDescription(Grid((4,), (1,)), ("a",), **options)
