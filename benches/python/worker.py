"""One library in one process: times a call when told to.

Reads a JSON object a line on standard input and answers with one on standard output:

    {"open": {case}}   -> {"supported": true} or {"supported": false, "why": text}
    {"sample": true}   -> {"seconds": seconds of one call}
    {"close": true}    -> {}

`bench` asks the processes in turn, so that noise on the machine affects all libraries alike.
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

SAMPLE_SECONDS = 0.05  # a sample repeats calls for about this long
WARM_SECONDS = 0.2  # preceded by calls for about this long, which are not counted


class Stopwatch:
    """Times repeated calls of the case that is open."""

    def __init__(self, call: Call) -> None:
        """Warm up (compile, load, touch the memory), then choose how many calls are timed at once."""
        self.call = call
        self.batch = 1
        self.repeat(1)
        self.seconds = self.repeat(1)  # of one call, as last seen
        while self.batch < 1 << 20 and self.batch * self.seconds < SAMPLE_SECONDS / 20:
            self.batch = max(2 * self.batch, int(SAMPLE_SECONDS / 10 / self.seconds))
            self.seconds = self.repeat(1)

    def repeat(self, turns: int) -> float:
        """Return the seconds of one call, on average over `turns` batches."""
        call, batch, total = self.call, self.batch, 0.0
        gc.disable()
        try:
            for _ in range(turns):
                if batch == 1:
                    start = time.perf_counter()
                    result = call()
                    total += time.perf_counter() - start
                    del result  # outside the time: freeing memory is no part of the call
                else:
                    start = time.perf_counter()
                    for _ in range(batch):
                        call()
                    total += time.perf_counter() - start
            return total / (turns * batch)
        finally:
            gc.enable()

    def sample(self) -> float:
        """Return the seconds of one call, after enough of them to warm the processor and the caches.

        The process slept while the others had their turns. Linux begins the threads of a process that has
        slept on the processor that it runs on, until its averages of the load, which decay by half in 32 ms,
        say more. A call that takes long by itself does not notice.
        """
        turn = self.batch * self.seconds
        if turn < 10 * WARM_SECONDS:
            self.repeat(max(1, round(WARM_SECONDS / turn)))
        self.seconds = self.repeat(max(1, round(SAMPLE_SECONDS / turn)))
        return self.seconds


def answer(library: Library, request: dict[str, Any], state: dict[str, Stopwatch]) -> dict[str, Any]:
    """Answer a request."""
    if "open" in request:
        try:
            call = library.prepare(Case(**request["open"]))
            if call is None:
                return {"supported": False, "why": "not offered"}
            state["open"] = Stopwatch(call)
        except Exception as error:  # a library that cannot do the case is not a failure
            return {"supported": False, "why": f"{type(error).__name__}: {error}"}
        return {"supported": True}
    if "sample" in request:
        return {"seconds": state["open"].sample()}
    state.clear()
    gc.collect()
    return {}


def main() -> None:
    """Load the library named on the command line and serve requests until standard input ends."""
    name, threads = sys.argv[1], int(sys.argv[2])
    # Keep what libraries print off the channel that carries the answers.
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
