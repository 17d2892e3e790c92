"""The life of a writer: nothing half-written, nothing foreign lost, and disks that fail are survived."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections import namedtuple
from pathlib import Path

import h5py
import numpy as np
import pytest
from output_runs import make_run

from sftsolve.errors import FileError, GridError
from sftsolve.grid import Grid
from sftsolve.output import HDF5Writer, MemoryWriter, RunDescription, Stats, open_result
from sftsolve.output.guarded import GuardedFile
from sftsolve.output.resultfile import ResultFile

RUN = RunDescription(Grid((4, 5), (1, 1)), ("a", "b"), scalar_names=("cost",))
W = np.arange(40.0).reshape(2, 4, 5)


def names(directory):
    return sorted(entry.name for entry in directory.iterdir())


def test_the_file_appears_only_when_finished(tmp_path):
    with HDF5Writer(tmp_path / "run.h5") as writer:
        writer.begin(RUN)
        writer.snapshot(0.0, 0.0, W, W)
        (temporary,) = names(tmp_path)
        assert temporary.startswith(".run.h5.")
        assert temporary.endswith(".tmp")
        writer.finish(Stats())
        assert names(tmp_path) == ["run.h5"]
    assert names(tmp_path) == ["run.h5"]


@pytest.mark.parametrize("begun", [False, True])
def test_abandon_leaves_nothing(tmp_path, begun):
    writer = HDF5Writer(tmp_path / "run.h5")
    if begun:
        writer.begin(RUN)
        writer.snapshot(0.0, 0.0, W, W)
    writer.abandon()
    writer.abandon()
    assert names(tmp_path) == []
    with pytest.raises(FileError, match="not open"):
        writer.begin(RUN)
        writer.abandon()
        writer.finish(Stats())


def test_an_exception_abandons_and_keeps_the_earlier_result(tmp_path):
    earlier = make_run((4, 5), tmp_path / "run.h5")
    with pytest.raises(ZeroDivisionError), HDF5Writer(tmp_path / "run.h5") as writer:
        writer.begin(RUN)
        writer.snapshot(0.0, 0.0, W, W)
        raise ZeroDivisionError
    assert names(tmp_path) == ["run.h5"]
    np.testing.assert_array_equal(earlier.result.w, earlier.w)


@pytest.mark.parametrize("status", ["interrupted", "failed"])
@pytest.mark.parametrize("stored", [False, True])
def test_a_run_that_stopped_leaves_a_valid_result(tmp_path, stored, status):
    with HDF5Writer(tmp_path / "run.h5") if stored else MemoryWriter() as writer:
        writer.begin(RUN)
        writer.snapshot(0.0, 0.0, W, W)
        writer.scalars(0.0, 0.0, (1.0,))
        result = writer.finish(Stats(steps=5), status, "stopped at t = 0")
    for found in (result, open_result(tmp_path / "run.h5")) if stored else (result,):
        assert not found.complete
        assert (found.stats.status, found.stats.message, found.stats.steps) == (status, "stopped at t = 0", 5)
        np.testing.assert_array_equal(found.w, W[None])
        assert "stopped at t = 0" in repr(found)
    if stored:
        with h5py.File(tmp_path / "run.h5") as file:
            assert file.attrs["complete"] == 0


def test_snapshots_are_on_disk_as_they_come(tmp_path):
    w = np.random.default_rng(0).random((1, 64, 64))
    with HDF5Writer(tmp_path / "run.h5") as writer:
        writer.begin(RunDescription(Grid((64, 64), (1, 1)), ("a",)))
        for level in range(5):
            writer.snapshot(level, level, w, w)
        (temporary,) = tmp_path.iterdir()
        assert temporary.read_bytes().count(w.tobytes()) == 10


def test_a_snapshot_cut_short_does_not_count(tmp_path):
    guard = GuardedFile(tmp_path / "body.h5")
    body = ResultFile(guard, RUN, {"title": "cut", "run_id": "1"})
    body.append(0.0, 0.0, W, W)
    with pytest.raises(TypeError):
        body.append(1.0, 1.0, [W[0], W[1] * 1j], W)
    body.seal({}, complete=False)
    guard.close()
    with h5py.File(tmp_path / "body.h5") as file:
        assert {file[name].shape[0] for name in ("t", "tau", "a", "b", "a_t", "b_t", "VTKHDF/Steps/Values")} == {1}
        np.testing.assert_array_equal(file["b"][0], W[1])


def test_snapshots_are_copies(tmp_path):
    for writer in (MemoryWriter(), HDF5Writer(tmp_path / "run.h5")):
        w = W.copy()
        writer.begin(RUN)
        writer.snapshot(0.0, 0.0, w, w)
        w[...] = np.nan
        result = writer.finish(Stats())
        np.testing.assert_array_equal(result.w[0], W)
        np.testing.assert_array_equal(result.v[0], W)


def test_snapshots_that_do_not_fit_are_refused():
    writer = MemoryWriter()
    writer.begin(RUN)
    for w, v in ((W[:1], W), (W, W[..., :1]), (W, None)):
        with pytest.raises(GridError, match="does not fit"):
            writer.snapshot(0.0, 0.0, w, v)


def test_foreign_files_are_refused_and_results_replaced(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["a"] = 1.0
    for name in ("notes.txt", "data.h5"):
        with pytest.raises(FileError, match="not written by sftsolve"):
            HDF5Writer(tmp_path / name)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    make_run((4, 5), tmp_path / "run.h5")
    make_run((7,), tmp_path / "run.h5")
    assert open_result(tmp_path / "run.h5").grid.shape == (7,)
    with pytest.raises(FileError, match="exists"):
        HDF5Writer(tmp_path / "run.h5", overwrite=False)


def test_a_foreign_file_that_comes_later_is_kept_and_so_is_the_result(tmp_path):
    writer = HDF5Writer(tmp_path / "run.h5")
    writer.begin(RUN)
    writer.snapshot(0.0, 0.0, W, W)
    (tmp_path / "run.h5").write_text("mine")
    with pytest.raises(FileError, match="the result is whole") as caught:
        writer.finish(Stats())
    assert (tmp_path / "run.h5").read_text() == "mine"
    writer.abandon()
    (temporary,) = (entry for entry in tmp_path.iterdir() if entry.suffix == ".tmp")
    assert str(temporary) in str(caught.value)
    np.testing.assert_array_equal(open_result(temporary).w, W[None])


def test_links_are_followed(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "run.h5").symlink_to(tmp_path / "disk" / "run.h5")
    make_run((7,), tmp_path / "run.h5")
    run = make_run((7,), tmp_path / "run.h5")
    assert (tmp_path / "run.h5").is_symlink()
    assert names(tmp_path / "disk") == ["run.h5"]
    np.testing.assert_array_equal(run.result.w, run.w)


def test_places_that_cannot_be_written_are_refused_before_the_run(tmp_path):
    with pytest.raises(FileError, match="no directory"):
        HDF5Writer(tmp_path / "missing" / "run.h5")
    with pytest.raises(FileError, match="in the way"):
        HDF5Writer(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="no directory"):
        HDF5Writer(tmp_path / "file" / "run.h5")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a directory in which nobody can make files")
def test_a_directory_that_takes_no_files_is_refused(tmp_path):
    with pytest.raises(FileError, match=r"cannot write|not writable"):
        HDF5Writer("/proc/self/run.h5").begin(RUN)


def test_too_little_room_is_noticed_before_and_during_the_run(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    free = 100_000_000
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, free))
    large = RunDescription(Grid((256, 256), (1, 1)), ("a",), snapshots=100)
    with pytest.raises(FileError, match=r"too little room(.|\n)*113.2 MB(.|\n)*100.0 MB free"):
        HDF5Writer(tmp_path / "run.h5").begin(large)
    assert names(tmp_path) == []
    with HDF5Writer(tmp_path / "run.h5") as writer:
        writer.begin(RUN)
        writer.snapshot(0.0, 0.0, W, W)
        free = 1_000_000
        with pytest.raises(FileError, match="too little room"):
            writer.snapshot(1.0, 1.0, W, W)
        result = writer.finish(Stats(), "failed", "no room")
    np.testing.assert_array_equal(result.w, W[None])


@pytest.mark.skipif(os.name != "posix", reason="needs a limit on file sizes")
@pytest.mark.parametrize("shape", [(20000,), (4, 4), (300, 300)])
def test_a_disk_that_fails_ends_in_one_clear_error(tmp_path, shape):
    """In a process of its own: a library that was left with a broken file dies at exit, not before."""
    program = f"""
    import os, resource
    import numpy as np
    from sftsolve.errors import FileError
    from sftsolve.grid import Grid
    from sftsolve.output import HDF5Writer, RunDescription
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))
    fields = tuple("abcde")
    w = np.random.default_rng(0).random((5, *{shape}))
    writer = HDF5Writer("run.h5")
    writer.begin(RunDescription(Grid({shape}, [1.0] * len({shape})), fields))
    try:
        for level in range(100000):
            writer.snapshot(level, level, w, w)
    except FileError as error:
        print(error)
    print(os.listdir("."))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "writing run.h5 failed" in done.stdout
    assert "File too large" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_guarded_file_keeps_what_the_disk_refuses(tmp_path, monkeypatch):
    file = GuardedFile(tmp_path / "file")
    file.write(b"abcdefgh")

    class FullDisk:
        def __init__(self, raw):
            self.raw = raw

        def write(self, data):
            raise OSError(28, "No space left on device")

        def __getattr__(self, name):
            return getattr(self.raw, name)

    monkeypatch.setattr(file, "_file", FullDisk(file._file))
    file.seek(4)
    assert file.write(b"EFGHIJ") == 6
    assert file.failure.errno == 28
    file.seek(2)
    buffer = bytearray(8)
    assert file.readinto(buffer) == 8
    assert bytes(buffer) == b"cdEFGHIJ"
    file.close()
    file.write(b"late")
    file.truncate(0)
    assert (tmp_path / "file").read_bytes() == b"abcdefgh"


def test_a_guarded_file_takes_writes_after_closing(tmp_path):
    file = GuardedFile(tmp_path / "file")
    file.write(b"abc")
    file.close()
    assert file.write(b"def") == 3
    assert file.readinto(bytearray(3)) == 0
    file.truncate(0)
    assert file.failure is None
    assert (tmp_path / "file").read_bytes() == b"abc"
