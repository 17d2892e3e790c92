"""How much memory Python and NumPy take for what should take none."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any


def peak_of(work: Callable[[], object]) -> int:
    """Bytes that a call takes at its peak, after a first one that may compile and make what is kept."""
    work()
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def peak_of_forces(system: Any, initial: dict[str, Any]) -> int:
    """Bytes that one force, one cost and one Jacobian product of a system take at their peak."""
    state = system.state(initial)
    out, direction = state.like(), state.copy()

    def work() -> None:
        system.force_into(state, out)
        system.cost_of(state)
        system.jvp_into(state, direction, out)

    return peak_of(work)
