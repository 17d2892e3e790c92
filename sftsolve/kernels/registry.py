"""Every kind of kernel by the name that configuration files use."""

from __future__ import annotations

from sftsolve.kernels.convolution import Convolution
from sftsolve.kernels.dense import Dense
from sftsolve.kernels.fractional import Fractional
from sftsolve.kernels.low_rank import LowRank
from sftsolve.kernels.modulated import Modulated
from sftsolve.kernels.pointwise import PointwiseMatrix
from sftsolve.kernels.separable import Separable
from sftsolve.kernels.shift import Shift
from sftsolve.kernels.sparse import Sparse

REGISTRY: dict[str, type] = {
    "convolution": Convolution,
    "dense": Dense,
    "fractional": Fractional,
    "low-rank": LowRank,
    "modulated": Modulated,
    "pointwise-matrix": PointwiseMatrix,
    "separable": Separable,
    "shift": Shift,
    "sparse": Sparse,
}
