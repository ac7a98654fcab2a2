"""Checkpoints of initial weights: straight to files, larger than memory, by many writers, verifiable.

A plan says what each tensor contains, except for the seed:

>>> import fastinit, fastinit.checkpoint
>>> plan = fastinit.checkpoint.plan(
...     {"embed.weight": ((1000, 64), "bfloat16"), "norm.weight": ((64,), "bfloat16")},
...     {"*norm.weight": 1, "*": fastinit.RandomNormal(stddev=0.02)},
... )

`write` puts it into files, larger than memory if need be, and `verify` makes each value again to check them:

>>> import tempfile
>>> with tempfile.TemporaryDirectory() as directory:
...     written = fastinit.checkpoint.write(plan, directory, seed=0, max_shard_size="100KB")
...     found = fastinit.checkpoint.verify(directory)
>>> written.files
('model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors')
>>> found.ok
True
"""

from fastinit._plan import Part, Plan, PlanRow

from ._layout import FileRow, Files, files
from ._sources import plan
from ._verify import Difference, Verification, verify
from ._write import Written, write

__all__ = [
    "Difference",
    "FileRow",
    "Files",
    "Part",
    "Plan",
    "PlanRow",
    "Verification",
    "Written",
    "files",
    "plan",
    "verify",
    "write",
]
