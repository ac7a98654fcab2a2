"""Run the test suites of other projects twice, plainly and with fastinit, and compare the outcomes.

`make peers` runs this. The suites:

* `keras`: Keras's tests of initializers and of layers with random weights, which are in its wheel, on each
  backend; with fastinit by `fastinit.keras.enable()`;
* `timm`: the tests of timm's layers, and those of its models that it marks as basic, from the source
  distribution of the installed version, which pip downloads into `.venv/peers`; with fastinit inside
  `fastinit.torch.accelerate()`;
* `haiku`: its tests, which are in its wheel, with the classes of `fastinit.haiku`;
* `jax`, `flax`: JAX's tests of initializers and Flax's tests, with `fastinit.jax` for `jax.nn.initializers`;
* `torch`: PyTorch's tests of `torch.nn`, with `fastinit.torch` for `torch.nn.init`, and once more inside
  `accelerate`.

No package has the tests of JAX, Flax and PyTorch, so the folders of checkouts must be given, whose versions
should be those installed. The tests alone are enough:

    git clone --branch v2.15.0 --depth 1 --filter blob:none --sparse https://github.com/pytorch/pytorch
    git -C pytorch sparse-checkout set test
    make peers ARGS="--torch pytorch"

A test whose outcome differs is run again in both ways. The exit status is 1 if one passes plainly and fails
with fastinit, both times, or if a file of tests cannot be imported.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import itertools
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import types
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

# How a suite runs: these are the values of the environment variable below.
MODE = "FASTINIT_PEERS"
PLAIN, ENABLE, ACCELERATE, REPLACE = "plain", "enable", "accelerate", "replace"
OUTCOMES = "FASTINIT_PEERS_OUTCOMES"
REPLACED = "FASTINIT_PEERS_REPLACED"  # the module that is replaced, and by which

ERROR = "error"  # the outcome of a file of tests that cannot be imported

# Tests that hold by chance, which are skipped: with PyTorch alone they pass at the seed that they set, and
# fail at others.
CHANCE = {
    # Five values on [-2, 2] are compared with the distribution on [0, 1]: PyTorch fails at 94 of the seeds
    # below 2,000, fastinit at 88.
    "nn/test_init.py::TestNNInit::test_trunc_normal_generator",
}

CACHE = Path(sys.prefix) / "peers"
# Layers of other folders have no weights that are random at first.
LAYERS = ("activations", "attention", "convolutional", "core", "normalization", "rnn")
KERAS = {"initializers": ["initializers"], "layers": [f"layers/{folder}" for folder in LAYERS]}
FLAX = [f"tests/linen/{name}_test.py" for name in ("initializers", "linen_linear", "linen_attention")]
FLAX += ["tests/nnx/nn/linear_test.py", "tests/nnx/nn/embed_test.py", "tests/nnx/nn/attention_test.py"]
BACKENDS = ("torch", "jax", "tensorflow", "numpy")
SHOWN = 20
NO_CHECKOUT = "its tests are in no package: see tools/peers.py for how to give a checkout"


class Suite(NamedTuple):
    """Tests of another project, and how they run with fastinit."""

    name: str
    root: Path
    paths: Sequence[str]  # relative to the root
    modes: Sequence[str]
    options: Sequence[str] = ()
    environment: Mapping[str, str] = {}


def keras_suites() -> Iterator[Suite]:
    """The tests that Keras has in its wheel, on each backend that is installed."""
    for backend in BACKENDS:
        if importlib.util.find_spec("keras") is None or importlib.util.find_spec(backend) is None:
            print(f"skipped: keras on {backend} is not installed")
            continue
        environment = {
            "KERAS_BACKEND": backend,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "JAX_PLATFORMS": "cpu",
            "CUDA_VISIBLE_DEVICES": "",
        }
        root = Path(importlib.metadata.distribution("keras").locate_file(""))  # type: ignore[arg-type]
        for part, folders in KERAS.items():
            paths = [f"keras/src/{folder}" for folder in folders]
            yield Suite(f"{part} of keras on {backend}", root, paths, (ENABLE,), environment=environment)


def timm_suites() -> Iterator[Suite]:
    """The tests in timm's source distribution."""
    if importlib.util.find_spec("timm") is None:
        print("skipped: timm is not installed")
        return
    version = importlib.metadata.version("timm")
    root = CACHE / f"timm-{version}"
    if not root.exists():
        with tempfile.TemporaryDirectory() as folder:
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
            subprocess.run([*pip, "--no-binary", "timm", f"timm=={version}"], check=True)
            (archive,) = Path(folder).glob("*.tar.gz")
            with tarfile.open(archive) as opened:
                opened.extractall(CACHE, filter="data")
    layers = sorted(path.relative_to(root).as_posix() for path in root.glob("tests/test_layers*.py"))
    yield Suite("layers of timm", root, layers, (ACCELERATE,))
    yield Suite("models of timm", root, ["tests/test_models.py"], (ACCELERATE,), ("-m", "base"))


