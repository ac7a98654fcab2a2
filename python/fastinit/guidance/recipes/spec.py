"""What a recipe is: rules for whole architectures, with where they come from; and the table of all recipes.

A recipe is written as a function from its parameters to rules, with its sources as data (`recipe_of`).
"""

from __future__ import annotations

import inspect
import re
import textwrap
import typing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from fastinit._checks import check_choice, check_int, check_number
from fastinit._results import Result, Rows
from fastinit._suggest import did_you_mean
from fastinit._terminal import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fastinit.initializers import Initializer

    # The names of the tensors of a model, with their shapes.
    Shapes = Mapping[str, tuple[int, ...]]

_WIDTH = 80


@dataclass(frozen=True)
class RecipeRule(Result):
    """How a recipe initializes the tensors whose names match a pattern.

    Attributes:
        pattern: A regular expression, which is searched in the name.
        initializer: The initializer, with the axes of the framework that it is used in; `None` if the tensors
            are left as they are.
        formula: What it makes, in the terms of the source.
    """

    pattern: str
    initializer: Initializer | None
    formula: str


@dataclass(frozen=True)
class Recipe(Result):
    """The initialization of an architecture, as rules for `initialize`. `print` shows it as a table.

    Attributes:
        name: The name that `fastinit.recipe` takes.
        title: The architecture, or the method.
        parameters: The parameters, by name.
        rows: The rules. Of those that match a name, the first one is used.
        fits: The models that it fits: those whose names of tensors it knows.
        leaves: What it leaves to the framework or to the model.
        notes: What else it takes, and where references differ.
        source: The paper.
        code: The reference implementation that it has been compared with, or whose code it follows.

    Example:
        >>> import fastinit
        >>> recipe = fastinit.recipe("gpt2", layers=12)
        >>> recipe.find("transformer.h.0.mlp.c_proj.weight").initializer
        RandomNormal(stddev=0.004082482904638631)
        >>> len(recipe.rules) == len(recipe.rows)
        True
    """

    name: str
    title: str
    parameters: Mapping[str, Any]
    rows: tuple[RecipeRule, ...]
    fits: str
    leaves: str
    notes: tuple[str, ...]
    source: str
    code: str

    @property
    def rules(self) -> dict[re.Pattern[str], Initializer | None]:
        """The rules as `fastinit.torch.initialize` and `fastinit.jax.initialize` take them."""
        return {re.compile(row.pattern): row.initializer for row in self.rows}

    def find(self, name: str) -> RecipeRule | None:
        """The rule for a tensor of this name; `None` if there is none."""
        return next((row for row in self.rows if re.search(row.pattern, name)), None)

    def __str__(self) -> str:
        """The table of rules, and below it the rest."""
        given = ", ".join(f"{name}={_number(value)}" for name, value in self.parameters.items())
        lines = _wrapped(f"{self.name}: {self.title}" + (f" ({given})" if given else ""), "", "  ")
        for row in self.rows:
            made = "left as it is" if row.initializer is None else row.initializer.spell(_number)
            lines += [*_wrapped(row.formula, "  ", "    "), *_wrapped(made, "    ", "      ")]
            lines += _wrapped(row.pattern, "    ", "      ")
        notes = [("fits", self.fits), ("leaves alone", self.leaves), *(("note", note) for note in self.notes)]
        notes += [("source", self.source), ("code", self.code)]
        for title, text in notes:
            lines += _wrapped(f"{title}: {text}", "", "  ") if text else []
        return "\n".join(lines)


def _wrapped(text: str, first: str, others: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=first, subsequent_indent=others)


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else repr(value)


@dataclass(frozen=True)
class RecipeSummary(Result):
    """A recipe in one line.

    Attributes:
        name: The name that `fastinit.recipe` takes.
        title: The architecture, or the method.
        parameters: Its parameters, each with its default; `None` where it has none.
        fits: The models that it fits.
        source: The paper.
        code: The reference implementation.
    """

    name: str
    title: str
    parameters: Mapping[str, Any]
    fits: str
    source: str
    code: str


@dataclass(frozen=True)
class Recipes(Rows[RecipeSummary]):
    """All recipes. `print` shows them as a table.

    Attributes:
        rows: One for each recipe, in the order in which models are recognized.
    """

    rows: tuple[RecipeSummary, ...]

    def _parts(self) -> list[str | Table]:
        rows = [(row.name, f"{row.title}. Fits {row.fits}") for row in self.rows]
        return [Table(("recipe", "what it is"), rows, wrap=_WIDTH)]


