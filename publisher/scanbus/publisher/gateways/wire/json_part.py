"""Read the JSON parts of stream V1: untrusted text with bounds.

Pure.
"""

from __future__ import annotations

import json
from collections.abc import Sequence, Sized
from typing import Any

from scanbus.schemas.errors import MessageError

__all__ = ["MAX_FRAME_NUMBER", "read_object", "shown", "whole_number"]

# A detector's whole configuration has some 30 kB; JSON may take thirty times its size
# in memory.
MAX_JSON_BYTES = 2**20
# Counters of detectors have 32 bits.
MAX_FRAME_NUMBER = 2**32


def read_object(source: str, part: bytes) -> dict[str, Any]:
    """Return the JSON object in a part of a message.

    Parameters
    ----------
    source : str
        Which part of which message, for errors.

    Raises
    ------
    MessageError
        If it is too large, nested too deeply, or no JSON object.
    """
    if len(part) > MAX_JSON_BYTES:
        raise MessageError(
            source, f"JSON of {len(part)} bytes; at most {MAX_JSON_BYTES} are read"
        )
    try:
        found = json.loads(part)
    except RecursionError:
        raise MessageError(source, "JSON that is nested too deeply") from None
    except ValueError as error:  # also UnicodeDecodeError, and integers of 4300 digits
        raise MessageError(source, f"no JSON: {error}") from error
    if not isinstance(found, dict):
        raise MessageError(
            source, f"expected a JSON object, got {type(found).__name__}"
        )
    return found


def whole_number(
    source: str, found: dict[str, Any], key: str, most: int = MAX_FRAME_NUMBER
) -> int:
    """Return the integer from 0 to `most` below a key.

    Raises
    ------
    MessageError
        If there is none.
    """
    number = found.get(key)
    if type(number) is not int or not 0 <= number <= most:
        what = "nothing" if number is None else shown(number)
        raise MessageError(source, f"{key}: expected 0 to {most}, got {what}")
    return number


def shown(found: object) -> str:
    """Return a value that a message holds, short enough for an error.

    Nothing is made of its whole content, which may be a frame.

    Examples
    --------
    >>> shown([1, -2]), shown("x" * 100)[:9], shown([[1], "a"]), shown({})
    ('[1, -2]', "'xxxxxxxx", 'a list of 2', 'a dict of 0')
    """
    if isinstance(found, int) and abs(found) > 2**64:
        return "an integer of more than 64 bits"
    if isinstance(found, str | bytes):
        return ascii(found[:40])[:40]
    if found is None or isinstance(found, int | float):
        return ascii(found)
    kind = type(found).__name__
    if not isinstance(found, Sized):
        return f"a {kind}"
    if isinstance(found, list | tuple) and len(found) <= 4:
        items: Sequence[object] = found
        if not any(isinstance(each, Sized) for each in items):
            return f"[{', '.join(map(shown, items))}]"
    return f"a {kind} of {len(found)}"
