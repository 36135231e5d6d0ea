"""Check a segment that lanes of small values share: every record has a checksum."""

from __future__ import annotations

import os
from pathlib import Path

from scanbus.schemas.errors import NameTakenError, VerificationError
from scanbus.writer.check.report import Tally
from scanbus.writer.storage.record_file import Record, is_intact, last_record, records
from scanbus.writer.storage.regular_file import open_regular

__all__ = ["check_shared_segment"]


def check_shared_segment(path: Path, tally: Tally) -> None:
    """Compare the records of a shared segment with their checksums."""
    try:
        descriptor = open_regular(path)
    except (NameTakenError, OSError) as error:
        tally.record(path, "", f"cannot be opened: {error}")
        return
    try:
        end = last_record(descriptor, str(path))
        reached = 0
        for record in records(descriptor, str(path)):
            _check(descriptor, record, path, tally)
            reached = record.stop
        if reached != end.stop:
            tally.record(path, "", f"records from byte {reached} on are damaged")
    except VerificationError as error:
        tally.record(path, "", str(error))
    finally:
        os.close(descriptor)


def _check(descriptor: int, record: Record, path: Path, tally: Tally) -> None:
    head = record.head
    if head.get("kind") == "points":
        n_entries = int(head.get("rows", 0))
        tally.count(entries=n_entries, entries_checked=n_entries)
    if is_intact(descriptor, record):
        return
    sentence = f"the record at byte {record.offset} is damaged"
    first, count = head.get("first"), head.get("count")
    hit = ((first, first + count),) if first is not None and count is not None else ()
    tally.record(path, "", sentence, hit)
