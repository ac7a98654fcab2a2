"""Measures a network layer by layer, and repairs it: `fastinit.trace`, `fix`, `lsuv` and `TraceLog`.

Run it with `python examples/pytorch/trace.py`.
"""

from __future__ import annotations

import torch
from torch import nn

import fastinit


def network(depth: int, width: int) -> nn.Sequential:
    """A plain network in PyTorch's default initialization, in which nothing reaches the output."""
    layers = [one for _ in range(depth) for one in (nn.Linear(width, width), nn.GELU())]
    return nn.Sequential(*layers, nn.Linear(width, 10))


def main() -> None:
    """Traces the network, repairs it, and watches it train."""
    torch.manual_seed(0)
    model = network(30, 128)
    x, labels = torch.randn(128, 128), torch.randint(0, 10, (128,))
    options = {"loss": nn.functional.cross_entropy, "target": labels}

    found = fastinit.trace(model, x, **options)
    print(found.text)

    repair = found.fix(seed=1)  # Nothing is changed before `apply`.
    print("first rule:", repair.rows[0].name, repair.rows[0].initializer)
    repair.apply()
    print("after the repair:", fastinit.trace(model, x, **options).text)

    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    log = fastinit.TraceLog(x, every=10, to=lambda step, trace: print("step", step, trace.text), **options)
    for step in range(21):
        log(model, step)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), labels).backward()
        optimizer.step()


if __name__ == "__main__":
    main()
