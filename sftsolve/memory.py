"""How many bytes the parts of a run take, told by each of them before anything is made."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Need:
    """Memory of something that is made, then held to the end of the run.

    Attributes
    ----------
    held : bytes that it holds
    most : bytes at the worst moment of its making, what it holds by then included; never less than `held`
    """

    held: float = 0.0
    most: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "most", max(self.held, self.most))

    @classmethod
    def of(cls, held: float, beside: float = 0.0) -> Need:
        """What takes `beside` bytes more than it holds while it is made."""
        return cls(float(held), float(held + beside))

    def __add__(self, later: Need) -> Need:
        """This, and then that: what this holds is there while that is made."""
        return Need(self.held + later.held, max(self.most, self.held + later.most))


def in_turn(needs: Iterable[Need]) -> Need:
    """The needs of what is made one after the other."""
    return sum(needs, Need())


def of_machine() -> float:
    """Bytes of memory of this machine; infinite where that cannot be found out."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return math.inf
