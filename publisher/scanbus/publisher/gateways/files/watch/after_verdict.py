"""What becomes of files when their scan has its verdict: kept, linked, or removed.

The bus says how a scan ended and what its verdict is. Where it does not know a scan any
more, files stay where they are.
"""

from __future__ import annotations

import errno
import filecmp
import os
import shutil
from contextlib import suppress
from pathlib import Path
from time import monotonic

from scanbus.bus.protocol import ScanRecord
from scanbus.bus.store import Bus, find_scan, open_bus, read_gateway
from scanbus.publisher.gateways.files.images import open_image
from scanbus.publisher.gateways.files.watch.file_names import shown
from scanbus.publisher.gateways.files.watch.folder import FileId
from scanbus.publisher.gateways.files.watch.settings import WatchSettings
from scanbus.publisher.gateways.files.watch.taken_files import (
    TakenFile,
    TakenFiles,
    TakenSeries,
)
from scanbus.publisher.gateways.runner.report import SOURCE_FAILED
from scanbus.publisher.spool.regular_files import sync_folder
from scanbus.schemas import EndReason, Verdict, VerdictWord
from scanbus.schemas.errors import ScanbusError, SourceError, UnknownScanError
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger

__all__ = ["AfterVerdict"]

log = get_logger()

_LOOK_S = 2.0
_NAME = "scanbus-watch"


class AfterVerdict:
    """Looks for the ends and verdicts of the scans of one folder.

    Parameters
    ----------
    url : str
        Address of Redis.
    settings : WatchSettings
        Whether files are removed or linked.

    Attributes
    ----------
    still_open : set of str
        Keys of the series whose scans had no end at the last look.
    """

    def __init__(self, url: str, settings: WatchSettings) -> None:
        self._url = url
        self._settings = settings
        self._next_look = 0.0
        self.still_open: set[str] = set()

    def look(self, taken: TakenFiles, current: TakenSeries | None = None) -> None:
        """Look now and then; not at the series on the way."""
        if monotonic() < self._next_look:
            return
        self._next_look = monotonic() + _LOOK_S
        unsent = [
            each
            for each in taken.unsent()
            if each.uid and (current is None or each.key != current.key)
        ]
        if not unsent and not taken.undone():
            return
        # If Redis is away, next time.
        with suppress(ScanbusError), open_bus(self._url, name=_NAME) as client:
            self.still_open.clear()
            for series in unsent:
                record = _record(client, series)
                if record is not None and record.ended is None:
                    self.still_open.add(series.key)
                elif _is_sent(record):
                    taken.note_sent(series)
            for series in taken.undone():
                self._finish(client, taken, series)

    def look_now(self, taken: TakenFiles) -> None:
        """Look at all series."""
        self._next_look = 0.0
        self.look(taken)

    def keys_on_the_way(self) -> set[str]:
        """Return the keys of the series with which the runner goes on, if it does.

        Not of those that it only ends.
        """
        with suppress(ScanbusError), open_bus(self._url, name=_NAME) as client:
            noted = read_gateway(client, f"watch {shown(self._settings.folder)}")
            states = noted.get("on_the_way")
            return {
                str(each.get("key"))
                for each in (states if isinstance(states, list) else ())
                if isinstance(each, dict) and each.get("end") is None
            }
        return set()

    def _finish(self, client: Bus, taken: TakenFiles, series: TakenSeries) -> None:
        settings = self._settings
        if settings.remove or settings.link_into is not None:
            record = _record(client, series)
            verdict = None if record is None else record.final_verdict
            if record is not None and verdict is None:
                return
            if verdict is None or verdict.verdict is not VerdictWord.COMPLETE:
                word = "unknown" if verdict is None else verdict.verdict.value
                log.warning(LogEvent.FILES_KEPT, scan=series.uid, verdict=word)
            else:
                self._dispose(taken, series, verdict)
        taken.note_done(series)

    def _dispose(
        self, taken: TakenFiles, series: TakenSeries, verdict: Verdict
    ) -> None:
        """Remove or link the files whose points the writer's files have."""
        n_points = min((each.expected for each in verdict.of_data.values()), default=0)
        n_full, n_rest = divmod(n_points, series.frames_per_file)
        last = series.first + n_full
        n_kept = len([*taken.of(series)])  # Removed ones are forgotten.
        n_files = 0
        for file in taken.whole_of(series, last + 1):
            # The runner may have refused the last frames of the last file.
            if file.number == last and not _has_frames(file, n_rest):
                continue
            n_kept -= 1
            if FileId.of(file.path) is not None:
                n_files += self._dispose_file(taken, file)
        log.info(LogEvent.FILES_DISPOSED, scan=series.uid, files=n_files)
        if n_kept:
            reason = "not all of their frames are in the scan"
            uid = series.uid
            log.warning(LogEvent.FILES_KEPT, scan=uid, files=n_kept, reason=reason)

    def _dispose_file(self, taken: TakenFiles, file: TakenFile) -> bool:
        """Remove or link a file; return whether it is the one that was published."""
        settings = self._settings
        try:
            _check_same(file)
            if settings.link_into is not None:
                below = file.path.relative_to(settings.folder)
                _link(file.path, settings.link_into / below)
            if settings.remove:
                _check_same(file)  # To copy it may have taken long.
                file.path.unlink(missing_ok=True)
                taken.forget(file)
        except OSError as error:
            path, reason = shown(file.path), error.strerror
            log.warning(LogEvent.FILES_KEPT, path=path, reason=reason)
            return False
        return True


def _has_frames(file: TakenFile, n_frames: int) -> bool:
    """Whether a file has so many frames; of one that is gone that is no matter."""
    if not n_frames:
        return False
    if FileId.of(file.path) is None:
        return True
    try:
        return next(open_image(file.path)).n_in_file == n_frames
    except SourceError:
        return False


def _check_same(file: TakenFile) -> None:
    """Raise OSError if a file is not the one that was published, or has changed."""
    if FileId.of(file.path) != file.id:
        reason = "it was written again since it was published"
        raise OSError(errno.ESTALE, reason)


def _link(path: Path, name: Path) -> None:
    """Give a file a second name; on another file system, a copy.

    Raises
    ------
    OSError
        If that cannot be done, or there is another file of that name.
    """
    name.parent.mkdir(parents=True, exist_ok=True)
    if name.exists():
        if not _is_same(path, name):
            raise FileExistsError(errno.EEXIST, f"{name} is another file")
        return
    try:
        os.link(path, name)
    except FileExistsError:
        raise
    except OSError:
        _copy(path, name)


def _is_same(path: Path, name: Path) -> bool:
    """Whether a name is of this file, or of a copy that was made of it before.

    Size and time do not tell: frames of a series have one size, and some file systems
    and programs keep whole seconds.
    """
    return name.samefile(path) or filecmp.cmp(path, name, shallow=False)


def _copy(path: Path, name: Path) -> None:
    part = name.with_name(f".{name.name}.part")
    shutil.copy2(path, part)
    # The file it is made of may be removed: a power cut must not leave neither.
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(name)
    with suppress(OSError):  # Some file systems on networks cannot.
        sync_folder(name.parent)


def _record(client: Bus, series: TakenSeries) -> ScanRecord | None:
    try:
        return find_scan(client, series.uid)
    except UnknownScanError:
        return None


def _is_sent(record: ScanRecord | None) -> bool:
    """Whether a scan has all that was taken: it ended in order, or by its source."""
    ended = None if record is None else record.ended
    if ended is None:
        return False
    is_whole = ended.text.startswith(SOURCE_FAILED)
    return is_whole or ended.end_reason is not EndReason.FAILURE
