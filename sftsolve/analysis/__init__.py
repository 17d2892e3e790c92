"""What can be said of a theory before it is run: well-posedness, dispersion, memory."""

from sftsolve.analysis.dispersion import Dispersion, dispersion
from sftsolve.analysis.memory import Run, refuse_too_large
from sftsolve.analysis.report import Report, check, refuse_ill_posed

__all__ = ["Dispersion", "Report", "Run", "check", "dispersion", "refuse_ill_posed", "refuse_too_large"]
