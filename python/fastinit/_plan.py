"""Plans of checkpoints: what each tensor of a model contains, as far as a seed does not decide it."""

from __future__ import annotations

import base64
import functools
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import fastinit

from ._checks import check_int, located
from ._files import check_input, replacing
from ._registry import install_hint
from ._results import Result, Rows, plain
from ._terminal import Table, size_text

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from ._typing import Array

# The dtypes of tensors, and the bytes of an element.
DTYPES = {
    **dict.fromkeys(("float64", "int64", "uint64"), 8),
    **dict.fromkeys(("float32", "int32", "uint32"), 4),
    **dict.fromkeys(("float16", "bfloat16", "int16", "uint16"), 2),
    **dict.fromkeys(("float8_e4m3fn", "float8_e5m2", "int8", "uint8", "bool"), 1),
}
# The largest numbers of the small floats, which have no infinity or whose infinity is near.
_FLOAT8 = {"float8_e4m3fn": 448.0, "float8_e5m2": 57344.0}
# Initializers of which any part costs no more than that part. What others make, such as orthogonal matrices,
# is computed as a whole.
_BY_ELEMENT = (
    fastinit.Zeros,
    fastinit.Ones,
    fastinit.Constant,
    fastinit.Identity,
    fastinit.Dirac,
    fastinit.RandomUniform,
    fastinit.RandomNormal,
    fastinit.TruncatedNormal,
    fastinit.VarianceScaling,
)
# Values that a model computes without random numbers may have as many bytes in a plan.
MOST_GIVEN = 2**20
# Beyond as many standard deviations there is no float32 sample of a normal distribution.
_SIGMAS = 7.0