def jax_suites(jax: Path | None, flax: Path | None) -> Iterator[Suite]:
    """The tests in Haiku's wheel, and in checkouts of JAX and Flax."""
    environment = {"JAX_PLATFORMS": "cpu", REPLACED: "haiku._src.initializers fastinit.haiku"}
    if importlib.util.find_spec("haiku") is None:
        print("skipped: haiku is not installed")
    else:
        root = Path(importlib.metadata.distribution("dm-haiku").locate_file(""))  # type: ignore[arg-type]
        paths = [f"haiku/_src/{name}_test.py" for name in ("initializers", "basic", "conv", "embed")]
        yield Suite("haiku", root, paths, (REPLACE,), environment=environment)
    environment[REPLACED] = "jax.nn.initializers fastinit.jax"
    for name, checkout, paths, options in (
        ("jax.nn.initializers", jax, ["tests/nn_test.py"], ("-k", "nitialize")),
        ("flax", flax, FLAX, ()),
    ):
        if checkout is None:
            print(f"skipped: {name}; {NO_CHECKOUT}")
        else:
            yield Suite(name, checkout.resolve(), paths, (REPLACE,), options, environment)


def torch_suites(checkout: Path | None) -> Iterator[Suite]:
    """The tests in a checkout of PyTorch."""
    if checkout is None:
        print(f"skipped: torch; {NO_CHECKOUT}")
        return
    root = checkout.resolve() / "test"
    environment = {"PYTORCH_PRINT_REPRO_ON_FAILURE": "0", REPLACED: "torch.nn.init fastinit.torch"}
    slow = {**environment, "PYTORCH_TEST_WITH_SLOW": "1"}  # one test of the file is marked as slow
    yield Suite("torch.nn.init", root, ["nn/test_init.py"], (REPLACE, ACCELERATE), environment=slow)
    paths = [path for path in ("test_nn.py", "test_modules.py", "nn") if (root / path).exists()]
    yield Suite("torch.nn", root, paths, (ACCELERATE,), environment=environment)


# Running


def run(suite: Suite, mode: str, processes: int, tests: Sequence[str] | None = None) -> dict[str, str]:
    """Runs a suite, or some of its tests, in one way.

    Returns:
        The outcome of each test, and the message where it failed.
    """
    tools = Path(__file__).parent
    with tempfile.TemporaryDirectory() as folder:
        outcomes = Path(folder) / "outcomes.json"
        options = ["-q", "--no-header", "--no-summary", "--tb=no", "-W", "ignore", "-p", "no:cacheprovider"]
        options += ["--timeout=600", f"--numprocesses={processes}", "--dist=worksteal", "-p", "peers"]
        options += ["-c", os.devnull, f"--rootdir={suite.root}", *suite.options]
        environment = {
            **os.environ,
            **suite.environment,
            "PYTHONPATH": os.pathsep.join([str(tools), os.environ.get("PYTHONPATH", "")]),
            MODE: mode,
            OUTCOMES: str(outcomes),
        }
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options, *(tests or suite.paths)],
            cwd=suite.root,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        found = json.loads(outcomes.read_text(encoding="utf-8")) if outcomes.exists() else {}
        if not found:
            raise SystemExit(f"{suite.name}: no test was run: {(done.stdout + done.stderr)[-3000:]}")
        return found


def compare(suite: Suite, plain: Mapping[str, str], mode: str, processes: int) -> bool:
    """Runs a suite with fastinit, and prints the number of outcomes and the tests that differ.

    Returns:
        Whether all tests that pass plainly pass with fastinit.
    """
    ours = run(suite, mode, processes)
    print(f"{suite.name}, {mode}: {counts(ours)}", flush=True)
    different = [test for test in {**plain, **ours} if kind(plain.get(test)) != kind(ours.get(test))]
    if not different:
        return True
    again = {way: run(suite, way, processes, different) for way in (PLAIN, mode)}
    passes = True
    for number, test in enumerate(different):
        both = [
            (first.get(test, "absent"), second.get(test, "absent"))
            for first, second in ((plain, again[PLAIN]), (ours, again[mode]))
        ]
        is_fault = {kind(one) for one in both[0]} == {"passed"} and "passed" not in map(kind, both[1])
        passes &= not is_fault
        if is_fault or number < SHOWN:
            print(f"  {'FAULT' if is_fault else 'differs'}: {test}")
            for way, (first, second) in zip((PLAIN, mode), both, strict=True):
                print(f"    {way}: {first}; again: {second}")
    return passes


