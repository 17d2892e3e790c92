"""The command line as a user meets it."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

import sftsolve as sft
from sftsolve.cli import app

WAVE = """
[grid]
shape = [32]
length = [1.0]
[action]
fields = ["w"]
cost = "D/2*grad2(w) + w**2/2"
parameters = { D = 1e-3 }
[friction]
gamma = 2.0
[initial]
w = "cos(2*pi*x)"
[time]
end = 1.0
clock = "t"
[output]
save_every = 0.25
"""
DIGITS = """
[network]
kind = "image-filter"
data = "digits.h5"
noise = { amplitude = 0.2 }
radius = 1
kappa = 0.1
[time]
end = 1.0
dynamics = "gradient-flow"
rtol = 1e-4
[output]
save_at = { log = [0.1, 1.0], count = 5 }
"""


def invoke(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def rows(text: str) -> dict[str, str]:
    """The summary's lines as a table."""
    parts = (line.split("  ", 1) for line in text.splitlines() if "  " in line)
    return {name: value.strip() for name, value in parts}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("wave.toml").write_text(WAVE)
    return tmp_path


@pytest.fixture
def digits(folder):
    Path("digits.toml").write_text(DIGITS)
    bars = np.zeros((20, 8, 8), dtype=np.uint8)
    bars[:10, :, 2:5] = 255
    bars[10:, 3:6, :] = 255
    with h5py.File("digits.h5", "w") as file:
        file["images"], file["labels"] = bars, np.repeat([0, 1], 10)
    return folder


def test_version():
    answer = invoke("--version")
    assert answer.exit_code == 0 and answer.stdout == f"sftsolve {sft.__version__}\n"


def test_the_command_starts_without_compiler_and_plotting():
    code = "import sys, sftsolve.cli; print([n for n in ('numba', 'matplotlib', 'scipy', 'h5py', 'sympy') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_run_writes_fields_and_picture_and_prints_a_summary(folder):
    answer = invoke("run", "wave.toml")
    assert answer.exit_code == 0, answer.output
    table = rows(answer.stdout)
    assert table["method"].split()[0] in ("rk32", "tsit5") and int(table["steps"].split()[0]) > 0
    assert table["file"] == str(folder / "wave.h5") and table["picture"] == str(folder / "wave.png")
    result = sft.open("wave.h5")
    assert np.allclose(result.t, [0, 0.25, 0.5, 0.75, 1.0]) and result.complete
    first, last = (float(number) for number in table["cost"].split(" -> "))
    assert np.isclose(first, result.scalars["cost"][0], rtol=1e-5) and last < first
    assert Path("wave.png").read_bytes().startswith(b"\x89PNG")


def test_the_run_solves_the_equation(folder):
    invoke("run", "wave.toml", "time.rtol=1e-9", "time.atol=1e-12", "--quiet")
    (x,) = sft.open("wave.h5").grid.coordinates
    # The compact Laplacian's symbol, and a mode at gamma^2 < 4 omega^2: damped and started at rest.
    omega2 = 1.0 + 1e-3 * (2 / (1 / 32) * np.sin(np.pi / 32)) ** 2
    nu = np.sqrt(omega2 - 1.0)
    amplitude = np.exp(-1.0) * (np.cos(nu) + np.sin(nu) / nu)
    assert np.allclose(sft.open("wave.h5")["w"][-1], amplitude * np.cos(2 * np.pi * x), atol=1e-7)


def test_quiet_prints_nothing(folder):
    answer = invoke("run", "wave.toml", "--quiet", "output.picture=")
    assert answer.exit_code == 0 and answer.output == ""
    assert Path("wave.h5").exists() and not Path("wave.png").exists()


def test_overrides_change_where_results_go(folder):
    answer = invoke("run", "wave.toml", "output.file=other.h5", "time.end=0.5", "output.picture=other.svg")
    assert answer.exit_code == 0, answer.output
    assert sorted(path.name for path in folder.iterdir()) == ["other.h5", "other.svg", "wave.toml"]
    assert sft.open("other.h5").t[-1] == 0.5


def test_a_result_is_replaced_by_the_next_run(folder):
    for end in (0.5, 1.0):
        assert invoke("run", "wave.toml", f"time.end={end}", "output.picture=").exit_code == 0
    assert sft.open("wave.h5").t[-1] == 1.0


def test_info_says_what_a_file_holds(folder):
    invoke("run", "wave.toml", "output.picture=")
    answer = invoke("info", "wave.h5")
    assert answer.exit_code == 0, answer.output
    for part in ("w", "32 (x)", "periodic", "5, t = 0 to 1", "complete", "numpy", 'cost = "D/2*grad2(w) + w**2/2"'):
        assert part in answer.stdout


@pytest.mark.parametrize("command", ["info", "plot"])
@pytest.mark.parametrize("name", ["missing.h5", "wave.toml"])
def test_info_and_plot_refuse_other_files(command, name, folder):
    answer = invoke(command, name)
    assert answer.exit_code == 2 and name in answer.stderr and "Traceback" not in answer.output


