"""Recipes: the initialization of whole architectures, as rules for `initialize`, with their sources."""

from __future__ import annotations

from typing import Any, overload

from fastinit._checks import check_choice

# These modules add their recipes when they are imported.
from . import adapters, language, others, sequence, vision  # noqa: F401
from .formulas import Formula
from .spec import SPECS, Recipe, RecipeRule, Recipes, RecipeSummary

__all__ = ["Formula", "Recipe", "RecipeRule", "RecipeSummary", "Recipes", "recipe"]


@overload
def recipe(name: None = None, /) -> Recipes: ...
@overload
def recipe(name: str, /, **parameters: Any) -> Recipe: ...
def recipe(name: str | None = None, /, **parameters: Any) -> Recipe | Recipes:
    r"""The initialization of a whole architecture, as rules for `initialize`, with its source.

    The rules say which initializer the tensors of which names get. They are for `fastinit.torch.initialize`
    and `fastinit.jax.initialize`; of Keras, `find` gives the rule for the path of a variable. Names are those
    of the models in `fits`. Other names need rules of your own, before those of the recipe:
    `{"head.weight": 0.0, **recipe.rules}`.

    What a recipe does not name is left to the framework or the model.

    Args:
        name: The name of a recipe; `None` for a list of all.
        parameters: Its parameters, as `fastinit.recipe()` lists them.

    Returns:
        A `Recipe`, or `Recipes` without a name. Print them for a table.

    Raises:
        ValueError: If the name is unknown, or a parameter is out of range.
        TypeError: If a parameter is missing, unknown, or of the wrong kind.

    Example:
        >>> import fastinit
        >>> print(fastinit.recipe("skipinit"))
        skipinit: SkipInit and ReZero
          the scalar that multiplies each residual branch: 0
            Zeros()
            (skipinit_gain|resweight|rezero\w*|res_scale|[./]alpha)$
        fits: NFNets of timm (skipinit_gain), ReZero (resweight), and scalars named
          alpha at the end of branches
        leaves alone: all weights
        source: De and Smith, NeurIPS 2020, arXiv:2002.10444; Bachlechner and others,
          UAI 2021, arXiv:2003.04887
        code: timm 1.0, NormFreeBlock with skipinit
        >>> gpt2 = fastinit.recipe("gpt2", layers=12)
        >>> gpt2.find("h.0.attn.c_proj.weight").initializer
        RandomNormal(stddev=0.004082482904638631)
        >>> "llama" in [row.name for row in fastinit.recipe().rows]
        True

    References:
        Those of each recipe are in its `source` and `code`.
    """
    if name is None:
        if parameters:
            raise TypeError("parameters need the name of a recipe, which comes first")
        return Recipes(tuple(spec.summary() for spec in SPECS.values()))
    return SPECS[check_choice("the recipe", name, SPECS)].make(parameters)
