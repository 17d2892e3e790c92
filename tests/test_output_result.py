"""Results in memory and in files: the same to their readers, and files are read only as far as asked."""

from __future__ import annotations

import builtins
import pickle
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray
from output_runs import SHAPES, STATS, make_run

from sftsolve.errors import ConfigError, FileError
from sftsolve.grid import Grid
from sftsolve.output import HDF5Writer, RunDescription, Stats, open_result


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_result(tmp_path, shape, stored):
    path = tmp_path / "run.h5" if stored else None
    run = make_run(shape, path)
    for result in [run.result] + ([open_result(path), open_result(str(path))] if path else []):
        np.testing.assert_array_equal(result.t, run.t)
        np.testing.assert_array_equal(result.tau, run.tau)
        np.testing.assert_array_equal(result.w, run.w)
        np.testing.assert_array_equal(result.v, run.v)
        np.testing.assert_array_equal(result["b"], run.w[:, 1])
        np.testing.assert_array_equal(result["a_t"], run.v[:, 0])
        np.testing.assert_array_equal(result.scalars["norm"], run.rows[:, 1])
        np.testing.assert_array_equal(result.scalars["t"], run.t)
        assert list(result.scalars) == ["t", "tau", "cost", "norm"]
        assert result.fields == ("a", "b")
        assert result.grid == run.grid
        assert result.stats == STATS
        assert result.complete
        assert result.path == path
        assert "12 steps by rk32" in repr(result)
        data = result.to_xarray()
        np.testing.assert_array_equal(data["b_t"], run.v[:, 1])
        np.testing.assert_array_equal(data["tau"], run.tau)
        assert data["a"].dims == ("t", *run.grid.axes)
        result.close()


def test_walls_come_back(tmp_path):
    grid = Grid((4, 5), (1, 2), boundary={"x": {"lower": {"value": 0.25}, "upper": {"derivative": 1}}, "y": "periodic"})
    with HDF5Writer(tmp_path / "run.h5") as writer:
        writer.begin(RunDescription(grid, ("a",)))
        writer.finish(Stats())
    assert open_result(tmp_path / "run.h5").grid == grid


def test_without_velocities(tmp_path):
    with HDF5Writer(tmp_path / "run.h5") as writer:
        writer.begin(RunDescription(Grid((4,), (1,)), ("a",), has_velocity=False))
        writer.snapshot(0.0, 0.0, np.ones((1, 4)))
        result = writer.finish(Stats())
    assert result.v is None
    assert set(result.to_xarray().data_vars) == {"a"}
    with pytest.raises(ConfigError, match="a_t"):
        result["a_t"]


def random_key(random, shape):
    """A random key of integers, slices, None and an ellipsis."""
    key = []
    for n in shape[: random.integers(0, len(shape) + 1)]:
        if random.random() < 0.4:
            key.append(int(random.integers(-n, n)))
        else:
            ends = [None if random.random() < 0.3 else int(end) for end in random.integers(-n - 2, n + 3, 2)]
            key.append(slice(*ends, random.choice(np.array([None, 1, 2, -1, -2, 3], dtype=object))))
    if random.random() < 0.3:
        key.insert(random.integers(0, len(key) + 1), None)
    if random.random() < 0.3 and len([entry for entry in key if entry is not None]) < len(shape):
        key.append(...)
    return tuple(key)


def test_lazy_fields_index_as_numpy_does(tmp_path):
    run = make_run((4, 5), tmp_path / "run.h5", levels=6)
    random = np.random.default_rng(3)
    keys = [random_key(random, run.w.shape) for _ in range(400)]
    keys += [
        0,
        -1,
        ...,
        None,
        slice(None, None, -2),
        np.int64(2),
        (..., 3),
        ([0, -1],),
        ([0, 3], 1),
        ([], 0),
        ([[0, 1], [2, 3]],),
    ]
    keys += [(np.array([True, False] * 3), slice(None), 2), (np.array([5, 0]), ..., slice(1, 3)), [4, 4]]
    for key in keys:
        found, expected = run.result.w[key], run.w[key]
        assert type(found) is type(expected) or np.ndim(expected) == 0
        assert np.shape(found) == np.shape(expected), key
        np.testing.assert_array_equal(found, expected, err_msg=str(key))


@pytest.mark.parametrize("key", [6, -7, (0, 2), (0, 0, 0, 0, 0), (..., ...), (0, [0]), 1.0, "a", True, [9]])
def test_lazy_fields_refuse_what_numpy_refuses_or_they_cannot_read(tmp_path, key):
    run = make_run((4, 5), tmp_path / "run.h5", levels=6)
    with pytest.raises(IndexError):
        run.result.w[key]


def test_lazy_fields_behave_as_an_array(tmp_path):
    run = make_run((4, 5), tmp_path / "run.h5")
    w = run.result.w
    assert (w.shape, w.ndim, w.size, w.nbytes, len(w)) == (run.w.shape, 4, 160, 1280, 4)
    np.testing.assert_array_equal(w - run.w, np.zeros(run.w.shape))
    np.testing.assert_array_equal(2 * w, 2 * run.w)
    np.testing.assert_array_equal(run.w + w, 2 * run.w)
    np.testing.assert_array_equal(np.abs(w).max(), np.abs(run.w).max())
    np.testing.assert_array_equal(np.mean(w, axis=0), run.w.mean(axis=0))
    np.testing.assert_array_equal(np.asarray(w, dtype=np.float32), run.w.astype(np.float32))
    np.testing.assert_array_equal([level.sum() for level in w], [level.sum() for level in run.w])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(run.result)).w, run.w)
    with pytest.raises(ValueError, match="copy"):
        np.array(w, copy=False)


