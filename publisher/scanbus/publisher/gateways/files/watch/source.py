"""Take whole files out of a watched folder, one series after the other.

A series that is not current waits on the disk, so series never mix. A file is noted
before its frames are handed on.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from time import monotonic
from time import time as wall_clock
from typing import Any

from scanbus.publisher.gateways.files.images import (
    NO_FRAME,
    Frame,
    natural_key,
    open_image,
)
from scanbus.publisher.gateways.files.watch.after_verdict import AfterVerdict
from scanbus.publisher.gateways.files.watch.file_messages import (
    FileRefused,
    FrameOfFile,
    started,
)
from scanbus.publisher.gateways.files.watch.file_names import (
    FilePlace,
    is_wanted_name,
    place_of,
)
from scanbus.publisher.gateways.files.watch.folder import FileId, WatchedFolder
from scanbus.publisher.gateways.files.watch.settings import WatchSettings
from scanbus.publisher.gateways.files.watch.taken_files import (
    TakenFile,
    TakenFiles,
    TakenSeries,
)
from scanbus.publisher.gateways.runner.gateway import RawMessage
from scanbus.publisher.gateways.runner.messages import SeriesEnded
from scanbus.schemas.errors import SourceError
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger

__all__ = ["OpenedScans", "WatchSource"]

log = get_logger()

# A file waits so long for those with lower numbers that are there and not whole, if
# these do not change: then nobody writes them any more.
_PATIENCE_S = 5.0


class OpenedScans:
    """What the runner says of its scans, for the thread that takes files."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._opened: dict[str, tuple[str, int]] = {}

    def add(self, key: str, uid: str, next_number: int) -> None:
        """Note the scan of a series, which has all frames before a number."""
        with self._changed:
            self._opened[key] = uid, next_number
            self._changed.notify_all()

    def take(self, key: str, timeout_s: float) -> tuple[str, int] | None:
        """Return what was noted last of a series; None if there is nothing new."""
        with self._changed:
            self._changed.wait_for(lambda: key in self._opened, timeout_s)
            return self._opened.pop(key, None)


@dataclass(frozen=True, slots=True)
class _Whole:
    """A whole file that was not taken yet."""

    place: FilePlace
    path: Path
    id: FileId

    @property
    def order(self) -> tuple[Any, ...]:
        """Sort key in its series."""
        if self.place.number is not None:
            return (self.place.number, "")
        return (self.id.mtime_ns, natural_key(self.path))


