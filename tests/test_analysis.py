"""The frozen dispersion relation against symbols written out by hand, and the memory estimate against what a run holds."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import sftsolve as sft
from sftsolve.analysis import dispersion
from sftsolve.stepping import make_stepper

FRICTION = sft.Friction(gamma=1.0)


def theory(cost, fields=("w",), **more):
    return sft.Action(list(fields), cost, friction=FRICTION, **more)


def test_a_free_field_has_the_symbol_of_its_stencil():
    grid = sft.Grid((32,), (2.0,))
    h = grid.spacing[0]
    found = dispersion(theory("D/2*grad2(w) + m/2*w**2", parameters={"D": 0.3, "m": 1.5}), grid, np.zeros((1, 32)))
    assert found.growth[0] == pytest.approx(-1.5)
    assert found.wavenumber == (0.0,)
    assert found.decay == pytest.approx(-1.5 - 0.3 * 4 / h**2)
    assert found.well_posed


@pytest.mark.parametrize("order, top", [(2, 4.0), (4, 16 / 3), (6, 272 / 45), (8, 2048 / 315)])
def test_the_cutoff_of_every_order(order, top):
    """The largest eigenvalue of the compact second derivative, h^2 times it at theta = pi."""
    grid = sft.Grid((24, 24), (1.0, 2.0))
    found = dispersion(theory("grad2(w)/2"), grid, np.zeros((1, 24, 24)), order=order)
    assert found.decay == pytest.approx(-top * sum(1 / h**2 for h in grid.spacing))


def test_growth_about_a_background():
    """w^4/4 - w^2/2 about w = 0.2: the force's slope is 1 - 3 w^2 for long waves."""
    grid = sft.Grid((16,), (1.0,))
    found = dispersion(theory("w**4/4 - w**2/2 + grad2(w)/2"), grid, np.full((1, 16), 0.2))
    assert found.growth[0] == pytest.approx(1 - 3 * 0.04)
    assert found.well_posed


def test_two_fields_are_one_matrix_a_mode():
    """a b and a_x b_x: eigenvalues +-(m + k^2) of the coupling, the compact k^2 at the cutoff being 4/h^2."""
    grid = sft.Grid((16,), (1.0,))
    h = grid.spacing[0]
    found = dispersion(theory("m*a*b + d(a, x)*d(b, x)", ("a", "b"), parameters={"m": 2.0}), grid, np.zeros((2, 16)))
    assert found.growth[0] == pytest.approx(2.0 + 4 / h**2)
    assert not found.well_posed


@pytest.mark.parametrize("cost", ["-grad2(w)/2", "K*w*d(w, x, 2)", "w**2/2 - d(w, x)**2*(1 + S)/2"])
def test_a_wrong_sign_is_refused_by_solve_and_not_by_discretise(cost):
    grid = sft.Grid((16,), (1.0,))
    action = theory(cost, parameters={"K": 1.0}, sources={"S": "0.5*sin(2*pi*x)"})
    assert not sft.check(action, grid).well_posed
    assert "ill-posed" in str(sft.check(action, grid))
    sft.discretise(action, grid)
    with pytest.raises(sft.SftError, match="ill-posed") as caught:
        sft.solve(action, grid, {"w": "sin(2*pi*x)"}, end=1e-4, progress=False)
    assert "--force" in str(caught.value)
    result = sft.solve(action, grid, {"w": "sin(2*pi*x)"}, end=1e-4, progress=False, allow_ill_posed=True)
    assert result.stats.status == "complete"


def test_wrong_sign_in_one_patch_only():
    grid = sft.Grid((64,), (1.0,))
    action = theory("S/2*grad2(w)", sources={"S": "0.5 + cos(2*pi*x)"})
    assert not sft.check(action, grid).well_posed


def test_memory_is_what_a_run_holds():
    grid = sft.Grid((64, 64, 64), (1.0, 1.0, 1.0))
    action = theory("grad2(w)/2 - J*w", sources={"J": "x"})
    promised = sft.check(action, grid, dynamics="gradient-flow", method="rk32").memory
    sft.discretise(action, grid, dynamics="gradient-flow")
    tracemalloc.start()
    system = sft.discretise(action, grid, dynamics="gradient-flow")
    state = system.state({"w": 0.0})
    stepper = make_stepper("rk32", system)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert state.step == 0
    assert stepper.method == "rk32"
    arrays = promised["state"] + promised["stages of rk32"] + promised["sources"]
    assert math.isclose(held, arrays, rel_tol=0.1)


