"""The command `fastinit`, quickly: one process loads it once, and forks a process for each call."""

import multiprocessing
import os
import sys
import tempfile
from pathlib import Path

import fastinit.__main__


def run(arguments, folder=None):
    """The exit status of the command, and what it prints to standard output and to standard error."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["fastinit.cli", "pytest", __name__])
    with tempfile.TemporaryDirectory() as texts:
        outputs = [Path(texts) / name for name in ("out", "err")]
        call = context.Process(target=_main, args=(arguments, folder, outputs, dict(os.environ)))
        call.start()
        call.join()
        return call.exitcode, *(output.read_text(encoding="utf-8") for output in outputs)


def _main(arguments, folder, outputs, environment):
    for number, output in enumerate(outputs, 1):
        os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT), number)
    sys.stdin = open(os.devnull)  # noqa: PTH123, SIM115 - open until the process ends
    sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8") for number in (1, 2))
    os.environ.clear()
    os.environ.update(environment)
    if folder is not None:
        os.chdir(folder)
    sys.argv = ["fastinit", *arguments]
    try:
        fastinit.__main__.main()
    except Exception:
        sys.excepthook(*sys.exc_info())
        sys.exit(1)
