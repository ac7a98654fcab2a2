"""Faster initialization of unmodified code: a constructor with and without `fastinit.torch.accelerate`.

Run it with ``python examples/pytorch/accelerate.py``; ``--layers 48 --width 1600`` is a model of the size of
GPT-2 XL.
"""

import argparse
import time

import torch
from torch import nn

import fastinit.torch


def build(layers: int, width: int) -> nn.Module:
    """A stack of transformer layers."""
    return nn.Sequential(
        *(nn.TransformerEncoderLayer(width, width // 64, 4 * width, batch_first=True) for _ in range(layers))
    )


def main() -> None:
    """Build the model in both ways, and compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=768)
    options = parser.parse_args()

    with fastinit.torch.accelerate():  # The first use of a library is slower.
        build(1, 64)

    start = time.perf_counter()
    plain = build(options.layers, options.width)
    plain_seconds = time.perf_counter() - start

    torch.manual_seed(0)
    start = time.perf_counter()
    with fastinit.torch.accelerate():
        fast = build(options.layers, options.width)
    fast_seconds = time.perf_counter() - start

    count = sum(parameter.numel() for parameter in fast.parameters())
    print(f"{count:,} parameters: {plain_seconds:.2f} s plain, {fast_seconds:.2f} s accelerated")
    for (name, ours), theirs in zip(fast[0].named_parameters(), plain[0].parameters(), strict=True):
        print(f"{name:26} std {ours.std().item():.5f}, plain {theirs.std().item():.5f}")

    torch.manual_seed(0)
    with fastinit.torch.accelerate():
        again = build(options.layers, options.width)
    same = all(map(torch.equal, again.parameters(), fast.parameters()))
    print("repeated by torch.manual_seed:", same)


if __name__ == "__main__":
    main()
