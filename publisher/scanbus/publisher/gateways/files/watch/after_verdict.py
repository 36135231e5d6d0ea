"""What becomes of files when their scan has its verdict: kept, linked, or removed.

The bus says how a scan ended and what its verdict is. Where it does not know a scan any
more, files stay where they are.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from time import monotonic

from scanbus.bus.protocol import ScanRecord
from scanbus.bus.store import Bus, find_scan, open_bus, read_gateway
from scanbus.publisher.gateways.files.watch.folder import FileId
from scanbus.publisher.gateways.files.watch.settings import WatchSettings
from scanbus.publisher.gateways.files.watch.taken_files import (
    TakenFile,
    TakenFiles,
    TakenSeries,
)
from scanbus.schemas import EndReason, VerdictWord
from scanbus.schemas.errors import ScanbusError, UnknownScanError
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
    """

    def __init__(self, url: str, settings: WatchSettings) -> None:
        self._url = url
        self._settings = settings
        self._next_look = 0.0

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
            for series in unsent:
                if _is_sent(_record(client, series)):
                    taken.note_sent(series)
            for series in taken.undone():
                self._finish(client, taken, series)

    def look_now(self, taken: TakenFiles) -> None:
        """Look at all series."""
        self._next_look = 0.0
        self.look(taken)

    def key_on_the_way(self) -> str:
        """Return the key of the series with which the runner goes on, if it does."""
        with suppress(ScanbusError), open_bus(self._url, name=_NAME) as client:
            noted = read_gateway(client, f"watch {self._settings.folder}")
            return str((noted.get("on_the_way") or {}).get("key", ""))
        return ""

    def _finish(self, client: Bus, taken: TakenFiles, series: TakenSeries) -> None:
        settings = self._settings
        if settings.remove or settings.link_into is not None:
            record = _record(client, series)
            verdict = None if record is None else record.final_verdict
            if record is not None and verdict is None:
                return
            is_complete = verdict and verdict.verdict is VerdictWord.COMPLETE
            if not is_complete:
                word = "unknown" if verdict is None else verdict.verdict.value
                log.warning(LogEvent.FILES_KEPT, scan=series.uid, verdict=word)
            else:
                self._dispose(taken, series)
        taken.note_done(series)

    def _dispose(self, taken: TakenFiles, series: TakenSeries) -> None:
        n_files = 0
        for file in taken.of(series):
            if FileId.of(file.path) == file.id:  # It is the one that was published.
                self._dispose_file(file)
                n_files += 1
        log.info(LogEvent.FILES_DISPOSED, scan=series.uid, files=n_files)

    def _dispose_file(self, file: TakenFile) -> None:
        settings = self._settings
        try:
            if settings.link_into is not None:
                below = file.path.relative_to(settings.folder)
                _link(file.path, settings.link_into / below)
            if settings.remove:
                file.path.unlink(missing_ok=True)
        except OSError as error:
            log.warning(LogEvent.FILES_KEPT, path=str(file.path), reason=error.strerror)


def _link(path: Path, name: Path) -> None:
    """Give a file a second name; on another file system, a copy."""
    name.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        try:
            os.link(path, name)
        except FileExistsError:
            raise
        except OSError:
            _copy(path, name)


def _copy(path: Path, name: Path) -> None:
    part = name.with_name(f".{name.name}.part")
    shutil.copy2(path, part)
    part.replace(name)


def _record(client: Bus, series: TakenSeries) -> ScanRecord | None:
    try:
        return find_scan(client, series.uid)
    except UnknownScanError:
        return None


def _is_sent(record: ScanRecord | None) -> bool:
    """Whether a scan ended in order: then all that was taken is in it."""
    ended = None if record is None else record.ended
    return ended is not None and ended.end_reason is not EndReason.FAILURE
