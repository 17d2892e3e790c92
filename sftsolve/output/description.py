"""What a run tells its writer: `RunDescription` before the first step, `Stats` after the last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sftsolve.errors import ConfigError
from sftsolve.grid import Grid
from sftsolve.output.layout import SCALARS_TIME, TIME, TRAINING_TIME, check_names


@dataclass(frozen=True)
class Stats:
    """Work that a run did.

    `wall_time` is in seconds. `energy_residual` is what is left of the balance dE/dt + gamma int |w_t|^2 - dC/dt|explicit = 0
    over the run, relative to what was exchanged. It is None where that is not followed: the force is more than -dC/dw, the cost
    has no derivative by time that is known, or steps are too long for the loss at their ends to tell its integral. `status` is
    "complete", "interrupted" (by the user) or "failed" (`message` says how).
    """

    steps: int = 0
    rejected: int = 0
    force_evaluations: int = 0
    linear_solves: int = 0
    wall_time: float = 0.0
    method: str = ""
    energy_residual: float | None = None
    status: str = "complete"
    message: str = ""


@dataclass(frozen=True)
class RunDescription:
    """All that a result holds beside the numbers.

    Parameters
    ----------
    grid : the grid of the fields
    fields : names, in the order of the first axis of w and v
    dtype : "float64" or "float32", the type of the stored fields
    has_velocity : whether snapshots bring v = w_t, stored as NAME_t
    scalar_names : names of the time series, in the order of the values given to `Writer.scalars`
    snapshots : how many snapshots will come, None where that is not known
    title : one line for people
    config : the configuration text, word for word
    settings : resolved description of action, friction, method...; what JSON can hold
    seeds : random seeds by purpose

    Raises
    ------
    ActionError : a field name is taken in result files (t, tau, x, y, z, ts, meta, VTKHDF, or another field's NAME_t)
    ConfigError : the type or a scalar's name cannot be stored
    """

    grid: Grid
    fields: tuple[str, ...]
    dtype: str = "float64"
    has_velocity: bool = True
    scalar_names: tuple[str, ...] = ()
    snapshots: int | None = None
    title: str = ""
    config: str | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    seeds: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_names(self.fields)
        if self.dtype not in ("float64", "float32"):
            raise ConfigError("fields cannot be stored in this type", expected="float64 or float32", given=self.dtype)
        taken = {TIME, SCALARS_TIME, TRAINING_TIME} & set(self.scalar_names)
        if taken or len(set(self.scalar_names)) < len(self.scalar_names):
            raise ConfigError(
                "a time series has a name that is taken",
                expected=f"distinct names other than {TIME}, {SCALARS_TIME} and {TRAINING_TIME}",
                given=", ".join(self.scalar_names),
            )

    @property
    def data_fields(self) -> int:
        """Number of field-sized data sets: fields and, where stored, velocities."""
        return len(self.fields) * (2 if self.has_velocity else 1)
