"""Time the construction of whole PyTorch models: plain, accelerated, and initialized from the meta device.

Run it with ``make bench PEERS=1`` or by itself. Each model has a process of its own, in which the ways take
turns after one build that is not counted, so that all find memory that the system has at hand; medians are
reported. Peak memory is what a build adds to that of the process at its highest, divided by the model.
"""

from __future__ import annotations

import argparse
import functools
import gc
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
    """A model, on the device and in the dtype that are the defaults now."""
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
        return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.get_default_dtype())
    import timm

    return timm.create_model("vit_large_patch16_224")


def sample(model: str, way: str, size: int = 0) -> dict[str, Any]:
    """One sample: seconds, peak memory, and a statistic of what was made."""
    import torch

    import fastinit.torch

    gc.collect()
    torch.manual_seed(0)
    if size:
        # A virtual machine may have to ask its host for memory that was free for some seconds, at 1 GB/s.
        numpy.ones(size, numpy.uint8)
    # The highest size of the process starts anew.
    Path("/proc/self/clear_refs").write_text("5")
    before = _memory("VmHWM")
    start = time.perf_counter()
    if way == "plain":
        made = build(model)
    elif way == "accelerate":
        with fastinit.torch.accelerate():
            made = build(model)
    else:
        with torch.device("meta"):
            made = build(model)
        rules: Any = made._init_weights if model.startswith("transformers") else None
        if model.startswith("timm"):
            rules = {
                "cls_token": functools.partial(torch.nn.init.normal_, std=1e-6),
                "pos_embed": functools.partial(torch.nn.init.trunc_normal_, std=0.02),
            }
        fastinit.torch.initialize(made, seed=0, rules=rules)
    seconds = time.perf_counter() - start
    peak = _memory("VmHWM") - before
    tensors = list(made.parameters())
    some = [tensor.detach().flatten()[:100000].float() for tensor in tensors if tensor.dim() > 1]
    return {
        "seconds": seconds,
        "bytes": sum(tensor.nbytes for tensor in tensors),
        "peak": peak,
        "std": statistics.fmean(float(values.std()) for values in some),
    }


def work(model: str, rounds: int) -> None:
    """Measure one model, and print its part of the table."""
    import torch

    if model.startswith(("transformers", "timm")):
        __import__(model.split()[0])
    torch.set_default_dtype(getattr(torch, model.split()[-1]))
    size = sample(model, "accelerate")["bytes"]
    samples: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way in WAYS:
            samples[way].append(sample(model, way, size))
    plain = statistics.median(of_way["seconds"] for of_way in samples["plain"])
    for way, of_way in samples.items():
        seconds = statistics.median(one["seconds"] for one in of_way)
        one = of_way[0]
        print(
            f"{model:28} {way:20} {seconds:8.2f} {one['bytes'] / seconds / 1e9:6.2f} {plain / seconds:6.1f} "
            f"{max(one['peak'] for one in of_way) / one['bytes']:13.3f} {one['std']:9.5f}"
        )


def _memory(what: str) -> int:
    """A size of this process in bytes, as Linux calls it."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{what}:")[1].split()[0]) * 1024


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "--models", default=",".join(MODELS), help=f"comma-separated, of: {', '.join(MODELS)}"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        work(options.one, options.rounds)
        return
    print(
        f"{'model':28} {'way':20} {'seconds':>8} {'GB/s':>6} {'times':>6} {'peak / model':>13} {'mean std':>9}",
        flush=True,
    )
    for model in options.models.split(","):
        command = [sys.executable, __file__, "--one", model, "--rounds", str(options.rounds)]
        subprocess.run(command, check=False)


if __name__ == "__main__":
    main()
