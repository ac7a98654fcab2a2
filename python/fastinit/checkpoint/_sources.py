"""Plans from Python, from the headers of files, and from models of the frameworks."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fastinit._checks import check_choice, check_int, located
from fastinit._plan import Plan, PlanRow, dtype_name, is_float, unseeded, whole
from fastinit._registry import LAYOUTS
from fastinit._rules import in_layout_of_torch, initializer_of, matches, text_of
from fastinit._safetensors import DTYPES, files_of_directory, files_of_index, read_header
from fastinit._terminal import listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fastinit._plan import Part
    from fastinit.initializers import Initializer


class _Draft(NamedTuple):
    """A tensor of a plan that may have no contents yet."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    parts: tuple[Part, ...] | None = None
    aliases: tuple[str, ...] = ()
    rule: str = ""


def plan(
    source: Any, rules: Mapping[Any, Any] | None = None, *, dtype: Any = None, layout: str | None = None
) -> Plan:
    """Plans a checkpoint: what each of its tensors contains, except for the seed.

    Args:
        source: Which tensors there are:

            * a mapping from names to `(shape, dtype)`, to `(shape, dtype, initializer)`, or to anything that
              has a `shape` and a `dtype`, such as arrays or `jax.ShapeDtypeStruct`;
            * a `.safetensors` file, a `.safetensors.index.json`, or a directory of such files. Only the
              headers are read, so each file may end after its header;
            * a `config.json` of transformers, or a directory that has one and no `.safetensors` files: the
              class of the model is constructed on the meta device;
            * a `torch.nn.Module`, on the meta device or not, see `fastinit.torch.plan`; a model of Keras, see
              `fastinit.keras.plan`; a tree of arrays of JAX, see `fastinit.jax.plan`;
            * a plan, or a `.json` file that `Plan.save` wrote.
        rules: What tensors contain. Keys are names with the wildcards of `fnmatch`, where `*` also matches
            dots, or compiled regular expressions, searched in the name; the first one that matches any name
            of a tensor wins. Values are initializers of `fastinit`, or their names; numbers; or `None` for
            what the source says. The rules of a recipe are such a mapping: `fastinit.recipe("llama").rules`.
        dtype: The dtype of all tensors of floats, instead of that of the source.
        layout: The meaning of the axes of initializers that have the default ones: `"in_out"` for
            (..., in, out), or `"out_in"` for PyTorch's (out, in, ...). By default `"out_in"` for files of
            safetensors, otherwise that of the framework, and `"in_out"` for mappings.

    Returns:
        The plan. Print it for a table. A tensor has the stream of its name.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a tensor has no contents, a rule does not fit its tensor, or a file is damaged.
        TypeError: If the source or a rule is of the wrong kind.
        ImportError: If the framework that a source needs is not installed.

    Example:
        >>> import fastinit, fastinit.checkpoint
        >>> shapes = {"embed.weight": ((1000, 64), "bfloat16"), "norm.weight": ((64,), "bfloat16")}
        >>> rules = {"*norm.weight": 1, "*": fastinit.RandomNormal(stddev=0.02)}
        >>> plan = fastinit.checkpoint.plan(shapes, rules)
        >>> plan["norm.weight"].initializer
        Constant(value=1.0)
    """
    if rules is not None and not isinstance(rules, Mapping):
        raise TypeError(f"rules must be a mapping, got {type(rules).__name__}")
    rules = rules or {}
    if layout is not None:
        check_choice("layout", layout, LAYOUTS)
    if isinstance(source, (str, os.PathLike)):
        source = Path(source)
    if (made := _of_model(source, rules)) is not None:
        if dtype is None:
            return made
        return replace(_with_rules(_drafts_of(made), {}, "in_out", dtype), unused_rules=made.unused_rules)
    drafts, of_source = _read(source)
    return _with_rules(drafts, rules, layout or of_source, dtype)


def _of_model(source: Any, rules: Mapping[Any, Any]) -> Plan | None:
    """The plan of a model, with these rules; `None` for other sources."""
    if isinstance(source, Path):
        has_files = source.is_dir() and any(source.glob("*.safetensors"))
        if source.name != "config.json" and (has_files or not (source / "config.json").is_file()):
            return None
        from fastinit.torch import plan as plan_of_torch

        return plan_of_torch(source, rules)
    torch, keras, jax = (sys.modules.get(name) for name in ("torch", "keras", "jax"))
    # With its backend PyTorch, a layer of Keras is also a module of PyTorch.
    if keras is not None and isinstance(source, keras.layers.Layer):
        from fastinit.keras import plan as plan_of_keras

        return plan_of_keras(source, rules)
    if torch is not None and isinstance(source, torch.nn.Module):
        from fastinit.torch import plan as plan_of_torch

        return plan_of_torch(source, rules)
    if jax is not None and not isinstance(source, Plan) and not _is_mapping(source):
        from fastinit.jax import plan as plan_of_jax

        return plan_of_jax(source, rules=rules)
    return None


