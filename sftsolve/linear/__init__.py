"""The linear part of the force, and the solves (I - sigma L) W = R that implicit and exponential steppers ask for."""

from sftsolve.linear.build import linear_part
from sftsolve.linear.modes import Modes
from sftsolve.linear.part import LinearPart

__all__ = ["LinearPart", "Modes", "linear_part"]
