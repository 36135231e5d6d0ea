"""The variants of a test that the short form of a ring leaves out."""

from collections import defaultdict
from collections.abc import Iterable
from zlib import crc32

import pytest

__all__ = ["kept_variants", "mark_left_out"]


def mark_left_out(items: Iterable[pytest.Item]) -> None:
    """Mark as `long` the variants beyond those that ``sampled(n)`` keeps of a test.

    Always the same ones, spread over all. Tests of one file that have the same variants
    keep different ones.
    """
    variants: dict[tuple[str, str], list[pytest.Function]] = defaultdict(list)
    for item in items:
        is_left_out = item.get_closest_marker("long") is not None
        is_sampled = item.get_closest_marker("sampled") is not None and not is_left_out
        if is_sampled and isinstance(item, pytest.Function):
            variants[str(item.path), item.originalname].append(item)
    for (_, name), found in variants.items():
        marker = found[0].get_closest_marker("sampled")
        kept = kept_variants(name, len(found), marker.args[0] if marker else 0)
        for index, item in enumerate(found):
            if index not in kept:
                item.add_marker(pytest.mark.long)


def kept_variants(name: str, n_found: int, n_kept: int) -> set[int]:
    """Return which variants of a test the short form keeps.

    Examples
    --------
    >>> sorted(kept_variants("test_a_frame", 9, 3))
    [0, 3, 6]
    >>> sorted(kept_variants("test_a_series", 9, 3))
    [2, 5, 8]
    >>> sorted(kept_variants("test_a_frame", 2, 3))
    [0, 1]
    """
    first = crc32(name.encode())
    return {(first + turn * n_found // n_kept) % n_found for turn in range(n_kept)}
