"""From a system, or from an action, to a result: the only time loop."""

from sftsolve.simulation.run import SCALARS, simulate
from sftsolve.simulation.solving import solve

__all__ = ["SCALARS", "simulate", "solve"]
