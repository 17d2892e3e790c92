"""sftsolve: the training of neural networks solved as damped field dynamics.

Synaptic field theory (Lee, Lee, Yi, arXiv:2503.08827): weights are fields w(t, x), training data are sources J(x), K(x), the cost
is the potential and the learning rate is friction,

    w_tt + gamma w_t = -dC/dw,   gamma = 1/eta = d H.

Names are loaded when they are first used, so that ``sftsolve --help`` does not wait for a compiler.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sftsolve import network
    from sftsolve.action import Action
    from sftsolve.analysis import check
    from sftsolve.errors import SftError
    from sftsolve.friction import FLRW, Friction
    from sftsolve.grid import Grid
    from sftsolve.kernels.batched import BatchedMatrix
    from sftsolve.kernels.convolution import Convolution
    from sftsolve.kernels.dense import Dense
    from sftsolve.kernels.fractional import Fractional
    from sftsolve.kernels.inspect import Kernel
    from sftsolve.kernels.low_rank import LowRank
    from sftsolve.kernels.modulated import Modulated
    from sftsolve.kernels.pointwise import PointwiseMatrix
    from sftsolve.kernels.separable import Separable
    from sftsolve.kernels.shift import Shift
    from sftsolve.kernels.sparse import Sparse
    from sftsolve.output import Result
    from sftsolve.output import open_result as open
    from sftsolve.simulation import simulate, solve
    from sftsolve.sources import BatchSchedule, MiniBatches, TimeSeries
    from sftsolve.state import State
    from sftsolve.system import System, discretise

__version__ = "0.1.0"

_WHERE = {
    "FLRW": "friction",
    "Action": "action",
    "BatchSchedule": "sources",
    "BatchedMatrix": "kernels.batched",
    "Convolution": "kernels.convolution",
    "Dense": "kernels.dense",
    "Fractional": "kernels.fractional",
    "Friction": "friction",
    "Grid": "grid",
    "Kernel": "kernels.inspect",
    "LowRank": "kernels.low_rank",
    "MiniBatches": "sources",
    "Modulated": "kernels.modulated",
    "PointwiseMatrix": "kernels.pointwise",
    "Result": "output",
    "Separable": "kernels.separable",
    "SftError": "errors",
    "Shift": "kernels.shift",
    "Sparse": "kernels.sparse",
    "State": "state",
    "System": "system",
    "TimeSeries": "sources",
    "check": "analysis",
    "discretise": "system",
    "open": "output",
    "simulate": "simulation",
    "solve": "simulation",
}
_RENAMED = {"open": "open_result"}

__all__ = [
    "FLRW",
    "Action",
    "BatchSchedule",
    "BatchedMatrix",
    "Convolution",
    "Dense",
    "Fractional",
    "Friction",
    "Grid",
    "Kernel",
    "LowRank",
    "MiniBatches",
    "Modulated",
    "PointwiseMatrix",
    "Result",
    "Separable",
    "SftError",
    "Shift",
    "Sparse",
    "State",
    "System",
    "TimeSeries",
    "check",
    "discretise",
    "network",
    "open",
    "simulate",
    "solve",
]


def __getattr__(name: str) -> Any:
    if name == "network":
        return import_module("sftsolve.network")
    if name not in _WHERE:
        raise AttributeError(f"module 'sftsolve' has no attribute {name!r}")
    value = getattr(import_module(f"sftsolve.{_WHERE[name]}"), _RENAMED.get(name, name))
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
