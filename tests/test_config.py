"""Configuration files: what they become, and that every mistake in one is answered in one readable message."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

import sftsolve as sft
from sftsolve.cli import app
from sftsolve.config import load, restore
from sftsolve.config.values import random_field
from sftsolve.errors import ConfigError, StepError

GOOD = """
[grid]
shape = [16]
length = [1.0]

[action]
fields = ["w"]
cost = "D/2*grad2(w) - J*w"
parameters = { D = 1e-3 }
sources = { J = "cos(2*pi*x)" }

[friction]
gamma = 3.0

[initial]
w = 0.0

[time]
end = 0.1
"""
NETWORK = """
[network]
kind = "image-filter"
data = "digits.h5"
noise = { amplitude = 0.3 }
radius = 1
kappa = 0.1

[time]
end = 0.1
dynamics = "gradient-flow"
"""

# name: (file, overrides, what the message must say)
BAD = {
    "not TOML": (GOOD + "\nend == 3", (), ("not well-formed TOML", "line")),
    "unknown section": (GOOD + "\n[outptu]\n", (), ("unknown key 'outptu'", "did you mean output")),
    "unknown key": (GOOD, ("time.rtoll=1e-3",), ("time in", "unknown key 'rtoll'", "did you mean rtol")),
    "missing key": (GOOD.replace("end = 0.1", ""), (), ("time in", "'end' is missing")),
    "missing section": (GOOD.split("[time]")[0], (), ("'time' is missing",)),
    "shape is text": (GOOD, ("grid.shape=big",), ("grid.shape", "a list", "'big'")),
    "no cells": (GOOD, ("grid.shape=[0]",), ("[grid]", "at least one cell")),
    "four axes": (GOOD, ("grid.shape=[4,4,4,4]",), ("[grid]", "one to three axes")),
    "negative length": (GOOD, ("grid.length=[-1.0]",), ("[grid]", "positive")),
    "length of another dimension": (GOOD, ("grid.length=[1.0, 1.0]",), ("[grid]", "length", "1 numbers")),
    "infinite length": (GOOD, ("grid.length=[inf]",), ("grid.length.0", "finite number")),
    "unknown wall": (GOOD, ("grid.boundary={x={valu=0.0}}",), ("[grid]", "valu", "value")),
    "wall of an axis that is not there": (GOOD, ("grid.boundary={y={value=0.0}}",), ("[grid]", "axis 'y'")),
    "order that is not there": (GOOD, ("grid.order=3",), ("order",)),
    "grid larger than any memory": (GOOD, ("grid.shape=[200000,200000]", "grid.length=[1,1]"), ("memory",)),
    "friction not a number": (GOOD, ("friction.gamma=nan",), ("friction.gamma", "finite number", "nan")),
    "friction is true": (GOOD, ("friction.gamma=true",), ("friction.gamma", "number", "True")),
    "negative friction": (GOOD, ("friction.gamma=-1",), ("[friction]", "from 0", "-1")),
    "two frictions": (GOOD, ("friction.eta=0.1",), ("[friction]", "one of gamma, eta, hubble, schedule, flrw")),
    "no friction": (GOOD.replace("[friction]\ngamma = 3.0", ""), (), ("friction", "gradient-flow")),
    "tau without friction": (GOOD, ("friction.gamma=0",), ("tau", "gamma")),
    "cost with an unknown name": (
        GOOD,
        ("action.cost=D*ww**2",),
        ("[action]", "unknown name 'ww'", "column 3", "did you mean w"),
    ),
    "cost that is code": (GOOD, ("action.cost=__import__('os').getcwd()",), ("[action]", "column")),
    "cost with an attribute": (GOOD, ("action.cost=w.real",), ("[action]", "attribute access", "column")),
    "cost with a lambda": (GOOD, ("action.cost=(lambda: w)()",), ("[action]", "column")),
    "cost with a tower of powers": (GOOD, ("action.cost=w*10**10**10",), ("[action]", "cost")),
    "cost that breaks off": (GOOD, ("action.cost=w**",), ("[action]", "not a well-formed expression")),
    "derivative along an axis that is not there": (GOOD, ("action.cost=d(w,y)**2",), ("d(w,y)", "column")),
    "field name that files use": (GOOD, ('action.fields=["t"]', "action.cost=t**2"), ("[action]", "'t' is taken")),
    "parameter infinite": (GOOD, ("action.parameters.D=inf",), ("action.parameters.D", "finite number")),
    "source that is nothing": (GOOD, ("action.sources.J={ text = 'x' }",), ("action.sources.J", "expression =", "dataset =")),
    "source file missing": (GOOD, ("action.sources.J={file='no.h5', dataset='J'}",), ("no.h5",)),
    "source of another shape": (
        GOOD,
        ("action.sources.J={file='digits.h5', dataset='labels'}",),
        ("'J'", "shape (16,)", "(20,)"),
    ),
    "source dataset missing": (
        GOOD,
        ("action.sources.J={file='digits.h5', dataset='label'}",),
        ("'label'", "did you mean labels"),
    ),
    "source file not HDF5": (GOOD, ("action.sources.J={file='run.toml', dataset='J'}",), ("run.toml", "HDF5")),
    "kernel that is not there": (
        GOOD + '\n[[action.kernels]]\nkind = "convolutoin"\n',
        (),
        ("action.kernels.0", "convolutoin", "pointwise-matrix"),
    ),
    "initial missing": (GOOD.replace("w = 0.0", ""), (), ("initial value", "none for w")),
    "initial of an unknown field": (GOOD, ("initial.w2=1.0",), ("w2", "w")),
    "initial not finite": (GOOD, ("initial.w=log(-1-x)",), ("'w'", "finite")),
    "random without a seed": (GOOD, ("initial.w={random={amplitude=1.0}}",), ("initial.w.random", "'seed' is missing")),
    "random without a wave": (
        GOOD,
        ("initial.w={random={seed=1,amplitude=1.0,cutoff=0.1}}",),
        ("[initial]", "cutoff above 6.28"),
    ),
    "end in the past": (GOOD, ("time.end=-1.0",), ("time.end", "greater than 0", "-1.0")),
    "a first step backwards": (GOOD, ("time.first_step=-0.1",), ("time.first_step", "greater than 0", "-0.1")),
    "a longest step of none": (GOOD, ("time.max_step=0.0",), ("time.max_step", "greater than 0")),
    "half a step": (GOOD, ("time.max_steps=2.5",), ("time.max_steps", "whole number", "2.5")),
    "unknown limit": (GOOD, ("time.max_stp=1.0",), ("unknown key 'max_stp'", "did you mean max_step")),
    "unknown clock": (GOOD, ("time.clock=tua",), ("time.clock", "'tau' or 't'")),
    "tolerance too large": (GOOD, ("time.rtol=2.0",), ("time.rtol", "less than 1")),
    "unknown method": (GOOD, ("time.method=rk23",), ("rk23", "rk32")),
    "method of another dynamics": (GOOD, ("time.method=rkc2",), ("rkc2", "gradient-flow")),
    "dynamics that is none": (GOOD, ("time.dynamics=slow",), ("time.dynamics", "slow-manifold")),
    "saving after the end": (GOOD, ("output.save_at=[0.05, 0.5]",), ("save_at", "0.5")),
    "saving backwards": (GOOD, ("output.save_every=-0.1",), ("output.save_every", "greater than 0")),
    "saving at no times": (GOOD, ("output.save_at=often",), ("output.save_at", "a list of times")),
    "folder missing": (GOOD, ("output.file=nowhere/run.h5",), ("nowhere",)),
    "path that is none": (GOOD, ('output.file="a\\u0000b"',), ("output.file", "no path")),
    "picture of no kind": (GOOD, ("output.picture=run.xyz",), ("[output]", ".png", "run.xyz")),
    "file of someone else": (GOOD, ("output.file=digits.h5",), ("digits.h5", "not written by sftsolve")),
    "scan": (GOOD + "\n[scan]\n", (), ("'scan' is not supported yet", "scan_friction")),
    "checkpoints": (GOOD, ("output.checkpoint_every=3",), ("'checkpoint_every' is not supported yet",)),
    "unknown schedule": (GOOD.replace("gamma = 3.0", "schedule = {kind = 'cosin'}"), (), ("[friction]", "did you mean cosine")),
    "schedule without end": (GOOD.replace("gamma = 3.0", "schedule = {kind = 'cosine', eta = 1}"), (), ("[friction]", "end = ")),
    "two theories": (GOOD + NETWORK.split("[time]")[0], (), ("[grid] and [action], or [network] alone",)),
    "no theory": ("[time]\nend = 1.0\n", (), ("the theory is not clear",)),
    "unknown network": (NETWORK, ("network.kind=image-filtre",), ("network", "did you mean image-filter")),
    "network without data": (NETWORK, ("network.data=mnist.h5",), ("[network]", "mnist.h5")),
    "network wired twice": (NETWORK, ("network.offsets=[[0,0]]",), ("the wiring is not clear", "radius")),
    "negative stiffness": (NETWORK, ("network.kappa=-1",), ("network.kappa", "-1")),
    "override without a value": (GOOD, ("time.end",), ("override", "time.end")),
    "override below a value": (GOOD, ("time.end.last=3",), ("end", "no keys")),
}


def invoke(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    with h5py.File("digits.h5", "w") as file:
        file["images"] = rng.integers(0, 255, (20, 6, 5), dtype=np.uint8)
        file["labels"] = np.repeat([0, 1], 10)
    return tmp_path


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_is_answered_and_leaves_nothing(name, folder):
    text, overrides, expected = BAD[name]
    (folder / "run.toml").write_text(text)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    answer = invoke("run", "run.toml", *overrides)
    assert answer.exit_code == 2, answer.output
    assert [part for part in expected if part not in answer.stderr] == [], answer.stderr
    assert "Traceback" not in answer.output and "fault of sftsolve" not in answer.output
    assert answer.stdout == ""
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_missing_file_names_its_neighbours(folder):
    (folder / "wave.toml").write_text(GOOD)
    answer = invoke("run", "waves.toml")
    assert answer.exit_code == 2 and "wave.toml" in answer.stderr


def test_a_file_that_is_not_text(folder):
    (folder / "run.toml").write_bytes(b"\xff\xfe\x00")
    answer = invoke("run", "run.toml")
    assert answer.exit_code == 2 and "UTF-8" in answer.stderr


def write(folder: Path, text: str = GOOD) -> Path:
    path = folder / "run.toml"
    path.write_text(text)
    return path


def test_a_file_becomes_grid_action_and_arguments(folder):
    config, text = load(write(folder), ["grid.boundary={x={lower={value=1}, upper={derivative=2.0}}}"])
    job = config.build("run.toml", text)
    assert job.grid == sft.Grid((16,), (1.0,), boundary={"x": {"lower": {"value": 1}, "upper": {"derivative": 2.0}}})
    assert job.action.fields == ("w",) and job.action.parameters == {"D": 1e-3} and job.action.friction.value == 3.0
    (x,) = job.grid.coordinates
    assert np.allclose(job.action.sources_at(job.grid)["J"], np.cos(2 * np.pi * x))
    wanted = {"end": 0.1, "clock": "tau", "method": "auto", "rtol": 1e-6, "atol": 1e-9, "dynamics": "damped", "order": 2}
    assert {key: job.options[key] for key in wanted} == wanted
    assert job.options["config"] == GOOD
    assert Path(job.options["output"]) == folder / "run.h5" and job.picture == folder / "run.png"


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("time.end=2.5", 2.5),
        ("time.end=3", 3.0),
        ("time.method=tsit5", "tsit5"),
        ('time.method="tsit5"', "tsit5"),
        ("action.cost=w**2/2", "w**2/2"),
        ("action.parameters.D=0.5", 0.5),
        ("output.save_every=0.05", 0.05),
    ],
)
def test_overrides_are_toml_or_text(assignment, value, folder):
    config, _ = load(write(folder), [assignment])
    found = config
    for key in assignment.split("=")[0].split("."):
        found = found[key] if isinstance(found, dict) else getattr(found, key)
    assert found == value


def test_a_later_override_wins_and_may_hold_equal_signs(folder):
    config, _ = load(write(folder), ["time.end=1.0", "time.end=2.0", "initial.w={ expression = 'x' }"])
    assert config.time.end == 2.0
    assert config.initial["w"].expression == "x"


def test_paths_start_where_they_were_written(folder):
    inner = folder / "inner"
    inner.mkdir()
    path = write(inner, GOOD + '\n[output]\nfile = "here.h5"\n')
    assert load(path)[0].output.file == str(inner / "here.h5")
    assert load(path)[0].output.picture == str(inner / "here.png")
    assert load(path, ["output.file=there.h5"])[0].output.file == str(folder / "there.h5")
    assert load(write(inner))[0].output.file == str(folder / "run.h5")


def test_a_config_survives_the_way_through_a_result(folder):
    config, text = load(write(folder), ["initial.w={random={seed=3, amplitude=0.5}}", "output.save_at={log=[0.01,0.1],count=3}"])
    assert restore(config.build("run.toml", text).options["metadata"], "run.h5") == config


def test_saving_at_logarithmic_times_is_handed_on(folder):
    config, _ = load(write(folder), ["output.save_at={log=[0.01, 0.1], count=3}"])
    assert config.build("run.toml").options["save_at"] == {"log": [0.01, 0.1], "count": 3}


def test_datasets_and_matrices_are_read_beside_the_file(folder):
    rng = np.random.default_rng(1)
    matrix, drive, start = rng.random((1, 1, 16)), rng.random((1, 16)), rng.random(16)
    with h5py.File("data.h5", "w") as file:
        file["M"], file["b"], file["w"] = matrix, drive, start
    kernel = '\n[[action.kernels]]\nkind="pointwise-matrix"\nfields=["w"]\nfile="data.h5"\nmatrix="M"\ndrive="b"\n'
    path = write(folder, GOOD + kernel)
    job = load(path, ["initial.w={file='data.h5', dataset='w'}", "action.cost=0"])[0].build("run.toml")
    assert np.array_equal(job.options["initial"]["w"], start)
    force = sft.discretise(job.action, job.grid).force(start[None])
    assert np.allclose(force, -(matrix[0] * start - drive), atol=1e-13)


class TestRandomField:
    def grid(self, *shape: int) -> sft.Grid:
        return sft.Grid(shape, (2.0, 3.0)[: len(shape)])

    def test_its_root_mean_square_is_the_amplitude(self):
        for cutoff in (None, 12.0):
            field = random_field(self.grid(24, 32), 5, 0.7, cutoff)
            assert np.isclose(np.sqrt(np.mean(field**2)), 0.7, rtol=1e-12) and abs(field.mean()) < 1e-14

    def test_waves_above_the_cutoff_are_absent(self):
        grid = self.grid(24, 32)
        spectrum = np.abs(np.fft.fft2(random_field(grid, 5, 1.0, 12.0)))
        ky, kx = (2 * np.pi * np.fft.fftfreq(n, h) for n, h in zip(grid.shape, grid.spacing, strict=True))
        squares = ky[:, None] ** 2 + kx**2
        assert spectrum[squares > 144.0].max() < 1e-10 < spectrum[(squares > 0) & (squares <= 144.0)].min()

    def test_a_finer_grid_has_the_same_field(self):
        # Every third cell centre of a grid three times as fine is a cell centre of the coarse one.
        coarse = random_field(self.grid(16, 20), 7, 1.0, 9.0)
        fine = random_field(self.grid(48, 60), 7, 1.0, 9.0)
        assert np.allclose(fine[1::3, 1::3], coarse, atol=1e-12)

    def test_seeds_differ(self):
        assert not np.allclose(random_field(self.grid(16), 1, 1.0), random_field(self.grid(16), 2, 1.0))

    def test_a_cutoff_below_the_longest_wave_is_refused(self):
        with pytest.raises(ConfigError, match="no wave"):
            random_field(self.grid(16), 1, 1.0, 3.0)


def test_ring_samples_sit_at_the_neurons(folder):
    text = """
    [network]
    kind = "ring-two-layer"
    units = 8
    length = 2.0
    examples = 2
    inputs = "x + 10*l"
    targets = "-x"
    activation = [0.0, 1.0]
    [initial]
    w1 = "sin(pi*x)"
    w2 = 0.1
    [time]
    end = 0.1
    dynamics = "gradient-flow"
    """
    network = load(write(folder, text))[0].network.build().network
    x = 4 * network.spacing * np.arange(8)
    assert np.isclose(network.spacing, 2.0 / 32) and np.allclose(network.inputs, [x, x + 10]) and np.allclose(network.targets, -x)
    perceptron = text.replace("ring-two-layer", "ring-perceptron").replace("activation = [0.0, 1.0]", "").replace("w2 = 0.1", "")
    network = load(write(folder, perceptron))[0].network.build().network
    assert np.allclose(network.inputs[0], x + 2 * network.spacing)


def test_limits_of_steps_reach_the_run(folder):
    path = write(folder, GOOD)

    def steps(*overrides):
        job = load(path, ["time.method=tsit5", *overrides])[0].build("run.toml")
        return sft.solve(job.action, job.grid, **(job.options | {"output": None, "progress": False}))

    free = steps()
    assert steps("time.max_step=0.004").stats.steps >= 25 > free.stats.steps
    assert steps("time.first_step=0.002").scalars["step"][0] == pytest.approx(0.002) != free.scalars["step"][0]
    with pytest.raises(StepError, match="max_steps = 2 "):
        steps("time.max_steps=2")
