"""Which initializer to use, what it does to the signal, and what is wrong with weights that are there.

The functions are in `fastinit` itself, too: `recommend`, `gain`, `signal`, `diagnose`, `show` and `compare`.
Frameworks, matplotlib and scikit-learn are loaded by what needs them.
"""

from ._activations._gains import gain
from ._compare._compare import Comparison, ComparisonRun, compare
from ._diagnose._diagnose import Diagnosis, TensorSummary, diagnose
from ._diagnose._findings import Finding
from ._recommend._recommend import recommend
from ._recommend._recommendation import Alternative, Judgement, Recommendation
from ._show._show import show
from ._signal import Signal, SignalRun, signal

__all__ = [
    "Alternative",
    "Comparison",
    "ComparisonRun",
    "Diagnosis",
    "Finding",
    "Judgement",
    "Recommendation",
    "Signal",
    "SignalRun",
    "TensorSummary",
    "compare",
    "diagnose",
    "gain",
    "recommend",
    "show",
    "signal",
]
