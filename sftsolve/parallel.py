"""Who computes what: the number of threads now, and later the slabs of several processes.

Results never depend on these numbers: loops over cells are independent, and sums run over blocks that the
grid fixes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import lru_cache

import numba

from sftsolve.errors import ConfigError

# Numba's idle OpenMP threads spin, for a long time by default, and take the cores from SciPy's transform threads; this much is
# enough to catch the next sweep. It is read when Numba first runs in parallel; whoever sets it otherwise is left alone.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

# Below this many cells a parallel launch costs more than it saves (a launch takes 3 to 20 microseconds).
SMALL = 1 << 15


def thread_count() -> int:
    """Threads to use: ``SFTSOLVE_THREADS`` if set, else what Numba may use on this machine.

    Raises
    ------
    ConfigError : the variable is not a whole number from 1 to Numba's limit
    """
    wanted = os.environ.get("SFTSOLVE_THREADS")
    if wanted is None:
        return numba.get_num_threads()
    limit = int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    if not wanted.isdecimal() or not 1 <= int(wanted) <= limit:
        raise ConfigError("SFTSOLVE_THREADS is not usable", expected=f"a whole number from 1 to {limit}", given=wanted)
    numba.set_num_threads(int(wanted))
    return int(wanted)


def slabs(cells: int) -> int:
    """Into how many slabs a sweep over `cells` cells is divided: one for small grids, else one a thread."""
    return 1 if cells < SMALL else thread_count()


def side_by_side(work: Callable[[int], object], parts: int) -> None:
    """Call work(part) for part = 0 ... parts - 1, each in a thread; for work whose compiled calls let go of the interpreter.

    Threads of the interpreter and not Numba's, since the calls may be those of a library that has threads of its own: one part
    goes from call to call without waiting for the others.
    """
    if parts == 1:
        work(0)
        return
    others = [_pool(os.getpid()).submit(work, part) for part in range(1, parts)]
    try:
        work(0)
    finally:  # whatever happens, nobody works on behind the caller's back
        wait(others)
    for other in others:
        other.result()


@lru_cache(maxsize=1)
def _pool(process: int) -> ThreadPoolExecutor:
    """Threads that wait for work, as many as are ever asked for; a process that was forked has none of its parent's."""
    return ThreadPoolExecutor(max(1, numba.config.NUMBA_NUM_THREADS - 1), "sftsolve")  # type: ignore[attr-defined]