def test_plot_draws_again_from_the_file_alone(folder):
    invoke("run", "wave.toml")
    picture = Path("wave.png").read_bytes()
    Path("wave.png").unlink()
    Path("wave.toml").unlink()
    answer = invoke("plot", "wave.h5")
    assert answer.exit_code == 0 and answer.stdout.strip() == "wave.png"
    assert Path("wave.png").read_bytes() == picture


@pytest.mark.parametrize(
    ("name", "words"), [("nowhere/x.png", "folder does not exist"), ("x.xyz", "kind of picture"), ("x.toml", "kind of picture")]
)
def test_plot_refuses_places_where_no_picture_can_be(name, words, folder):
    invoke("run", "wave.toml", "output.picture=")
    answer = invoke("plot", "wave.h5", name)
    assert answer.exit_code == 2 and words in answer.stderr and "Traceback" not in answer.output


def test_plot_says_where_the_picture_is(folder):
    invoke("run", "wave.toml", "output.picture=")
    assert invoke("plot", "wave.h5", "drawn").stdout.strip() == "drawn.png"
    assert Path("drawn.png").exists()


def test_check_says_what_a_run_would_be_and_runs_nothing(folder):
    answer = invoke("check", "wave.toml", "grid.shape=[500]")
    assert answer.exit_code == 0, answer.output
    assert "memory with tsit5" in answer.stdout and "all modes decay" in answer.stdout
    assert "between steps" in answer.stdout  # of snapshots within steps
    assert [path.name for path in folder.iterdir()] == ["wave.toml"]


def test_check_tells_what_a_run_would_take_that_does_not_fit(folder):
    answer = invoke("check", "wave.toml", "grid.shape=[500000000000]")
    assert answer.exit_code == 1 and "stages of tsit5" in answer.stdout and "does not fit into the" in answer.stdout
    assert "all modes decay" not in answer.stdout and answer.stderr == ""


def test_check_tells_an_ill_posed_theory_by_its_exit_code(folder):
    answer = invoke("check", "wave.toml", "action.cost=-grad2(w)")
    assert answer.exit_code == 1 and "ill-posed" in answer.stdout and answer.stderr == ""
    assert invoke("check", "wave.toml", "action.cost=-grad2(w)", "time.allow_ill_posed=true").exit_code == 0
    assert invoke("check", "wave.toml", "grid.shape=[0]").exit_code == 2


def test_a_network_is_judged_and_drawn(digits):
    answer = invoke("run", "digits.toml", "output.file=learned.h5")
    assert answer.exit_code == 0, answer.output
    decibel = {name: float(value.split()[0]) for name, value in rows(answer.stdout).items() if "PSNR" in name}
    assert len(decibel) == 4 and decibel["held-out PSNR, learned"] > decibel["held-out PSNR, noisy"]
    picture = Path("learned.png").read_bytes()
    assert invoke("plot", "learned.h5", "again.png").exit_code == 0
    assert Path("again.png").read_bytes() == picture
    shutil.move("digits.h5", "moved.h5")
    answer = invoke("plot", "learned.h5", "again.png")
    assert answer.exit_code == 2 and "digits.h5" in answer.stderr
    answer = invoke("plot", "learned.h5", "fields.png", "--fields")
    assert answer.exit_code == 0 and Path("fields.png").exists()


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (MemoryError(), 2, "not enough memory"),
        (OSError(28, "No space left on device", "wave.h5"), 2, "wave.h5: No space left on device"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ZeroDivisionError("division by zero"), 2, "--debug"),
    ],
)
def test_whatever_happens_there_is_one_message(error, code, words, folder, monkeypatch):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(sft, "solve", fail, raising=False)
    answer = invoke("run", "wave.toml")
    assert answer.exit_code == code and words in answer.stderr and "Traceback" not in answer.output
    assert answer.stdout == ""


def test_debug_shows_the_traceback(folder):
    answer = invoke("run", "wave.toml", "time.end=-1", "--debug")
    assert answer.exit_code == 2 and "Traceback" in answer.stderr and "greater than 0" in answer.stderr


@pytest.mark.parametrize("arguments", [["walk"], ["run"], ["run", "wave.toml", "--fast"], ["plot"]])
def test_wrong_usage_exits_with_two(arguments, folder):
    answer = invoke(*arguments)
    assert answer.exit_code == 2 and "Error" in answer.stderr and "Traceback" not in answer.output


def test_an_interrupted_run_leaves_a_valid_file(folder):
    command = [sys.executable, "-m", "sftsolve", "run", "wave.toml", "time.end=1e9", "output.save_every=1e8", "time.method=tsit5"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        # The file under its temporary name appears when the run begins.
        for _ in range(600):
            if any(path.name not in ("wave.toml", "wave.h5") for path in folder.iterdir()):
                break
            time.sleep(0.1)
        time.sleep(1.0)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "stopped by Ctrl-C" in errors and "Traceback" not in errors
    result = sft.open("wave.h5")
    assert not result.complete and 0 < result.t[-1] < 1e9


def test_an_ill_behaved_theory_ends_with_place_and_time(folder):
    answer = invoke("run", "wave.toml", "action.cost=-w**4", "time.end=50", "initial.w=1+0.1*x", "output.picture=")
    assert answer.exit_code == 2 and "Traceback" not in answer.output
    assert "t =" in answer.stderr and "x" in answer.stderr
