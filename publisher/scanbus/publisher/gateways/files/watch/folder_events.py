"""What inotify says of folders: the only module that uses it.

Without the library, or where the kernel gives no more watches, there are no events;
then folders are looked at, which takes longer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from enum import Enum, auto
from pathlib import Path
from typing import Any

from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger

__all__ = ["FolderEvents", "What"]

log = get_logger()


class What(Enum):
    """What happened."""

    WRITTEN = auto()
    """A program on this host writes a file."""
    WHOLE = auto()
    """A program on this host has closed a file that it wrote, or has renamed one."""
    GONE = auto()
    """A file was removed, or renamed."""
    FOLDER = auto()
    """A folder came."""
    LOST = auto()
    """Events were lost."""


class FolderEvents:
    """Events of some folders."""

    def __init__(self) -> None:
        self._inotify: Any = None
        self._folders: dict[int, Path] = {}
        self._watched: set[Path] = set()
        try:
            import inotify_simple  # noqa: PLC0415 - an optional extra

            self._inotify = inotify_simple.INotify()
        except (ImportError, OSError) as error:
            self._give_up(str(error))
            return
        self._flags = flags = inotify_simple.flags
        self._written = flags.CREATE | flags.MODIFY
        self._whole = flags.CLOSE_WRITE | flags.MOVED_TO
        self._gone = flags.DELETE | flags.MOVED_FROM
        self._mask = self._written | self._whole | self._gone | flags.ONLYDIR

    @property
    def is_there(self) -> bool:
        """Whether there are events at all."""
        return self._inotify is not None

    def watch(self, folder: Path) -> None:
        """Have events of a folder, unless it is watched already."""
        if self._inotify is None or folder in self._watched:
            return
        try:
            number = self._inotify.add_watch(folder, self._mask)
        except FileNotFoundError:
            return
        except OSError as error:  # ENOSPC: fs.inotify.max_user_watches
            self._give_up(f"{folder}: {error.strerror}")
            return
        self._watched.discard(self._folders.get(number, folder))  # It was renamed.
        self._folders[number] = folder
        self._watched.add(folder)

    def _give_up(self, reason: str) -> None:
        log.warning(LogEvent.FOLDER_POLLED, reason=reason)
        self.close()

    def read(self, timeout_s: float) -> Iterator[tuple[What, Path]]:
        """Yield what happened since; if nothing did, wait so long for something."""
        if self._inotify is None:
            return
        # In whole milliseconds, rounded up: never a busy loop.
        for event in self._inotify.read(timeout=math.ceil(timeout_s * 1000)):
            if event.mask & self._flags.Q_OVERFLOW:
                yield What.LOST, Path()
                continue
            folder = self._folders.get(event.wd)
            if folder is None:
                continue
            if event.mask & self._flags.IGNORED:  # The folder is gone.
                self._watched.discard(self._folders.pop(event.wd))
                continue
            path = folder / event.name
            if event.mask & self._flags.ISDIR:
                if event.mask & (self._flags.CREATE | self._flags.MOVED_TO):
                    yield What.FOLDER, path
                continue
            yield self._meaning(event.mask), path

    def _meaning(self, mask: int) -> What:
        if mask & self._gone:
            return What.GONE
        return What.WHOLE if mask & self._whole else What.WRITTEN

    def close(self) -> None:
        """Have no more events."""
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None
