"""What is missing between the records that could be read: pure decisions.

Every record has a number, so records between two whole ones are known to be missing,
and so are their points, as entries of a lane are contiguous. Behind the last whole
record the marks tell what must be there. A torn tail is no loss: an interrupted write
was never acknowledged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from scanbus.publisher.spool.marks import Mark
from scanbus.publisher.spool.records import Record, Stretch

__all__ = ["FilePart", "Loss", "ordered"]


@dataclass(frozen=True, slots=True)
class Loss:
    """Records of a spool that cannot be read.

    Attributes
    ----------
    path : str
        The file, or the folder that lacks one.
    reason : str
        What is wrong there.
    first, stop : int
        Their points ``[first, stop)``; of events, their numbers.
    sequence : int
        The number of the record after them.
    is_unknown : bool
        Whether it cannot be known how many points are missing after `first`.
    """

    path: str
    reason: str
    first: int
    stop: int
    sequence: int
    is_unknown: bool = False

    def __str__(self) -> str:
        """Say where, what, and which points."""
        points = f"points {self.first} to {self.stop - 1} are lost"
        if self.is_unknown:
            points = f"points from {self.first} on may be lost"
        elif self.stop == self.first + 1:
            points = f"point {self.first} is lost"
        return f"{self.where}; {points}"

    @property
    def where(self) -> str:
        """Say where and what."""
        return f"the spool {self.path}: {self.reason}"


@dataclass(frozen=True, slots=True)
class FilePart:
    """A record without its body, or a damaged stretch, of a file."""

    path: Path
    part: Record | Stretch


Damage = list[tuple[Path, Stretch]]


def ordered(
    parts: Iterable[FilePart], firsts: Mapping[int, int], mark: Mark, folder: Path
) -> Iterator[Record | Loss]:
    """Yield the whole records in order, and a loss wherever some are missing.

    Parameters
    ----------
    parts : iterable of FilePart
        What was found in the files, in order.
    firsts : mapping
        First point of each whole record, by its number.
    mark : Mark
        What must be there.
    folder : pathlib.Path
        Of the files, to be named where a file is missing.
    """
    sequence, point = mark.sequence, mark.point
    damage: Damage = []
    for each in parts:
        part = each.part
        if isinstance(part, Stretch):
            damage.append((each.path, part))
            continue
        head = part.head
        if head.sequence < sequence:
            continue  # Written twice, or durable.
        first = firsts[head.sequence]
        if head.sequence > sequence:
            yield _loss(damage, folder, point, first, head.sequence)
        yield part
        sequence, point, damage = head.sequence + 1, head.stop, []
    yield from _tail(damage, folder, sequence, point, mark)


def _tail(
    damage: Damage, folder: Path, sequence: int, point: int, mark: Mark
) -> Iterator[Loss]:
    """Yield what is missing behind the last whole record."""
    certain = [stretch for _, stretch in damage if not stretch.is_torn]
    heads = [stretch.head for stretch in certain if stretch.head is not None]
    beyond = [head for head in heads if head.sequence >= sequence]
    end = max([mark.next_sequence, *(head.sequence + 1 for head in beyond)])
    stop = max([mark.stop, *(head.stop for head in beyond)])
    if stop > point:
        yield _loss(damage, folder, point, stop, end)
    elif certain and end <= sequence:
        yield _loss(damage, folder, point, point, sequence + 1)
    # Else only the seal is missing: it is made again.


def _loss(damage: Damage, folder: Path, first: int, stop: int, sequence: int) -> Loss:
    path, reason = folder, "a file, or the end of one, is missing"
    if damage:
        path, stretch = damage[0]
        reason = f"damaged at byte {stretch.start}"
    is_unknown = stop <= first
    return Loss(str(path), reason, first, stop, sequence, is_unknown)
