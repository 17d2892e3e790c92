"""Generated modules across processes: the same text whatever the hash seed, races; nothing compiled or allocated in vain.

`test_cache.py` looks at one process and at the folder's permissions.
"""

import ast
import gc
import os
import stat
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from numba.core import event

import sftsolve as sft
from sftsolve.codegen import cache
from sftsolve.codegen.plan import plan
from sftsolve.errors import FileError

RACER = """
import sys
import numpy as np, sftsolve as sft
friction = sft.Friction(gamma=1.0)
action = sft.Action(["w", "v"], "S/2*grad2(w) + sin(w*v)*m", {"m": float(sys.argv[1])}, {"S": "1 + x"}, friction=friction)
system = sft.discretise(action, sft.Grid(int(sys.argv[2]), 1.0))
w = np.linspace(-1.0, 1.0, 2 * system.grid.size).reshape(2, -1)
print(system.local.module.__file__)
print(system.cost(w).hex(), float(np.sum(system.force(w))).hex())
print(sum(sum(f.stats.cache_hits.values()) for f in vars(system.local.module).values() if hasattr(f, "stats")))
print(sum(sum(f.stats.cache_misses.values()) for f in vars(system.local.module).values() if hasattr(f, "stats")))
"""

WALLED = {
    "x": {"lower": {"w": {"value": 0.3}, "v": {"derivative": 0.1}}, "upper": {"w": {"value": 0.2}, "v": {"derivative": 0.7}}}
}
RICH = "S/2*grad2(w) + S*grad2(v) + K*w*v**2 + lap(v)*m + exp(w)*d(v, y)**2 + sqrt(1 + grad2(w)) + d(w, x)*d(v, x)"


def start(folder, seed, value, size):
    environment = os.environ | {"SFTSOLVE_CACHE": str(folder), "PYTHONHASHSEED": seed}
    command = [sys.executable, "-c", RACER, value, size]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    return output.split()


def test_processes_race_and_reuse(tmp_path):
    # Two at once with different hash seeds compile the same module; a third with other values and sizes finds it.
    racers = [start(tmp_path, seed, "0.7", "12") for seed in ("1", "2")]
    (file, *result, _, _), (other_file, *other_result, _, _) = map(finish, racers)
    assert file == other_file and result == other_result
    file_again, cost, force, hits, misses = finish(start(tmp_path, "3", "0.9", "21"))
    assert file_again == file and int(hits) > 0 and int(misses) == 0
    assert len(list((tmp_path / "kernels").glob("*.py"))) == 1 and not list(tmp_path.rglob("*.tmp"))
    assert stat.S_IMODE((tmp_path / "kernels").stat().st_mode) == 0o700
    size, m = 21, 0.9
    w, v = np.linspace(-1.0, 1.0, 2 * size).reshape(2, -1)
    x = (np.arange(size) + 0.5) / size
    rise, fall = (np.roll(w, -1) - w) * size, (w - np.roll(w, 1)) * size
    expected = np.mean((1 + x) / 4 * (rise**2 + fall**2) + np.sin(w * v) * m)
    assert float.fromhex(cost) == pytest.approx(expected, rel=1e-13)
    assert float.fromhex(force) == pytest.approx(-np.sum(np.cos(w * v) * (w + v) * m), rel=1e-9)


def text_of(sources, parameters, shape, boundary):
    action = sft.Action(["w", "v"], RICH, parameters, sources)
    return plan(action, sft.Grid(shape, 1.0, boundary=boundary)).text


def test_texts_hold_roles_but_no_values():
    lower, upper = {"w": {"value": -9.25}, "v": {"derivative": 8.125}}, {"w": {"value": 7.625}, "v": {"derivative": 6.125}}
    one = text_of({"S": 1.0, "K": "x"}, {"m": 2.375}, (8, 8), WALLED)
    two = text_of(
        {"S": np.ones((9, 30)), "K": lambda grid: grid.mesh["x"]}, {"m": -6.875}, (9, 30), {"x": {"lower": lower, "upper": upper}}
    )
    assert one == two
    assert not any(number in one for number in ("2.375", "0.3", "9.25", "8.125"))
    assert one != text_of({"S": 1.0, "m": "x"}, {"K": 2.375}, (8, 8), WALLED)
    assert one != text_of({"S": 1.0, "K": "x"}, {"m": 2.375}, (8, 8), "periodic")


