"""Placeholders of templates, such as ``{scan}`` and ``{detector}``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

__all__ = ["EACH", "FILE_WORDS", "filled", "is_path", "unknown_word", "words_in"]

EACH: Final = ("detector", "axis", "channel")
"""In a path: the node is there once for each."""
FILE_WORDS: Final = (
    "scan",
    "scan_number",
    "proposal",
    "beamline",
    "collection",
    "dataset",
    "detector",
)
"""In the name of a file; all but ``detector`` have one value per scan."""
_WORD: Final = re.compile(r"\{([^{}]*)\}")


def words_in(text: str) -> tuple[str, ...]:
    """Return the placeholders of a text, in order.

    Examples
    --------
    >>> words_in("{scan}_{detector}.nxs")
    ('scan', 'detector')
    """
    return tuple(_WORD.findall(text))


def unknown_word(text: str, known: Iterable[str]) -> str:
    """Return the first placeholder that is not known; empty if there is none."""
    return next((word for word in words_in(text) if word not in known), "")


def filled(text: str, words: Mapping[str, str]) -> str:
    """Return a text with the values of its placeholders; other braces stay.

    Examples
    --------
    >>> filled("{detector}/data {x}", {"detector": "eiger"})
    'eiger/data {x}'
    """
    return _WORD.sub(lambda found: words.get(found[1], found[0]), text)


def is_path(text: str) -> bool:
    """Return whether a text is a path that leads nowhere else.

    Examples
    --------
    >>> is_path("sample/name"), is_path("../other"), is_path("")
    (True, False, False)
    """
    parts = text.removeprefix("/").split("/")
    return text.isprintable() and not any(part in ("", ".", "..") for part in parts)