class WatchSource:
    """The files of a folder; the receiver's thread alone uses it.

    Parameters
    ----------
    settings : WatchSettings
        What is watched, and how.
    scans : OpenedScans
        What the runner says.
    after : AfterVerdict
        What is done with files later.
    """

    def __init__(
        self,
        settings: WatchSettings,
        scans: OpenedScans,
        taken: TakenFiles,
        after: AfterVerdict,
    ) -> None:
        self._settings = settings
        self._scans = scans
        self._taken = taken
        self._after = after
        self._folder = WatchedFolder(
            settings.folder,
            self._is_wanted,
            settle_s=settings.settle_s,
            look_s=settings.look_s,
        )
        if settings.skip_existing and taken.is_new:
            self._skip_existing()
        self._patience_s = settings.settle_s + _PATIENCE_S
        after.look_now(taken)
        # Series of which no process before this one saw the end; that of the scan which
        # goes on comes first.
        unsent = taken.unsent()
        unsent.sort(key=lambda each: each.key != after.key_on_the_way())
        self._resumed = deque(unsent)
        self._waiting: dict[str, list[_Whole]] = {}
        self._current: TakenSeries | None = None
        self._is_open = self._is_held = False
        self._n_files = 0
        self._again: deque[TakenFile] = deque()
        self._frames: Iterator[RawMessage] = iter(())
        self._last_change = monotonic()

    def close(self) -> None:
        """Watch no more."""
        self._folder.close()
        self._taken.close()

    def receive(self, timeout_s: float) -> RawMessage | None:
        """Return the next message; None if there is none in time."""
        message = next(self._frames, None)
        if message is not None:
            return message
        self._collect(0.0 if self._has_work() and not self._is_held else timeout_s)
        self._is_held = False
        self._after.look(self._taken, self._current)
        if self._current is None:
            return self._begin()
        self._note_opened(timeout_s)
        if not self._is_open:
            return None
        if self._again:
            return self._take(self._again.popleft())
        found = self._next_file(self._current)
        if found is not None:
            return self._take_new(self._current, found)
        return self._end() if self._is_over(self._current) else None

    def _has_work(self) -> bool:
        if self._current is None:
            return bool(self._resumed or self._waiting)
        return bool(self._again or self._waiting.get(self._current.name))

    # --------------------------------------------------------------------- files

    def _is_wanted(self, path: Path) -> bool:
        return is_wanted_name(path) and fnmatch(path.name, self._settings.match)

    def _place(self, path: Path) -> FilePlace:
        folder = self._settings.folder
        if self._settings.by_arrival:
            below = path.relative_to(folder).parent / f"*{path.suffix.lower()}"
            return FilePlace(below.as_posix(), None)
        return place_of(path, folder)

    def _collect(self, timeout_s: float) -> None:
        """Put files that became whole to the others of their series."""
        for path, found in self._folder.whole(timeout_s):
            if self._taken.has(path, found):
                continue
            whole = _Whole(self._place(path), path, found)
            waiting = self._waiting.setdefault(whole.place.series, [])
            waiting[:] = [each for each in waiting if each.path != path]
            waiting.append(whole)

    def _skip_existing(self) -> None:
        self._folder.whole(0.0)
        for path in self._folder.paths:
            found = FileId.of(path)
            if found is not None:
                self._taken.add(None, TakenFile(path, found, 0))

    def _next_file(self, series: TakenSeries) -> _Whole | None:
        """Return the waiting file of a series that is next, if one is."""
        found = self._first_waiting(series.name)
        if found is not None:
            self._remove(found)
        return found

    def _first_waiting(self, name: str) -> _Whole | None:
        """Return the file with the lowest number, unless a lower one is on its way."""
        waiting = self._waiting.get(name)
        if not waiting:
            return None
        found = min(waiting, key=lambda each: each.order)
        for path, since in self._unfinished(name):
            number = self._place(path).number
            if number is None or found.place.number is None:
                continue
            is_lower = number < found.place.number
            if is_lower and monotonic() - since < self._patience_s:
                self._is_held = True
                return None
        return found

    def _unfinished(self, name: str) -> Iterator[tuple[Path, float]]:
        """Yield the files of a series that are not whole, and since when."""
        for path, since in self._folder.unfinished:
            if self._place(path).series == name:
                yield path, since

    def _remove(self, whole: _Whole) -> None:
        waiting = self._waiting[whole.place.series]
        waiting.remove(whole)
        if not waiting:
            del self._waiting[whole.place.series]

    # -------------------------------------------------------------------- series

    def _begin(self) -> RawMessage | None:
        """Begin the series of which a file came first."""
        while self._resumed:
            series = self._resumed.popleft()
            if series.key in {each.key for each in self._taken.unsent()}:
                return self._resume(series)
        firsts = [each for each in map(self._first_waiting, self._waiting) if each]
        if not firsts:
            return None
        first = min(firsts, key=lambda each: each.id.mtime_ns)
        read = self._first_frame(first)
        if not isinstance(read, Frame):
            return read
        name = first.place.series
        number = self._lowest_number(first)
        series = self._taken.begin(name, number, read.n_in_file)
        return self._start(series, read)

    def _first_frame(self, whole: _Whole) -> Frame | RawMessage | None:
        """Return the first frame of a file, or what becomes of the file."""
        try:
            frame = next(open_image(whole.path))
        except SourceError as error:
            self._remove(whole)
            return self._unreadable(whole.path, whole.id, error)
        return frame

    def _lowest_number(self, first: _Whole) -> int:
        """Return the lowest number among files that are there, whole or not."""
        if first.place.number is None:
            return 0
        numbers = [first.place.number]
        for path in self._folder.paths:
            place, found = self._place(path), FileId.of(path)
            is_other = place.series != first.place.series or place.number is None
            if not is_other and found and not self._taken.has(path, found):
                assert place.number is not None
                numbers.append(place.number)
        return min(numbers)

    def _resume(self, series: TakenSeries) -> RawMessage:
        """Go on with a series, also if none of its files is there any more."""
        frame: Frame | None = None
        for file in self._taken.of(series):
            try:
                frame = next(open_image(file.path))
            except SourceError:
                continue
            break
        return self._start(series, frame)

    def _start(self, series: TakenSeries, first: Frame | None) -> RawMessage:
        self._current, self._is_open = series, False
        self._n_files = self._taken.count_of(series)
        self._last_change = monotonic()
        message = started(
            series.name,
            series.key,
            first,
            first_number=series.first * series.frames_per_file,
            n_frames=self._settings.n_frames,
        )
        return RawMessage(message, 0, wall_clock())

    def _note_opened(self, timeout_s: float) -> None:
        """Follow what the runner says of the scan; send again what it may lack."""
        series = self._current
        assert series is not None
        opened = self._scans.take(series.key, 0.0 if self._is_open else timeout_s)
        if opened is None:
            return
        uid, next_number = opened
        self._taken.set_scan(series, uid)
        if self._is_open:
            return  # The scan failed, and the rest of the series is another one.
        self._is_open = True
        first_file = next_number // series.frames_per_file
        self._again = deque(self._taken.of(series, first_file))

    def _is_over(self, series: TakenSeries) -> bool:
        wanted = self._settings.n_frames
        if wanted is not None and self._n_files * series.frames_per_file >= wanted:
            return True
        changes = [since for _, since in self._unfinished(series.name)]
        return monotonic() - max([self._last_change, *changes]) > self._settings.idle_s

    def _end(self) -> RawMessage:
        series = self._current
        assert series is not None
        self._current = None
        return RawMessage(SeriesEnded(series.name), 0, wall_clock())

    # --------------------------------------------------------------------- frames

    def _take_new(self, series: TakenSeries, whole: _Whole) -> RawMessage | None:
        number = whole.place.number
        if self._settings.by_arrival:
            number = self._taken.stop_of(series)
        file = TakenFile(whole.path, whole.id, number or 0)
        return self._take(file, is_new=True)

    def _take(self, file: TakenFile, *, is_new: bool = False) -> RawMessage | None:
        """Note a file, and return its first frame."""
        series = self._current
        assert series is not None
        if FileId.of(file.path) != file.id:
            return None  # It is gone, or is offered again when it is whole.
        frames = self._messages(series, file)
        try:
            first = next(frames)
        except SourceError as error:
            if is_new:
                return self._unreadable(file.path, file.id, error)
            return _raw(FileRefused(file.path, error.reason))
        if is_new:
            if not self._folder.is_unchanged(file.path, file.id):
                return None
            self._taken.add(series, file)
            self._n_files += 1
        self._last_change = monotonic()
        self._frames = frames
        return first

    def _messages(self, series: TakenSeries, file: TakenFile) -> Iterator[RawMessage]:
        """Yield the frames of a file; an error only instead of the first one."""
        first = file.number * series.frames_per_file
        written = file.id.mtime_ns / 1e9
        n_taken = 0
        try:
            for frame in open_image(file.path):
                if n_taken == series.frames_per_file:
                    reason = f"it has more than {n_taken} frames, unlike the first file"
                    yield _raw(FileRefused(file.path, reason))
                    return
                content = FrameOfFile(series.name, first + n_taken, frame, written)
                yield _raw(content, frame.data.nbytes)
                n_taken += 1
        except SourceError as error:
            if not n_taken:
                raise
            yield _raw(FileRefused(file.path, error.reason))

    def _unreadable(
        self, path: Path, found: FileId, error: SourceError
    ) -> RawMessage | None:
        """Try a file again later that cannot be read; refuse it in the end."""
        is_empty = error.reason == NO_FRAME
        if not is_empty and self._folder.hand_back(path):
            return None
        self._taken.add(None, TakenFile(path, found, 0))
        if is_empty:
            log.info(LogEvent.FILE_IGNORED, path=str(path), reason=error.reason)
            return None
        return _raw(FileRefused(path, error.reason))


def _raw(content: Any, n_bytes: int = 0) -> RawMessage:
    return RawMessage(content, n_bytes, wall_clock())
