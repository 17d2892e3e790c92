"""Stepping through time: tables of coefficients, steps in place, step size control, schedules."""

from sftsolve.stepping.control import ANY_STEP, PIController, StepRule, Tolerance
from sftsolve.stepping.failure import too_many, too_short
from sftsolve.stepping.fixed import FixedSteps, check_whole, whole_steps
from sftsolve.stepping.registry import STEPPERS, Method, Setting, Stepper, make_stepper, resolve
from sftsolve.stepping.schedule import Event, UserClock, events, scalar_schedule, snapshot_schedule
from sftsolve.stepping.stiffness import Pace
from sftsolve.stepping.watch import Interrupts, ProgressBar

__all__ = [
    "ANY_STEP",
    "STEPPERS",
    "Event",
    "FixedSteps",
    "Interrupts",
    "Method",
    "PIController",
    "Pace",
    "ProgressBar",
    "Setting",
    "StepRule",
    "Stepper",
    "Tolerance",
    "UserClock",
    "check_whole",
    "events",
    "make_stepper",
    "resolve",
    "scalar_schedule",
    "snapshot_schedule",
    "too_many",
    "too_short",
    "whole_steps",
]
