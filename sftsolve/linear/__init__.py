"""The linear part of the force, and the solves (I - sigma L) W = R that implicit and exponential steppers ask for."""

from sftsolve.linear.modes import Modes
from sftsolve.linear.part import LinearPart, linear_part

__all__ = ["LinearPart", "Modes", "linear_part"]
