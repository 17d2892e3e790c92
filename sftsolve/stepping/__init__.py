"""Stepping through time: tables of coefficients, steps in place, step size control, schedules."""

from sftsolve.stepping.control import PIController, Tolerance
from sftsolve.stepping.failure import too_many, too_short
from sftsolve.stepping.registry import STEPPERS, Stepper, check_memory, make_stepper, registers, resolve
from sftsolve.stepping.schedule import Event, UserClock, events, scalar_schedule, snapshot_schedule
from sftsolve.stepping.stiffness import Pace
from sftsolve.stepping.watch import Interrupts, ProgressBar

__all__ = [
    "STEPPERS",
    "Event",
    "Interrupts",
    "PIController",
    "Pace",
    "ProgressBar",
    "Stepper",
    "Tolerance",
    "UserClock",
    "check_memory",
    "events",
    "make_stepper",
    "registers",
    "resolve",
    "scalar_schedule",
    "snapshot_schedule",
    "too_many",
    "too_short",
]
