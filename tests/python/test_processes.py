"""The number of threads, forks, signals, and machines short of something. Each test has a time limit."""

import os
import subprocess
import sys

import pytest
from conftest import interrupt

import fastinit

pytestmark = pytest.mark.timeout(90)

posix = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX system")
limits = pytest.mark.skipif(sys.platform != "linux", reason="needs limits that only Linux enforces")


def test_thread_setting():
    before = fastinit.get_num_threads()
    try:
        fastinit.set_num_threads(3)
        assert fastinit.get_num_threads() == 3
        assert fastinit.build_info()["threads"] == 3
    finally:
        fastinit.set_num_threads(None)
    assert fastinit.get_num_threads() == before


def test_thread_setting_from_the_environment(python):
    program = (
        "import fastinit; print(fastinit.get_num_threads(), fastinit.random_normal(10**6, seed=1).sum())"
    )
    assert python(program, FASTINIT_NUM_THREADS="5").startswith("5 ")
    assert python(program, FASTINIT_NUM_THREADS="1").split()[1] == python(program).split()[1]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs an affinity")
def test_threads_follow_the_affinity(python):
    program = "import os; {}import fastinit; print(fastinit.get_num_threads())"
    one = "os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); "
    assert python(program.format(one)) == "1\n"
    assert 1 <= int(python(program.format(""))) <= len(os.sched_getaffinity(0))


def test_a_long_fill_lets_other_threads_run(python):
    # At the slowest level, so that the fill is long on any machine.
    printed = python(
        """
        import threading
        import time
        import fastinit

        worker = threading.Thread(
            target=fastinit.truncated_normal, args=(2**25,), kwargs=dict(dtype="float64", threads=1, seed=0)
        )
        worker.start()
        turns = 0
        while worker.is_alive():
            turns += 1
            time.sleep(0.001)
        print(turns)
        """,
        FASTINIT_SIMD="scalar",
    )
    assert int(printed) > 20


@posix
def test_a_forked_child_fills_on(python):
    python(
        """
        import os
        import fastinit

        expected = fastinit.random_normal(3_000_000, seed=1, threads=4).tobytes()
        for _ in range(3):
            child = os.fork()
            if child == 0:
                same = fastinit.random_normal(3_000_000, seed=1, threads=4).tobytes() == expected
                os._exit(0 if same else 1)
            _, status = os.waitpid(child, 0)
            assert status == 0, status
        assert fastinit.random_normal(3_000_000, seed=1, threads=4).tobytes() == expected
        """
    )


@posix
def test_reused_memory_in_a_forked_child(python):
    python(
        """
        import os
        import fastinit

        def fill(seed):
            return fastinit.random_normal(1_500_000, seed=seed, threads=2)

        def is_right(array, seed):
            # Small arrays have memory of another kind.
            parts = [slice(1000), slice(1_499_000, None)]
            small = [fastinit.random_normal(1_500_000, seed=seed, index=part) for part in parts]
            return all((array[part] == same).all() for part, same in zip(parts, small))

        def everything_is_right():
            # The first one is where the last one was that was freed.
            first, second = fill(1), fill(2)
            return is_right(first, 1) and is_right(second, 2) and is_right(held, 3)

        freed = [fill(0) for _ in range(4)]
        places = {array.ctypes.data for array in freed}
        del freed[:]
        held = fill(3)
        assert held.ctypes.data in places or os.uname().sysname != "Linux"
        for _ in range(3):
            child = os.fork()
            if child == 0:
                os._exit(0 if everything_is_right() and everything_is_right() else 1)
            assert everything_is_right()
            _, status = os.waitpid(child, 0)
            assert status == 0, status
        assert everything_is_right()
        """
    )


@posix
def test_worker_processes_by_fork_and_spawn(tmp_path):
    program = tmp_path / "pool.py"
    program.write_text(
        "import multiprocessing, sys, zlib, fastinit\n"
        "def work(stream):\n"
        "    return zlib.crc32(fastinit.random_normal(10**6, seed=1, stream=stream, threads=3))\n"
        "if __name__ == '__main__':\n"
        "    expected = [work(stream) for stream in range(4)]\n"
        "    for method in ('fork', 'spawn'):\n"
        "        with multiprocessing.get_context(method).Pool(2) as pool:\n"
        "            assert pool.map(work, range(4)) == expected, method\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", str(program)], timeout=60, check=True)


