"""Text of a sender, as a channel takes it."""

from __future__ import annotations

__all__ = ["MAX_TEXT_BYTES", "short_text"]

_MAX_LETTERS = 256
MAX_TEXT_BYTES = 4 * _MAX_LETTERS


def short_text(text: str) -> str:
    r"""Return the first letters of any text, as UTF-8 has them.

    Examples
    --------
    >>> short_text("a" * 300 + "b") == "a" * 256, short_text("a\0b\ud800")
    (True, 'ab?')
    """
    octets = text[:_MAX_LETTERS].encode("utf-8", "replace")
    return octets.replace(b"\0", b"").decode()
