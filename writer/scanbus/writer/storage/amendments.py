"""Corrections of a scan's metadata, as dated events in a file beside the scan.

The scan file keeps what was said when the scan was taken. Each correction is one line
of JSON more in ``scan0001_amendments.jsonl``: when, by whom, why, and what was there
before. Nothing in that file is ever changed. Masters are built from both.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from scanbus.bus.protocol import ScanRecord
from scanbus.schemas import ScanUpdated, merged
from scanbus.schemas.errors import VerificationError
from scanbus.schemas.file_names import amendments_name, parse_scan_folder
from scanbus.schemas.metadata import MetadataTree
from scanbus.schemas.valid_names import PlainText
from scanbus.writer.model.scan_contents import ScanContents
from scanbus.writer.storage.durable_files import fsync_path
from scanbus.writer.storage.regular_file import is_there, read_regular

__all__ = [
    "Amendment",
    "add_amendment",
    "amendments_of",
    "locked_amendments",
    "read_amendments",
    "with_amendments",
]

_TITLE: Final = "title"
# What file systems without locks answer.
_NO_LOCKS: Final = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class Amendment(BaseModel):
    """One correction of a scan's metadata.

    Attributes
    ----------
    time : float
        When it was made, seconds since 1970 (UTC).
    author : str
        Who made it.
    reason : str
        Why.
    metadata : dict
        Merged into the metadata of the scan; None withdraws a value.
    before : dict
        What was there before, by path; None where there was nothing.
    version : str
        Version of scanbus.
    """

    # Without the constants, NaN would come back as null, which withdraws a value.
    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="constants")

    type: Literal["amended"] = "amended"
    time: float = Field(ge=0, allow_inf_nan=False)
    author: PlainText
    reason: PlainText
    metadata: MetadataTree
    before: dict[str, JsonValue] = Field(default_factory=dict)
    version: str = ""

    @property
    def date(self) -> str:
        """When it was made, ISO 8601 in UTC."""
        return datetime.fromtimestamp(self.time, UTC).isoformat(timespec="seconds")


def amendments_of(folder: Path) -> Path | None:
    """Return the path of a scan's corrections; None if it is no folder of a scan."""
    number = parse_scan_folder(folder.name)
    return None if number is None else folder / amendments_name(number)


def read_amendments(folder: Path) -> tuple[Amendment, ...]:
    """Return the corrections of a scan, the oldest first.

    Raises
    ------
    VerificationError
        If a line is none.
    NameTakenError, OSError
        If the file cannot be read.
    """
    path = amendments_of(folder)
    if path is None or not is_there(path):
        return ()
    found: list[Amendment] = []
    # JSON has U+2028 and U+0085 as themselves, at which `str.splitlines` would split.
    lines = read_regular(path).decode("utf-8", "replace").split("\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            found.append(Amendment.model_validate_json(line))
        except ValidationError as error:
            reason = f"line {number} is no correction of metadata: repair or remove it"
            raise VerificationError(str(path), reason) from error
    return tuple(found)


@contextmanager
def locked_amendments(path: Path) -> Iterator[int]:
    """Open the file of corrections to add one; others wait meanwhile.

    Where the file system has no locks, two at once may both say what was before them.

    Raises
    ------
    OSError
        If the file system refuses.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        yield descriptor
    finally:
        os.close(descriptor)


def add_amendment(descriptor: int, path: Path, amendment: Amendment) -> None:
    """Add a correction to the open file, and sync it; all of it, or nothing.

    Raises
    ------
    OSError
        If the file system refuses.
    """
    # A line that somebody did not end must not swallow this one.
    size = os.fstat(descriptor).st_size
    is_ended = size == 0 or os.pread(descriptor, 1, size - 1) == b"\n"
    line = amendment.model_dump_json().encode() + b"\n"
    try:
        _write_all(descriptor, line if is_ended else b"\n" + line)
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, size)
        raise
    fsync_path(path.parent)


def _write_all(descriptor: int, octets: bytes) -> None:
    # A disk that is nearly full takes a part of them, and reports no error.
    if os.write(descriptor, octets) != len(octets):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def with_amendments(contents: ScanContents, found: Sequence[Amendment]) -> ScanContents:
    """Return contents with corrections of their metadata, and a note of each."""
    if not found:
        return contents
    return replace(contents, record=_amended(contents.record, found))


def _amended(record: ScanRecord, found: Sequence[Amendment]) -> ScanRecord:
    """Return a record whose corrected metadata stand in its first event.

    So nothing that came later in the scan wins over them.
    """
    if record.prepared is None:
        return record
    tree: dict[str, Any] = merged(record.metadata(), *(one.metadata for one in found))
    title = tree.pop(_TITLE, None) if _has_title(found) else None
    updates = [one.model_copy(update={"metadata": {}}) for one in record.updates]
    ended = record.ended
    if ended is not None:
        ended = ended.model_copy(update={"metadata": {}})
        # Without an end, the last update says when the scan was over.
        updates += [_note_of(one) for one in found]
    return replace(
        record,
        title=title if isinstance(title, str) else record.title,
        prepared=record.prepared.model_copy(update={"metadata": tree}),
        updates=updates,
        ended=ended,
    )


def _has_title(found: Sequence[Amendment]) -> bool:
    return any(_TITLE in one.metadata for one in found)


def _note_of(amendment: Amendment) -> ScanUpdated:
    text = f"metadata amended by {amendment.author}: {amendment.reason}"
    return ScanUpdated(time=amendment.time, note=text)
