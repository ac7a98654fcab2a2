"""A drop-in replacement for `torch.nn.init`: the initialization of a small GPT.

Run it with ``python examples/pytorch/drop_in.py``. Only the import of `init` differs from a script
that uses PyTorch alone.
"""

import math

import torch
from torch import nn

import fastinit.torch as init  # was: import torch.nn.init as init

WIDTH, LAYERS, HEADS = 256, 4, 4


def main() -> None:
    """Build, initialize and use the model."""
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, activation="gelu", batch_first=True)
    model = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)

    torch.manual_seed(0)  # as always: the generator of PyTorch is the source of all seeds
    for name, parameter in model.named_parameters():
        if parameter.dim() < 2:
            continue
        # What is added to the residual stream is scaled by the depth, as in GPT-2.
        is_residual = name.endswith(("out_proj.weight", "linear2.weight"))
        init.normal_(parameter, std=0.02 / (math.sqrt(2 * LAYERS) if is_residual else 1.0))

    for name, parameter in model.layers[0].named_parameters():
        print(f"{name:26} {tuple(parameter.shape)!s:12} std {parameter.std().item():.4f}")
    print("gain of GELU:", round(init.calculate_gain("gelu"), 4))
    print("output:", tuple(model(torch.randn(2, 8, WIDTH)).shape))


if __name__ == "__main__":
    main()
