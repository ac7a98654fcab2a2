"""The nearest known names to one that is unknown, for error messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def did_you_mean(name: object, known: Iterable[str], aliases: Mapping[str, str] | None = None) -> str:
    """Words to append to the message about an unknown name: at most three similar names, or nothing.

    Case, spaces and punctuation do not count.

    Args:
        name: The unknown name.
        known: The known names.
        aliases: Other names, each with the known name to show instead of it.

    Example:
        >>> from fastinit._suggest import did_you_mean
        >>> did_you_mean("HE_NORMEL", ["he_normal", "zeros"])
        ", did you mean 'he_normal'?"
        >>> did_you_mean("swich", ["relu", "silu"], {"swish": "silu"})
        ", did you mean 'silu'?"
        >>> did_you_mean(7, ["he_normal", "zeros"])
        ''
    """
    import difflib  # Errors are rare, and the import of the package is not.

    shown: dict[str, str] = {}
    for one, meant in (*((one, one) for one in known), *(aliases or {}).items()):
        shown.setdefault(_letters(one), meant)
    found = dict.fromkeys(shown[one] for one in difflib.get_close_matches(_letters(str(name)), shown, 3))
    return f", did you mean {' or '.join(map(repr, found))}?" if found else ""


def _letters(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())
