"""What a user pays besides the fill: peak memory, import time, the overhead of a small call.

Each check runs in fresh interpreters, so that earlier measurements do not affect it.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from dataclasses import dataclass

MIB = 1 << 20

# Peak resident memory: the high-water mark after the fill minus the memory in use before it. Linux keeps the
# mark of a process in VmHWM; `ru_maxrss` would start from that of the parent process.
PEAK_MEMORY = """
import json, sys
import numpy, fastinit

def status(key):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(key + ":")) * 1024

name, dtype, nbytes = sys.argv[1], sys.argv[2], int(sys.argv[3])
make = getattr(fastinit, name)
make((8, 8), seed=0, dtype=dtype)
itemsize = numpy.dtype({"bfloat16": "float16"}.get(dtype, dtype)).itemsize
before = status("VmRSS")
array = make((1024, nbytes // itemsize // 1024), seed=0, dtype=dtype)
print(json.dumps(status("VmHWM") - before - array.nbytes))
"""

IMPORT_TIME = """
import json, sys, time
import numpy
start = time.perf_counter()
import fastinit
seconds = time.perf_counter() - start
frameworks = {"torch", "jax", "keras", "tensorflow", "ml_dtypes", "scipy"}
print(json.dumps({"seconds": seconds, "loaded": sorted(frameworks & set(sys.modules))}))
"""

# Alternating within one process, so that the ratio is right even where clock rates change.
SMALL_CALL = """
import json, statistics, timeit
import numpy, fastinit
generator = numpy.random.default_rng(1)
calls = {
    "numpy": lambda: generator.standard_normal(64, dtype=numpy.float32),
    "fastinit": lambda: fastinit.random_normal(64, seed=1),
}
n = 5000
rounds = [{name: timeit.timeit(call, number=n) / n for name, call in calls.items()} for _ in range(25)]
print(json.dumps({name: statistics.median(r[name] for r in rounds) for name in calls}))
"""


@dataclass(frozen=True)
class Checks:
    """The results of all checks."""

    extra_bytes: dict[
        str, int
    ]  # initializer and dtype -> peak beyond the array itself; empty if unknown here
    import_seconds: float
    loaded_by_import: list[str]
    small_call_seconds: float
    numpy_small_call_seconds: float


def run(code: str, *arguments: str) -> str:
    """Run code in a fresh interpreter and return what it printed."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout


def extra_memory(nbytes: int = 256 * MIB) -> dict[str, int]:
    """Return the peak memory of fresh fills beyond the array itself."""
    if not sys.platform.startswith("linux"):
        return {}
    fills = [
        ("random_uniform", "float32"),
        ("random_normal", "float32"),
        ("truncated_normal", "float32"),
        ("he_normal", "float32"),
        ("random_normal", "float64"),
        ("random_normal", "float16"),
        ("random_normal", "bfloat16"),
    ]
    return {f"{name} {dtype}": int(run(PEAK_MEMORY, name, dtype, str(nbytes))) for name, dtype in fills}


def check_all() -> Checks:
    """Run every check."""
    run(IMPORT_TIME)  # compiles the modules to bytecode, as an installer does
    imports = [json.loads(run(IMPORT_TIME)) for _ in range(15)]
    small = json.loads(run(SMALL_CALL))
    return Checks(
        extra_bytes=extra_memory(),
        import_seconds=statistics.median(i["seconds"] for i in imports),
        loaded_by_import=imports[0]["loaded"],
        small_call_seconds=small["fastinit"],
        numpy_small_call_seconds=small["numpy"],
    )
