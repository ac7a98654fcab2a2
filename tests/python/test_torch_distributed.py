"""`fastinit.torch` on 1, 2, 3 and 4 processes, by gloo: all of it gives what a single process gives.

The processes of each number are started once, and run all checks of `ranks.py`; each is a test here.
"""

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import time

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("ml_dtypes")
if os.name != "posix" or not (torch.distributed.is_available() and torch.distributed.is_gloo_available()):
    pytest.skip("needs a POSIX system, and a PyTorch with gloo", allow_module_level=True)

import ranks  # noqa: E402

# The first test of a number of processes runs all their checks.
pytestmark = pytest.mark.timeout(320)
LIMIT = 300.0


@pytest.fixture(scope="session")
def outcomes(tmp_path_factory):
    """A function that starts this number of processes, once, and returns the failures of each check."""
    # The processes that run tests share what the first of them starts.
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    @functools.cache
    def run(world):
        folder = base / f"ranks{world}"
        ended = folder / "ended"
        try:
            folder.mkdir()
        except FileExistsError:
            deadline = time.monotonic() + LIMIT + 5
            while not ended.exists() and time.monotonic() < deadline:
                time.sleep(0.1)
        else:
            code = start(world, folder)
            (folder / "code").write_text(str(code))
            (folder / "code").rename(ended)
        return collected(folder, ended.read_text())

    return run


def start(world, folder):
    """Starts this number of processes, and returns how they ended: 0 is well."""
    with (folder / "errors").open("w") as errors:
        program = subprocess.Popen(
            [sys.executable, "-W", "ignore", ranks.__file__, str(world), str(folder)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
    try:
        return program.wait(LIMIT)
    except subprocess.TimeoutExpired:
        return f"no code after {LIMIT:.0f} s"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        program.wait()


def collected(folder, code):
    """What the processes took down, and under "" how they ended."""
    found = {}
    for path in folder.glob("*.outcomes"):
        for line in path.read_text().splitlines():
            name, trouble = json.loads(line)
            found[name] = found.get(name) or trouble
    last_words = [f"{path.name}: {path.read_text()[-2000:]}" for path in sorted(folder.glob("*errors"))]
    found[""] = "\n".join([f"the processes ended with {code}", *last_words]) if code != "0" else ""
    return found


@pytest.mark.parametrize(
    ("world", "name"), [(world, name) for world in ranks.WORLDS for name in ranks.names(world)]
)
def test_check(outcomes, world, name):
    found = outcomes(world)
    trouble = found.get(name, f"it never came to an end\n{found['']}")
    assert trouble == "", f"{name} on {world} processes\n{trouble}"


@pytest.mark.parametrize("world", ranks.WORLDS)
def test_processes_end_well(outcomes, world):
    assert outcomes(world)[""] == ""
