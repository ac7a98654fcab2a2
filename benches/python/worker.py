"""One library in one process: times a call when told to.

Reads a JSON object a line on standard input and answers with one on standard output:

    {"open": {case}}   -> {"supported": true} or {"supported": false, "why": text}
    {"sample": true}   -> {"seconds": seconds of one call}
    {"close": true}    -> {}

The conductor (see `bench`) asks the processes in turn, so that noise on the machine hits all libraries alike.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from typing import Any

from cases import Case
from libraries import LIBRARIES, Call, Library

SAMPLE_SECONDS = 0.01  # a sample repeats short calls for about this long


class Stopwatch:
    """Times repeated calls of the case that is open."""

    def __init__(self, call: Call) -> None:
        """Warm up (compile, load, touch the memory), then choose the repetitions of a sample."""
        self.call = call
        self.repetitions = 1
        self.sample()
        seconds = self.sample()
        while self.repetitions < 1 << 20 and seconds * self.repetitions < SAMPLE_SECONDS / 2:
            self.repetitions = max(2 * self.repetitions, int(SAMPLE_SECONDS / seconds))
            seconds = self.sample()
        self.first: float | None = seconds

    def sample(self) -> float:
        """Return the seconds of one call, on average over the repetitions."""
        call = self.call
        gc.disable()
        try:
            if self.repetitions == 1:
                start = time.perf_counter()
                result = call()
                seconds = time.perf_counter() - start
                del result  # outside the time: giving memory back is no part of making
                return seconds
            start = time.perf_counter()
            for _ in range(self.repetitions):
                call()
            return (time.perf_counter() - start) / self.repetitions
        finally:
            gc.enable()

    def next(self) -> float:
        """Return a new sample; the first one was taken when choosing the repetitions."""
        first, self.first = self.first, None
        return self.sample() if first is None else first


def answer(library: Library, request: dict[str, Any], state: dict[str, Stopwatch]) -> dict[str, Any]:
    """Do what a request asks."""
    if "open" in request:
        try:
            call = library.prepare(Case(**request["open"]))
            if call is None:
                return {"supported": False, "why": "not offered"}
            state["open"] = Stopwatch(call)
        except Exception as error:  # a figure that a peer cannot give is no failure of ours
            return {"supported": False, "why": f"{type(error).__name__}: {error}"}
        return {"supported": True}
    if "sample" in request:
        return {"seconds": state["open"].next()}
    state.clear()
    gc.collect()
    return {}


def main() -> None:
    """Load the library named on the command line and serve requests until standard input ends."""
    name, threads = sys.argv[1], int(sys.argv[2])
    # Libraries print what they like; keep them off the channel that carries the answers.
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    if hasattr(os, "sched_setaffinity"):
        # The one limit on threads that every library obeys.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])

    def send(reply: dict[str, Any]) -> None:
        channel.write(json.dumps(reply) + "\n")
        channel.flush()

    library = LIBRARIES[name].load(threads)
    send({"versions": library.versions(), "level": library.level()})
    state: dict[str, Stopwatch] = {}
    for line in sys.stdin:
        send(answer(library, json.loads(line), state))


if __name__ == "__main__":
    main()