def kind(outcome: str | None) -> str:
    """The outcome without its message."""
    return (outcome or "absent").partition(":")[0]


def counts(outcomes: Mapping[str, str]) -> str:
    """How many tests there are of each outcome."""
    found = Counter(map(kind, outcomes.values()))
    return ", ".join(f"{found[name]} {name}" for name in sorted(found, key=lambda name: -found[name]))


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", help="suites, by a part of their name; all by default")
    for name in ("jax", "flax", "torch"):
        parser.add_argument(f"--{name}", type=Path, metavar="FOLDER", help=f"a checkout of {name}")
    parser.add_argument("--processes", type=int, default=2, help="that run the tests of a suite")
    options = parser.parse_args()
    passes = True
    for suite in itertools.chain(
        keras_suites(), timm_suites(), jax_suites(options.jax, options.flax), torch_suites(options.torch)
    ):
        if not options.names or any(name in suite.name for name in options.names):
            plain = run(suite, PLAIN, options.processes)
            print(f"{suite.name}, {PLAIN}: {counts(plain)}", flush=True)
            for test, outcome in plain.items():
                if kind(outcome) == ERROR:
                    passes = False
                    print(f"  cannot be imported: {test}: {outcome}")
            for mode in suite.modes:
                passes &= compare(suite, plain, mode, options.processes)
    return int(not passes)


# The plugin of pytest, `-p peers`


def pytest_configure(config: Any) -> None:
    """Enables fastinit before tests are imported, and makes the module that the wheel of Keras lacks."""
    for name in ("requires_trainable_backend", "multi_device", "base"):
        config.addinivalue_line("markers", name)
    if "KERAS_BACKEND" in os.environ:
        conftest = types.ModuleType("conftest")
        conftest.skip_if_backend = _skip_if_backend  # type: ignore[attr-defined]
        sys.modules["conftest"] = conftest
    is_controller = config.getoption("numprocesses") and not hasattr(config, "workerinput")
    mode = None if is_controller else os.environ.get(MODE)
    if mode == ENABLE:
        import fastinit.keras

        fastinit.keras.enable()
    elif mode == REPLACE:
        theirs, ours = os.environ[REPLACED].split()
        package, _, name = theirs.rpartition(".")
        importlib.import_module(theirs)
        sys.modules[theirs] = importlib.import_module(ours)
        setattr(sys.modules[package], name, sys.modules[theirs])


def _skip_if_backend(backend: str, reason: str) -> Any:
    return pytest.mark.skipif(os.environ["KERAS_BACKEND"] == backend, reason=reason)


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """Skips what cannot run here, as Keras does."""
    backend = os.environ.get("KERAS_BACKEND")
    for item in items:
        if backend == "numpy" and item.get_closest_marker("requires_trainable_backend"):
            item.add_marker(pytest.mark.skip(reason="this backend cannot be trained"))
        if backend and item.get_closest_marker("multi_device"):
            item.add_marker(pytest.mark.skip(reason="there is one device"))
        if item.nodeid in CHANCE:
            item.add_marker(pytest.mark.skip(reason="it holds by chance"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, Any, Any]:
    """Runs each test inside `accelerate`."""
    if os.environ.get(MODE) != ACCELERATE:
        return (yield)
    import fastinit.torch

    with fastinit.torch.accelerate():
        return (yield)


_outcomes: dict[str, str] = {}


def pytest_runtest_logreport(report: Any) -> None:
    """Notes the outcome of a test: that of its call, unless its set-up or its end failed."""
    if report.when == "call" or report.outcome != "passed":
        message = report.longreprtext.strip().splitlines() if report.failed else []
        _outcomes[report.nodeid] = report.outcome + (f": {message[-1][:200]}" if message else "")


def pytest_collectreport(report: Any) -> None:
    """Notes a file of tests that cannot be imported."""
    if report.failed:
        _outcomes[report.nodeid] = f"{ERROR}: {report.longreprtext.strip().splitlines()[-1][:200]}"


def pytest_sessionfinish(session: Any) -> None:
    """Writes all outcomes, in the process that has them."""
    if not hasattr(session.config, "workerinput"):
        Path(os.environ[OUTCOMES]).write_text(json.dumps(_outcomes), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
