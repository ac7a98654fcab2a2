"""A KeyboardInterrupt at every moment of a call: before each instruction of its bytecode.

For programs in processes of their own (the fixture `python`), since it forks:

    import sys
    sys.path.insert(0, TESTS)
    from interrupts import at_every_moment
    print(at_every_moment(run, check, [module.__file__]))
"""

import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from types import FrameType
from typing import IO, Any

# The seconds after which a moment counts as hanging, and the faults after which no more are looked for.
LIMIT = 20
MOST = 5


def at_every_moment(
    run: Callable[[], object],
    check: Callable[[], object],
    files: Iterable[str],
    *,
    at_least: int = 20,
) -> int:
    """Interrupts a call at each of its moments in turn, and checks what each interrupt leaves behind.

    The moments follow one another in one process, so that small remains add up. After a fault, a new process
    goes on with the next moment.

    Args:
        run: The call. It may catch the interrupt, or let it pass.
        check: Called after each moment, without an interrupt. It raises if something is wrong.
        files: The files, by the names that their code objects have, whose code is interrupted.
        at_least: The least number of moments; fewer mean that the files are hardly run.

    Returns:
        The number of moments.

    Raises:
        AssertionError: If something was wrong, with the moments that it followed.
    """
    names, faults, moment, ended = frozenset(files), [], 0, False
    while not ended and len(faults) < MOST:
        moment, ended, fault = _in_child(run, check, names, moment)
        faults += [fault] if fault else []
        moment += not ended
    assert not faults, f"faults in {moment} moments:\n\n" + "\n\n".join(faults)
    assert moment >= at_least, f"only {moment} moments"
    return moment


def _in_child(
    run: Callable[[], object], check: Callable[[], object], files: frozenset[str], first: int
) -> tuple[int, bool, str]:
    """The last moment that a forked process came to, whether the call ended before it, and a fault."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with os.fdopen(writer, "w", encoding="utf-8") as pipe:
            _moments(run, check, files, first, pipe)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as pipe:
        *_, last = pipe.read().split("\0")
    _, status = os.waitpid(child, 0)
    moment, ended, fault = last.split("\t", 2)
    return (
        int(moment),
        bool(ended),
        fault + (f"moment {moment} ended with the status {status}" if status else ""),
    )


def _moments(
    run: Callable[[], object],
    check: Callable[[], object],
    files: frozenset[str],
    first: int,
    pipe: IO[str],
) -> None:
    """Interrupts at one moment after the other, until the call ends before its moment, or a fault."""
    gc.disable()  # What only the garbage collector would mend is wrong.
    ended, fault, moment = "", "", first
    while True:
        signal.alarm(LIMIT)
        print(moment, "", "", sep="\t", end="", file=pipe, flush=True)
        place = _one(run, files, moment)
        try:
            if place.startswith("error"):
                raise AssertionError("another error than the interrupt")
            check()
        except BaseException:
            fault = f"{place}: {traceback.format_exc()[-1500:]}"
        ended = "" if place else "ended"
        print(f"\0{moment}\t{ended}\t{fault}", end="", file=pipe, flush=True)
        if ended or fault:
            return
        moment += 1
        print("\0", end="", file=pipe)


def _one(run: Callable[[], object], files: frozenset[str], moment: int) -> str:
    """Interrupts a call, and returns where; nothing if it ended before."""
    seen, place = 0, ""

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal seen, place
        if frame.f_code.co_filename not in files:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":  # A line begins with one.
            if seen == moment:
                code = frame.f_code
                place = f"{code.co_filename}:{frame.f_lineno}, {code.co_name} {frame.f_lasti}"
                raise KeyboardInterrupt
            seen += 1
        return trace

    sys.settrace(trace)
    try:
        run()
    except KeyboardInterrupt:
        pass
    except Exception:
        place = f"error after {place}\n{traceback.format_exc()[-1500:]}"
    finally:
        sys.settrace(None)
    return place