@dataclass(frozen=True)
class Spec:
    """How a recipe is made, and what is known of it.

    Attributes:
        build: Makes the rules from the parameters, which are keywords.
        signs: Regular expressions. A model is recognized if each of them is found in a name of its tensors;
        whole: and if each of its names matches this one from its beginning. Empty for any.
        read: Reads parameters of the recipe from the names and shapes of a model.
    """

    name: str
    title: str
    build: Callable[..., list[RecipeRule]]
    fits: str
    source: str
    code: str
    leaves: str = ""
    notes: tuple[str, ...] = ()
    signs: tuple[str, ...] = ()
    whole: str = ""
    read: Callable[[Shapes], dict[str, Any]] = field(default=lambda _: {})

    @property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """The parameters of the recipe, which are those of its function."""
        return dict(inspect.signature(self.build).parameters)

    def recognizes(self, shapes: Shapes) -> bool:
        """Whether a model has the names of this recipe."""
        found = [any(re.search(sign, name) for name in shapes) for sign in self.signs]
        return bool(found) and all(found) and all(re.match(self.whole, name) for name in shapes)

    def make(self, given: Mapping[str, Any]) -> Recipe:
        """The recipe with these parameters.

        Raises:
            ValueError: If a parameter is out of range.
            TypeError: If a parameter is missing, unknown, or of the wrong kind.
        """
        known = self.parameters
        for name in given:
            if name not in known:
                hint = did_you_mean(name, known) or f"; it has {', '.join(known) or 'none'}"
                raise TypeError(f"the recipe {self.name!r} has no parameter {name!r}{hint}")
        missing = [
            f"{name} ({PARAMETERS[name]})"
            for name, one in known.items()
            if one.default is one.empty and name not in given
        ]
        if missing:
            raise TypeError(f"the recipe {self.name!r} needs {', '.join(missing)}")
        kinds = typing.get_type_hints(self.build)
        values = {
            name: _checked(name, given.get(name, one.default), kinds[name]) for name, one in known.items()
        }
        if "low" in values and not values["low"] < values["high"]:
            raise ValueError(f"low must be below high, got {values['low']:g} and {values['high']:g}")
        try:
            rows = self.build(**values)
        except ArithmeticError as error:  # of a number that is too large or too small
            shown = ", ".join(f"{name}={value!r:.40}" for name, value in values.items())
            raise ValueError(f"the parameters {shown} are out of range: {error}") from None
        return Recipe(
            name=self.name,
            title=self.title,
            parameters=values,
            rows=tuple(rows),
            fits=self.fits,
            leaves=self.leaves,
            notes=self.notes,
            source=self.source,
            code=self.code,
        )

    def summary(self) -> RecipeSummary:
        """The recipe in one line."""
        defaults = {name: None if p.default is p.empty else p.default for name, p in self.parameters.items()}
        return RecipeSummary(self.name, self.title, defaults, self.fits, self.source, self.code)


def _checked(name: str, value: Any, kind: Any) -> Any:
    """A parameter of a recipe, by the annotation of its function."""
    if typing.get_origin(kind) is Literal:
        return check_choice(name, value, typing.get_args(kind))
    if kind is int:
        return check_int(name, value, 1)
    number = check_number(name, value)
    if name in _POSITIVE and number <= 0.0:
        raise ValueError(f"{name} must be above 0, got {number:g}")
    return number


# What the parameters of recipes mean.
PARAMETERS = {
    "layers": "the number of blocks",
    "decoder_layers": "the number of blocks of the decoder",
    "std": "the standard deviation of most weights",
    "positions": "the standard deviation of embeddings of positions",
    "scheme": "which of several initializations",
    "d_model": "the width of the model",
    "d_kv": "the width of a head",
    "factor": "a factor of all standard deviations",
    "classes": "the number of classes",
    "block": "the kind of residual block",
    "value": "the initial value of the scales",
    "base_width": "the width for which std was tuned",
    "width": "the width of the model",
    "rank": "the rank of the adapters",
    "heads": "the number of heads of attention",
    "alpha": "the share of noise in the products of queries and keys",
    "beta": "the share of the identity in them",
    "omega": "the frequency of the sines",
    "inputs": "the number of coordinates",
    "forget_bias": "the bias of forget gates",
    "steps": "the longest dependency, in time steps",
    "scale": "the recurrent matrix is this many times the identity",
    "low": "the shortest step of the state space",
    "high": "the longest step of the state space",
    "gain": "the gain of hidden layers",
    "policy": "the gain of the policy head",
    "critic": "the gain of the value head",
    "last": "the number of the last layer of the actor and of the critic",
}

_POSITIVE = ("factor", "high", "low", "omega", "positions", "std")

SPECS: dict[str, Spec] = {}


def recipe_of(**about: Any) -> Callable[[Callable[..., list[RecipeRule]]], Callable[..., list[RecipeRule]]]:
    """A decorator that adds the recipe that a function makes.

    Its name is that of the function, its title the docstring; `about` has the other attributes of `Spec`.
    """

    def add(build: Callable[..., list[RecipeRule]]) -> Callable[..., list[RecipeRule]]:
        name, title = build.__name__, inspect.cleandoc(build.__doc__ or "").removesuffix(".")
        SPECS[name] = Spec(name=name, title=title, build=build, **about)
        return build

    return add


# Pieces of patterns. Names of Keras have slashes, and in JAX weights are kernels.
WEIGHT = r"[./](weight|kernel)$"
TABLE = r"[./](weight|embeddings?)$"
BIAS = r"[./](bias|beta)$"
NORM = r"(?i)(^|[./_])(\w*norm\w*([./]\d+)?|ln_?\w*|bn\d?)[./](weight|scale|gamma)$"


def but(excluded: str, pattern: str) -> str:
    """The pattern, for names in which another one is not found: those are left to the framework."""
    return f"^(?!.*{excluded}).*{pattern}"


def count(shapes: Shapes, pattern: str) -> int:
    """How many different texts a regular expression finds in the names: the number of blocks, say."""
    return len({found[0] for name in shapes if (found := re.search(pattern, name))})


def size(shapes: Shapes, pattern: str, axis: int) -> int:
    """The size along an axis of the first tensor whose name matches.

    Raises:
        LookupError: If there is none.
    """
    shape = next((shape for name, shape in shapes.items() if re.search(pattern, name)), ())
    if not -len(shape) <= axis < len(shape):
        raise LookupError(f"no tensor has a name that matches {pattern!r}, and an axis {axis}")
    return shape[axis]
