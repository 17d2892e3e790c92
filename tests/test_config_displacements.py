"""Kernels that act by displacement, from configuration files."""

import h5py
import numpy as np
import pytest

import sftsolve as sft
from sftsolve.config import load
from sftsolve.errors import SftError

BASE = """
[grid]
shape = [6, 8]
length = [1.0, 1.0]
boundary = { y = { derivative = 0.0 } }

[action]
fields = ["a", "b"]
cost = "0"

[friction]
gamma = 3.0

[initial]
a = 0.0
b = 0.0

[time]
end = 0.1

[[action.kernels]]
"""
RNG = np.random.default_rng(0)
ARRAY, MASKS, OTHERS, FIELD = RNG.random((3, 5)), RNG.random((2, 6, 8)), RNG.random((2, 6, 8)), RNG.random((6, 8))
KINDS = {
    "expression": (
        'kind="convolution"\nfields=["a","b"]\nexpression="exp(-r**2/s)"\nparameters={s=0.02}\namplitude="1+t"\nwalls="mirror"',
        lambda: sft.Convolution("a", "b", "exp(-r**2/s)", {"s": 0.02}, amplitude="1+t", walls="mirror"),
    ),
    "array and reference": (
        'kind="convolution"\nfields=["a","a"]\nfile="k.h5"\ndataset="k"\nabout={a="x"}\nmethod="direct"\nwalls={y="zero"}',
        lambda: sft.Convolution("a", "a", ARRAY, about={"a": "x"}),
    ),
    "modulated": (
        'kind="modulated"\nfields=["b","b"]\nmasks="k.h5"\nX="X"\nexpression="exp(-90*r**2)"',
        lambda: sft.Modulated("b", "b", MASKS, "exp(-90*r**2)"),
    ),
    "modulated with Y": (
        'kind="modulated"\nfields=["b","a"]\nmasks="k.h5"\nX="X"\nY="Y"\nfile="k.h5"\ndataset="k"',
        lambda: sft.Modulated("b", "a", MASKS, ARRAY, OTHERS),
    ),
    "one shift": (
        'kind="shift"\nfields=["a","b"]\ndisplacement=[0,2]\ncoefficient=1.5',
        lambda: sft.Shift("a", "b", (0, 2), 1.5),
    ),
    "shifts": (
        'kind="shift"\nfields=["a","b"]\ndisplacement=[[0,2],[1,-1]]\ncoefficient=["x",{file="k.h5",dataset="c"}]\nabout={b=2.0}',
        lambda: sft.Shift("a", "b", [(0, 2), (1, -1)], ["x", FIELD], about={"b": 2.0}),
    ),
    "fractional": (
        'kind="fractional"\nfields=["a","b"]\nexponent=0.5\ncoefficient=0.1\namplitude="exp(-q*t)"\nparameters={q=2.0}',
        lambda: sft.Fractional("a", 0.5, 0.1, second="b", amplitude="exp(-q*t)", parameters={"q": 2.0}),
    ),
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with h5py.File("k.h5", "w") as file:
        file["k"], file["X"], file["Y"], file["c"] = ARRAY, MASKS, OTHERS, FIELD
    return tmp_path


def job(folder, text):
    path = folder / "run.toml"
    path.write_text(BASE + text)
    return load(path)[0].build("run.toml")


@pytest.mark.parametrize("name", KINDS)
def test_a_kernel_in_a_file_is_the_one_in_python(folder, name):
    text, make = KINDS[name]
    found = job(folder, text)
    w = np.random.default_rng(1).standard_normal((2, 6, 8))
    system = sft.discretise(found.action, found.grid)
    expected = sft.discretise(sft.Action(["a", "b"], kernels=[make()], friction=sft.Friction(gamma=3.0)), found.grid)
    np.testing.assert_allclose(system.force(w, 0.3), expected.force(w, 0.3), rtol=1e-12, atol=1e-13)
    assert system.cost(w, 0.3) == pytest.approx(expected.cost(w, 0.3), rel=1e-12)
    assert np.abs(expected.force(w, 0.3)).max() > 0


BAD = {
    "no k": ('kind="convolution"\nfields=["a","b"]', "k is not clear"),
    "k twice": ('kind="convolution"\nfields=["a","b"]\nexpression="1"\nfile="k.h5"\ndataset="k"', "k is not clear"),
    "one field": ('kind="convolution"\nfields=["a"]\nexpression="exp(-r)"', "action.kernels.0.fields"),
    "unknown field": ('kind="fractional"\nfields=["a","c"]\nexponent=1.0', "unknown field 'c'"),
    "unknown key": ('kind="shift"\nfields=["a","b"]\nshift=[0,1]', "unknown key 'shift'"),
    "missing masks": ('kind="modulated"\nfields=["a","b"]\nexpression="exp(-r)"', "'masks' is missing"),
    "a fraction of a cell": ('kind="shift"\nfields=["a","b"]\ndisplacement=[0.5, 1]', "displacement"),
    "bad text": ('kind="convolution"\nfields=["a","b"]\nexpression="exp(-r"', "[action] of run.toml"),
}


@pytest.mark.parametrize("name", BAD)
def test_mistakes_are_answered(folder, name):
    text, word = BAD[name]
    with pytest.raises(SftError) as caught:
        found = job(folder, text)
        sft.discretise(found.action, found.grid)
    assert word in str(caught.value)
