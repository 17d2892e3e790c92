"""[action.sources] that change in time: each table makes the source that Python would, and its mistakes are answered."""

import h5py
import numpy as np
import pytest

import sftsolve as sft
from sftsolve.config import load, restore
from sftsolve.errors import SftError

RUN = """
[grid]
shape = [6]
length = [1.0]

[action]
fields = ["w"]
cost = "w**2/2 - J*w"

[action.sources]
J = {source}

[initial]
w = 0.0

[time]
end = 0.1
dynamics = "gradient-flow"
"""
FRAMES = np.random.default_rng(2).standard_normal((5, 6))
TIMES = [0.0, 0.5, 1.0, 2.0, 4.0]

GOOD = {
    '"cos(t)*x"': lambda: "cos(t)*x",
    '{ expression = "exp(-(x - t)**2)" }': lambda: "exp(-(x - t)**2)",
    '{ file = "J.h5", dataset = "J", times = "when" }': lambda: sft.TimeSeries(TIMES, FRAMES),
    '{ file = "J.h5", dataset = "J", times = [0, 1.5, 2, 3, 4], interpolation = "cubic" }': lambda: sft.TimeSeries(
        [0, 1.5, 2, 3, 4], FRAMES, "cubic"
    ),
    '{ file = "J.h5", dataset = "J", batch_size = 2 }': lambda: sft.MiniBatches(FRAMES, 2),
    '{ file = "J.h5", dataset = "J", batch_size = 2, every = 0.3, seed = 7, reduce = "sum", start = 0.1 }': lambda: (
        sft.MiniBatches(FRAMES, 2, every=0.3, seed=7, reduce="sum", start=0.1)
    ),
    '{ file = "J.h5", dataset = "J", batch_size = 2, shuffle = false }': lambda: sft.MiniBatches(FRAMES, 2, seed=None),
}
BAD = {
    '{ file = "J.h5", times = "when" }': "'dataset' is missing",
    '{ file = "J.h5", dataset = "J", times = "never" }': "no data set 'never'",
    '{ file = "J.h5", dataset = "J", times = [0.0, 1.0] }': "5 times",
    '{ file = "J.h5", dataset = "J", times = "when", interpolation = "spline" }': "interpolation",
    '{ file = "J.h5", dataset = "J", times = "when", batch_size = 2 }': "unknown key 'batch_size'",
    '{ file = "J.h5", dataset = "J", batch_size = 9 }': "at most 5",
    '{ file = "J.h5", dataset = "J", batch_size = 0 }': "batch_size",
    '{ file = "J.h5", dataset = "J", batch_size = 2, evry = 3.0 }': "did you mean every",
    '{ dataset = "J" }': "batch_size = n",
    '{ expression = "cos(tt)" }': "unknown name 'tt'",
}


@pytest.fixture
def job_of(tmp_path):
    with h5py.File(tmp_path / "J.h5", "w") as file:
        file["J"], file["when"] = FRAMES, np.array(TIMES)

    def build(source, restored=False):
        (tmp_path / "run.toml").write_text(RUN.replace("{source}", source))
        job = load(tmp_path / "run.toml")[0].build("run.toml")
        return restore(job.options["metadata"], "run.h5").build("run.h5") if restored else job

    return build


@pytest.mark.parametrize("source", GOOD)
def test_tables_are_what_python_would_make(source, job_of):
    for job in (job_of(source), job_of(source, restored=True)):
        same = sft.Action(["w"], "w**2/2 - J*w", sources={"J": GOOD[source]()})
        for t in (0.0, 0.6, 3.9):
            np.testing.assert_allclose(job.action.sources_at(job.grid, t)["J"], same.sources_at(job.grid, t)["J"], atol=1e-15)


@pytest.mark.parametrize("source", BAD)
def test_what_is_refused(source, job_of):
    with pytest.raises(SftError) as caught:
        job_of(source).action.sources_at(sft.Grid(6, 1.0))
    assert BAD[source] in str(caught.value)


def test_initial_values_have_no_times(job_of, tmp_path):
    text = RUN.replace("{source}", "1.0").replace("w = 0.0", 'w = { file = "J.h5", dataset = "J", times = "when" }')
    (tmp_path / "other.toml").write_text(text)
    with pytest.raises(SftError, match="unknown key 'times'"):
        load(tmp_path / "other.toml")
