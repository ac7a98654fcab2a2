"""The nearest known names to one that is unknown, for error messages."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Words to append to the message about an unknown name: the nearest known ones, or nothing.

    The case of letters does not count.

    Example:
        >>> from fastinit._suggest import did_you_mean
        >>> did_you_mean("HE_NORMEL", ["he_normal", "zeros"])
        ", did you mean 'he_normal'?"
        >>> did_you_mean(7, ["he_normal", "zeros"])
        ''
    """
    by_case = {one.casefold(): one for one in known}
    found = difflib.get_close_matches(str(name).casefold(), by_case, 3)
    return f", did you mean {' or '.join(repr(by_case[one]) for one in found)}?" if found else ""