@posix
@pytest.mark.parametrize("threads", [1, 2])
def test_ctrl_c_stops_a_long_fill(threads):
    program = f"""
import fastinit

fastinit.random_normal(10, seed=0)
print("ready", flush=True)
try:
    fastinit.truncated_normal(2**28, dtype="float64", threads={threads}, seed=0)
except KeyboardInterrupt:
    print("interrupted", flush=True)
# And all is well afterwards.
assert fastinit.random_normal(10**6, seed=0, threads={threads}).std() > 0
"""
    # At the slowest level, so that the fill is long on any machine.
    interrupt(program, FASTINIT_SIMD="scalar")


# Fills of seconds to minutes; the slowest level makes even the short ones long.
LONG = {
    "dirac": "fastinit.dirac((1, 1, 2**30), groups=2**30, dtype='float16')",
    "column": "fastinit.orthogonal((2**25, 1), dtype='float64', seed=0)",
    "narrow": "fastinit.orthogonal((2**22, 16), seed=0)",
    "wide": "fastinit.orthogonal((40, 2**20), dtype='bfloat16', seed=0)",
    "square": "fastinit.orthogonal((6000, 6000), dtype='float64', seed=0)",
    "tall": "fastinit.orthogonal((2**18, 200), seed=0)",
    "blocks": "fastinit.orthogonal((2048, 65536), blocks=32, seed=0)",
    "delta_orthogonal": "fastinit.delta_orthogonal((1, 4000, 4000), seed=0)",
    "sparse": "fastinit.sparse((2**27, 2), 0.5, seed=0)",
    "slice": "fastinit.orthogonal((2**40, 50), seed=0, index=(slice(5), slice(3)))",
    "sparse slice": "fastinit.sparse((2**40, 2**20), 0.5, seed=0, index=(2**39, slice(300)))",
}


@posix
@pytest.mark.parametrize("call", LONG.values(), ids=LONG)
def test_ctrl_c_stops_every_kind_of_fill(call):
    program = f"""
import fastinit

print("ready", flush=True)
try:
    {call}
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    interrupt(program, FASTINIT_SIMD="scalar")


@posix
@pytest.mark.parametrize("threads", [1, 2])
def test_what_a_signal_handler_raises_comes_through(python, threads):
    printed = python(
        f"""
        import signal
        import fastinit

        class Stop(Exception):
            pass

        def handler(signum, frame):
            raise Stop("from the handler")

        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        try:
            fastinit.truncated_normal(2**28, dtype="float64", threads={threads}, seed=0)
        except Stop as stop:
            print(stop)
        """,
        FASTINIT_SIMD="scalar",
    )
    assert printed == "from the handler\n"


@limits
def test_short_of_memory(python):
    printed = python(
        """
        import resource
        import fastinit

        resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
        for _ in range(3):
            try:
                fastinit.random_normal(2**30)
            except MemoryError as error:
                print(error)
        assert fastinit.random_normal(2**20, seed=1).shape == (2**20,)
        """
    )
    assert printed == "cannot allocate 4294967296 bytes for the result\n" * 3


@limits
def test_short_of_threads(python):
    printed = python(
        """
        import os
        import resource
        import threading
        import numpy as np
        import fastinit

        expected = fastinit.random_normal(5_000_000, seed=1, threads=1)
        resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
        if os.getuid() == 0:
            os.setuid(65534)  # The limit is not for root.
        try:
            threading.Thread(target=print, args=("a thread could be started",)).start()
        except RuntimeError:
            print("no more threads")
        assert (fastinit.random_normal(5_000_000, seed=1, threads=8) == expected).all()
        """
    )
    assert printed == "no more threads\n"


def test_import_loads_no_framework(python):
    printed = python(
        """
        import sys
        import fastinit
        fastinit.he_normal((3, 4), dtype="float16")
        fastinit.get("he_normal")
        heavy = {"torch", "jax", "jaxlib", "keras", "tensorflow", "flax", "ml_dtypes", "scipy"}
        print(sorted(heavy & {name.partition(".")[0] for name in sys.modules}))
        """
    )
    assert printed == "[]\n"