CASES = Path(__file__).with_name("memory_cases.py")


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from /proc")
def test_the_peak_of_a_run_is_as_promised(tmp_path):
    # The first run compiles, which takes memory of its own.
    for cells in (1 << 14, 144**3):
        command = [sys.executable, str(CASES), "tsit5 d 3d", str(cells), str(tmp_path / "run.h5")]
        found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert found["peak"] == pytest.approx(found["promised"]["total"], rel=0.1)


RUNS = """
import json
import sys
sys.path.append(sys.argv[1])
from memory_cases import run
for name in sys.argv[3:]:
    run(name, 1 << 14, sys.argv[2])
    print(json.dumps(run(name, 96**3, sys.argv[2])))
"""

SEVERAL = ("kernel convolution fft", "rk32 g float32 3d", "etdrk4 d 3d", "sbdf2 d varying 3d", "tsit5 d 2d memory")


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from /proc")
def test_all_that_holds_memory_says_how_much(tmp_path):
    command = [sys.executable, "-c", RUNS, str(CASES.parent), str(tmp_path / "run.h5"), *SEVERAL]
    # Every array goes back when it is freed, so that one process serves for all.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(1 << 16)}
    lines = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.splitlines()
    for name, line in zip(SEVERAL, lines, strict=True):
        found = json.loads(line)
        arrays = found["promised"]["total"] - found["promised"]["program"]
        assert found["more"] == pytest.approx(arrays, rel=0.1), name


def test_snapshots_in_memory_count():
    grid = sft.Grid((64, 64), (1.0, 1.0))
    action = theory("a*b + grad2(a)/2", ("a", "b"))
    kept, none = (sft.check(action, grid, snapshots=count).memory["total"] for count in (5, 0))
    assert kept - none == 5 * 2 * 2 * 8 * 64**2


def test_no_local_cost_is_no_dispersion():
    grid = sft.Grid((8,), (1.0,))
    kernel = sft.PointwiseMatrix(["w"], np.ones((1, 1, 8)))
    report = sft.check(sft.Action(["w"], "0", kernels=[kernel], friction=FRICTION), grid)
    assert report.dispersion is None
    assert report.well_posed
    assert "kernels" in str(report)


@pytest.mark.parametrize("cost", ["1", "J*w", "d(w, x)"])
def test_a_force_that_no_field_enters_disperses_nothing(cost):
    grid = sft.Grid((8,), (1.0,))
    action = theory(cost, sources={"J": "x"})
    assert sft.check(action, grid).dispersion is None
    result = sft.solve(action, grid, {"w": 0.0}, end=1.0, dynamics="gradient-flow", progress=False)
    expected = -grid.coordinates[0] if cost == "J*w" else np.zeros(8)
    assert np.allclose(result.w[-1, 0], expected, atol=1e-9)


def test_a_small_patch_of_the_wrong_sign_is_found():
    grid = sft.Grid((64, 64), (1.0, 1.0))
    action = theory("S/2*grad2(w)", sources={"S": "1 - 3*exp(-((x - 0.3)**2 + (y - 0.75)**2)/0.005)"})
    assert not sft.check(action, grid).well_posed


def test_growth_in_proportion_to_the_wavenumber_is_unbounded_too():
    """a b_x is Hadamard's example: the rate is k."""
    grid = sft.Grid((32,), (1.0,))
    assert not sft.check(theory("a*d(b, x)", ("a", "b")), grid).well_posed
    assert sft.check(theory("a*d(b, x) + grad2(a)/2", ("a", "b")), grid).well_posed


def test_slopes_of_the_background_count():
    """(w')^4/4 about w = s x: the stiffness is 3 s^2 everywhere, 12 s^2/h^2 at the cutoff."""
    slope = 0.7
    grid = sft.Grid((16,), (1.0,), boundary={"x": {"lower": {"derivative": -slope}, "upper": {"derivative": slope}}})
    found = dispersion(theory("d(w, x)**4/4"), grid, slope * grid.coordinates[0][None])
    assert found.decay == pytest.approx(-12 * slope**2 / grid.spacing[0] ** 2)
