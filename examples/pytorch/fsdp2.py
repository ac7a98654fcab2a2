"""FSDP2: each process fills its own shards, and together they are the model of a single process.

Run it with ``python examples/pytorch/fsdp2.py --processes 2``. It starts the processes itself, with gloo on
the CPU; on a cluster, `main` is what ``torchrun`` would run in each.
"""

import argparse
import os
import socket

import torch
import torch.distributed as dist
from torch import multiprocessing, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import fastinit.torch

WIDTH, LAYERS = 256, 4


def build() -> nn.Sequential:
    """The model on the meta device."""
    with torch.device("meta"):
        return nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)))


def main(rank: int, processes: int, port: int) -> None:
    """What each process does."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=processes)
    mesh = init_device_mesh("cpu", (processes,))

    model = build()
    for layer in model:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    fastinit.torch.initialize(model, seed=0)  # no communication

    single = build()
    fastinit.torch.initialize(single, seed=0)
    same = True
    for ours, whole in zip(model.parameters(), single.parameters(), strict=True):
        same &= torch.equal(ours.full_tensor(), whole)
    local = sum(parameter.to_local().numel() for parameter in model.parameters())
    print(
        f"rank {rank}: {local:,} of {sum(p.numel() for p in single.parameters()):,} elements, equal: {same}"
    )

    model(torch.ones(4, WIDTH)).sum().backward()
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        chosen = free.getsockname()[1]
    multiprocessing.spawn(main, (options.processes, chosen), nprocs=options.processes)