def _read(source: Any) -> tuple[Iterable[_Draft], str]:
    """The tensors of a source that is no model, and its layout."""
    if isinstance(source, Plan):
        return _drafts_of(source), "in_out"
    if isinstance(source, Path):
        return _of_path(source)
    if _is_mapping(source):
        return _of_mapping(source), "in_out"
    raise TypeError(
        "the source of a plan must be a mapping from names to (shape, dtype), a file, a model or a plan; "
        f"got {source!r:.80}"
    )


def _of_path(path: Path) -> tuple[Iterable[_Draft], str]:
    if path.is_dir():
        return _of_files(files_of_directory(path)), "out_in"
    if path.name.endswith(".index.json"):
        return _of_files(files_of_index(path)), "out_in"
    if path.suffix == ".safetensors":
        return _of_files([path]), "out_in"
    if path.suffix == ".json":
        return _drafts_of(Plan.load(path)), "in_out"
    raise ValueError(
        f"cannot plan from {path}: it must be .safetensors, .safetensors.index.json, config.json, the .json "
        "file of a plan, or a directory"
    )


def _of_files(files: Iterable[Path]) -> Iterator[_Draft]:
    """The tensors of files of safetensors, in the order of an index, which is that of the names."""
    for path in files:
        for one in read_header(path):
            if one.dtype not in DTYPES:
                raise ValueError(
                    f"{path}: {one.name!r:.80} is of dtype {one.dtype}, which a plan cannot have"
                )
            yield _Draft(one.name, one.shape, DTYPES[one.dtype])


def _is_mapping(source: Any) -> bool:
    """Whether a source is a mapping from names to shapes and dtypes."""
    return isinstance(source, Mapping) and all(
        (isinstance(value, tuple) and len(value) in (2, 3))
        or (hasattr(value, "shape") and hasattr(value, "dtype"))
        for value in source.values()
    )


def _of_mapping(source: Mapping[Any, Any]) -> Iterator[_Draft]:
    for name, value in source.items():
        initializer = None
        if not isinstance(value, tuple):
            shape, dtype = value.shape, value.dtype
        elif len(value) == 2:
            shape, dtype = value
        else:
            shape, dtype, initializer = value
        sizes = (shape,) if hasattr(shape, "__index__") else tuple(shape)
        with located(name):
            sizes = tuple(check_int("a size", size, 0, 2**63 - 1) for size in sizes)
            dtype = dtype_name(dtype)
            parts = None if initializer is None else whole(_checked(initializer), sizes, name)
        yield _Draft(name, sizes, dtype, parts)


def _drafts_of(found: Plan) -> Iterator[_Draft]:
    for row in found.rows:
        yield _Draft(row.name, row.shape, row.dtype, row.parts, row.aliases, row.rule)


def _with_rules(drafts: Iterable[_Draft], rules: Mapping[Any, Any], layout: str, dtype: Any) -> Plan:
    """The plan of these tensors with rules."""
    made = [(key, text_of(key), None if rule is None else _checked(rule)) for key, rule in rules.items()]
    if layout == "out_in":
        made = [(key, text, None if rule is None else in_layout_of_torch(rule)) for key, text, rule in made]
    dtype = None if dtype is None else dtype_name(dtype)
    if dtype is not None and not is_float(dtype):
        raise ValueError(f"dtype must be one of floats, got {dtype!r}")
    unused = {text for _, text, _ in made}
    rows, empty = [], []
    for draft in drafts:
        if dtype is not None and is_float(draft.dtype):
            draft = draft._replace(dtype=dtype)
        matching = [(text, rule) for key, text, rule in made if matches(key, (draft.name, *draft.aliases))]
        unused.difference_update(text for text, _ in matching)
        if matching and matching[0][1] is not None:
            text, rule = matching[0]
            draft = draft._replace(parts=whole(rule, draft.shape, draft.name), rule=text)
        if draft.parts is None:
            empty.append(draft.name)
        else:
            rows.append(PlanRow(*draft[:3], draft.parts, *draft[4:]))
    if empty:
        count = "1 tensor has" if len(empty) == 1 else f"{len(empty)} tensors have"
        raise ValueError(f"{count} no rule: {listed(empty)} (a last rule for '*' applies to all others)")
    return Plan(tuple(rows), tuple(text for _, text, _ in made if text in unused))


def _checked(rule: object) -> Initializer:
    """The initializer that a rule is or names, without a seed of its own."""
    found = initializer_of(rule)
    if found is None:
        raise TypeError(
            f"a rule must be an initializer of fastinit, its name, a number or None; got {rule!r:.80}"
        )
    return unseeded(found)