def dtype_name(dtype: object) -> str:
    """The name of a dtype of NumPy, PyTorch, JAX or ml_dtypes, or the name itself.

    Raises:
        TypeError: If tensors of a plan cannot have it.
    """
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        try:
            name = np.dtype(dtype).name  # type: ignore[call-overload]
        except TypeError:
            name = ""
    if name not in DTYPES:
        raise TypeError(f"dtype must be one of {', '.join(DTYPES)}; got {dtype!r:.80}")
    return name


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The dtype of NumPy of this name.

    Raises:
        ImportError: If it is one of ml_dtypes, which is not installed.
    """
    if name != "bfloat16" and not name.startswith("float8"):
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError as error:
        raise ImportError(f"{name} needs the package ml_dtypes: {install_hint('bf16')}") from error
    return np.dtype(getattr(ml_dtypes, name))


def sampled_dtype(name: str) -> str:
    """The dtype in which elements of a dtype are sampled: float8 is float32, rounded once."""
    return "float32" if name.startswith("float8") else name


def is_float(name: str) -> bool:
    """Whether tensors of this dtype can have random elements."""
    return "float" in name


@dataclass(frozen=True)
class Part(Result):
    """Consecutive elements of a tensor, in C order.

    They are elements `first` to `first + count`, in C order, of the tensor that `initializer` makes with this
    `shape` and `stream`, or they are given.

    Attributes:
        count: How many they are.
        initializer: What makes them; `None` if they are given.
        shape: The shape of what it makes.
        stream: The stream of what it makes.
        first: The index of the first one there.
        data: Their bytes, little-endian, if they are given.
    """

    count: int
    initializer: fastinit.Initializer | None
    shape: tuple[int, ...] = ()
    stream: int | str = 0
    first: int = 0
    data: bytes = b""

    def to_dict(self) -> dict[str, Any]:
        """The attributes that matter, as values that `json` takes."""
        if self.initializer is None:
            return {"count": self.count, "data": base64.b64encode(self.data).decode()}
        return {
            "count": self.count,
            "initializer": plain(self.initializer),
            "shape": list(self.shape),
            "stream": self.stream,
            "first": self.first,
        }


@dataclass(frozen=True)
class PlanRow(Result):
    """One tensor of a plan.

    Attributes:
        name: Its name.
        shape: Its shape.
        dtype: The name of its dtype.
        parts: What it contains, in C order.
        aliases: Other names of the same tensor; no file has them.
        rule: The rule, or the function of the model, that says what it contains.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    parts: tuple[Part, ...]
    aliases: tuple[str, ...] = ()
    rule: str = ""

    def __post_init__(self) -> None:
        for name in self.names:
            if not isinstance(name, str) or not name:
                raise ValueError(f"the name of a tensor must be a str that is not empty, got {name!r:.80}")
            if not _is_unicode(name):
                raise ValueError(f"the name of a tensor must be valid Unicode, got {name!r:.80}")
        if self.dtype not in DTYPES:
            raise ValueError(f"{self.name}: dtype must be one of {', '.join(DTYPES)}; got {self.dtype!r:.80}")
        if self.nbytes >= 2**63:
            raise ValueError(f"{self.name}: a tensor of shape {self.shape!s:.80} is too large")
        if sum(part.count for part in self.parts) != self.size:
            raise ValueError(f"{self.name}: the parts must have the {self.size} elements of the tensor")
        with located(self.name + (f", rule {self.rule!r}" if self.rule else "")):
            for part in self.parts:
                self._check(part)

    def _check(self, part: Part) -> None:
        for what, number in (("count", part.count), ("first", part.first)):
            check_int(what, number, 0)
        if part.initializer is None:
            if len(part.data) != part.count * DTYPES[self.dtype]:
                raise ValueError(f"{part.count} elements of {self.dtype} do not have {len(part.data)} bytes")
            return
        if not isinstance(part.stream, str):
            check_int("stream", part.stream, 0, 2**64 - 1)
        elif not _is_unicode(part.stream):
            raise ValueError(f"a stream must be valid Unicode, got {part.stream!r:.80}")
        if part.first + part.count > math.prod(part.shape):
            raise ValueError(
                f"a tensor of shape {part.shape} has no elements {part.first} to {part.first + part.count}"
            )
        if is_float(self.dtype):
            part.initializer.validate(part.shape, sampled_dtype(self.dtype))
        if self.dtype in _FLOAT8:
            found = part.initializer.check(part.shape)
            ends = [found.low, found.high, *(value for value, _ in found.atoms)]
            largest = max(
                abs(end) if math.isfinite(end) else abs(found.mean) + _SIGMAS * found.std for end in ends
            )
            if largest > _FLOAT8[self.dtype]:
                limit = _FLOAT8[self.dtype]
                raise ValueError(f"{self.dtype} holds numbers up to {limit:g}, elements reach {largest:g}")
        if not is_float(self.dtype):
            self._check_integer(part.initializer)

    def _check_integer(self, initializer: fastinit.Initializer) -> None:
        value = constant_of(initializer)
        if value is None:
            raise ValueError(f"a tensor of {self.dtype} must be constant, got {initializer}")
        least, most = (0, 1) if self.dtype == "bool" else _limits(self.dtype)
        if not least <= value <= most or value != math.floor(value):
            raise ValueError(
                f"a constant of {self.dtype} must be an integer from {least} to {most}, got {value}"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """All names of the tensor."""
        return (self.name, *self.aliases)

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The number of bytes."""
        return self.size * DTYPES[self.dtype]

    @functools.cached_property
    def _starts(self) -> list[int]:
        """The number of the first element of each part."""
        return list(itertools.accumulate((part.count for part in self.parts[:-1]), initial=0))

    @property
    def is_by_element(self) -> bool:
        """Whether any part of the tensor can be made alone; otherwise all of it is in memory at once."""
        return all(
            part.initializer is None or isinstance(part.initializer, _BY_ELEMENT) for part in self.parts
        )

    @property
    def initializer(self) -> fastinit.Initializer | None:
        """What makes all of it, where it is one part."""
        return self.parts[0].initializer if len(self.parts) == 1 else None

    def to_dict(self) -> dict[str, Any]:
        """What `Plan.from_dict` takes as a row; a tensor of one initializer has no parts."""
        row: dict[str, Any] = {"name": self.name, "shape": list(self.shape), "dtype": self.dtype}
        if self.aliases:
            row["aliases"] = list(self.aliases)
        if self.rule:
            row["rule"] = self.rule
        if self.parts == whole(self.initializer, self.shape, self.name):
            return {**row, "initializer": plain(self.initializer)}
        return {**row, "parts": [part.to_dict() for part in self.parts]}


@dataclass(frozen=True)
class Plan(Rows[PlanRow]):
    """What each tensor of a checkpoint contains, except for the seed. `print` shows it as a table.

    Attributes:
        rows: The tensors, in the order of the model; `plan[name]` is that of a name.
        unused_rules: Rules that matched nothing.

    Example:
        >>> import fastinit.checkpoint
        >>> plan = fastinit.checkpoint.plan(
        ...     {"up.weight": ((256, 64), "bfloat16"), "up.bias": ((256,), "bfloat16")},
        ...     {"*.bias": 0, "*": fastinit.RandomNormal(stddev=0.02)},
        ... )
        >>> plan.size, plan.nbytes, plan["up.weight"].initializer
        (16640, 33280, RandomNormal(stddev=0.02))
        >>> fastinit.checkpoint.Plan.from_dict(plan.to_dict()) == plan
        True
    """

    rows: tuple[PlanRow, ...] = ()
    unused_rules: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for row in self.rows:
            for name in row.names:
                if name in seen:
                    raise ValueError(f"two tensors of the plan have the name {name!r}")
                seen.add(name)

    @property
    def size(self) -> int:
        """The number of elements of all tensors."""
        return sum(row.size for row in self.rows)

    @property
    def nbytes(self) -> int:
        """The number of bytes of all tensors."""
        return sum(row.nbytes for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """The plan as values that `json` takes; `from_dict` takes them."""
        rows = [row.to_dict() for row in self.rows]
        return {"schema": f"plan/{self._schema}", "stream_version": fastinit.STREAM_VERSION, "rows": rows}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Plan:
        """The plan that `to_dict` returned, before or after a conversion to JSON.

        Raises:
            ValueError: If it is not a plan, or one of another version.
        """
        if not isinstance(values, Mapping) or values.get("schema") != f"plan/{cls._schema}":
            raise ValueError(f'a plan must be a dict whose "schema" is "plan/{cls._schema}"')
        if values.get("stream_version") != fastinit.STREAM_VERSION:
            raise ValueError(
                f"the plan is of stream version {values.get('stream_version')!r:.80}, this fastinit has "
                f"{fastinit.STREAM_VERSION}: it would make other values"
            )
        try:
            return cls(tuple(map(_row, values["rows"])))
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"the plan is damaged: {type(error).__name__}: {error}") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the plan to a file as JSON, as a whole or not at all.

        Raises:
            OSError: If the file cannot be written.
        """
        with replacing(path) as file:
            file.write(json.dumps(self.to_dict(), indent=1).encode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Plan:
        """The plan in a file that `save` wrote.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it has no plan, or one of another version.
        """
        check_input(path)
        try:
            return cls.from_dict(json.loads(Path(path).read_text("utf-8")))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"cannot read {path}: {error}") from error

    def _parts(self) -> list[str | Table]:
        """The table, and below it the sums."""
        cells = [
            (
                row.name if not row.aliases else f"{row.name} (+{len(row.aliases)})",
                " x ".join(map(str, row.shape)) or "()",
                row.dtype,
                size_text(row.nbytes),
                _contents(row),
                row.rule,
            )
            for row in self.rows
        ]
        lines: list[str | Table] = [
            Table(("tensor", "shape", "dtype", "size", "contents", "rule"), cells, "<<<><<"),
            f"{len(self.rows)} tensors, {self.size:,} elements, {size_text(self.nbytes)}",
        ]
        whole = [row for row in self.rows if not row.is_by_element]
        if whole:
            most = max(whole, key=lambda row: row.nbytes)
            lines.append(
                f"made as a whole, one at a time, in memory of their size: {len(whole)} tensors, the largest "
                f"is {most.name} of {size_text(most.nbytes)}"
            )
        if self.unused_rules:
            lines.append(f"rules that matched nothing: {', '.join(self.unused_rules)}")
        return lines


def whole(
    initializer: fastinit.Initializer | None, shape: Sequence[int], stream: int | str
) -> tuple[Part, ...]:
    """The parts of a tensor that an initializer makes as a whole."""
    return (Part(math.prod(shape), initializer, tuple(shape), stream),)


def given(values: Array) -> tuple[Part, ...]:
    """The parts of a tensor with these elements."""
    little = values.astype(values.dtype.newbyteorder("<"), copy=False)
    return (Part(values.size, None, data=little.tobytes()),)


def unseeded(initializer: fastinit.Initializer) -> fastinit.Initializer:
    """The initializer without a seed of its own: a plan has none."""
    if initializer.seed is None:
        return initializer
    return type(initializer).from_config({**initializer.get_config(), "seed": None})


def share(sizes: Sequence[int], rank: int, world: int) -> list[int]:
    """The places of what one of several writers does: neighbours, of about as many bytes as those of others.

    Args:
        sizes: The bytes of all pieces, in their order.
        rank: Which writer this is.
        world: The number of writers.
    """
    total, done, found = max(1, sum(sizes)), 0, []
    for place, size in enumerate(sizes):
        # By the middle of the piece; one without bytes may come after all others.
        if min(world - 1, (2 * done + size) * world // (2 * total)) == rank:
            found.append(place)
        done += size
    return found


def constant_of(initializer: fastinit.Initializer) -> float | None:
    """The value of all elements that an initializer makes; `None` if they are not constant."""
    match initializer:
        case fastinit.Zeros():
            return 0.0
        case fastinit.Ones():
            return 1.0
        case fastinit.Constant():
            return initializer.value
    return None


def _is_unicode(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def _contents(row: PlanRow) -> str:
    texts: list[str] = []
    for part in row.parts:
        text = "given" if part.initializer is None else part.initializer.spell(_short)
        if not texts or texts[-1] != text:
            texts.append(text)
    return " | ".join(texts)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else repr(value)


def _limits(dtype: str) -> tuple[int, int]:
    found = np.iinfo(dtype)
    return int(found.min), int(found.max)


def _row(values: Mapping[str, Any]) -> PlanRow:
    name, shape = values["name"], tuple(values["shape"])
    if "parts" in values:
        parts = tuple(map(_part, values["parts"]))
    else:
        parts = whole(_initializer(values["initializer"]), shape, name)
    return PlanRow(
        name, shape, values["dtype"], parts, tuple(values.get("aliases", ())), values.get("rule", "")
    )


def _part(values: Mapping[str, Any]) -> Part:
    if "data" in values:
        return Part(values["count"], None, data=base64.b64decode(values["data"], validate=True))
    return Part(
        values["count"],
        _initializer(values["initializer"]),
        tuple(values["shape"]),
        values["stream"],
        values["first"],
    )


def _initializer(values: Mapping[str, Any]) -> fastinit.Initializer:
    return _made(json.dumps(values, sort_keys=True))


@functools.lru_cache(maxsize=4096)
def _made(text: str) -> fastinit.Initializer:
    values = json.loads(text)
    numbers = {"inf": math.inf, "-inf": -math.inf}
    config = {name: numbers.get(x, x) if isinstance(x, str) else x for name, x in values["config"].items()}
    if values["class_name"] == "Formula":  # `get` does not know it.
        from fastinit.guidance import Formula

        return Formula.from_config(config)
    found = fastinit.get({"class_name": values["class_name"], "config": config})
    assert isinstance(found, fastinit.Initializer)
    return found


def cut(parts: Iterable[Part], begin: int, end: int) -> tuple[Part, ...]:
    """The parts of elements `begin` to `end`, in C order, of a tensor with these parts."""
    found: list[Part] = []
    start = 0
    for part in parts:
        first, last = max(begin, start) - start, min(end, start + part.count) - start
        if first < last:
            itemsize = len(part.data) // part.count
            data = part.data[first * itemsize : last * itemsize]
            found.append(replace(part, count=last - first, first=part.first + first, data=data))
        start += part.count
    return tuple(found)


def merged(parts: Iterable[Part]) -> tuple[Part, ...]:
    """The same parts, where neighbours continue each other as one."""
    found: list[Part] = []
    for part in parts:
        last = found[-1] if found else None
        if (
            last is not None
            and part.initializer is not None
            and (last.initializer, last.shape, last.stream) == (part.initializer, part.shape, part.stream)
            and last.first + last.count == part.first
        ):
            found[-1] = replace(last, count=last.count + part.count)
        elif part.count:
            found.append(part)
    return tuple(found)
