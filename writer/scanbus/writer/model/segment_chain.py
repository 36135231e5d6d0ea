"""Which of a lane's files hold its points, and which have been replaced. Pure.

The names decide: a joined segment stands for all segments within its numbers, and they
are removed some time after it has got its name. So both may be there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from scanbus.schemas.file_names import SegmentName, parse_segment_file

__all__ = ["SegmentChain", "chain_of", "replaced_names"]


class SegmentChain(NamedTuple):
    """The files of one lane, by name.

    Attributes
    ----------
    names : tuple of str
        Files with its points, in order, up to the first missing one.
    replaced : tuple of str
        Files whose points are in a joined one among `names`.
    """

    names: tuple[str, ...]
    replaced: tuple[str, ...]


def chain_of(lane: str, names: Iterable[str]) -> SegmentChain:
    """Return the files of a lane among the names in a scan's folder.

    Examples
    --------
    >>> names = ["cam_0000-0001.h5", "cam_0000.h5", "cam_0002.h5", "cam_0004.h5"]
    >>> chain_of("cam", names)
    SegmentChain(names=('cam_0000-0001.h5', 'cam_0002.h5'), replaced=('cam_0000.h5',))
    """
    prefix = f"{lane}_"
    return _chain(
        (found, name)
        for name in names
        if name.startswith(prefix)
        and (found := parse_segment_file(name)) is not None
        and found.lane == lane
    )


def _chain(files: Iterable[tuple[SegmentName, str]]) -> SegmentChain:
    # The longest of those that begin at one number comes first.
    ordered = sorted(files, key=lambda each: (each[0].number, -each[0].last))
    names: list[str] = []
    replaced: list[str] = []
    next_number = 0
    for found, name in ordered:
        if found.number == next_number:
            names.append(name)
            next_number = found.last + 1
        elif found.last < next_number:
            replaced.append(name)
        else:
            break
    return SegmentChain(tuple(names), tuple(replaced))


def replaced_names(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the replaced files of all lanes in a scan's folder, by joined file."""
    lanes: dict[str, list[tuple[SegmentName, str]]] = {}
    for name in names:
        found = parse_segment_file(name)
        if found is not None:
            lanes.setdefault(found.lane, []).append((found, name))
    return {
        joined: inside
        for files in lanes.values()
        for joined, inside in _replaced_by(_chain(files)).items()
    }


def _replaced_by(chain: SegmentChain) -> dict[str, tuple[str, ...]]:
    by_joined: dict[str, tuple[str, ...]] = {}
    for name in chain.names:
        joined = parse_segment_file(name)
        assert joined is not None
        inside = tuple(
            one
            for one in chain.replaced
            if (part := parse_segment_file(one)) is not None
            and joined.number <= part.number <= part.last <= joined.last
        )
        if joined.is_joined and inside:
            by_joined[name] = inside
    return by_joined
