"""What `sft.check` says of the memory of a run against the peak of its process, for every method, kernel and solver.

Every run has a process of its own, on arrays of 60 to 90 MB each, after a small one that has compiled all there is.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path.append(str(TESTS))

from memory_cases import CASES  # noqa: E402

CELLS = 192**3


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from /proc")
@pytest.mark.parametrize("name", CASES)
def test_peak_of_a_run(benchmark, report, name, tmp_path):
    def run(cells: int):
        command = [sys.executable, str(TESTS / "memory_cases.py"), name, str(cells), str(tmp_path / "run.h5")]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    run(1 << 14)
    found = benchmark.pedantic(lambda: run(CELLS), rounds=1)
    promised, peak = found["promised"]["total"], found["peak"]
    report(name, {"promised MB": promised / 1e6, "peak MB": peak / 1e6, "peak/promised": peak / promised})
    assert peak == pytest.approx(promised, rel=0.1)
