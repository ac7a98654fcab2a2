"""Checkpoints by many processes, as launchers start them; a writer that is killed, and its part taken up."""

import json
import os
import shutil
import socket
import subprocess
import sys
import textwrap

import pytest

import fastinit
from fastinit import checkpoint

pytest.importorskip("ml_dtypes")

# A piece each.
PLAN = checkpoint.plan(
    {f"layers.{number}.weight": ((512, 1024), "bfloat16", fastinit.HeNormal()) for number in range(24)}
)
SIZE = 5 * 10**6


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("expected")
    checkpoint.write(PLAN, folder, 7, max_shard_size=SIZE, sync=False)
    return contents(folder)


def test_torchrun_starts_four_writers(tmp_path, expected):
    pytest.importorskip("torch")
    pytest.importorskip("typer")
    if shutil.which("sh") is None:
        pytest.skip("there is no shell")
    PLAN.save(tmp_path / "plan.json")
    # As in docs/checkpoints.md.
    write = f"{sys.executable} -m fastinit write --like plan.json --seed 7 -o out --max-shard-size 5MB --json"
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "4", "--no-python"]
    done = subprocess.run(
        [sys.executable, *command, "sh", "-c", f"{write} --rank $RANK --world $WORLD_SIZE > $RANK.json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "out") == expected
    results = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(4)]
    assert sum(one["nbytes"] for one in results) == PLAN.nbytes
    assert all(one["nbytes"] > 0.2 * PLAN.nbytes for one in results)
    assert any(one["complete"] for one in results)


WRITER = """
import os, sys, time
import jax
jax.distributed.initialize("localhost:" + sys.argv[1], 4, int(sys.argv[2]), initialization_timeout=120)
from fastinit import checkpoint
from fastinit.checkpoint._store import Store
def note_once(*arguments):
    note(*arguments)
    os.kill(os.getpid(), 9)  # on the thread that writes, so that it writes no more
note = Store.note
if sys.argv[4] == "killed":
    Store.note = note_once
plan = checkpoint.Plan.load("plan.json")
written = checkpoint.write(
    plan, "out", 7, max_shard_size=5 * 10**6, rank=jax.process_index(), world=jax.process_count(), threads=1,
    sync=False,
)
print(written.nbytes, written.kept, written.complete, flush=True)
os._exit(0)  # without the barrier at which processes wait for all others
"""


@pytest.mark.skipif(sys.platform == "win32", reason="processes cannot be killed so here")
def test_a_writer_of_jax_distributed_is_killed_and_its_part_taken_up(tmp_path, expected):
    pytest.importorskip("jax")
    PLAN.save(tmp_path / "plan.json")

    def start(kinds):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        return [
            subprocess.Popen(
                [sys.executable, "-c", textwrap.dedent(WRITER), str(port), str(rank), "", kind],
                cwd=tmp_path,
                env={**os.environ, "JAX_PLATFORMS": "cpu"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank, kind in enumerate(kinds)
        ]

    first = start(["", "", "killed", ""])
    # The others may end with an error, since JAX tells them that one has failed.
    outputs = [process.communicate(timeout=200)[0] for process in first]
    assert first[2].returncode == -9
    assert outputs[2] == ""
    assert not (tmp_path / "out" / "fastinit.json").exists()
    assert list((tmp_path / "out").glob("*.incomplete"))
    for name, data in contents_of_files(tmp_path / "out").items():
        assert name.endswith(".incomplete") or data == expected[name]
    again = [process.communicate(timeout=200) for process in start(["", "", "", ""])]
    assert contents(tmp_path / "out") == expected, again
    written, kept, _ = again[2][0].split()
    assert 0 < int(written) < PLAN.nbytes / 4
    assert int(kept) > 0


def contents_of_files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
