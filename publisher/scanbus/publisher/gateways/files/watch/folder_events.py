"""What inotify says of folders: the only module that uses it.

Without the library, or where the kernel gives no more watches, there are no events;
then folders are looked at, which takes longer.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from enum import Enum, auto
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger

__all__ = ["FolderEvent", "FolderEvents", "What"]

log = get_logger()

# Both halves of a move come together; this long one is waited for at most.
_MATE_S = 0.2


class What(Enum):
    """What happened."""

    CREATED = auto()
    """A file came: a program on this host has opened it, or linked it to its name."""
    WRITTEN = auto()
    """A program on this host writes a file."""
    WHOLE = auto()
    """A program on this host has closed a file that it wrote, or has renamed one."""
    GONE = auto()
    """A file was removed, or renamed."""
    FOLDER = auto()
    """A folder came."""
    FOLDER_MOVED = auto()
    """A folder has another path."""
    FOLDER_LEFT = auto()
    """A folder was moved elsewhere."""
    LOST = auto()
    """Events were lost."""


class FolderEvent(NamedTuple):
    """Something that happened.

    Attributes
    ----------
    what : What
        What it was.
    path : Path
        The file or folder.
    was : Path
        Where a folder was that has another path.
    """

    what: What
    path: Path
    was: Path = Path()


class FolderEvents:
    """Events of some folders."""

    def __init__(self) -> None:
        self._inotify: Any = None
        # A watch is of a folder, not of its path: it goes along if the folder is moved.
        self._folders: dict[int, Path] = {}
        self._numbers: dict[Path, int] = {}
        try:
            import inotify_simple  # noqa: PLC0415 - an optional extra

            self._inotify = inotify_simple.INotify()
        except (ImportError, OSError) as error:
            self._give_up(str(error))
            return
        self._flags = flags = inotify_simple.flags
        self._whole = flags.CLOSE_WRITE | flags.MOVED_TO
        self._gone = flags.DELETE | flags.MOVED_FROM
        written = flags.CREATE | flags.MODIFY
        self._mask = written | self._whole | self._gone | flags.ONLYDIR

    @property
    def is_there(self) -> bool:
        """Whether there are events at all."""
        return self._inotify is not None

    def watch(self, folder: Path) -> None:
        """Have events of the folder that has a path now."""
        if self._inotify is None:
            return
        try:
            number = self._inotify.add_watch(folder, self._mask)
        except FileNotFoundError:
            return
        except OSError as error:  # ENOSPC: fs.inotify.max_user_watches
            self._give_up(f"{folder}: {error.strerror}")
            return
        if self._folders.get(number) != folder:
            self._forget(number)  # It was moved.
            self._unwatch(self._numbers.get(folder))  # Another one was there.
            self._folders[number], self._numbers[folder] = folder, number

    def _forget(self, number: int) -> None:
        folder = self._folders.pop(number, None)
        if folder is not None:
            del self._numbers[folder]

    def _unwatch(self, number: int | None) -> None:
        if number is not None:
            self._forget(number)
            with suppress(OSError):  # It is gone.
                self._inotify.rm_watch(number)

    def _below(self, folder: Path) -> list[tuple[int, Path]]:
        every = self._folders.items()
        return [each for each in every if each[1].is_relative_to(folder)]

    def _give_up(self, reason: str) -> None:
        log.warning(LogEvent.FOLDER_POLLED, reason=reason)
        self.close()

    def read(self, timeout_s: float) -> Iterator[FolderEvent]:
        """Yield what happened since; if nothing did, wait so long for something."""
        events = deque(self._read(timeout_s))
        while events:
            event = events.popleft()
            if event.mask & self._flags.Q_OVERFLOW:
                yield FolderEvent(What.LOST, Path())
                continue
            folder = self._folders.get(event.wd)
            if folder is None:
                continue
            if event.mask & self._flags.IGNORED:  # The folder is gone.
                self._forget(event.wd)
                continue
            path = folder / event.name
            if not event.mask & self._flags.ISDIR:
                yield FolderEvent(self._meaning(event.mask), path)
            elif event.mask & self._flags.MOVED_FROM:
                yield self._moved(path, event.cookie, events)
            elif event.mask & (self._flags.CREATE | self._flags.MOVED_TO):
                yield FolderEvent(What.FOLDER, path)

    def _read(self, timeout_s: float) -> list[Any]:
        if self._inotify is None:
            return []
        # In whole milliseconds, rounded up: never a busy loop.
        return list(self._inotify.read(timeout=math.ceil(timeout_s * 1000)))

    def _moved(self, was: Path, cookie: int, events: deque[Any]) -> FolderEvent:
        """Follow a folder that was moved, before events of what is in it are read."""
        folder = self._destination(cookie, events)
        if folder is None:
            for number, _ in self._below(was):
                self._unwatch(number)
            return FolderEvent(What.FOLDER_LEFT, was)
        for number, old in self._below(was):
            new = folder / old.relative_to(was)
            self._forget(number)
            self._unwatch(self._numbers.get(new))
            self._folders[number], self._numbers[new] = new, number
        return FolderEvent(What.FOLDER_MOVED, folder, was)

    def _destination(self, cookie: int, events: deque[Any]) -> Path | None:
        """Return where a folder was moved to; None if that is not watched."""
        deadline = monotonic() + _MATE_S
        while True:
            for event in events:
                if event.cookie == cookie and event.mask & self._flags.MOVED_TO:
                    folder = self._folders.get(event.wd)
                    return None if folder is None else folder / event.name
            left_s = deadline - monotonic()
            if left_s <= 0:
                return None
            events.extend(self._read(left_s))

    def _meaning(self, mask: int) -> What:
        if mask & self._gone:
            return What.GONE
        if mask & self._whole:
            return What.WHOLE
        return What.CREATED if mask & self._flags.CREATE else What.WRITTEN

    def close(self) -> None:
        """Have no more events."""
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None
