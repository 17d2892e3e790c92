"""Friction gamma(t): constant, a learning-rate schedule, an expanding universe; and the clocks that go with it."""

from sftsolve.friction.clock import Clock, ConstantClock, Span
from sftsolve.friction.flrw import FLRW
from sftsolve.friction.friction import DYNAMICS, Descent, Friction, make_clock
from sftsolve.friction.varying import VaryingClock, VaryingSpan

__all__ = [
    "DYNAMICS",
    "FLRW",
    "Clock",
    "ConstantClock",
    "Descent",
    "Friction",
    "Span",
    "VaryingClock",
    "VaryingSpan",
    "make_clock",
]
