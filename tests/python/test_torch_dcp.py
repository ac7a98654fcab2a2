"""Plans as distributed checkpoints of PyTorch: loaded whole, sharded, and by another number of processes."""

import itertools
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import fastinit
from fastinit import checkpoint
from fastinit._plan import DTYPES, is_float, numpy_dtype

torch = pytest.importorskip("torch")
pytest.importorskip("ml_dtypes")
import fastinit.torch  # noqa: E402
from fastinit.torch import _planner  # noqa: E402

dcp = pytest.importorskip("torch.distributed.checkpoint")
nn = torch.nn


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch):
    monkeypatch.setattr(_planner, "_PIECE", 1000)


def network():
    model = nn.Sequential(
        nn.Embedding(40, 24, padding_idx=3),
        nn.Linear(24, 36),
        nn.BatchNorm1d(36),
        nn.Linear(24, 40, bias=False),
    )
    model[3].weight = model[0].weight
    return model


def as_bytes(tensor):
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("prefix", ["", "model."])
def test_a_model(tmp_path, threads, prefix):
    model = network()
    rules = {"1.weight": fastinit.Orthogonal()}
    fastinit.torch.write_dcp(fastinit.torch.plan(model, rules), tmp_path, 5, prefix=prefix, threads=threads)
    state = model.state_dict()
    for tensor in state.values():
        tensor.zero_()
    dcp.load({"model": state} if prefix else state, checkpoint_id=tmp_path, no_dist=True)
    expected = network()
    fastinit.torch.initialize(expected, 5, rules)
    for name, tensor in expected.state_dict().items():
        assert as_bytes(state[name]) == as_bytes(tensor)
    # What reads all without a model sees the same tree.
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    dcp_to_torch_save(tmp_path, tmp_path / "all.pt")
    found = torch.load(tmp_path / "all.pt")
    assert set(found["model"] if prefix else found) == set(state)


def test_every_dtype(tmp_path):
    plan = checkpoint.plan(
        {
            f"{dtype} {shape}": (shape, dtype, fastinit.RandomNormal() if is_float(dtype) else 1)
            for dtype in DTYPES
            for shape in ((), (7, 5, 100), (0, 3))
        }
    )
    fastinit.torch.write_dcp(plan, tmp_path, 5)
    state = {row.name: torch.empty(row.shape, dtype=getattr(torch, row.dtype)) for row in plan.rows}
    dcp.load(state, checkpoint_id=tmp_path, no_dist=True)
    for row in plan.rows:
        expected = np.ones(row.shape)
        if is_float(row.dtype):
            sampled = "float32" if "float8" in row.dtype else row.dtype
            expected = fastinit.random_normal(row.shape, seed=5, stream=row.name, dtype=sampled)
        assert as_bytes(state[row.name]) == expected.astype(numpy_dtype(row.dtype)).tobytes(), row.name


def test_pieces_cover_each_tensor_once():
    plan = checkpoint.plan({"a": ((3, 700, 2), "float32", "zeros"), "b": ((40, 40), "float32", "orthogonal")})
    for row in plan.rows:
        seen = np.zeros(row.shape, int)
        for start, sizes in _planner._chunks(row):
            seen[tuple(slice(a, a + n) for a, n in zip(start, sizes, strict=True))] += 1
            assert row.name == "b" or np.prod(sizes) <= 250
        assert (seen == 1).all()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("failing", [1, 5])
@pytest.mark.parametrize("threads", [1, 3])
def test_failures_cannot_be_loaded(tmp_path, monkeypatch, failing, threads):
    plan = fastinit.torch.plan(network())
    make, count = _planner.Planner.resolve_data, itertools.count(1)

    def fail(*arguments):
        if next(count) == failing:
            raise OSError("no space")
        return make(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(_planner.Planner, "resolve_data", fail)
        with pytest.raises(OSError, match=r"no space|of \d+ pieces could be written"):
            fastinit.torch.write_dcp(plan, tmp_path, 5, threads=threads)
    assert not (tmp_path / ".metadata").exists()
    fastinit.torch.write_dcp(plan, tmp_path, 5)
    with pytest.raises(FileExistsError, match="has a distributed checkpoint"):
        fastinit.torch.write_dcp(plan, tmp_path, 6)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"plan": {}}, TypeError),
        ({"seed": -1}, ValueError),
        ({"prefix": 1}, TypeError),
        ({"threads": 0}, ValueError),
    ],
)
def test_wrong_arguments(tmp_path, arguments, error):
    with pytest.raises(error, match=next(iter(arguments))):
        fastinit.torch.write_dcp(
            **{"plan": checkpoint.Plan(), "directory": tmp_path / "x", "seed": 0, **arguments}
        )
    assert not (tmp_path / "x").exists()


PROCESS = """
import os, sys, torch, torch.distributed as dist, fastinit.torch
from torch import nn
from torch.distributed import checkpoint as dcp
from fastinit.torch import _planner
_planner._PIECE = 1000
rank, world, file, folder = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
dist.init_process_group("gloo", init_method="file://" + file, rank=rank, world_size=world)
def network():
    return nn.Sequential(nn.Embedding(41, 24), nn.Linear(24, 37), nn.Linear(37, 5))
model, whole = network(), network()
for rules, seed, prefix in ((None, 5 + rank, ""), (None, 5, "model." * rank), ({"0.weight": rank}, 5, "")):
    try:
        fastinit.torch.write_dcp(fastinit.torch.plan(model, rules), folder, seed, prefix=prefix)
    except ValueError as error:
        assert "those of rank 1 differ" in str(error)
    else:
        raise AssertionError((rules, seed, prefix))
    assert not os.path.exists(folder + "/.metadata")
fastinit.torch.write_dcp(fastinit.torch.plan(model), folder, 5)
fastinit.torch.initialize(whole, 5)
mesh = dist.device_mesh.init_device_mesh("cpu", (world,))
for layer in model:
    dist.fsdp.fully_shard(layer, mesh=mesh)
dist.fsdp.fully_shard(model, mesh=mesh)
state = model.state_dict()
dcp.load(state, checkpoint_id=folder)
model.load_state_dict(state)
for name, value in model.state_dict().items():
    assert isinstance(value, dist.tensor.DTensor)
    assert torch.equal(value.full_tensor(), whole.state_dict()[name]), name
dist.barrier()
dist.destroy_process_group()
"""


@pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch.distributed")
def test_written_by_two_processes_and_loaded_as_shards(tmp_path):
    folder, world = tmp_path / "out", 2
    processes = [
        subprocess.Popen(
            [
                *(sys.executable, "-W", "ignore", "-c", textwrap.dedent(PROCESS), str(rank), str(world)),
                *(str(tmp_path / "meeting"), str(folder)),
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    outputs = [process.communicate(timeout=200)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * world, outputs
    assert {path.name[:4] for path in folder.glob("*.distcp")} == {"__0_", "__1_"}
    plan = fastinit.torch.plan(nn.Sequential(nn.Embedding(41, 24), nn.Linear(24, 37), nn.Linear(37, 5)))
    state = {row.name: torch.empty(row.shape) for row in plan.rows}
    dcp.load(state, checkpoint_id=folder, no_dist=True)
    for row in plan.rows:
        expected = row.initializer(row.shape, seed=5, stream=row.name)
        assert as_bytes(state[row.name]) == expected.tobytes()
