"""[[action.kernels]] of arrays: each section makes the kernel that Python would, and its mistakes are answered."""

import re
from typing import get_args

import h5py
import numpy as np
import pytest
from scipy import sparse

import sftsolve as sft
from sftsolve.config import load
from sftsolve.config.kernels import KernelSection
from sftsolve.errors import SftError
from sftsolve.kernels import REGISTRY

RUN = """
[grid]
shape = [4, 6]
length = [1.0, 1.5]

[action]
fields = ["a", "b"]
cost = "a**2/2"

[initial]
a = 0.0
b = 0.0

[time]
end = 0.1
dynamics = "gradient-flow"

[[action.kernels]]
"""
RNG = np.random.default_rng(0)
PHI, PSI, BOTH = RNG.standard_normal((3, 4, 6)), RNG.standard_normal((3, 4, 6)), RNG.standard_normal((3, 2, 4, 6))
WEIGHTS, MATRIX = RNG.standard_normal(3), RNG.standard_normal((24, 24))
CSR = sparse.random_array((24, 24), density=0.2, rng=RNG, format="csr")

GOOD = {  # section, the same in Python
    "low rank": ('kind="low-rank"\nfields=["a", "a"]\nfile="k.h5"\ndataset="phi"', lambda: sft.LowRank("a", "a", PHI)),
    "low rank with all it can have": (
        'kind="low-rank"\nfields=["a", "b"]\nfile="k.h5"\ndataset="phi"\npsi="psi"\nweights="weights"\nabout={a="x*y", b=2.0}',
        lambda: sft.LowRank("a", "b", PHI, PSI, WEIGHTS, about={"a": "x*y", "b": 2.0}),
    ),
    "sparse": ('kind="sparse"\nfields=["a", "b"]\nfile="k.h5"\ngroup="deep/csr"', lambda: sft.Sparse("a", "b", CSR)),
    "dense dataset": ('kind="dense"\nfields=["a", "b"]\nfile="k.h5"\ndataset="A"', lambda: sft.Dense("a", "b", MATRIX)),
    "dense expression": (
        'kind="dense"\nfields=["a", "b"]\nexpression="exp(-(x-x2)**2/s)*y"\nparameters={s=0.2}\n'
        'about={b={file="k.h5", dataset="w"}}',
        lambda: sft.Dense("a", "b", "exp(-(x-x2)**2/s)*y", {"s": 0.2}, about={"b": PHI[0]}),
    ),
    "separable": (
        'kind="separable"\nfields=["a"]\nfile="k.h5"\ndataset="phi"\nfunction="c*s**4"\nparameters={c=[1.0, 2.0, 3.0]}\n'
        "about={a=1.0}",
        lambda: sft.Separable("a", PHI, "c*s**4", {"c": [1.0, 2.0, 3.0]}, about=1.0),
    ),
    "separable in two fields": (
        'kind="separable"\nfields=["b", "a"]\nfile="k.h5"\ndataset="both"\nfunction=["s**2", "s**3", "sin(s)"]',
        lambda: sft.Separable(["b", "a"], BOTH, ["s**2", "s**3", "sin(s)"]),
    ),
}


@pytest.fixture
def folder(tmp_path):
    with h5py.File(tmp_path / "k.h5", "w") as file:
        for name, values in {"phi": PHI, "psi": PSI, "both": BOTH, "weights": WEIGHTS, "A": MATRIX, "w": PHI[0]}.items():
            file[name] = values
        for name in ("data", "indices", "indptr"):
            file[f"deep/csr/{name}"] = getattr(CSR, name)
        file["broken/data"], file["broken/indices"], file["broken/indptr"] = CSR.data, CSR.indices + 20, CSR.indptr
    return tmp_path


def job(folder, section):
    (folder / "run.toml").write_text(RUN + section)
    return load(folder / "run.toml")[0].build("run.toml")


@pytest.mark.parametrize("section, kernel", GOOD.values(), ids=GOOD)
def test_a_section_makes_its_kernel(folder, section, kernel):
    found = job(folder, section)
    assert type(found.action.kernels[0]) is type(kernel())
    action = sft.Action(["a", "b"], "a**2/2", kernels=[kernel()])
    w = np.random.default_rng(1).standard_normal((2, 4, 6))
    forces = [sft.discretise(one, found.grid, dynamics="gradient-flow").force(w) for one in (found.action, action)]
    assert np.array_equal(*forces)
    assert np.abs(forces[0] + np.stack([w[0], 0 * w[1]])).max() > 0.01, "the kernel acts"


BAD = {
    "one field": ('kind="low-rank"\nfields=["a"]\nfile="k.h5"\ndataset="phi"', r"action.kernels.0.fields"),
    "no fields": ('kind="separable"\nfields=[]\nfile="k.h5"\ndataset="phi"\nfunction="s"', r"action.kernels.0.fields"),
    "no dataset": ('kind="low-rank"\nfields=["a", "a"]\nfile="k.h5"', r"'dataset' is missing(.|\n)*phi"),
    "a dataset that is not there": ('kind="low-rank"\nfields=["a", "a"]\nfile="k.h5"\ndataset="ph"', r"did you mean phi"),
    "a file that is not there": ('kind="sparse"\nfields=["a", "a"]\nfile="l.h5"\ngroup="csr"', r"source file not found"),
    "a group that is no matrix": ('kind="sparse"\nfields=["a", "a"]\nfile="k.h5"\ngroup="phi"', r"no data set 'phi/data'"),
    "indices out of range": ('kind="sparse"\nfields=["a", "a"]\nfile="k.h5"\ngroup="broken"', r"no square sparse matrix"),
    "an expression and a file": (
        'kind="dense"\nfields=["a", "a"]\nexpression="x"\nfile="k.h5"\ndataset="A"',
        r"A is not clear(.|\n)*expression = ",
    ),
    "a file without a dataset": ('kind="dense"\nfields=["a", "a"]\nfile="k.h5"', r"A is not clear"),
    "an unknown key": (
        'kind="dense"\nfields=["a", "a"]\nexpresion="x"',
        r"unknown key 'expresion'(.|\n)*did you mean expression",
    ),
    "code": ('kind="dense"\nfields=["a", "a"]\nexpression="().__class__"', r"attribute access"),
    "a function of another name": (
        'kind="separable"\nfields=["a"]\nfile="k.h5"\ndataset="phi"\nfunction="q"',
        r"unknown name 'q'",
    ),
    "an unknown kind": ('kind="lowrank"\nfields=["a", "a"]', r"kind(.|\n)*did you mean low-rank"),
}


@pytest.mark.parametrize("section, message", BAD.values(), ids=BAD)
def test_a_mistake_is_answered(folder, section, message):
    with pytest.raises(SftError) as caught:
        job(folder, section)
    assert re.search(message, str(caught.value)), caught.value


def test_a_matrix_beyond_memory_is_not_read(folder, monkeypatch):
    monkeypatch.setenv("SFTSOLVE_MEMORY", "4000")
    with pytest.raises(SftError, match="Dense needs more memory"):
        job(folder, 'kind="dense"\nfields=["a", "b"]\nfile="k.h5"\ndataset="nothing"')


def test_every_kind_has_a_section():
    """A kind that is added to the registry without a section would be a kind that files cannot name."""
    kinds = {get_args(section.model_fields["kind"].annotation)[0] for section in get_args(get_args(KernelSection)[0])}
    assert kinds == set(REGISTRY)
