"""The spooled entries of one lane, in files of records."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import msgpack

from scanbus.bus.protocol import EncodedEntry, split_id
from scanbus.publisher.spool.losses import Loss
from scanbus.publisher.spool.marks import Mark
from scanbus.publisher.spool.record_files import SEGMENT_BYTES, RecordFiles
from scanbus.publisher.spool.records import Head

__all__ = ["LaneFiles"]

# The longest form of a msgpack bin: a type byte and 32 bits of length, big-endian.
_BIN32 = struct.Struct(">BI")
_BIN32_TYPE = 0xC6


class LaneFiles:
    """Writes entries, reads payloads back.

    One thread appends; any thread may load.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of this lane alone, named like it; made with the first entry.
    session : bytes
        Names the publisher.
    segment_bytes : int
        Size from which on a new file is begun.

    Attributes
    ----------
    records : RecordFiles
        The files.
    """

    def __init__(
        self, folder: Path, session: bytes, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        self.records = RecordFiles(folder, session, segment_bytes)

    def recover(self, mark: Mark | None = None) -> list[EncodedEntry | Loss]:
        """Return the entries in the files, without payloads, and what is missing.

        Raises
        ------
        SpoolError
            If a file cannot be opened, or holds records of another lane or scan.
        """
        return list(self.records.recover(mark, _decoded))

    def append(self, entry: EncodedEntry) -> None:
        """Write an entry; errors as of `RecordFiles.append`."""
        packer: Any = msgpack.Packer(autoreset=False)
        packer.pack_array_header(4)
        for value in (entry.id, entry.stop, entry.header):
            packer.pack(value)
        prefix = packer.bytes() + _BIN32.pack(_BIN32_TYPE, len(entry.payload))
        # The payload is not copied.
        self.records.append(_first_of(entry), entry.stop, prefix, entry.payload)

    def load(self, entry: EncodedEntry) -> EncodedEntry:
        """Return an entry with its payload; errors as of `RecordFiles.load`."""
        if not entry.spooled_bytes:
            return entry
        return _entry(self.records.load(_first_of(entry)))


def _decoded(_: Head, body: bytes) -> tuple[int, EncodedEntry]:
    entry = _entry(body).without_payload()
    return _first_of(entry), entry


def _entry(body: bytes) -> EncodedEntry:
    unpacked: Any = msgpack.unpackb(body)
    return EncodedEntry(*unpacked)


def _first_of(entry: EncodedEntry) -> int:
    return entry.stop if entry.is_seal else split_id(entry.id)[0]
