"""Read the shared segments of small values, finished ones and those of killed writers.

A finished one ends with a list of its sections. Of one that is not, each whole record
is used, and its checksum is compared.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self

import msgpack
import xxhash

from scanbus.schemas import PointRange
from scanbus.schemas.errors import NameTakenError, VerificationError
from scanbus.writer.model.ledger import SegmentAccount, joined, without
from scanbus.writer.storage.record_file import (
    Record,
    is_intact,
    last_record,
    read_record,
    records,
)
from scanbus.writer.storage.regular_file import open_regular
from scanbus.writer.storage.shared_segment import PLACE

__all__ = [
    "OpenFiles",
    "PointsRecord",
    "Section",
    "SharedFile",
    "read_shared_segment",
    "recover_shared_segment",
    "uid_of_shared_segment",
]

_MOST_OPEN: Final = 64
# What a damaged list or description raises.
_MALFORMED: Final = (
    ValueError,
    TypeError,
    KeyError,
    LookupError,
    msgpack.UnpackException,
)


@dataclass(frozen=True, slots=True)
class PointsRecord:
    """Place of a record with points ``[first, first + count)`` in a file."""

    offset: int
    n_bytes: int
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class Section:
    """What one file has of one lane.

    Attributes
    ----------
    path : pathlib.Path
        The file.
    start, stop : int
        Its points ``[start, stop)``; those in no record are missing. Its first and last
        record may have more points.
    account_text : str
        Its account, JSON.
    index, index_bytes : int
        Where the places of its records are in the file.
    records : tuple of PointsRecord
        Those places, of a file that was not finished.
    description : str
        The lane's description, JSON; only of a file that was not finished.
    """

    path: Path
    start: int
    stop: int
    account_text: str
    index: int = 0
    index_bytes: int = 0
    records: tuple[PointsRecord, ...] = ()
    description: str = ""

    @property
    def account(self) -> SegmentAccount:
        """Missing, duplicate and damaged points among them."""
        return SegmentAccount.from_json(self.account_text)

    def clipped(self, start: int, stop: int) -> Section:
        """Return the part ``[start, stop)`` of it."""
        if (start, stop) == (self.start, self.stop):
            return self
        account = self.account.clipped(start, stop).to_json()
        return replace(self, start=start, stop=stop, account_text=account)


@dataclass(frozen=True, slots=True)
class SharedFile:
    """The contents of one finished shared segment.

    Attributes
    ----------
    uid : str
        Uid of its scan.
    sections : dict
        Lane name to its section.
    digest : int
        Digest of the list of sections.
    """

    uid: str
    sections: dict[str, Section]
    digest: int


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = open_regular(path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _uid(descriptor: int, path: Path) -> str:
    head = read_record(descriptor, 0, str(path)).head
    if head.get("kind") != "file":
        raise VerificationError(str(path), "it does not begin as a shared segment")
    return str(head["uid"])


def uid_of_shared_segment(path: Path) -> str:
    """Return the uid of the scan of a shared segment, finished or not.

    Raises
    ------
    NameTakenError
        If it is none.
    OSError
        If it cannot be read.
    """
    try:
        with _opened(path) as descriptor:
            return _uid(descriptor, path)
    except (VerificationError, *_MALFORMED) as error:
        raise NameTakenError(str(path), f"no segment ({error})") from error


def read_shared_segment(path: Path) -> SharedFile:
    """Return the sections of a finished shared segment.

    Raises
    ------
    NameTakenError
        If it is none, or its list of sections is damaged.
    OSError
        If it cannot be read.
    """
    try:
        with _opened(path) as descriptor:
            uid = _uid(descriptor, path)
            end = last_record(descriptor, str(path))
            table = os.pread(descriptor, end.stop - end.body, end.body)
        sections = dict(_section(path, row) for row in msgpack.unpackb(table))
    except (VerificationError, *_MALFORMED) as error:
        raise NameTakenError(str(path), f"no segment ({error})") from error
    return SharedFile(uid, sections, xxhash.xxh3_64_intdigest(table))


def _section(path: Path, summary: Sequence[Any]) -> tuple[str, Section]:
    lane, _, start, stop, account, index, index_bytes = summary
    return lane, Section(path, start, stop, account, index, index_bytes)


@dataclass
class _Recovered:
    """What is known of a section whose file was not finished."""

    description: str
    start: int
    stop: int
    account: SegmentAccount = field(default_factory=SegmentAccount)
    records: list[PointsRecord] = field(default_factory=list)
    damaged: list[PointRange] = field(default_factory=list)

    def section(self, path: Path) -> Section:
        edges = (stop for _, stop in self.account.missing)
        stop = max(self.stop, *edges, self.start)
        stored = joined((one.first, one.first + one.count) for one in self.records)
        missing = without([(self.start, stop)], stored)
        account = replace(
            self.account,
            missing=[*self.account.missing, *missing],
            corrupt=[*self.account.corrupt, *self.damaged],
        )
        return Section(
            path,
            self.start,
            stop,
            account.to_json(),
            records=tuple(self.records),
            description=self.description,
        )


def recover_shared_segment(path: Path, uid: str) -> list[Section]:
    """Return the sections of a scan's shared segment, whether finished or not.

    Each record is compared with its checksum. Points of a damaged one are missing and
    corrupt; if its head is damaged, nothing behind it is used.

    Raises
    ------
    VerificationError
        If nothing of the file can be used.
    """
    found: dict[int, _Recovered] = {}
    try:
        with _opened(path) as descriptor:
            if _uid(descriptor, path) != uid:
                raise VerificationError(str(path), "it belongs to another scan")
            for record in records(descriptor, str(path)):
                _take(found, descriptor, record)
    except (NameTakenError, OSError, *_MALFORMED) as error:
        raise VerificationError(str(path), f"cannot be used: {error}") from error
    sections = [each.section(path) for each in found.values()]
    return [one for one in sections if one.stop > one.start]


def _take(found: dict[int, _Recovered], descriptor: int, record: Record) -> None:
    head, whole = record.head, is_intact(descriptor, record)
    kind = head.get("kind")
    if kind == "points":
        section = found[head["lane"]]
        first, count = int(head["first"]), int(head["count"])
        section.stop = max(section.stop, first + count)
        if whole:
            size = record.stop - record.offset
            section.records.append(PointsRecord(record.offset, size, first, count))
        else:
            section.damaged.append((first, first + count))
    elif kind in ("lane", "notes") and whole:
        text = os.pread(descriptor, record.stop - record.body, record.body).decode()
        if kind == "lane":
            start = int(head["start"])
            found[head["lane"]] = _Recovered(text, start, start)
        else:
            section = found[head["lane"]]
            section.account = SegmentAccount.from_json(text)
            section.stop = max(section.stop, int(head["stop"]))
    elif kind == "end" and whole:
        _take_accounts(found, descriptor, record)


def _take_accounts(
    found: dict[int, _Recovered], descriptor: int, record: Record
) -> None:
    """Use the accounts at the end of a finished file, the last ones of its writer."""
    body = os.pread(descriptor, record.stop - record.body, record.body)
    for _, place, _, stop, account, *_ in msgpack.unpackb(body):
        found[place].account = SegmentAccount.from_json(account)
        found[place].stop = stop


class OpenFiles:
    """Files that are read again and again, the last used ones open.

    Use it as a context manager; it is not safe to share between threads.
    """

    def __init__(self) -> None:
        self._open: OrderedDict[Path, int] = OrderedDict()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._open:
            os.close(self._open.popitem()[1])

    def places(self, section: Section) -> Sequence[PointsRecord]:
        """Return where the points of a section are in its file, ascending."""
        if section.records:
            return section.records
        found = self.read(section.path, section.index, section.index_bytes)
        return [PointsRecord(*each) for each in PLACE.iter_unpack(found)]

    def read(self, path: Path, offset: int, n_bytes: int) -> bytes:
        """Return bytes of a file.

        Raises
        ------
        NameTakenError, OSError
            If it cannot be opened or read, or is no regular file.
        """
        descriptor = self._open.get(path)
        if descriptor is None:
            descriptor = self._open[path] = open_regular(path)
            if len(self._open) > _MOST_OPEN:
                os.close(self._open.popitem(last=False)[1])
        else:
            self._open.move_to_end(path)
        return os.pread(descriptor, n_bytes, offset)
