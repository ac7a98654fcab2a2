"""Which initializer to use, what it does to the signal, and what is wrong with weights that are there.

The functions are in `fastinit` itself, too: `recommend`, `gain`, `signal`, `diagnose`, `show` and `compare`.
Frameworks, matplotlib and scikit-learn are loaded by what needs them.
"""

from fastinit.theory.gains import gain

from .compare import Comparison, ComparisonRun, compare
from .diagnose import Code, Diagnosis, Finding, Severity, TensorRow, diagnose
from .recommend import recommend
from .recommend.recommendation import Alternative, Judgement, Recommendation
from .show import show
from .signal import Signal, SignalRun, signal

__all__ = [
    "Alternative",
    "Code",
    "Comparison",
    "ComparisonRun",
    "Diagnosis",
    "Finding",
    "Judgement",
    "Recommendation",
    "Severity",
    "Signal",
    "SignalRun",
    "TensorRow",
    "compare",
    "diagnose",
    "gain",
    "recommend",
    "show",
    "signal",
]