def damage_all_chunks_but(path, name, level):
    """Flip a byte in each chunk of `name` that does not hold time level `level`."""
    with h5py.File(path) as file:
        chunks = [file[name].id.get_chunk_info(number) for number in range(file[name].id.get_num_chunks())]
    with open(path, "r+b") as raw:
        for chunk in chunks:
            if chunk.chunk_offset[0] != level:
                raw.seek(chunk.byte_offset + 5)
                byte = raw.read(1)
                raw.seek(chunk.byte_offset + 5)
                raw.write(bytes([byte[0] ^ 255]))


def test_only_what_is_asked_for_is_read(tmp_path):
    path = tmp_path / "run.h5"
    run = make_run((4, 5), path)
    damage_all_chunks_but(path, "a", 2)
    result = open_result(path)
    np.testing.assert_array_equal(result.w[2], run.w[2])
    np.testing.assert_array_equal(result.w[:, 1], run.w[:, 1])
    data = result.to_xarray()
    np.testing.assert_array_equal(data["a"].isel(t=2, x=slice(None, None, -2)), run.w[2, 0][:, ::-2])
    np.testing.assert_array_equal(data["a"].sel(t=run.t[2]).isel(y=[3, 0]), run.w[2, 0][[3, 0]])
    np.testing.assert_array_equal(data["a"][2].sum(), run.w[2, 0].sum())
    for read in (lambda: result.w[1], lambda: result["a"], lambda: data["a"].load()):
        with pytest.raises(FileError, match="damaged"):
            read()


def test_reading_one_level_takes_the_memory_of_one_level(tmp_path):
    levels, shape = 12, (128, 256)
    with HDF5Writer(tmp_path / "run.h5") as writer:
        writer.begin(RunDescription(Grid(shape, (1, 1)), ("a",), has_velocity=False))
        tracemalloc.start()
        for level in range(levels):
            writer.snapshot(level, level, np.full((1, *shape), level, dtype=float))
        result = writer.finish(Stats())
        level_bytes = 128 * 256 * 8
        assert tracemalloc.get_traced_memory()[1] < 3 * level_bytes
        tracemalloc.reset_peak()
        assert result.w[7, 0, 3, 4] == 7
        assert result.w[7].sum() == 7 * 128 * 256
        assert tracemalloc.get_traced_memory()[1] < 3 * level_bytes
        tracemalloc.stop()


def test_a_relative_path_outlives_a_change_of_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = make_run((4, 5), Path("run.h5"))
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    np.testing.assert_array_equal(run.result.w, run.w)


def test_a_result_does_not_stand_in_the_way_of_the_next_and_notices_it(tmp_path):
    path = tmp_path / "run.h5"
    first = make_run((4, 5), path).result
    lazy = first.to_xarray()
    second = make_run((4, 5), path)
    np.testing.assert_array_equal(second.result.w, second.w)
    for read in (lambda: first.w[0], lambda: first["a"], lambda: lazy["a"].load()):
        with pytest.raises(FileError, match="replaced"):
            read()
    path.unlink()
    with pytest.raises(FileError, match="no longer there"):
        second.result.w[0]


def test_open_result_says_what_is_wrong(tmp_path):
    make_run((4, 5), tmp_path / "run.h5")
    with pytest.raises(FileError, match=r"no file(.|\n)*did you mean run.h5"):
        open_result(tmp_path / "rum.h5")
    with pytest.raises(FileError, match="no file"):
        open_result(tmp_path / "missing" / "run.h5")
    with pytest.raises(FileError, match="is a directory"):
        open_result(tmp_path)
    (tmp_path / "notes.txt").write_text("not HDF5")
    with pytest.raises(FileError, match="not written by sftsolve"):
        open_result(tmp_path / "notes.txt")
    xarray.Dataset({"a": ("x", np.arange(3.0))}).to_netcdf(tmp_path / "other.h5", engine="h5netcdf")
    with pytest.raises(FileError, match="not written by sftsolve"):
        open_result(tmp_path / "other.h5")
    whole = (tmp_path / "run.h5").read_bytes()
    (tmp_path / "short.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FileError, match="cannot be read"):
        open_result(tmp_path / "short.h5")
    with h5py.File(tmp_path / "run.h5", "a") as file:
        file.attrs["sftsolve_format"] = 2
    with pytest.raises(FileError, match=r"newer sftsolve(.|\n)*format 1(.|\n)*format 2"):
        open_result(tmp_path / "run.h5")
    with h5py.File(tmp_path / "run.h5", "a") as file:
        file.attrs["sftsolve_format"] = 1
        del file["meta"]
    with pytest.raises(FileError, match="is damaged"):
        open_result(tmp_path / "run.h5")


def test_unknown_fields_and_missing_xarray(tmp_path, monkeypatch):
    result = make_run((4, 5)).result
    with pytest.raises(ConfigError, match=r"no field 'aa'(.|\n)*did you mean a"):
        result["aa"]
    original = builtins.__import__

    def without_xarray(name, *arguments, **options):
        if name == "xarray":
            raise ImportError(name)
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_xarray)
    with pytest.raises(ConfigError, match=r"pip install 'sftsolve\[xarray\]'"):
        result.to_xarray()