def test_texts_do_not_depend_on_the_hash_seed():
    script = (
        "import sys, hashlib; sys.path.insert(0, sys.argv[1]); import test_codegen_cache as t\n"
        "text = t.text_of({'S': 1.0, 'K': 1.0}, dict.fromkeys('mnopqr', 1.0), (8, 8), t.WALLED)\n"
        "print(hashlib.sha256(text.encode()).hexdigest())"
    )
    seen = set()
    for seed in ("0", "1", "2"):
        command = [sys.executable, "-c", script, os.path.dirname(__file__)]
        done = subprocess.run(command, env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True)
        seen.add(done.stdout)
    assert len(seen) == 1


class Compilations(event.Listener):
    """Names of the functions that Numba compiles."""

    def __init__(self):
        self.names = []

    def on_start(self, started):
        self.names.append(started.data["dispatcher"].py_func.__name__)

    def on_end(self, ended):
        pass


def test_nothing_at_all_is_compiled_anew():
    def use(shape, value, source):
        kernel = sft.PointwiseMatrix(["w"], np.ones((1, 1, *shape)))
        friction = sft.Friction(gamma=value)
        action = sft.Action(["w"], "S/2*grad2(w) + sin(w)", {"m": value}, {"S": source}, [kernel], friction)
        system = sft.discretise(action, sft.Grid(shape, value, boundary={"x": {"value": value}}))
        state = system.state({"w": "x"})
        out = state.like()
        system.force_into(state, out)
        system.jvp_into(state, state, out)
        return system.cost_of(state)

    use((9,), 1.5, 2.0)
    listener = Compilations()
    with event.install_listener("numba:compile", listener):
        for shape, value, source in (((9,), 2.5, 2.0), ((31,), 1.5, "1 + x"), ((17,), 0.25, np.ones(17))):
            assert np.isfinite(use(shape, value, source))
    assert listener.names == []


def test_names_cannot_leave_the_header():
    # Names are identifiers and the text of a density is made of them; nothing typed can end the module's docstring.
    fields = ["w", "__import__", "os", "njit", "p0", "boxes", "c0", "t0", "\u03c6"]
    action = sft.Action(fields, " + ".join(f"{name}**2*J" for name in fields), {"math": 2.0}, {"J": 1.0})
    module = ast.parse(plan(action, sft.Grid(8, 1.0)).text)
    assert [type(node) for node in module.body[:4]] == [ast.Expr, ast.Import, ast.Import, ast.ImportFrom]
    assert {type(node) for node in module.body[5:]} == {ast.FunctionDef}
    assert {node.module for node in module.body if isinstance(node, ast.ImportFrom)} <= {"numba", "sftsolve.codegen.vectors"}
    used = {node.id for node in ast.walk(module) if isinstance(node, ast.Name)}
    assert not used & {"w1", "__import__", "os", "\u03c6"}


def test_a_hostile_name_is_only_a_name():
    friction = sft.Friction(gamma=1.0)
    system = sft.discretise(
        sft.Action(["njit", "p"], "njit**2*boxes + p*njit", {"boxes": 3.0}, friction=friction), sft.Grid(4, 1.0)
    )
    w = np.arange(8.0).reshape(2, 4)
    np.testing.assert_allclose(system.force(w), np.stack([-6 * w[0] - w[1], -w[0]]), rtol=1e-14)


@pytest.mark.parametrize(
    ("shape", "boundary"), [((60, 70), {"x": {"derivative": 0.5}, "y": {"value": 0.5}}), ((260, 270), "periodic")]
)
def test_force_into_allocates_nothing_of_field_size(shape, boundary):
    kernel = sft.PointwiseMatrix(["w"], np.ones((1, 1, *shape)))
    action = sft.Action(["w"], "S/2*grad2(w) + sin(w)", {}, {"S": "1 + x"}, [kernel], sft.Friction(gamma=1.0))
    system = sft.discretise(action, sft.Grid(shape, 1.0, boundary=boundary))
    state = system.state({"w": "x*y"}, {"w": 1.0})
    out = state.like()
    system.force_into(state, out)
    system.cost_of(state)
    gc.collect()
    tracemalloc.start()
    for _ in range(3):
        system.force_into(state, out)
        system.cost_of(state)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000 < 8 * system.grid.size


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_folder_that_others_can_write_to_is_refused(tmp_path, monkeypatch, mode):
    monkeypatch.setenv("SFTSOLVE_CACHE", str(tmp_path))
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels").chmod(mode)
    with pytest.raises(FileError, match="is not private"):
        cache.cache_folder()
    (tmp_path / "kernels").chmod(0o755)
    assert cache.cache_folder() == tmp_path / "kernels"


def test_a_folder_that_cannot_be_made(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SFTSOLVE_CACHE", str(tmp_path / "file"))
    with pytest.raises(FileError, match="set SFTSOLVE_CACHE"):
        cache.cache_folder()
