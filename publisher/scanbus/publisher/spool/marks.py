"""How far the records of a scan's spool reach, in a file of its own.

A file that was cut between two records looks whole, and so does a folder without its
first file. What is known to be on the disk, and what was removed, is therefore written
beside the records. Two copies, written one after the other: one is whole at any time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from scanbus.bus.protocol import checksum_of
from scanbus.publisher.spool.regular_files import open_regular, read_regular
from scanbus.schemas.errors import SpoolError

__all__ = ["Mark", "Marks", "packed_json", "unpacked_json"]

_COPIES = ("marks.a", "marks.b")
# Overwriting allocated blocks works on a full disk, too.
_BLOCK_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Mark:
    """The records of one lane, or of the events, that must be on the disk.

    Attributes
    ----------
    sequence, point : int
        Number of the first record that was not removed, and its first point.
    next_sequence, stop : int
        Number and point after the last record that was synced.
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
        self._serial = 0

    def write(self, marks: Mapping[str, Mark], *, sync: bool = False) -> bool:
        """Write both copies; return whether that was possible.

        Parameters
        ----------
        sync : bool
            Whether they must be on the disk: files are removed next.
        """
        self._serial += 1
        content = {name: astuple(mark) for name, mark in marks.items()}
        data = packed_json({"serial": self._serial, "marks": content})
        data += b" " * (-len(data) % _BLOCK_BYTES)
        try:
            return all(_wrote(self._folder / name, data, sync) for name in _COPIES)
        except (OSError, SpoolError):
            return False

    def read(self) -> dict[str, Mark] | None:
        """Return the newest whole marks; None if there are only damaged ones.

        Marks that a crash of the machine has kept from the disk are none, not damaged.
        """
        newest: dict[str, Mark] = {}
        n_damaged = 0
        for name in _COPIES:
            try:
                data = read_regular(self._folder / name)
                serial, marks = _parsed(data) if data.strip(b"\0") else (0, {})
            except FileNotFoundError:
                continue
            except (OSError, ValueError, SpoolError):
                n_damaged += 1
                continue
            if serial > self._serial:
                newest, self._serial = marks, serial
        return None if n_damaged and not newest else newest


def _wrote(path: Path, data: bytes, sync: bool) -> bool:
    descriptor = open_regular(path, os.O_WRONLY | os.O_CREAT)
    try:
        if os.pwrite(descriptor, data, 0) != len(data):
            return False
        os.ftruncate(descriptor, len(data))
        if sync:
            os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
    return True


def _parsed(data: bytes) -> tuple[int, dict[str, Mark]]:
    content: Any = unpacked_json(data)
    marks = {name: Mark(*mark) for name, mark in content["marks"].items()}
    return content["serial"], marks
