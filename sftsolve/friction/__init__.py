"""Friction gamma(t): constant, a learning-rate schedule, an expanding universe; and the clocks that go with it."""

from sftsolve.friction.clock import Clock, ConstantClock, Span
from sftsolve.friction.friction import DYNAMICS, Friction, make_clock

__all__ = ["DYNAMICS", "Clock", "ConstantClock", "Friction", "Span", "VaryingClock", "VaryingSpan", "make_clock"]
from sftsolve.friction.varying import VaryingClock, VaryingSpan
