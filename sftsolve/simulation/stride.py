"""How many steps of one length may be taken at once: as many as end before anything is to be seen."""

from __future__ import annotations

from dataclasses import dataclass

from sftsolve.friction import Clock
from sftsolve.state import State
from sftsolve.stepping import FixedSteps

# A step may be longer by this to end at its target, where rounding alone stands between them.
STRETCH = 1 + 1e-9
# What is due this near to the end of a step, relative to the time, is due there.
SAME = 1e-12
# Cells times steps of a stride, seconds of work at most: Ctrl-C is heard between strides, and the progress bar moves.
_WORK = 1 << 30
_MOST = 1024


@dataclass(frozen=True)
class Steps:
    """Steps that single steps would be: where they begin and end in theta and in t (n + 1 each), their lengths in theta (n)."""

    thetas: list[float]
    times: list[float]
    lengths: list[float]


def steps_ahead(
    clock: Clock, steps: FixedSteps, state: State, theta: float, target: float, due: float | None, limit: int | None
) -> Steps:
    """The next steps up to `target`, those alone before which nothing is due.

    Parameters
    ----------
    theta, target : where the state is, and what must be hit
    due : theta of the first thing to be written from within a step; it may fall on the end of the last
    limit : how many steps are allowed
    """
    most = min(_MOST, max(2, _WORK // state.storage.size), _MOST if limit is None else limit)
    thetas, times = [theta], [state.t]
    lengths: list[float] = []
    while len(lengths) < most:
        length, remaining = steps.length(state.step + len(lengths), times[-1]), target - thetas[-1]
        hits = remaining <= length * STRETCH
        end = target if hits else thetas[-1] + length
        if due is not None and due < end - SAME * abs(end):
            break
        thetas.append(end)
        times.append(clock.t(end))
        lengths.append(remaining if hits else length)
        if hits or (due is not None and due <= end + SAME * abs(end)):
            break
    return Steps(thetas, times, lengths)
