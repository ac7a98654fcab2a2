"""The nearest known names to one that is unknown, for error messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping


def did_you_mean(name: object, known: Iterable[str] | Mapping[str, str]) -> str:
    """Words to append to the message about an unknown name: at most three similar names, or nothing.

    Case, spaces and punctuation do not count.

    Args:
        name: The unknown name.
        known: The known names; or a mapping of them, aliases among them, to the names that the message shows.

    Example:
        >>> from fastinit._suggest import did_you_mean
        >>> did_you_mean("HE_NORMEL", ["he_normal", "zeros"])
        ", did you mean 'he_normal'?"
        >>> did_you_mean("swich", {"swish": "silu", "silu": "silu"})
        ", did you mean 'silu'?"
        >>> did_you_mean(7, ["he_normal", "zeros"])
        ''
    """
    shown: dict[str, str] = {}
    for one, meant in known.items() if isinstance(known, Mapping) else ((one, one) for one in known):
        shown.setdefault(_letters(one), meant)
    found = dict.fromkeys(shown[one] for one in difflib.get_close_matches(_letters(str(name)), shown, 3))
    return f", did you mean {' or '.join(map(repr, found))}?" if found else ""


def _letters(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())
