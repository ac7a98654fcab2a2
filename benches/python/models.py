"""Time the construction of whole PyTorch models: plain, accelerated, and initialized from the meta device.

Run it with ``make bench PEERS=1`` or by itself. Each model has a process of its own, in which the ways
alternate after one build that is not counted; medians are reported. Before each sample more memory than the
model needs is touched and freed, since a virtual machine may have to get memory that was free for some
seconds from its host, at 1 GB/s. Peak memory is what one build adds to a fresh process, divided by the size
of the model.
"""

from __future__ import annotations

import argparse
import functools
import gc
import importlib
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy

WAYS = ["plain", "accelerate", "meta, initialize"]
MODELS = ["gpt2-xl float32", "gpt2-xl bfloat16", "transformers llama bfloat16", "timm vit float32"]


def gpt2_xl(nn: Any) -> Any:
    """GPT-2 XL of plain `torch.nn` modules: 48 layers of width 1600, 25 heads, a vocabulary of 50257."""
    width, layers, heads, vocabulary, length = 1600, 48, 25, 50257, 1024
    head = nn.Linear(width, vocabulary, bias=False)
    embedding = nn.Embedding(vocabulary, width)
    head.weight = embedding.weight
    return nn.ModuleDict(
        {
            "wte": embedding,
            "wpe": nn.Embedding(length, width),
            "h": nn.ModuleList(
                nn.TransformerEncoderLayer(width, heads, 4 * width, norm_first=True, batch_first=True)
                for _ in range(layers)
            ),
            "ln_f": nn.LayerNorm(width),
            "lm_head": head,
        }
    )


def build(model: str) -> Any:
    """A model, on the current default device and in the current default dtype."""
    import torch

    if model.startswith("gpt2-xl"):
        return gpt2_xl(torch.nn)
    if model.startswith("transformers"):
        import transformers

        config = transformers.LlamaConfig(
            vocab_size=32000,
            hidden_size=2048,
            intermediate_size=8192,
            num_hidden_layers=8,
            num_attention_heads=32,
            num_key_value_heads=8,
        )
        made: Any = transformers.AutoModelForCausalLM
        return made.from_config(config, dtype=torch.get_default_dtype())
    import timm

    return timm.create_model("vit_large_patch16_224")


def prepare(model: str) -> None:
    """Import what a model needs, and set the default dtype to its own."""
    import torch

    import fastinit.torch

    if model.startswith(("transformers", "timm")):
        importlib.import_module(model.split()[0])
    torch.set_default_dtype(getattr(torch, model.split()[-1]))
    with torch.device("meta"):
        layers = torch.nn.ModuleList([torch.nn.Linear(8, 8), torch.nn.Embedding(8, 8)])
    fastinit.torch.initialize(layers)  # The first use takes longer, and loads more of PyTorch.


def make(model: str, way: str) -> Any:
    """The model, made in one of the ways."""
    import torch

    import fastinit.torch

    if way == "plain":
        return build(model)
    if way == "accelerate":
        with fastinit.torch.accelerate():
            return build(model)
    with torch.device("meta"):
        made = build(model)
    rules: Any = None
    if model.startswith("transformers"):
        rules = made._init_weights
    elif model.startswith("timm"):
        rules = {
            "cls_token": functools.partial(torch.nn.init.normal_, std=1e-6),
            "pos_embed": functools.partial(torch.nn.init.trunc_normal_, std=0.02),
        }
    fastinit.torch.initialize(made, seed=0, rules=rules)
    return made


def seconds(model: str, rounds: int) -> dict[str, Any]:
    """The size of a model in bytes, and the median seconds of each way, alternating."""
    prepare(model)
    size = sum(tensor.nbytes for tensor in make(model, "accelerate").parameters())
    samples: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way in WAYS:
            gc.collect()
            numpy.ones(size + 4 * 2**30, numpy.uint8)  # freed memory is not always reused
            start = time.perf_counter()
            made = make(model, way)
            samples[way].append(time.perf_counter() - start)
            del made
    return {"bytes": size, **{way: statistics.median(of_way) for way, of_way in samples.items()}}


def peak(model: str, way: str) -> dict[str, Any]:
    """The peak memory of making a model, and the mean of its standard deviations."""
    prepare(model)
    before = _highest()
    made = make(model, way)
    after = _highest()
    some = [tensor.detach().flatten()[:100000].float() for tensor in made.parameters() if tensor.dim() > 1]
    return {"peak": after - before, "std": statistics.fmean(float(values.std()) for values in some)}


def _highest() -> int:
    """The highest memory of this process so far, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def in_process(*arguments: str) -> dict[str, Any]:
    """What this script prints in a process of its own; nothing if it failed."""
    command = [sys.executable, "-W", "ignore", __file__, "--one", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {}


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    known = ", ".join(MODELS)
    parser.add_argument("--models", default=",".join(MODELS), help=f"comma-separated, of: {known}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        what, model, argument = options.one
        print(json.dumps(seconds(model, int(argument)) if what == "seconds" else peak(model, argument)))
        return
    print(
        f"{'model':28} {'way':18} {'seconds':>8} {'GB/s':>6} {'times':>6} {'peak / model':>13} {'std':>8}",
        flush=True,
    )
    for model in options.models.split(","):
        timed = in_process("seconds", model, str(options.rounds))
        for way in WAYS if timed else []:
            highest = in_process("peak", model, way)
            rate, times = timed["bytes"] / timed[way] / 1e9, timed["plain"] / timed[way]
            print(
                f"{model:28} {way:18} {timed[way]:8.2f} {rate:6.2f} {times:6.1f} "
                f"{highest['peak'] / timed['bytes']:13.3f} {highest['std']:8.5f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
