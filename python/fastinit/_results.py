"""What results have in common: verdicts, rows that are found by name, and values for JSON."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

import numpy as np


class Verdict(str, enum.Enum):
    """A verdict. It is a string, too: it equals its value, and is written as that in text and JSON."""

    __str__ = str.__str__


class Result:
    """The base of results, which are dataclasses."""

    def to_dict(self) -> dict[str, Any]:
        """All attributes by name, as values that `json` takes.

        Initializers are dictionaries that `fastinit.get` takes, and numbers that are not finite are the
        strings `"inf"`, `"-inf"` and `"nan"`.
        """
        return {name: plain(value) for name, value in vars(self).items()}


class _Named(Protocol):
    @property
    def name(self) -> str: ...


Row = TypeVar("Row", bound=_Named)


class Rows(Result, Generic[Row]):
    """A result with rows that are found by their names: `result[name]`."""

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
