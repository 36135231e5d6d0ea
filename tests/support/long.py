"""Cases of a parametrised test of which most run in the long form only."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest

__all__ = ["long_but"]


def long_but(short: Collection[str], cases: Iterable[Any]) -> list[Any]:
    """Return all cases; those without a value of `short` are marked ``long``.

    Parameters
    ----------
    cases : iterable
        Each a value, or a tuple of the values of several parameters.
    """
    given = [case if isinstance(case, tuple) else (case,) for case in cases]
    return [
        pytest.param(*case, marks=() if set(case) & set(short) else pytest.mark.long)
        for case in given
    ]
