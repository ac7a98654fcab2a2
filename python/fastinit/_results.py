"""What results have in common: verdicts, rows that are found by name, and values for JSON."""

from __future__ import annotations

import enum
import html
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np

from ._terminal import Table, paragraph, printable


class Verdict(str, enum.Enum):
    """A verdict. It is a string, too: it equals its value, and is written as that in text and JSON."""

    __str__ = str.__str__


class Result:
    """The base of results, which are dataclasses.

    `repr` is one short line. `print` and notebooks show what `_parts` gives, where a class has it.
    """

    # The version of `to_dict`, for results that functions return; 0 for parts of them. It is raised when a
    # name is removed or changes its meaning, and not when one is added.
    _schema: ClassVar[int] = 0

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "__repr__" not in vars(cls):  # Otherwise `dataclass` would make one, which prints all arrays.
            cls.__repr__ = Result.__repr__  # type: ignore[method-assign]

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={_short(value)}" for name, value in self._values().items())
        return _shorter(f"{type(self).__name__}({values})", 200)

    def _values(self) -> dict[str, Any]:
        """The attributes by name, without those that begin with `_`."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def _parts(self) -> Sequence[str | Table]:
        """Paragraphs, which are wrapped when they are shown, and tables; "" for an empty line."""
        return ()

    def __str__(self) -> str:
        parts = self._parts()
        return as_text(parts) if parts else repr(self)

    def _repr_html_(self) -> str:
        """What a notebook shows; names from files are escaped."""
        parts = self._parts() or [str(self)]
        return "\n".join(
            x.to_html()
            if isinstance(x, Table)
            else f'<pre style="white-space: pre-wrap">{html.escape(_lines(x))}</pre>'
            for x in parts
            if x
        )

    def to_dict(self) -> dict[str, Any]:
        """All attributes by name, as values that `json` takes.

        Initializers are dictionaries that `fastinit.get` takes, and numbers that are not finite are the
        strings `"inf"`, `"-inf"` and `"nan"`. What functions return also has `"schema"`: the kind and the
        version of the dictionary, such as `"signal/1"`. The version is raised when a name is removed or
        changes its meaning; names may be added without that.
        """
        schema = {"schema": f"{type(self).__name__.lower()}/{self._schema}"} if self._schema else {}
        return {**schema, **{name: plain(value) for name, value in self._values().items()}}


def as_text(parts: Sequence[str | Table]) -> str:
    """Paragraphs and tables as text that fits the terminal."""
    return "\n".join(paragraph(x) if isinstance(x, str) else str(x) for x in parts)


def _lines(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))


def _short(value: Any) -> str:
    """A value in a few words."""
    match value:
        case np.ndarray():
            return f"<{' x '.join(map(str, value.shape)) or 'one'} numbers>"
        case enum.Enum():
            return repr(value.value)
        case str():
            return _shorter(repr(value), 60)
        case Mapping() | Sequence() if len(value) > 4 or any(isinstance(x, Result) for x in value):
            names = [x.name for x in value if hasattr(x, "name")] if len(value) <= 4 else []
            return f"<{', '.join(names)}>" if names else f"<{len(value)} items>"
    return _shorter(repr(value), 60)


def _shorter(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 4]}...{text[-1]}"


class _Named(Protocol):
    @property
    def name(self) -> str: ...


Row = TypeVar("Row", bound=_Named)


class Rows(Result, Generic[Row]):
    """A result with rows that are found by their names: `result[name]`."""

    _schema = 1

    rows: tuple[Row, ...]

    def __getitem__(self, name: str) -> Row:
        """The row of this name, which may be any of its `names` if it has several."""
        for row in self.rows:
            if name in getattr(row, "names", (row.name,)):
                return row
        raise KeyError(name)


def plain(value: Any) -> Any:
    """A value as one that `json` takes, see `Result.to_dict`."""
    match value:
        case Result():
            return value.to_dict()
        case enum.Enum():
            return value.value
        case float():
            return value if math.isfinite(value) else str(value)
        case np.ndarray():
            return plain(value.tolist())
        case Mapping():
            return {name: plain(item) for name, item in value.items()}
        case Sequence() if not isinstance(value, str):
            return [plain(item) for item in value]
    if hasattr(value, "get_config"):  # an initializer
        return {"class_name": type(value).__name__, "config": plain(value.get_config())}
    return value
