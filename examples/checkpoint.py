"""A checkpoint with the shapes of Llama 3.1 8B: written straight to files, loaded by transformers, checked.

Run it with ``python examples/checkpoint.py``; it needs transformers. All 32 layers take 16 GB on the disk,
and as much memory for `from_pretrained`, which reads them again. By default there are as many layers as fit
into a quarter of what is free of both. ``--layers 2 --width 512`` makes a small checkpoint.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import torch
import transformers

from fastinit import checkpoint

SEED = 0


def configuration(layers: int, width: int) -> transformers.LlamaConfig:
    """The configuration of Llama 3.1 8B, with fewer layers or a smaller width."""
    return transformers.LlamaConfig(
        architectures=["LlamaForCausalLM"],
        dtype="bfloat16",
        hidden_size=width,
        intermediate_size=width * 7 // 2,
        num_hidden_layers=layers,
        num_attention_heads=width // 128,
        num_key_value_heads=max(1, width // 512),
        vocab_size=width * 128256 // 4096,
        max_position_embeddings=131072,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
        bos_token_id=1,
        eos_token_id=2,
    )


def free_bytes() -> int:
    """What is free on the disk and in memory, whichever is less."""
    disk = shutil.disk_usage(tempfile.gettempdir()).free
    try:
        about = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return disk
    available = next(line for line in about.splitlines() if line.startswith("MemAvailable"))
    return min(disk, 1024 * int(available.split()[1]))


def main() -> None:
    """Plan, write, load and check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--layers", type=int, help="as many as fit by default, up to 32")
    parser.add_argument("--width", type=int, default=4096, help="a multiple of 512")
    options = parser.parse_args()
    layers = options.layers
    if layers is None:
        of_layers, rest = 218_112_000 * 2, 2 * 525_336_576 * 2  # bytes of a layer, and of the embeddings
        layers = max(1, min(32, (free_bytes() // 4 - rest) // of_layers))
        print(f"{layers} of 32 layers fit")

    with tempfile.TemporaryDirectory() as directory:
        configuration(layers, options.width).save_pretrained(directory)
        # What transformers initializes each tensor with. The plan takes no memory.
        start = time.perf_counter()
        plan = checkpoint.plan(f"{directory}/config.json")
        print(
            f"planned {len(plan.rows)} tensors, {plan.nbytes:,} bytes, in {time.perf_counter() - start:.1f} s"
        )
        print(checkpoint.write(plan, directory, SEED))

        # The real loading path: headers, index, shards.
        model = transformers.AutoModelForCausalLM.from_pretrained(directory)
        name = f"model.layers.{layers - 1}.mlp.down_proj.weight"
        tensor = model.get_parameter(name)
        row = plan[name]
        index = (slice(10, 20), slice(-64, None))
        assert row.initializer is not None
        array = row.initializer(row.shape, seed=SEED, stream=name, dtype=row.dtype, index=index)
        part = torch.from_numpy(array.view("int16")).view(torch.bfloat16)
        print(f"{name}[10:20, -64:] as made here: {torch.equal(tensor[index], part)}")
        print(checkpoint.verify(directory, sample=20))


if __name__ == "__main__":
    main()
