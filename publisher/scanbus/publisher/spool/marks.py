"""How far the records of a scan's spool reach, in a file of its own.

A file that was cut between two records looks whole, and so does a folder without its
first file. What was written, and what was removed, therefore stands beside the records
as well: for each lane one slot, overwritten in place after each record. Two copies,
written one after the other: one is whole at any time.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from pathlib import Path

from scanbus.bus.protocol import checksum_of
from scanbus.publisher.spool.regular_files import open_regular, read_regular
from scanbus.schemas.errors import SpoolError

__all__ = ["Mark", "Marks", "packed_json", "unpacked_json"]

_COPIES = ("marks.a", "marks.b")
# A sector of a disk, which is written whole. Names have at most 63 characters.
_SLOT_BYTES = 512
# Serial number, the fields of a mark, the length of the name; a checksum before them.
_FIELDS = struct.Struct("<QQQQQQ")
_CHECK = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class Mark:
    """The records of one lane, or of the events, that must be there.

    Attributes
    ----------
    sequence, point : int
        Number of the first record that was not removed, and its first point.
    next_sequence, stop : int
        Number and point after the last record that was written.
    """

    sequence: int = 0
    point: int = 0
    next_sequence: int = 0
    stop: int = 0


def packed_json(content: Mapping[str, object]) -> bytes:
    """Return a document on one line, and its checksum on another."""
    text = json.dumps(content).encode()
    return b"%s\n%016x\n" % (text, checksum_of(text))


def unpacked_json(data: bytes) -> dict[str, object]:
    """Return a document that `packed_json` made.

    Raises
    ------
    ValueError
        If it is damaged.
    """
    text, _, checksum = data.rstrip(b" \n").partition(b"\n")
    if checksum != b"%016x" % checksum_of(text):
        raise ValueError("it is damaged: its checksum is wrong")
    content: dict[str, object] = json.loads(text)
    return content


class Marks:
    """Writes and reads the marks of one scan; one thread uses it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptors: list[int] = []
        self._slots: dict[str, int] = {}
        self._n_slots = 0
        self._serial = 0
        self.is_damaged = False
        """Whether `read` found a slot of which neither copy is whole."""

    def write(self, name: str, mark: Mark, *, sync: bool = False) -> bool:
        """Write both copies of the mark of a lane; return whether that was possible.

        Parameters
        ----------
        sync : bool
            Whether they must be on the disk: files are removed next.
        """
        if name not in self._slots:
            self._slots[name] = self._n_slots
            self._n_slots += 1
        self._serial += 1
        data = _packed(self._serial, name, mark)
        offset = self._slots[name] * _SLOT_BYTES
        try:
            self._open()
            for descriptor in self._descriptors:
                if os.pwrite(descriptor, data, offset) < len(data):
                    return False
                if sync:
                    os.fdatasync(descriptor)
        except (OSError, SpoolError):
            return False
        return True

    def _open(self) -> None:
        for name in _COPIES[len(self._descriptors) :]:
            path = self._folder / name
            self._descriptors.append(open_regular(path, os.O_WRONLY | os.O_CREAT))

    def read(self) -> dict[str, Mark]:
        """Return the newest mark of each lane.

        Marks that a crash of the machine has kept from the disk are none, not damaged.
        """
        found: dict[str, tuple[int, Mark]] = {}
        copies = [self._copy(name) for name in _COPIES]
        self._n_slots = max(len(copy or ()) for copy in copies)
        # Of a file that cannot be read, the other copy tells.
        self.is_damaged = None in copies and not self._n_slots
        for slot in range(self._n_slots):
            parsed = [_parsed(copy[slot]) for copy in copies if copy and copy[slot:]]
            whole = [each for each in parsed if each is not None]
            self.is_damaged = self.is_damaged or not whole
            for serial, name, mark in whole:
                self._serial = max(self._serial, serial)
                if serial > found.get(name, (0, mark))[0]:
                    found[name] = serial, mark
                    self._slots[name] = slot
        return {name: mark for name, (_, mark) in found.items()}

    def _copy(self, name: str) -> list[bytes] | None:
        try:
            data = read_regular(self._folder / name)
        except FileNotFoundError:
            return []
        except (OSError, SpoolError):
            return None
        return [data[at : at + _SLOT_BYTES] for at in range(0, len(data), _SLOT_BYTES)]

    def close(self) -> None:
        """Close the files; they stay on the disk."""
        while self._descriptors:
            os.close(self._descriptors.pop())


def _packed(serial: int, name: str, mark: Mark) -> bytes:
    text = name.encode()
    data = _FIELDS.pack(serial, *astuple(mark), len(text)) + text
    data = data.ljust(_SLOT_BYTES - _CHECK.size, b"\0")
    return _CHECK.pack(checksum_of(data)) + data


def _parsed(data: bytes) -> tuple[int, str, Mark] | None:
    """Return serial number, name and mark; an empty name: none; None: damaged."""
    if not data.strip(b"\0"):
        return 0, "", Mark()
    if len(data) < _SLOT_BYTES:
        return None
    checked = data[_CHECK.size :]
    if _CHECK.unpack_from(data)[0] != checksum_of(checked):
        return None
    serial, *fields, length = _FIELDS.unpack_from(checked)
    name = checked[_FIELDS.size : _FIELDS.size + length].decode()
    return serial, name, Mark(*fields)
