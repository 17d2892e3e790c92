"""Which way of convolving is the quickest: by the model where its predictions are far apart, else by trying.

`crossover` predicts times; what it cannot know (other processors, caches, other work on the machine) is a factor of up to two.
Methods whose predictions lie within that factor of the least are therefore tried once, on arrays like those of the run: a few
milliseconds, or three applications each. The fastest is kept, in the process and in the user's cache folder, by grid, stencil,
precision, threads and processor, so that on one machine a problem takes the same way every time, and a run that is resumed
continues with the same bits.

All ways compute the same sum in another order: they differ by rounding, a few 1e-16 of the largest result. Between machines, or
after the cache folder is emptied, bits may therefore differ. ``SFTSOLVE_CONVOLUTION=predicted`` leaves every choice to the model,
and ``method=`` of a kernel fixes it. Trying is the default: it costs a few forces, once, and every force gains.
"""

from __future__ import annotations

import json
import math
import os
import time
from functools import lru_cache
from pathlib import Path

import numpy as np

from sftsolve.codegen.cache import cache_folder, digest, write
from sftsolve.errors import ConfigError, FileError
from sftsolve.kernels import crossover
from sftsolve.kernels.engines import Engine, Side, Space
from sftsolve.kernels.methods import METHODS, make_engine
from sftsolve.kernels.protocol import memory_limit
from sftsolve.kernels.stencil import Stencil
from sftsolve.parallel import thread_count

WAYS = ("tried", "predicted")
# The model is trusted where the second best is predicted to take this many times longer.
CLOSE = 3.0
# Seconds: shorter convolutions are not worth a trial, longer ones make it too long.
_SHORTEST, _LONGEST = 5e-5, 0.5
_BUDGET, _FEWEST, _MOST = 1e-2, 2, 25  # seconds, and rounds after the first


def choose(method: str, stencil: Stencil, space: Space, try_out: bool = True) -> str:
    """The method itself, or the quickest one for "auto".

    Parameters
    ----------
    try_out : whether methods may be tried; otherwise what an earlier trial found counts, or the model

    Raises
    ------
    ConfigError : a method that does not serve, such as "separable" for a stencil that is no product; or ``SFTSOLVE_CONVOLUTION``
        is not understood
    """
    if method == "auto":
        return _quickest(stencil, space, try_out)
    if not METHODS[method].serves(stencil, space):
        raise ConfigError(
            f'method="{method}" does not fit this kernel', expected=METHODS[method].needs, remedy='take method="auto"'
        )
    return method


def choices_file() -> Path:
    """Where the outcomes of trials are kept."""
    return cache_folder() / "convolution-choices.json"


@lru_cache(maxsize=1)
def _known() -> dict[str, str]:
    """Outcomes of trials by problem: those on disk at first, and this process' own."""
    return _kept()


def _kept() -> dict[str, str]:
    """What the file of choices holds; nothing where it cannot be read."""
    try:
        found = json.loads(choices_file().read_text(encoding="utf-8"))
    except (OSError, ValueError, FileError):
        return {}
    return {key: method for key, method in found.items() if method in METHODS} if isinstance(found, dict) else {}


def _keep(key: str, method: str) -> None:
    """Remember an outcome, beside those that other processes have added since."""
    _known()[key] = method
    try:
        write(choices_file(), json.dumps(_kept() | {key: method}, indent=1))
    except (OSError, FileError):
        pass  # then it is known to this process alone


def _quickest(stencil: Stencil, space: Space, try_out: bool) -> str:
    way = os.environ.get("SFTSOLVE_CONVOLUTION", WAYS[0])
    if way not in WAYS:
        raise ConfigError("SFTSOLVE_CONVOLUTION is not usable", expected=" or ".join(WAYS), given=way)
    close = contenders(stencil, space)
    if way == "predicted" or len(close) == 1:
        return close[0]
    key = _key(close, stencil, space)
    known = _known().get(key)
    if known in close:
        return known
    if not try_out or not _worth_it(close, stencil, space):
        return close[0]
    times = least_seconds(close, stencil, space)
    best = min(close, key=times.__getitem__)
    _keep(key, best)
    return best


def contenders(stencil: Stencil, space: Space) -> list[str]:
    """The methods that may be the quickest, the one of least predicted time first."""
    predicted = {method: crossover.seconds(method, stencil, space) for method in crossover.possible(stencil, space)}
    least = min(predicted.values())
    return sorted((method for method in predicted if predicted[method] <= CLOSE * least), key=predicted.__getitem__)


def _worth_it(methods: list[str], stencil: Stencil, space: Space) -> bool:
    """Whether a trial is neither too small to matter nor too large to make."""
    if not _SHORTEST < crossover.seconds(methods[0], stencil, space) < _LONGEST:
        return False
    fields = float(space.layout.bytes_of(2))
    return fields + sum(crossover.estimate(method, stencil, space).memory for method in methods) < memory_limit()


def _key(methods: list[str], stencil: Stencil, space: Space) -> str:
    """Name of a problem on this machine: all that decides how long its methods take."""
    weights = (stencil.values.shape, stencil.lowest, int(np.count_nonzero(stencil.values)), stencil.is_even())
    where = (space.layout.shape, space.ends, np.dtype(space.layout.dtype).name, thread_count())
    return digest(repr((sorted(methods), weights, where, os.environ.get("SFTSOLVE_FFT", "scipy"))))


def least_seconds(methods: list[str], stencil: Stencil, space: Space) -> dict[str, float]:
    """Least time of one convolution by each method; they take turns, so that what disturbs one disturbs all."""
    fields, none = space.layout.zeros(2), (space.none(4), space.none(3))
    space.layout.interior(fields)[...] = 1.0
    source, target = Side(fields[:1], 0, *none), Side(fields[1:], 0, *none)
    engines = {method: make_engine(method, stencil, space) for method in methods}

    def seconds(engine: Engine) -> float:
        start = time.perf_counter()
        engine.add(source, target, 1e-9)
        return time.perf_counter() - start

    for engine in engines.values():  # compiles, and touches memory
        seconds(engine)
    best = dict.fromkeys(methods, math.inf)
    rounds, end = 0, time.perf_counter() + _BUDGET
    while rounds < _FEWEST or (rounds < _MOST and time.perf_counter() < end):
        for method, engine in engines.items():
            best[method] = min(best[method], seconds(engine))
        rounds += 1
    return best
