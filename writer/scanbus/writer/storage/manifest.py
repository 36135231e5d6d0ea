"""The manifest of a scan: the SHA-256 of its data files and of its scan file.

``sha256sum -c scan0001.sha256`` reads it, in the scan's folder. A line is added when a
file gets its final name, so that a successor need not read again what was hashed; at
the end of the scan the file is written as a whole. Masters are not in it: they change.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Self

from scanbus.schemas.errors import VerificationError
from scanbus.schemas.file_names import manifest_name, parse_scan_folder
from scanbus.writer.model.scan_contents import ScanContents
from scanbus.writer.storage.durable_files import fsync_path
from scanbus.writer.storage.hashing import hash_file
from scanbus.writer.storage.regular_file import is_there, read_regular
from scanbus.writer.storage.work_folder import WorkFolder

__all__ = ["ManifestLine", "complete_manifest", "manifest_of", "read_manifest"]

# As `sha256sum` writes them; names of scanbus have no line breaks.
_LINE: Final = re.compile(r"([0-9a-f]{64}) [ *]([^/\0]+)")


def manifest_of(folder: Path) -> Path | None:
    """Return the path of a scan's manifest; None if it is no folder of a scan."""
    number = parse_scan_folder(folder.name)
    return None if number is None else folder / manifest_name(number)


class ManifestLine:
    """A line that is added when a file gets its final name.

    The manifest is opened before that, and `complete_manifest` gives its name to
    another file. So a writer that stood still, and whose successor has finished the
    scan, adds nothing to the manifest of the finished scan.

    Parameters
    ----------
    folder : pathlib.Path
        The scan's folder.
    is_wanted : bool
        Whether there is a manifest.

    Raises
    ------
    OSError
        If the file system refuses.
    """

    def __init__(self, folder: Path, *, is_wanted: bool = True) -> None:
        path = manifest_of(folder) if is_wanted else None
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = None if path is None else os.open(path, flags, 0o666)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)

    def add(self, name: str, digest: str) -> None:
        """Add the digest of a file that got its final name just now.

        Not synced: after a loss of power the file is hashed again.

        Raises
        ------
        OSError
            If the file system refuses.
        """
        if self._descriptor is not None:
            os.write(self._descriptor, _line(name, digest).encode())


def _line(name: str, digest: str) -> str:
    return f"{digest}  {name}\n"


def read_manifest(path: Path) -> dict[str, str]:
    """Return the digest of each file, in hexadecimal, by name.

    Raises
    ------
    VerificationError
        If it is not a manifest as scanbus and `sha256sum` write them.
    NameTakenError, OSError
        If it cannot be read.
    """
    found, odd = _parsed(path)
    if odd:
        raise VerificationError(str(path), f"line {odd[0]} is not one of a manifest")
    return found


def _parsed(path: Path) -> tuple[dict[str, str], list[int]]:
    """Return the digests by name, and the numbers of lines that have none."""
    found: dict[str, str] = {}
    odd: list[int] = []
    text = read_regular(path).decode("utf-8", "replace")
    for number, line in enumerate(text.splitlines(), start=1):
        match = _LINE.fullmatch(line)
        if match is None:
            odd.append(number)
        else:
            found[match[2]] = match[1]
    return found, odd


def complete_manifest(
    folder: Path, contents: ScanContents, work_folder: WorkFolder
) -> None:
    """Write the manifest of a finished scan, unless it is unwanted.

    What it says of a file stays, also if that is not so any more: then it shows it.

    Parameters
    ----------
    folder : pathlib.Path
        The scan's folder.
    contents : ScanContents
        What the scan has.
    work_folder : WorkFolder
        Where it is made; a successor of this writer renames that folder.

    Raises
    ------
    NameTakenError
        If something that is no file has its name.
    OSError
        If the file system refuses.
    """
    path = manifest_of(folder)
    if path is None or not work_folder.makes_manifest:
        return
    with work_folder.steps.step("manifest", path):
        known, _ = _parsed(path) if is_there(path) else ({}, [])
        lines = [
            _line(name, known.get(name) or hash_file(folder / name))
            for name in sorted(_files_of(contents))
        ]
        # Also if it says so already: see `ManifestLine`.
        made = work_folder.path(path.name)
        made.write_bytes("".join(lines).encode())
        fsync_path(made)
        made.replace(path)
        fsync_path(folder)


def _files_of(contents: ScanContents) -> Iterable[str]:
    """Return the names of the files that do not change any more."""
    for segments in contents.segments.values():
        yield from (segment.name for segment in segments)
    for names in contents.late.values():
        yield from names
    if contents.values_file:
        yield contents.values_file
