"""Which initializer to use, its effect on signals and training, and problems of given weights.

The functions are also in `fastinit` itself: `recommend`, `recipe`, `gain`, `signal`, `diagnose`, `trace`,
`lsuv`, `show` and `compare`.
Frameworks, matplotlib and scikit-learn are imported only when they are needed.
"""

from fastinit.theory.gains import gain

from .compare import Comparison, ComparisonRow, ComparisonVerdict, compare
from .diagnose import Code, Diagnosis, DiagnosisRow, Finding, Severity, diagnose
from .recipes import Formula, Recipe, RecipeRule, Recipes, RecipeSummary, recipe
from .recommend import recommend
from .recommend.recommendation import Alternative, Judgement, JudgementVerdict, Recommendation
from .repair import Repair, RepairRow
from .show import show
from .signal import Signal, SignalRow, SignalVerdict, signal
from .trace import Trace, TraceProblem, TraceRow, TraceVerdict, lsuv, trace
from .trace.log import TraceLog

__all__ = [
    "Alternative",
    "Code",
    "Comparison",
    "ComparisonRow",
    "ComparisonVerdict",
    "Diagnosis",
    "DiagnosisRow",
    "Finding",
    "Formula",
    "Judgement",
    "JudgementVerdict",
    "Recipe",
    "RecipeRule",
    "RecipeSummary",
    "Recipes",
    "Recommendation",
    "Repair",
    "RepairRow",
    "Severity",
    "Signal",
    "SignalRow",
    "SignalVerdict",
    "Trace",
    "TraceLog",
    "TraceProblem",
    "TraceRow",
    "TraceVerdict",
    "compare",
    "diagnose",
    "gain",
    "lsuv",
    "recipe",
    "recommend",
    "show",
    "signal",
    "trace",
]
