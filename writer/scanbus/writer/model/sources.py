"""How many files the virtual datasets of one scan may have, and which are joined. Pure.

HDF5 keeps every source file of an open virtual dataset open. A source that it cannot
open, e.g. because the process has no file descriptor left, reads as fill values,
without an error. So the number of sources of a scan is bounded, however long it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

__all__ = [
    "MAX_SOURCES",
    "WANTED_SOURCES",
    "are_linked",
    "files_per_lane",
    "last_join",
    "named_files",
    "next_join",
    "sources_per_lane",
]

MAX_SOURCES: Final = 500
"""Most source files of all virtual datasets of a scan master together."""
WANTED_SOURCES: Final = 128
"""Number of files that is aimed at: a reader may have several scans open at once."""
# Fewer files per lane would have to be copied too often.
_LEAST_FILES: Final = 20

_File = TypeVar("_File")


def files_per_lane(n_lanes: int, wanted: int = WANTED_SOURCES) -> int:
    """Return how many files a lane of detector data may have while it grows.

    Parameters
    ----------
    wanted : int
        How many files all lanes together should have; at least 2.
    """
    return max(min(_LEAST_FILES, wanted), wanted // max(1, n_lanes))


def sources_per_lane(n_lanes: int) -> int:
    """Return how many files of each lane a master may name; at least 1.

    With more lanes than `MAX_SOURCES`, a master links to the only file of each lane
    instead: HDF5 opens it when the link is followed, and reports if it cannot.
    """
    return max(1, MAX_SOURCES // max(1, n_lanes))


def are_linked(files: Mapping[str, Sequence[object]]) -> bool:
    """Whether a master links to files, as there are more lanes than sources.

    Parameters
    ----------
    files : mapping
        Lane name to the files that the master names.
    """
    return sum(1 for found in files.values() if found) > MAX_SOURCES


def named_files(
    files: Mapping[str, Sequence[_File]],
) -> dict[str, tuple[_File, ...]]:
    """Return the files, by lane, that the master of a growing scan names.

    All of them, unless there are more than `MAX_SOURCES`: then the first ones of each
    lane, until the others are joined.
    """
    if sum(map(len, files.values())) <= MAX_SOURCES:
        return {lane: tuple(found) for lane, found in files.items()}
    share = sources_per_lane(sum(1 for found in files.values() if found))
    return {lane: tuple(found[:share]) for lane, found in files.items()}


def next_join(n_parts: Sequence[int], most: int) -> slice | None:
    """Return which adjacent files of a lane should be joined next, if any.

    Files are joined by levels, like the runs of an external sort: a fixed number of
    files of one level becomes one of the next. That number decreases as the lane
    grows, such that there are never more than `most` files. Up to `most` segments
    nothing is copied; with 128 files, up to 4000 segments every byte at most once, up
    to 80 000 twice.

    Parameters
    ----------
    n_parts : sequence of int
        Number of segments in each file of the lane, in order.
    most : int
        Most files that the lane should have; at least 2.

    Examples
    --------
    >>> next_join([1] * 128, 128) is None
    True
    >>> next_join([1] * 129, 128)
    slice(0, 65, None)
    """
    fan_in = _fan_in(sum(n_parts), most)
    full = [
        (level, start)
        for level, start, stop in _runs([_level(n, fan_in) for n in n_parts])
        if stop - start >= fan_in
    ]
    if full:
        start = min(full)[1]
        return slice(start, start + fan_in)
    if len(n_parts) <= most:
        return None
    # The number of files per level has decreased: the smallest neighbours are joined.
    starts = range(len(n_parts) - fan_in + 1)
    start = min(starts, key=lambda each: (sum(n_parts[each : each + fan_in]), each))
    return slice(start, start + fan_in)


def last_join(n_parts: Sequence[int], most: int) -> slice | None:
    """Return which files to join at the end of a scan, to have at most `most`."""
    if len(n_parts) <= most:
        return None
    return slice(most - 1, len(n_parts))


def _fan_in(n_segments: int, most: int) -> int:
    """Return how many files of one level become one of the next."""
    n_levels = 1
    while (fan_in := most // n_levels + 1) > 2:
        if fan_in**n_levels > n_segments:
            return fan_in
        n_levels += 1
    return 2


def _level(n_parts: int, fan_in: int) -> int:
    level, reach = 0, fan_in
    while reach <= n_parts:
        level, reach = level + 1, reach * fan_in
    return level


def _runs(levels: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return runs of equal levels: level, start and stop."""
    found: list[tuple[int, int, int]] = []
    for index, level in enumerate(levels):
        if found and found[-1][0] == level:
            found[-1] = (level, found[-1][1], index + 1)
        else:
            found.append((level, index, index + 1))
    return found
