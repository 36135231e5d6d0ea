"""Which small values a scan master copies, and which it maps. Pure.

Readers that walk a file follow no external links. So values stand in the master itself,
up to a size of all of them together; larger ones are virtual datasets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["COPIED_BYTES", "StoredArray", "ValueFile", "copied_arrays"]

COPIED_BYTES: Final = 64 << 20
"""Bytes of small values that a scan master copies, unless the scan file says more."""


@dataclass(frozen=True, slots=True)
class StoredArray:
    """A dataset of a file with small values.

    Attributes
    ----------
    shape : tuple of int
        Points first; of a ragged channel, padded to the longest point.
    n_bytes : int
        Size of its values, not compressed; of texts, at least what counts for a copy.
    """

    shape: tuple[int, ...]
    n_bytes: int


@dataclass(frozen=True)
class ValueFile:
    """A file with small values, laid out as the scan file.

    Attributes
    ----------
    name : str
        File name relative to the scan's folder.
    arrays : mapping
        Path of each dataset with values or times to what it has.
    is_lasting : bool
        Whether a master may refer to the file: others are copied, and removed.
    """

    name: str
    arrays: Mapping[str, StoredArray]
    is_lasting: bool = True


def copied_arrays(arrays: Mapping[str, StoredArray], limit: int) -> frozenset[str]:
    """Return the paths of the arrays that are copied: the smallest that fit together.

    Examples
    --------
    >>> sizes = {"a": 70, "b": 10, "c": 30}
    >>> arrays = {name: StoredArray((1,), size) for name, size in sizes.items()}
    >>> sorted(copied_arrays(arrays, 50))
    ['b', 'c']
    """
    return frozenset(_fitting(arrays, limit))


def _fitting(arrays: Mapping[str, StoredArray], limit: int) -> Iterator[str]:
    total = 0
    for path in sorted(arrays, key=lambda each: (arrays[each].n_bytes, each)):
        total += arrays[path].n_bytes
        if total > limit:
            return
        yield path
