"""Compare fastinit with the libraries that it replaces, and with the speed of memory.

Run it with ``make bench`` (``PEERS=1`` installs the other libraries, ``QUICK=1`` takes two minutes). Each
library has a process of its own and the same number of threads. A case is measured in rounds: every library
gives one sample, then every library gives the next, so that noise on the machine affects all alike; medians
are reported. Fresh memory (a new array each time) and resident memory (one array filled again) are reported
apart, and every figure is related to a store-only fill that is measured in the same run and process.

After that fastinit alone is measured with 1, 2, 4, ... and all threads (``ARGS=--only-scaling`` does nothing
else), so that machines with many cores can be compared.

Prints the tables, writes the raw figures to ``bench-results/`` and draws a chart of them.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cases import MATRICES, SIZES, Case, cases, scaling_cases
from checks import check_all
from libraries import LIBRARIES
from report import Report, print_report, print_scaling

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


class ProcessEndedError(Exception):
    """A library's process ended before it answered."""


class Process:
    """The process of one library."""

    def __init__(self, name: str, threads: int) -> None:
        """Start it; `introduce` waits for it, so that all can load at the same time."""
        self.name = name
        self.threads = threads
        self.versions: dict[str, str] = {}
        self.level: str | None = None
        self.own_environment = dict(LIBRARIES[name].environment)
        count = str(threads)
        environment = {
            **{key: value for key, value in os.environ.items() if key != "FASTINIT_SIMD"},
            "FASTINIT_NUM_THREADS": count,
            "OMP_NUM_THREADS": count,
            "MKL_NUM_THREADS": count,
            "CUDA_VISIBLE_DEVICES": "",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            **self.own_environment,
        }
        self.errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - `stop` closes it
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "worker.py"), name, count],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=environment,
            text=True,
        )

    def introduce(self) -> None:
        """Wait until the library is loaded."""
        hello = self.receive()
        self.versions, self.level = hello["versions"], hello["level"]

    def receive(self) -> dict[str, Any]:
        """Return the next answer."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            status = self.process.wait()
            self.errors.seek(0)
            last = (self.errors.read().strip().splitlines() or [f"exit status {status}"])[-1]
            raise ProcessEndedError(last)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and return its answer."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # `receive` reports why
        return self.receive()

    def stop(self) -> None:
        """End the process."""
        try:
            self.process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.errors.close()


def measure(case: Case, processes: list[Process], rounds: int, budget: float) -> list[dict[str, Any]]:
    """Measure a case in every library; a library whose samples took `budget` seconds gives no more.

    A library whose process ends is removed from `processes`; the others continue.
    """
    samples: dict[Process, list[float]] = {}
    spent: dict[Process, float] = {}
    failures: dict[Process, str] = {}

    def ask(process: Process, **request: Any) -> dict[str, Any]:
        begun = time.perf_counter()
        try:
            return process.ask(**request)
        except ProcessEndedError as error:
            processes.remove(process)
            samples.pop(process, None)
            failures[process] = str(error)
            return {"supported": False, "why": "ended"}
        finally:
            spent[process] = spent.get(process, 0.0) + time.perf_counter() - begun

    for process in list(processes):
        answer = ask(process, open=case.as_dict())
        if answer["supported"]:
            samples[process] = []
        elif answer["why"] != "not offered":
            failures.setdefault(process, answer["why"])
    for turn in range(rounds):
        active = list(samples)
        shift = turn % max(1, len(active))  # no library always follows the same one
        for process in active[shift:] + active[:shift]:
            if samples[process] and spent[process] > budget:
                continue
            answer = ask(process, sample=True)
            if "seconds" in answer:
                samples[process].append(answer["seconds"])
    for process in list(processes):
        ask(process, close=True)
    return [
        *({"library": p.name, **case.as_dict(), "seconds": taken} for p, taken in samples.items()),
        *({"library": p.name, **case.as_dict(), "error": error} for p, error in failures.items()),
    ]


def start(names: list[str], threads: int) -> tuple[list[Process], dict[str, str]]:
    """Start the processes of the installed libraries; return them, and why the others are missing."""
    absent: dict[str, str] = {}
    started: list[Process] = []
    for name in names:
        if missing := LIBRARIES[name].missing():
            absent[name] = f"{', '.join(missing)} not installed"
        else:
            started.append(Process(name, threads))
    ready: list[Process] = []
    for process in started:
        try:
            process.introduce()
        except ProcessEndedError as error:
            absent[process.name] = str(error)
            continue
        wanted = process.own_environment.get("FASTINIT_SIMD")
        levels = {p.level for p in ready if p.level}
        if wanted and (process.level != wanted or process.level in levels):
            absent[process.name] = f"this machine's best level is {process.level}"
            process.stop()
        else:
            ready.append(process)
    return ready, absent


def measure_all(
    chosen: list[Case], processes: list[Process], rounds: int, budget: float
) -> list[dict[str, Any]]:
    """Measure all cases, and end the processes."""
    loaded, records = list(processes), []
    try:
        for number, case in enumerate(chosen, 1):
            print(
                f"[{number}/{len(chosen)}] {case.size}, {case.memory}: {case.distribution} {case.dtype}",
                file=sys.stderr,
                flush=True,
            )
            records += measure(case, processes, rounds, budget)
    finally:
        for process in loaded:
            process.stop()
    return records


def measure_scaling(threads: int, *, quick: bool, rounds: int, budget: float) -> list[dict[str, Any]]:
    """Measure fastinit with 1, 2, 4, ... threads, up to all; the library of a record is their number."""
    counts = sorted({*(1 << power for power in range(threads.bit_length())), threads})
    processes = [Process("fastinit", count) for count in counts]
    for process in processes:
        process.introduce()
        process.name = str(process.threads)
    return measure_all(scaling_cases(quick=quick), processes, rounds, budget)


def machine() -> dict[str, Any]:
    """Describe the machine, without anything that identifies it."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    huge_pages = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return {
        "processor": model,
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "huge_pages": huge_pages.read_text(encoding="utf-8").strip() if huge_pages.exists() else "unknown",
    }


