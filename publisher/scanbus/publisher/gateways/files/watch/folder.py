"""Which files of a folder are whole.

Inotify says when a program on this host closes or renames a file. It says nothing of
what other hosts write, as on NFS, and of what was there before: such a file counts as
whole when it has not changed for a while. Whoever takes a file must also be able to
read it, and may hand it back.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import NamedTuple

from scanbus.publisher.gateways.files.watch.folder_events import (
    FolderEvent,
    FolderEvents,
    What,
)
from scanbus.schemas.errors import ConfigurationError, SourceFailedError
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger

__all__ = ["FileId", "WatchedFolder"]

log = get_logger()

# Looking at all files takes at most this share of the time.
_LOOK_SHARE = 0.1
_MAX_DEPTH = 16
_MAX_TRIES = 3


class FileId(NamedTuple):
    """What differs if a file is written again, or is another one."""

    mtime_ns: int
    size: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> FileId | None:
        """Return that of a regular file; None if it is a link, none, or gone."""
        try:
            found = path.lstat()
        except OSError:
            return None
        return cls.of_stat(found) if stat.S_ISREG(found.st_mode) else None

    @classmethod
    def of_stat(cls, found: os.stat_result) -> FileId:
        """Return that of the file with this status."""
        return cls(found.st_mtime_ns, found.st_size, found.st_ino)


@dataclass(slots=True)
class _Seen:
    """What is known of a file.

    Attributes
    ----------
    id : FileId
        When it was looked at last.
    since : float
        Since when it is known to be like this.
    is_open : bool
        Whether a program on this host is writing it.
    is_closed : bool
        Whether a program on this host has closed or renamed it since it was offered.
    n_tries : int
        How often it was handed back as it is now.
    is_begun : bool
        Whether a program on this host has created it, and has written nothing yet.
    """

    id: FileId
    since: float
    is_open: bool = False
    is_closed: bool = False
    n_tries: int = 0
    is_begun: bool = False

    def is_settled(self, settle_s: float) -> bool:
        """Whether nobody is known to write it, and it has not changed for a while."""
        is_written = self.is_open or self.is_begun
        return not is_written and monotonic() - self.since >= settle_s


class WatchedFolder:
    """A folder with all folders below it; one thread uses it.

    Parameters
    ----------
    folder : Path
        The folder.
    is_wanted : callable
        Returns whether a file is wanted, by its path.
    settle_s : float
        How long a file must not change, in seconds, if nobody was seen to close it.
    look_s : float
        Shortest time between looks at all files, in seconds.
    gone_s : float
        How long the folder may be away, as when it is mounted anew, in seconds.

    Raises
    ------
    ConfigurationError
        If the folder is none, or cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        is_wanted: Callable[[Path], bool],
        *,
        settle_s: float = 2.0,
        look_s: float = 1.0,
        gone_s: float = 10.0,
    ) -> None:
        self._folder = folder
        self._is_wanted = is_wanted
        self._settle_s = settle_s
        self._look_s = look_s
        self._gone_s = gone_s
        self._gone_since: float | None = None
        self._files: dict[Path, _Seen] = {}
        # Those that were not offered as they are now.
        self._due: set[Path] = set()
        self._next_look = 0.0
        self._events = FolderEvents()
        try:
            next(folder.iterdir(), None)
        except OSError as error:
            self._events.close()
            raise ConfigurationError("folder", f"{folder}: {error.strerror}") from error

    def close(self) -> None:
        """Watch no more."""
        self._events.close()

    @property
    def paths(self) -> list[Path]:
        """All wanted files that are there, whole or not."""
        return list(self._files)

    @property
    def unfinished(self) -> list[tuple[Path, float]]:
        """The files that are not whole yet, and since when they are as they are."""
        return [(path, self._files[path].since) for path in self._due]

    # --------------------------------------------------------------- whole files

    def whole(self, timeout_s: float) -> list[tuple[Path, FileId]]:
        """Return the files that became whole; wait for one until the time is over.

        A file is returned once, again if it changes, and again if it is handed back.

        Raises
        ------
        SourceFailedError
            If the folder is gone, or cannot be read any more.
        """
        deadline = monotonic() + timeout_s
        while True:
            self._follow(0.0)
            if monotonic() >= self._next_look:
                self._look()
            found = [*self._ready()]
            left_s = deadline - monotonic()
            if found or left_s <= 0:
                return found
            self._follow(min(left_s, max(0.0, self._next_look - monotonic())))

    def _ready(self) -> Iterator[tuple[Path, FileId]]:
        for path in tuple(self._due):
            seen = self._files[path]
            if not (seen.is_closed or seen.is_settled(self._settle_s)):
                continue
            found = FileId.of(path)
            if found is None:
                self._drop(path)
            elif found != seen.id and not seen.is_closed:
                self._keep(path, _Seen(found, monotonic()))
            else:
                seen.id, seen.is_closed = found, False
                self._due.discard(path)
                yield path, found

    def is_unchanged(self, path: Path, was: FileId) -> bool:
        """Whether a file that was offered is still the same, and nobody writes it.

        One that is not is offered again when it is whole.
        """
        self._follow(0.0)
        seen = self._files.get(path)
        return bool(seen and not seen.is_open and FileId.of(path) == was)

    def hand_back(self, path: Path) -> bool:
        """Offer a file again that cannot be read; return False if that is useless.

        It is offered when it is closed again, and when it has settled once more, a few
        times.
        """
        seen = self._files.get(path)
        if seen is None or path in self._due:
            return True
        seen.n_tries += 1
        if seen.n_tries >= _MAX_TRIES:
            return False
        seen.since = monotonic()
        self._due.add(path)
        return True

    def is_last_try(self, path: Path) -> bool:
        """Whether a file is not offered again that cannot be read as it is now."""
        seen = self._files.get(path)
        return seen is not None and seen.n_tries >= _MAX_TRIES - 1

    # -------------------------------------------------------------------- events

    def _follow(self, timeout_s: float) -> None:
        """Take note of what inotify says; without it, just wait."""
        if not self._events.is_there:
            sleep(timeout_s)
            return
        for event in self._events.read(timeout_s):
            self._take_note(event)

    def _take_note(self, event: FolderEvent) -> None:
        what, path, was = event
        match what:
            case What.FOLDER:
                self._enter(path)
            case What.FOLDER_MOVED:
                self._move(was, path)
                self._enter(path)
            case What.FOLDER_LEFT:
                for each in self._below(path):
                    self._drop(each)
            case What.LOST:
                self._forget_events()
            case What.GONE:
                self._drop(path)
            case What.CREATED if self._is_wanted(path):
                self._note_created(path)
            case _ if self._is_wanted(path):
                self._note(path, is_open=what is What.WRITTEN)

    def _below(self, folder: Path) -> list[Path]:
        return [path for path in self._files if path.is_relative_to(folder)]

    def _move(self, was: Path, folder: Path) -> None:
        """Keep what is known of the files of a folder that has another path.

        A program may still write one. Each is offered again, under its new path.
        """
        for path in self._below(was):
            seen = self._files[path]
            self._drop(path)
            self._keep(folder / path.relative_to(was), seen)

    def _note_created(self, path: Path) -> None:
        """Note a file that came, which nobody need write: it may be a second name."""
        try:
            status = path.lstat()
        except OSError:
            self._drop(path)
            return
        if not stat.S_ISREG(status.st_mode):
            return
        found, seen = FileId.of_stat(status), self._files.get(path)
        if seen is None or seen.id != found:
            seen = _Seen(found, monotonic())
            self._keep(path, seen)
        seen.is_begun = not status.st_size and status.st_nlink == 1

    def _note(self, path: Path, *, is_open: bool) -> None:
        seen = self._files.get(path)
        if is_open and seen is not None and seen.is_open:
            return  # Programs write a file in many small steps.
        found = FileId.of(path)
        if found is None:
            self._drop(path)
            return
        is_same = seen is not None and seen.id == found
        n_tries = seen.n_tries if seen is not None and is_same and not is_open else 0
        self._keep(path, _Seen(found, monotonic(), is_open, not is_open, n_tries))

    def _keep(self, path: Path, seen: _Seen) -> None:
        self._files[path] = seen
        self._due.add(path)

    def _drop(self, path: Path) -> None:
        self._files.pop(path, None)
        self._due.discard(path)

    def _forget_events(self) -> None:
        """Some events were lost: believe none of those before."""
        for seen in self._files.values():
            seen.is_open = seen.is_begun = False
        self._next_look = 0.0

    # ---------------------------------------------------------------------- looks

    def _look(self) -> None:
        began = monotonic()
        self._look_for_folder(began)
        known = set(self._files)
        for path, found in self._walk(self._folder):
            known.discard(path)
            self._note_look(path, found)
        self._follow(0.0)  # Those that are not there may have been moved.
        for path in known:
            if not path.exists():
                self._drop(path)
        took_s = monotonic() - began
        self._next_look = monotonic() + max(self._look_s, took_s / _LOOK_SHARE)

    def _look_for_folder(self, now: float) -> None:
        """Note whether the folder is there; raise if it was not for too long."""
        try:
            with os.scandir(self._folder):
                self._gone_since = None
        except OSError as error:
            reason = str(error.strerror)
            if self._gone_since is None:
                self._gone_since = now
                log.warning(
                    LogEvent.FOLDER_GONE, folder=str(self._folder), reason=reason
                )
            if now - self._gone_since >= self._gone_s:
                raise SourceFailedError(
                    f"the folder {self._folder}", f"it cannot be read ({reason})"
                ) from error

    def _note_look(self, path: Path, found: FileId) -> None:
        seen = self._files.get(path)
        if seen is None:
            self._keep(path, _Seen(found, monotonic()))
        elif seen.id != found:
            self._keep(path, _Seen(found, monotonic(), seen.is_open, seen.is_closed))

    def _enter(self, folder: Path) -> None:
        """Watch a folder that came, and look at what is in it already."""
        for path, found in self._walk(folder):
            self._note_look(path, found)

    def _walk(self, folder: Path, depth: int = 0) -> Iterator[tuple[Path, FileId]]:
        """Yield all wanted files; watch each folder before it is looked at."""
        if depth > _MAX_DEPTH:
            return
        self._events.watch(folder)
        try:
            with os.scandir(folder) as every:
                inside = list(every)
        except OSError:
            return  # It went meanwhile, or is not ours to read.
        for each in inside:
            path = folder / each.name
            try:
                if each.is_dir(follow_symlinks=False):
                    yield from self._walk(path, depth + 1)
                elif each.is_file(follow_symlinks=False) and self._is_wanted(path):
                    status = each.stat(follow_symlinks=False)
                    yield path, FileId.of_stat(status)
            except OSError:
                continue
