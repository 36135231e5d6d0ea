"""Take whole files out of a watched folder, one series after the other.

A series that is not current waits on the disk, so series never mix. A file is noted
before its frames are handed on.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from time import time as wall_clock
from typing import Any

from scanbus.publisher.gateways.files.dates import is_date
from scanbus.publisher.gateways.files.headers import HeaderFacts, read_header
from scanbus.publisher.gateways.files.images import (
    NO_FRAME,
    Frame,
    open_image,
)
from scanbus.publisher.gateways.files.watch.after_verdict import AfterVerdict
from scanbus.publisher.gateways.files.watch.file_messages import (
    FileRefused,
    FrameOfFile,
    ended,
    started,
)
from scanbus.publisher.gateways.files.watch.file_names import shown
from scanbus.publisher.gateways.files.watch.folder import FileId
from scanbus.publisher.gateways.files.watch.settings import WatchSettings
from scanbus.publisher.gateways.files.watch.taken_files import (
    TakenFile,
    TakenFiles,
    TakenSeries,
)
from scanbus.publisher.gateways.files.watch.waiting_files import WaitingFiles, WholeFile
from scanbus.publisher.gateways.runner.gateway import RawMessage
from scanbus.schemas.errors import SourceError
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger

__all__ = ["OpenedScans", "WatchSource"]

log = get_logger()

# So long the ends of scans may take that a spool has.
_SPOOLED_S = 20.0


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
        self._waiting = WaitingFiles(settings, taken)
        after.look_now(taken)
        taken.forget_gone()
        # Series of which no process before this one saw the end; that of the scan which
        # goes on comes first.
        self._goes_on = goes_on = after.keys_on_the_way()
        self._resumed = deque(
            sorted(taken.unsent(), key=lambda each: each.key not in goes_on)
        )
        self._ends_by = monotonic() + _SPOOLED_S
        self._current: TakenSeries | None = None
        self._is_open = self._is_held = False
        self._n_files = self._next_number = 0
        self._again: deque[TakenFile] = deque()
        self._frames: Iterator[RawMessage | None] = iter(())
        self._last_change = monotonic()
        # Headers of the current series: the first, and that of the last frame.
        self._first: HeaderFacts | None = None
        self._last: tuple[int, dict[str, Any]] | None = None

    def close(self) -> None:
        """Watch no more."""
        self._waiting.close()
        self._taken.close()

    def receive(self, timeout_s: float) -> RawMessage | None:
        """Return the next message; None if there is none in time."""
        message = next(self._frames, None)
        if message is not None:
            return message
        self._waiting.collect(0.0 if self._has_work() else timeout_s)
        self._after.look(self._taken, self._current)
        if self._current is None:
            return self._begin()
        self._note_opened(timeout_s)
        if not self._is_open:
            return None
        if self._again:
            return self._take(self._again.popleft())
        found = self._waiting.first(self._current.name)
        if found is not None:
            self._waiting.remove(found)
            return self._take_new(self._current, found)
        self._is_held = self._waiting.has(self._current.name)
        return self._end() if self._is_over(self._current) else None

    def _has_work(self) -> bool:
        """Whether to wait for files would be a waste of time."""
        if self._is_held:
            self._is_held = False  # Files that wait for others: look again later.
            return False
        if self._current is None:
            return bool(self._resumed) or self._waiting.has(None)
        return bool(self._again) or self._waiting.has(self._current.name)

    # -------------------------------------------------------------------- series

    def _begin(self) -> RawMessage | None:
        """Begin the series of which a file came first."""
        while self._resumed:
            if self._may_end_yet(self._resumed[0]):
                self._is_held = True
                return None
            series = self._resumed.popleft()
            if series.key in {each.key for each in self._taken.unsent()}:
                return self._resume(series)
        firsts = self._waiting.firsts()
        if not firsts:
            self._is_held = True
            return None
        first = min(firsts, key=lambda each: each.id.mtime_ns)
        read = self._first_frame(first)
        if not isinstance(read, Frame):
            return read
        number = self._waiting.lowest_number(first)
        series = self._taken.begin(first.place.series, number, read.n_in_file)
        return self._start(series, read)

    def _may_end_yet(self, series: TakenSeries) -> bool:
        """Whether the end of a scan may still be on its way to the bus.

        The process before this one ended it, and its spool is being sent.
        """
        is_open = series.key in self._after.still_open - self._goes_on
        return is_open and monotonic() < self._ends_by

    def _first_frame(self, file: WholeFile) -> Frame | RawMessage | None:
        """Return the first frame of a file, or what becomes of the file."""
        try:
            partial = self._waiting.folder.is_last_try(file.path)
            frame = next(open_image(file.path, partial=partial, foreign=True))
        except SourceError as error:
            self._waiting.remove(file)
            return self._unreadable(file.path, file.id, error)
        return frame

    def _resume(self, series: TakenSeries) -> RawMessage:
        """Go on with a series, also if none of its files is there any more."""
        frame: Frame | None = None
        for file in self._taken.of(series):
            try:
                frame = next(open_image(file.path, partial=True, foreign=True))
            except SourceError:
                continue
            break
        return self._start(series, frame)

    def _start(self, series: TakenSeries, first: Frame | None) -> RawMessage:
        self._current, self._is_open = series, False
        self._n_files = self._taken.count_of(series)
        self._last_change = monotonic()
        self._first = None if first is None else read_header(first.header)
        self._last = None
        message = started(
            series.name,
            series.key,
            first,
            first_number=series.first * series.frames_per_file,
            n_frames=self._settings.n_frames,
            zone=self._settings.zone,
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
        self._is_open, self._next_number = True, next_number
        first_file = next_number // series.frames_per_file
        self._again = deque(self._taken.of(series, first_file))

    def _is_over(self, series: TakenSeries) -> bool:
        wanted = self._settings.n_frames
        if wanted is not None and self._n_files * series.frames_per_file >= wanted:
            return True
        if self._waiting.has(series.name):
            return False
        changed = max(self._last_change, self._waiting.last_change(series.name))
        return monotonic() - changed > self._settings.idle_s

    def _end(self) -> RawMessage:
        series = self._current
        assert series is not None
        self._current = None
        last = None if self._last is None else read_header(self._last[1])
        message = ended(series.name, last, self._settings.zone)
        return RawMessage(message, 0, wall_clock())

    # --------------------------------------------------------------------- frames

    def _take_new(self, series: TakenSeries, file: WholeFile) -> RawMessage | None:
        number = file.place.number
        if self._settings.by_arrival:
            number = self._taken.stop_of(series)
        return self._take(TakenFile(file.path, file.id, number or 0), is_new=True)

    def _take(self, file: TakenFile, *, is_new: bool = False) -> RawMessage | None:
        """Note a file, and return its first frame."""
        series = self._current
        assert series is not None
        if FileId.of(file.path) != file.id:
            return None  # It is gone, or is offered again when it is whole.
        from_number = 0 if is_new else self._next_number
        partial = not is_new or self._waiting.folder.is_last_try(file.path)
        frames = self._messages(series, file, from_number, partial=partial)
        try:
            first = next(frames, None)
        except SourceError as error:
            if is_new:
                return self._unreadable(file.path, file.id, error)
            return _raw(FileRefused(file.path, error.reason))
        if is_new:
            if not self._waiting.folder.is_unchanged(file.path, file.id):
                return None
            self._note_taken(series, file)
        self._last_change = monotonic()
        self._frames = self._noted(file, first, frames)
        return next(self._frames)

    def _noted(
        self, file: TakenFile, message: RawMessage | None, more: Iterator[RawMessage]
    ) -> Iterator[RawMessage | None]:
        """Yield all messages of a file; before the last one, note that it is whole."""
        for each in more:
            yield message
            message = each
        self._taken.note_whole(file)
        yield message

    def _note_taken(self, series: TakenSeries, file: TakenFile) -> None:
        """Note a file, unless its frames come too late or again: then it must stay."""
        is_late = (file.number + 1) * series.frames_per_file <= self._next_number
        is_again = self._taken.has_number(series, file.number)
        self._taken.add(series, file)
        if is_again:
            self._taken.note_number_refused(series, file.number)
        elif is_late:
            self._taken.note_refused(file)
        else:
            self._n_files += 1

    def _messages(
        self, series: TakenSeries, file: TakenFile, from_number: int, *, partial: bool
    ) -> Iterator[RawMessage]:
        """Yield the frames of a file; an error only instead of the first one."""
        first = file.number * series.frames_per_file
        written = file.id.mtime_ns / 1e9
        if not is_date(written):
            written = wall_clock()
        n_taken = n_in_file = 0
        try:
            for frame in open_image(file.path, partial=partial, foreign=True):
                if frame.number >= series.frames_per_file:
                    n_first = series.frames_per_file
                    reason = f"it has more than {n_first} frames, unlike the first file"
                    yield self._refused(file, reason)
                    return
                number = first + frame.number
                n_taken, n_in_file = n_taken + 1, frame.n_in_file
                if number >= from_number:
                    self._note_last(number, frame)
                    content = FrameOfFile(
                        series.name,
                        number,
                        frame,
                        written,
                        self._first,
                        self._settings.zone,
                    )
                    yield _raw(content, frame.data.nbytes)
            if n_taken < n_in_file:
                reason = f"{n_in_file - n_taken} of its frames were never written"
                yield self._refused(file, reason)
        except SourceError as error:
            if not n_taken:
                raise
            yield self._refused(file, error.reason)

    def _refused(self, file: TakenFile, reason: str) -> RawMessage:
        """Note that some frames of a file are in no scan, and say so."""
        self._taken.note_refused(file)
        return _raw(FileRefused(file.path, reason))

    def _note_last(self, number: int, frame: Frame) -> None:
        """Keep the header of the frame with the highest number."""
        if self._last is None or number >= self._last[0]:
            self._last = number, frame.header

    def _unreadable(
        self, path: Path, found: FileId, error: SourceError
    ) -> RawMessage | None:
        """Try a file again later that cannot be read; refuse it in the end."""
        is_empty = error.reason == NO_FRAME
        if not is_empty and self._waiting.folder.hand_back(path):
            return None
        self._taken.add(None, TakenFile(path, found, 0))
        if is_empty:
            log.info(
                LogEvent.FILE_IGNORED, path=shown(path), reason=shown(error.reason)
            )
            return None
        return _raw(FileRefused(path, error.reason))


def _raw(content: Any, n_bytes: int = 0) -> RawMessage:
    return RawMessage(content, n_bytes, wall_clock())
