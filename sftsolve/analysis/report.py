"""sft.check: what a run would be before it is run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sftsolve.action import Action
from sftsolve.analysis.dispersion import Dispersion, dispersion
from sftsolve.analysis.memory import Run
from sftsolve.codegen.plan import plan
from sftsolve.errors import ActionError
from sftsolve.friction import make_clock
from sftsolve.grid import Grid
from sftsolve.memory import in_turn, of_machine
from sftsolve.stepping import resolve
from sftsolve.system import field_values

REMEDIES = (
    "look at the signs of the terms with derivatives; where a network was truncated take its exact lattice, its outputs "
    "expanded and then squared, or a cutoff (low-pass) below the growing wavenumbers"
)


@dataclass(frozen=True)
class Report:
    """What `check` found.

    Attributes
    ----------
    memory : bytes that the parts of a run hold, those that it takes beside them "for a while" at its peak, and their "total"
    bytes_per_force : traffic of one evaluation of the local force, each array counted once
    method : the method that was counted
    dispersion : of the local cost about the initial state, None where its force holds no field or the run does not fit
    notes : natural boundary conditions that replace the ones asked for, and what was not examined
    """

    memory: dict[str, float]
    bytes_per_force: float
    method: str
    dispersion: Dispersion | None
    notes: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether this machine has the memory."""
        return self.memory["total"] <= of_machine()

    @property
    def well_posed(self) -> bool:
        """Whether growth of short waves is bounded (True where the local force holds no field, or was not examined)."""
        return self.dispersion is None or self.dispersion.well_posed

    def __str__(self) -> str:
        lines = [f"memory with {self.method}: {self.memory['total'] / 2**30:.3g} GiB"]
        lines += [f"    {name}: {size / 2**20:.4g} MiB" for name, size in self.memory.items() if size and name != "total"]
        lines.append(f"traffic of the local force: {self.bytes_per_force / 2**20:.4g} MiB an evaluation")
        if self.dispersion is not None:
            growth, half, quarter = self.dispersion.growth
            wavenumber = ", ".join(f"{k:.4g}" for k in self.dispersion.wavenumber)
            if growth > 0:
                lines.append(f"fastest growing mode: rate {growth:.4g} per tau at k = ({wavenumber})")
            else:
                lines.append(f"all modes decay, at a rate of {0.0 - growth:.4g} per tau or more")
            lines.append(f"stiffest mode of the local force: {self.dispersion.decay:.4g} per tau")
            if not self.well_posed:
                lines.append(
                    f"ill-posed: growth rises without bound, {growth:.3g} -> {half:.3g} -> {quarter:.3g} as h is halved twice"
                )
                lines.append(f"    cures: {REMEDIES}")
        return "\n".join([*lines, *self.notes])


def check(
    action: Action,
    grid: Grid,
    initial: Mapping[str, Any] | None = None,
    *,
    order: int = 2,
    dynamics: str = "damped",
    method: str = "auto",
    rtol: float = 1e-6,
    dtype: str = "float64",
    snapshots: int = 0,
    between: bool = False,
) -> Report:
    """Examine a theory on a grid without compiling or running anything.

    Parameters
    ----------
    initial : state about which waves are examined, as for `solve`; zero fields by default
    order, dynamics, method, rtol, dtype : as for `solve`
    snapshots : how many snapshots are kept in memory; none where the run writes a file, two or more where it does not
    between : whether snapshots fall between the ends of steps

    Raises
    ------
    ActionError, GridError, ConfigError : as `solve` would
    """
    method = resolve(method, rtol)
    make_clock(action.friction, grid.dimension, dynamics)
    given = {} if initial is None else initial
    needs = Run(action, grid, given, order, dynamics, method, dtype, snapshots, between).needs()
    memory = {name: need.held for name, need in needs.items()}
    total = in_turn(needs.values()).most
    memory["for a while"] = total - sum(memory.values())
    memory["total"] = total
    found = plan(action, grid, order, dtype)
    notes = found.notes if found else ()
    waves = None
    if total <= of_machine():
        values = {name: np.zeros(grid.shape) for name in action.fields} | field_values(action, grid, given)
        waves = dispersion(action, grid, np.stack([values[name] for name in action.fields]), order)
    else:
        notes += (
            f"the run does not fit into the {of_machine() / 2**30:.3g} GiB here: initial values and waves are not examined",
        )
    if action.kernels:
        notes += ("kernels are not examined for growth",)
    traffic = float(found.traffic(grid.size, np.dtype(dtype).itemsize)) if found else 0.0
    return Report(memory, traffic, method, waves, notes)


def refuse_ill_posed(action: Action, grid: Grid, w: np.ndarray, order: int) -> None:
    """Stop before a run whose short waves grow the faster the finer the grid.

    Raises
    ------
    ActionError : the theory is ill-posed about the fields w
    """
    found = dispersion(action, grid, w, order)
    if found is None or found.well_posed:
        return
    rates = " -> ".join(f"{rate:.3g}" for rate in found.growth)
    raise ActionError(
        "the theory is ill-posed: the growth of its shortest waves rises without bound as the grid is refined",
        expected="growth that stays bounded",
        given=f"rates {rates} per unit of tau at the spacing, its half and its quarter",
        remedy=f"{REMEDIES}; or run it all the same for a short time: allow_ill_posed=True, --force",
    )
