"""Checkpoints of initial weights: straight to files, larger than memory, by many writers, verifiable.

A plan says what each tensor contains, but for the seed:

>>> import fastinit, fastinit.checkpoint
>>> plan = fastinit.checkpoint.plan(
...     {"embed.weight": ((1000, 64), "bfloat16"), "norm.weight": ((64,), "bfloat16")},
...     {"*norm.weight": 1, "*": fastinit.RandomNormal(stddev=0.02)},
... )
"""

from fastinit._plan import Part, Plan, PlanRow

from ._sources import plan

__all__ = ["Part", "Plan", "PlanRow", "plan"]
