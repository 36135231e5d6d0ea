"""The file systems of a writer: probed at its start, and when one is mounted later.

Mounts are read from the kernel's table, which answers whatever they do. Each is probed
in a thread of its own, with a deadline: a mount whose server is gone would block the
service.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from scanbus.schemas.errors import RootUnusableError, ScanbusError
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger
from scanbus.writer.storage.file_system import FileSystemReport, probe
from scanbus.writer.storage.root_identity import read_root_id

__all__ = ["FileSystems", "Mount", "mounts_below", "parse_mounts"]

log = get_logger()
_DEADLINE_S: Final = 10.0
_TABLE: Final = Path("/proc/self/mountinfo")
# Each may hang for good, with its thread; more than so many do not begin.
_MOST_AT_ONCE: Final = 8
# Thousands may be mounted, as automounters do; those of snapshots are read-only.
_OCTAL: Final = re.compile(r"\\([0-7]{3})")


class Mount(NamedTuple):
    """A line of the kernel's table of mounts.

    Attributes
    ----------
    number : str
        Its number; another one after it was unmounted and mounted again.
    path : str
        Where it is mounted.
    is_read_only : bool
        Whether nothing can be written there.
    """

    number: str
    path: str
    is_read_only: bool


class _Probe(threading.Thread):
    """Probes one folder; it is left alone where the file system does not answer."""

    def __init__(self, folder: Path, *, is_root: bool = False) -> None:
        super().__init__(name="scanbus-probe", daemon=True)
        self._folder = folder
        self._is_root = is_root
        self._began = time.monotonic()
        self.report: FileSystemReport | None = None
        self.real_path = str(folder)
        self.error: ScanbusError | None = None

    def run(self) -> None:
        try:
            if self._is_root:
                read_root_id(self._folder)  # What is no root is not written to.
            self.real_path = os.path.realpath(self._folder)
            self.report = probe(self._folder)
        except ScanbusError as error:
            self.error = error

    @property
    def is_late(self) -> bool:
        return self.is_alive() and time.monotonic() - self._began > _DEADLINE_S


class FileSystems:
    """Probes the file systems of a root; the service owns it.

    Parameters
    ----------
    root : pathlib.Path
        The root.
    allowed : sequence of pathlib.Path
        Other roots, to which links below the root may lead. They may come and go.
    """

    def __init__(self, root: Path, allowed: Sequence[Path] = ()) -> None:
        self._root = root
        self._allowed = {Mount("", str(path), False) for path in allowed}
        self._next_try = 0.0
        self._real_root = ""
        self._probes: dict[Mount, _Probe] = {}
        self._waiting: list[Mount] = []
        self._absent: set[Mount] = set()
        self._remarks: dict[Mount | None, tuple[str, ...]] = {}

    @property
    def problems(self) -> list[str]:
        """Sentences about what file systems lack that is noticed, or will be."""
        return [text for found in self._remarks.values() for text in found]

    def begin(self) -> None:
        """Probe the root.

        Raises
        ------
        NoRootError
            If the folder is no root; it is not written to.
        RootUnusableError
            If files cannot be written there, or its file system does not answer.
        """
        one = _Probe(self._root, is_root=True)
        one.start()
        one.join(_DEADLINE_S)
        if one.error is not None:
            raise one.error
        if one.report is None:
            sentence = f"its file system did not answer within {_DEADLINE_S:g} s"
            raise RootUnusableError(str(self._root), sentence)
        if one.report.hindrance:
            raise RootUnusableError(str(self._root), one.report.hindrance)
        self._real_root = one.real_path
        self._remarks[None] = _noted(one.report)
        self.look()

    def look(self) -> None:
        """Probe what was mounted below the root since the last call; never waits."""
        mounts = {*mounts_below(self._real_root), *self._allowed}
        for gone in [one for one in self._remarks if one and one not in mounts]:
            del self._remarks[gone]
        self._waiting = [one for one in self._waiting if one in mounts]
        for gone in self._probes.keys() - mounts:
            del self._probes[gone]
        self._forget_absent()
        known = {*self._remarks, *self._probes, *self._waiting}
        self._waiting += sorted(mounts - known)
        self._collect()
        while self._waiting and len(self._probes) < _MOST_AT_ONCE:
            self._start(self._waiting.pop(0))

    def _forget_absent(self) -> None:
        """Try allowed roots again that were no roots, as if they were not mounted."""
        now = time.monotonic()
        if now >= self._next_try:
            self._next_try = now + _DEADLINE_S
            for one in self._absent - self._probes.keys():
                self._waiting.append(one)

    def _start(self, mount: Mount) -> None:
        one = _Probe(Path(mount.path), is_root=mount in self._allowed)
        try:
            one.start()
        except RuntimeError:  # No more threads: at the next look.
            self._waiting.append(mount)
            return
        self._probes[mount] = one

    def _collect(self) -> None:
        for mount, one in tuple(self._probes.items()):
            if one.report is not None:
                del self._probes[mount]
                self._absent.discard(mount)
                self._remarks[mount] = _noted(one.report)
            elif one.error is not None:
                del self._probes[mount]
                self._note_absent(mount, f"allowed_roots: {one.error}")
            elif one.is_late and mount not in self._remarks:
                sentence = (
                    f"{mount.path} is mounted, but did not answer within "
                    f"{_DEADLINE_S:g} s: scans there will wait for it"
                )
                self._remarks[mount] = (sentence,)
                log.warning(LogEvent.FILE_SYSTEM_LACKS, problem=sentence)

    def _note_absent(self, mount: Mount, sentence: str) -> None:
        self._absent.add(mount)
        if self._remarks.get(mount) != (sentence,):
            log.warning(LogEvent.FILE_SYSTEM_LACKS, problem=sentence)
        self._remarks[mount] = (sentence,)


def _noted(report: FileSystemReport) -> tuple[str, ...]:
    """Log a report; return the sentences that stay."""
    log.info(
        LogEvent.FILE_SYSTEM_PROBED,
        path=report.path,
        lacks=report.lacks,
        exclusive=report.exclusive,
        longest_name=report.longest_name,
        refused=report.refused,
    )
    found = report.remarks
    if report.hindrance and not report.refused:
        found = (f"cannot write below {report.path}: {report.hindrance}", *found)
    for sentence in found:
        log.warning(LogEvent.FILE_SYSTEM_LACKS, problem=sentence)
    return found


def mounts_below(root: str) -> Iterator[Mount]:
    """Yield the mounts below a folder, without that of the folder itself.

    Parameters
    ----------
    root : str
        The folder, without symbolic links.
    """
    try:
        table = _TABLE.read_bytes()
    except OSError:  # no Linux, or a container without it
        return
    for mount in parse_mounts(os.fsdecode(table)):
        if mount.path.startswith(f"{root.rstrip('/')}/") and not mount.is_read_only:
            yield mount


def parse_mounts(table: str) -> Iterator[Mount]:
    r"""Yield the mounts of a table, as proc(5) describes ``mountinfo``.

    Examples
    --------
    >>> line = r"36 35 98:0 / /mnt/my\040disk rw,noatime - ext4 /dev/a rw"
    >>> list(parse_mounts(line))
    [Mount(number='36', path='/mnt/my disk', is_read_only=False)]
    """
    for line in table.splitlines():
        fields = line.split(" ")
        if len(fields) > 5:
            path = _OCTAL.sub(lambda found: chr(int(found[1], 8)), fields[4])
            yield Mount(fields[0], path, "ro" in fields[5].split(","))
