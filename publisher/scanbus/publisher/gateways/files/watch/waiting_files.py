"""Whole files that were not taken yet, by series, the lowest numbers first."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from time import monotonic
from typing import Any

from scanbus.publisher.gateways.files.images import natural_key
from scanbus.publisher.gateways.files.watch.file_names import (
    FilePlace,
    is_wanted_name,
    place_of,
    shown,
)
from scanbus.publisher.gateways.files.watch.folder import FileId, WatchedFolder
from scanbus.publisher.gateways.files.watch.settings import WatchSettings
from scanbus.publisher.gateways.files.watch.taken_files import TakenFile, TakenFiles

__all__ = ["WaitingFiles", "WholeFile"]

# A file waits so long for those with lower numbers that are there and not whole, if
# these do not change: then nobody writes them any more.
_PATIENCE_S = 5.0


@dataclass(frozen=True, slots=True)
class WholeFile:
    """A whole file, and its place."""

    place: FilePlace
    path: Path
    id: FileId

    @property
    def order(self) -> tuple[Any, ...]:
        """Sort key in its series."""
        if self.place.number is not None:
            return (self.place.number, str(self.path))
        return (self.id.mtime_ns, natural_key(self.path))


@dataclass(slots=True)
class _Series:
    """The files of a series: each by its path, and a heap with old ones among them."""

    files: dict[Path, WholeFile] = field(default_factory=dict[Path, WholeFile])
    heap: list[tuple[Any, Path]] = field(default_factory=list[tuple[Any, Path]])

    def put(self, file: WholeFile) -> None:
        """Add a file, in place of what was known of it."""
        self.files[file.path] = file
        heapq.heappush(self.heap, (file.order, file.path))

    def first(self) -> WholeFile:
        """Return the first file; there must be one."""
        while True:
            order, path = self.heap[0]
            file = self.files.get(path)
            if file is not None and file.order == order:
                return file
            heapq.heappop(self.heap)


class WaitingFiles:
    """Files of a watched folder; one thread uses it.

    Parameters
    ----------
    settings : WatchSettings
        What is watched, and how.
    taken : TakenFiles
        Which files were taken.
    """

    def __init__(self, settings: WatchSettings, taken: TakenFiles) -> None:
        self._settings = settings
        self._taken = taken
        self._folder = WatchedFolder(
            settings.folder,
            self._is_wanted,
            settle_s=settings.settle_s,
            look_s=settings.look_s,
        )
        self._patience_s = settings.settle_s + _PATIENCE_S
        self._series: dict[str, _Series] = {}
        if settings.skip_existing and taken.is_new:
            self._skip_existing()

    def close(self) -> None:
        """Watch no more."""
        self._folder.close()

    @property
    def folder(self) -> WatchedFolder:
        """The folder."""
        return self._folder

    def _is_wanted(self, path: Path) -> bool:
        return is_wanted_name(path) and fnmatch(path.name, self._settings.match)

    def _place(self, path: Path) -> FilePlace:
        folder = self._settings.folder
        if self._settings.by_arrival:
            below = path.relative_to(folder).parent / f"*{path.suffix.lower()}"
            return FilePlace(shown(below), None)
        return place_of(path, folder)

    def _skip_existing(self) -> None:
        self._folder.whole(0.0)
        for path in self._folder.paths:
            found = FileId.of(path)
            if found is not None:
                self._taken.add(None, TakenFile(path, found, 0))

    # --------------------------------------------------------------------- files

    def collect(self, timeout_s: float) -> None:
        """Wait for files that become whole, at most so long, and keep them."""
        for path, found in self._folder.whole(timeout_s):
            if not self._taken.has(path, found):
                file = WholeFile(self._place(path), path, found)
                self._series.setdefault(file.place.series, _Series()).put(file)

    def has(self, name: str | None) -> bool:
        """Whether files of a series wait, or of any."""
        return bool(self._series) if name is None else name in self._series

    def first(self, name: str) -> WholeFile | None:
        """Return the next file of a series, unless a lower one is on its way."""
        series = self._series.get(name)
        if series is None:
            return None
        found = series.first()
        return None if self._must_wait(found) else found

    def firsts(self) -> list[WholeFile]:
        """Return the next file of each series."""
        return [each for each in map(self.first, tuple(self._series)) if each]

    def remove(self, file: WholeFile) -> None:
        """Take a file out."""
        name = file.place.series
        files = self._series[name].files
        del files[file.path]
        if not files:
            del self._series[name]

    def _must_wait(self, file: WholeFile) -> bool:
        if file.place.number is None:
            return False
        now = monotonic()
        return any(
            number is not None
            and number < file.place.number
            and now - since < self._patience_s
            for number, since in self._unfinished(file.place.series)
        )

    def _unfinished(self, name: str) -> Iterator[tuple[int | None, float]]:
        """Yield numbers of the files of a series that are not whole, and since when."""
        for path, since in self._folder.unfinished:
            place = self._place(path)
            if place.series == name:
                yield place.number, since

    def last_change(self, name: str) -> float:
        """Return when one of the files of a series changed that are not whole yet."""
        return max((since for _, since in self._unfinished(name)), default=0.0)

    def lowest_number(self, first: WholeFile) -> int:
        """Return the lowest number in the series of a file, whole or not; else 0."""
        if first.place.number is None:
            return 0
        numbers = [first.place.number]
        for path in self._folder.paths:
            place = self._place(path)
            if place.series != first.place.series or place.number is None:
                continue
            found = FileId.of(path)
            if found and not self._taken.has(path, found):
                numbers.append(place.number)
        return min(numbers)
