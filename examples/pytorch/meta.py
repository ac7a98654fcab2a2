"""A model on the meta device, initialized with weights that depend only on their names.

Run it with ``python examples/pytorch/meta.py``. The model is built without memory and initialized by
`fastinit.torch.initialize`: by the rules, otherwise by PyTorch's defaults. A layer that is initialized alone,
as a stage of a pipeline on another machine would be, has the same bits.
"""

import functools
import math

import torch
from torch import nn

import fastinit.torch
from fastinit.torch import initialize

WIDTH, LAYERS, HEADS, VOCABULARY = 512, 6, 8, 10_000

normal = functools.partial(fastinit.torch.normal_, std=0.02)
residual = functools.partial(fastinit.torch.normal_, std=0.02 / math.sqrt(2 * LAYERS))

RULES = {
    "*out_proj.weight": residual,
    "*linear2.weight": residual,
    "*bias": 0.0,
    nn.Linear: normal,
    nn.Embedding: normal,
}
# The projections of queries, keys and values are one tensor; each has its own fans.
BLOCKS = {"*in_proj_weight": 3}


def layer() -> nn.Module:
    """One layer of the model."""
    return nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, batch_first=True)


def main() -> None:
    """Build, initialize, and look at what was done."""
    with torch.device("meta"):
        model = nn.ModuleDict(
            {
                "embed": nn.Embedding(VOCABULARY, WIDTH),
                "layers": nn.ModuleList(layer() for _ in range(LAYERS)),
                "head": nn.Linear(WIDTH, VOCABULARY, bias=False),
            }
        )
        stage = layer()
    model["head"].weight = model["embed"].weight

    report = initialize(model, seed=7, rules=RULES, blocks=BLOCKS)
    print(report)

    initialize(stage, seed=7, rules=RULES, blocks=BLOCKS, prefix="layers.3")
    same = all(map(torch.equal, stage.parameters(), model["layers"][3].parameters()))
    print("layer 3 alone has the same bits:", same)


if __name__ == "__main__":
    main()
