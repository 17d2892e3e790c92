"""Generated modules: what compiles anew and what does not, and whose hands the folder is in."""

import os
import subprocess
import sys

import numpy as np
import pytest

import sftsolve as sft
from sftsolve.codegen import cache, vectors
from sftsolve.codegen import plan as plans
from sftsolve.errors import FileError

FORCE, JVP, TOTAL = (f"{name}_wide" if vectors.lanes("float64") else name for name in ("force", "jvp", "cost"))
COST = "D/2*grad2(w) + w**4/4 - J*w"
SCRIPT = f"""
import numpy as np, sftsolve as sft
action = sft.Action(["w"], {COST!r}, {{"D": 0.5}}, {{"J": "x"}}, friction=sft.Friction(gamma=1.0))
system = sft.discretise(action, sft.Grid(9, 1.0))
system.force(np.ones((1, 9)))
statistics = system.local.module.{FORCE}.stats
print(sum(statistics.cache_misses.values()), sum(statistics.cache_hits.values()))
"""


def used(shape, stiffness, source, length, wall):
    """The module behind a theory whose force, cost and Jacobian have been evaluated."""
    action = sft.Action(["w"], COST, {"D": stiffness}, {"J": source}, friction=sft.Friction(gamma=1.0 + stiffness))
    system = sft.discretise(action, sft.Grid(shape, length, boundary={"x": {"derivative": wall}}))
    w = np.random.default_rng(0).standard_normal((1, *shape))
    assert np.isfinite(system.force(w)).all() and np.isfinite(system.jvp(w, w)).all() and np.isfinite(system.cost(w))
    return system.local.module


def compilations(module):
    return {name: len(function.signatures) for name, function in vars(module).items() if hasattr(function, "signatures")}


def test_values_sources_and_sizes_compile_nothing_anew():
    module = used((9,), 0.5, "x", 1.0, 0.3)
    before = compilations(module)
    assert before[FORCE] == before[TOTAL] == before[JVP] == 1
    for arguments in (
        ((9,), 2.5, "x", 1.0, 0.3),
        ((9,), 0.5, np.random.default_rng(1).standard_normal(9), 1.0, -1.7),
        ((30,), 0.5, 3.0, 5.0, 0.3),
    ):
        assert used(*arguments) is module
        assert compilations(module) == before


SUMS = """
import numpy as np
from sftsolve.loops import multigrid_outer
right, sums = np.random.default_rng(0).standard_normal(16 * 16 * 64), np.zeros((3, 16))
multigrid_outer.measure(right, (0, 1024, 64, 16, 16, 64, 0), sums, 1)
print(sums.tobytes().hex())
"""


def test_bits_do_not_tell_what_was_compiled_and_what_was_loaded(tmp_path):
    """Sums that the compiler may reorder, in a process that compiles them and in one that finds them compiled."""
    command, folder = [sys.executable, "-c", SUMS], {"NUMBA_CACHE_DIR": str(tmp_path)}
    first, second = (
        subprocess.run(command, env=os.environ | folder, capture_output=True, text=True, check=True).stdout for _ in range(2)
    )
    assert first == second


def test_the_next_process_compiles_nothing(tmp_path):
    counts = []
    for _ in range(2):
        command = [sys.executable, "-c", SCRIPT]
        done = subprocess.run(
            command, env=os.environ | {"SFTSOLVE_CACHE": str(tmp_path)}, capture_output=True, text=True, check=True
        )
        counts.append(done.stdout.split())
    assert counts == [["1", "0"], ["0", "1"]]
    assert len(list((tmp_path / "kernels").glob("sft_*.py"))) == 1


def test_the_folder_is_private(tmp_path, monkeypatch):
    monkeypatch.setenv("SFTSOLVE_CACHE", str(tmp_path))
    folder = cache.cache_folder()
    assert folder.is_relative_to(tmp_path) and folder.stat().st_mode & 0o077 == 0
    folder.chmod(0o777)
    with pytest.raises(FileError, match="not private") as caught:
        cache.cache_folder()
    assert "chmod go-w" in str(caught.value)


def test_a_file_that_was_changed_is_written_again(tmp_path, monkeypatch):
    monkeypatch.setenv("SFTSOLVE_CACHE", str(tmp_path))
    text = '"""\u03c6 is a letter too."""\n\nvalue = 3\n'
    path = cache.cache_folder() / f"sft_{cache.digest(text)}.py"
    path.write_text("value = 4\n")
    assert cache.load(text).value == 3
    assert path.read_bytes() == text.encode()


def test_a_plan_of_still_walls_is_not_taken_for_walls_that_move():
    """At order 4 these have rates in their energies."""

    def rates(value):
        walls = {"x": {"lower": {"value": value}, "upper": {"value": 0}}, "y": "periodic"}
        action = sft.Action(["w"], "grad2(w)/2", friction=sft.Friction(gamma=1.0))
        plan = plans.plan(action, sft.Grid((12, 12), (1.0, 1.0), boundary=walls), 4)
        return [datum for data in plan.faces.values() for datum in data if datum.rate]

    assert not rates("sin(2*pi*y)")
    assert rates("sin(2*pi*y*t)")


def test_plans_are_found_by_the_next_process_and_made_anew_where_they_are_broken(tmp_path, monkeypatch):
    monkeypatch.setenv("SFTSOLVE_CACHE", str(tmp_path))
    action = sft.Action(["w"], "S/2*grad2(w)", sources={"S": "1 + x"}, friction=sft.Friction(gamma=1.0))
    made = []
    monkeypatch.setattr(plans, "_write", lambda *args, call=plans._write: (made.append(1), call(*args))[1])

    def next_process():
        monkeypatch.setattr(plans, "_PLANS", {})
        return plans.plan(action, sft.Grid((8,), 1.0))

    first = next_process()
    assert next_process() == first and len(made) == 1
    (kept,) = (tmp_path / "kernels").glob("plan_*")
    kept.write_text("nonsense")
    assert next_process() == first and len(made) == 2
    # Another version of the program does not look at it.
    monkeypatch.setattr(cache, "_program", lambda: "another")
    assert next_process() == first and len(made) == 3
