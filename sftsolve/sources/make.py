"""From what the user gave for a source to a source; a new kind is one class and one line here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sftsolve.errors import ActionError
from sftsolve.sources.arrays import as_array
from sftsolve.sources.expressions import ExpressionSource
from sftsolve.sources.series import TimeSeries
from sftsolve.sources.static import ArraySource, FileSource, FunctionSource, Source


def make_source(name: str, spec: Any) -> Source:
    """Turn what the user gave for source `name` into a source.

    Raises
    ------
    ActionError : none of the known forms
    """
    if isinstance(spec, bool) or spec is None:
        pass
    elif callable(getattr(spec, "values", None)) and not isinstance(spec, Mapping):
        return spec
    elif isinstance(spec, str):
        return ExpressionSource(spec)
    elif isinstance(spec, (int, float, np.ndarray, np.number, list, tuple)):
        return ArraySource(as_array(name, spec))
    elif callable(spec):
        return FunctionSource(spec)
    elif isinstance(spec, Mapping) and set(spec) == {"expression"}:
        return ExpressionSource(str(spec["expression"]))
    elif isinstance(spec, Mapping) and set(spec) == {"file", "dataset"} and isinstance(spec["file"], (str, Path)):
        return FileSource(Path(spec["file"]), str(spec["dataset"]))
    elif isinstance(spec, Mapping) and {"file", "dataset", "times"} <= set(spec) <= {"file", "dataset", "times", "interpolation"}:
        place = {key: spec[key] for key in ("file", "dataset")}
        return TimeSeries(spec["times"], place, spec.get("interpolation", "linear"))
    raise ActionError(
        f"source {name!r} is not understood",
        expected='an array, a number, an expression, {"file": path, "dataset": name}, TimeSeries(...), MiniBatches(...) '
        "or a function of the grid",
        given=repr(spec)[:80],
    )