def available_threads() -> int:
    """Return the processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def main() -> None:
    """Measure, report, record, draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer libraries, cases and rounds")
    parser.add_argument("--threads", type=int, default=available_threads(), help="default: all (%(default)s)")
    parser.add_argument("--only-scaling", action="store_true", help="only fastinit, by number of threads")
    parser.add_argument("--rounds", type=int, help="samples of each figure (default: 9, quick: 3)")
    parser.add_argument("--libraries", help=f"comma-separated, of: {', '.join(LIBRARIES)}")
    parser.add_argument("--sizes", help=f"comma-separated, of: {', '.join([*SIZES, *MATRICES])}")
    parser.add_argument("--results", type=Path, default=ROOT / "bench-results", help="default: %(default)s")
    parser.add_argument(
        "--chart", type=Path, help="where to draw; default: docs/bench.svg for a full run with torch"
    )
    arguments = parser.parse_args()

    names = [name for name, entry in LIBRARIES.items() if entry.quick or not arguments.quick]
    if arguments.libraries:
        names = arguments.libraries.split(",")
        if unknown := set(names) - set(LIBRARIES):
            parser.error(f"no such library: {', '.join(sorted(unknown))}")
    chosen = cases(quick=arguments.quick)
    if arguments.sizes:
        chosen = [case for case in cases(quick=False) if case.size in arguments.sizes.split(",")]
    if arguments.only_scaling:
        names, chosen = ["fastinit"], []
    rounds = arguments.rounds or (3 if arguments.quick else 9)
    budget = 1.0 if arguments.quick else 6.0

    # Before the libraries start, so that the checks have the machine to themselves.
    ours = "fastinit" in names and not LIBRARIES["fastinit"].missing()
    checks = asdict(check_all()) if ours and chosen else None
    processes, absent = start(names, arguments.threads)
    loaded = list(processes)
    records = measure_all(chosen, processes, rounds, budget)
    scaling = []
    if ours:
        scaling = measure_scaling(arguments.threads, quick=arguments.quick, rounds=rounds, budget=budget)

    report = Report(
        date=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        quick=arguments.quick,
        threads=arguments.threads,
        machine=machine(),
        versions={name: version for p in loaded for name, version in p.versions.items()},
        levels={p.name: p.level for p in loaded if p.level},
        absent=absent,
        records=records,
        checks=checks,
        scaling=scaling,
    )
    if chosen:
        print_report(report)
    if scaling:
        print_scaling(report)

    arguments.results.mkdir(parents=True, exist_ok=True)
    path = arguments.results / f"{report.date[:19].replace(':', '')}.json"
    text = json.dumps(asdict(report), indent=1) + "\n"
    path.write_text(text, encoding="utf-8")
    (arguments.results / "latest.json").write_text(text, encoding="utf-8")
    print(f"\nraw figures: {path}")

    if not chosen:
        return
    # The chart in docs/ is only replaced by a run that measured all that it shows.
    complete = not arguments.quick and report.measured("torch") and report.measured("fastinit")
    chart = arguments.chart or (ROOT / "docs" / "bench.svg" if complete else arguments.results / "bench.svg")
    try:
        from chart import draw  # matplotlib is needed for nothing else
    except ImportError as error:
        print(f"chart: not drawn ({error})")
    else:
        draw(report, chart)
        print(f"chart: {chart}")


if __name__ == "__main__":
    main()
