"""Send the message of each dataset below a root once it is closed, and list what waits.

A process of its own does that, beside the writer: no trouble with a broker reaches the
writer, and what is known of a dataset is in its files. The state is in the outboxes, so
a watcher may be killed at any time, and two do no harm.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from scanbus.schemas.errors import ScanbusError
from scanbus.schemas.exit_codes import ExitCode
from scanbus.schemas.file_names import DATASETS_GLOB, SESSIONS_GLOB
from scanbus.schemas.icat_names import ICAT_FOLDER, message_name
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger
from scanbus.schemas.systemd import notify
from scanbus.writer.icat.closing import closed_datasets
from scanbus.writer.icat.contents import Activity, DatasetPlace
from scanbus.writer.icat.dataset import place_of, read_activity
from scanbus.writer.icat.outbox import opened_outbox
from scanbus.writer.icat.send import SendReport, SendState, is_current, send_dataset
from scanbus.writer.icat.stomp import parse_address
from scanbus.writer.storage.data_root import allow_links_to, check_tree
from scanbus.writer.storage.paths_below import paths_below

__all__ = ["PendingDataset", "WatchSettings", "Watcher", "pending", "run_watch"]

log = get_logger()

_DAY_S: Final = 86400.0
_LONGEST_BACKOFF_S: Final = 300.0
# Until a dataset is read again that makes no message.
_REPEAT_S: Final = 300.0
# A folder may change twice within one step of its time; a scan may begin for a minute.
_SETTLED_NS: Final = 120 * 10**9
_KEPT_GLOB: Final = f"{SESSIONS_GLOB}/{ICAT_FOLDER}/{message_name('*', '*')}"


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """How to watch.

    Attributes
    ----------
    root : pathlib.Path
        Root of the files.
    brokers : tuple of str
        ``host:port``, tried in this order.
    idle_s : float
        Time without a new scan after which a dataset is closed.
    period_s : float
        Time between two looks.
    days : float
        Datasets in which nothing changed for longer are left alone: those from before
        scanbus told ICAT of any.
    timeout_s : float
        Longest time for each broker.
    with_users : bool
        Whether personal data are sent.
    allowed_roots : tuple of pathlib.Path
        Other roots, to which symbolic links may lead.
    """

    root: Path
    brokers: tuple[str, ...] = ()
    idle_s: float = 3600.0
    period_s: float = 10.0
    days: float = 7.0
    timeout_s: float = 10.0
    with_users: bool = False
    allowed_roots: tuple[Path, ...] = ()


class PendingDataset(NamedTuple):
    """A dataset of which ICAT does not know what it should.

    Attributes
    ----------
    dataset : str
        Its folder.
    reason : str
        Why: no message was sent, one waits, scans were added since, or it is open.
    message : str
        The file in the outbox; empty if there is none.
    """

    dataset: str
    reason: str
    message: str = ""


class _StoppedError(Exception):
    """Somebody asked the watcher to stop while it read a dataset."""


class Watcher:
    """Looks at a root again and again; one thread uses it.

    Parameters
    ----------
    settings : WatchSettings
        How.
    stopped : threading.Event, optional
        Set to have it leave what it does.
    """

    def __init__(
        self, settings: WatchSettings, stopped: threading.Event | None = None
    ) -> None:
        self._settings = settings
        self._stopped = stopped or threading.Event()
        self._said: dict[Path, str] = {}
        self._known: dict[Path, tuple[int, Activity]] = {}
        self._done: set[Path] = set()
        self._not_before: dict[Path, float] = {}
        self._broker_is_away = False
        self._backoff_s = 0.0
        self._try_at = 0.0

    def look(self) -> int:
        """Send what is to be sent; return of how many datasets ICAT is not told."""
        root = self._settings.root
        allow_links_to(self._settings.allowed_roots)
        activities = dict(self._activities())
        closed = closed_datasets(
            activities, now_s=time.time(), idle_s=self._settings.idle_s
        )
        kept = {place.folder: place for place in _kept(root)}
        # Somebody may have asked for it again.
        self._done -= kept.keys()
        places = kept | {place.folder: place for place in closed}
        n_left = 0
        for folder, place in places.items():
            if folder not in self._done:
                self._send(place)
                n_left += folder not in self._done
        return n_left

    def _activities(self) -> Iterator[tuple[DatasetPlace, Activity]]:
        """Yield what moves in each dataset that changed lately."""
        since_s = time.time() - self._settings.days * _DAY_S
        known, self._known = self._known, {}
        for place, changed_ns in _datasets(self._settings.root, since_s):
            self._go_on()
            old = known.get(place.folder)
            if old is None or not _is_settled(*old, changed_ns):
                try:
                    found = changed_ns, read_activity(place.folder)
                except (ScanbusError, OSError) as error:
                    self._say(place, str(error))
                    continue
                if old is not None and found[1].n_finished != old[1].n_finished:
                    self._done.discard(place.folder)
                    self._not_before.pop(place.folder, None)
            else:
                found = old
            self._known[place.folder] = found
            yield place, found[1]

    def _send(self, place: DatasetPlace) -> None:
        now_s = time.monotonic()
        if now_s < self._not_before.get(place.folder, now_s):
            return
        brokers = self._settings.brokers if now_s >= self._try_at else ()
        try:
            if not brokers and _waits(place):
                return
            report = send_dataset(
                place.folder,
                brokers,
                with_users=self._settings.with_users,
                timeout_s=self._settings.timeout_s,
                allowed_roots=self._settings.allowed_roots,
                progress=lambda *_: self._go_on(),
            )
        except _StoppedError:
            raise
        except Exception as error:  # noqa: BLE001 - one dataset keeps no other away
            self._not_before[place.folder] = now_s + _REPEAT_S
            self._say(place, str(error) or type(error).__name__)
            return
        self._take(place, report, was_tried=bool(brokers))

    def _go_on(self) -> None:
        """Tell systemd that this process is alive; raise if it is to stop."""
        notify("WATCHDOG=1")
        if self._stopped.is_set():
            raise _StoppedError

    def _take(
        self, place: DatasetPlace, report: SendReport, *, was_tried: bool
    ) -> None:
        """Note what became of a message."""
        if report.state is SendState.WAITING:
            if was_tried:
                self._broker_failed(report.reason)
            return
        self._done.add(place.folder)
        self._said.pop(place.folder, None)
        if report.state is SendState.SENT:
            self._broker_answered()
            log.info(
                LogEvent.DATASET_SENT,
                dataset=report.dataset,
                broker=report.broker,
                scans=len(report.scans),
                problems=list(report.problems),
            )
        elif report.state is SendState.CHANGED:
            reason = "it was sent before, and scans were added since"
            self._say(place, f"{reason}; `scanbus icat send --again` sends it anew")

    def _say(self, place: DatasetPlace, reason: str) -> None:
        """Say once why a dataset is not sent."""
        if self._said.get(place.folder) != reason:
            self._said[place.folder] = reason
            log.warning(
                LogEvent.DATASET_NOT_SENT, dataset=str(place.folder), reason=reason
            )

    def _broker_failed(self, reason: str) -> None:
        period_s = self._settings.period_s
        self._backoff_s = min(
            max(2 * self._backoff_s, period_s), max(period_s, _LONGEST_BACKOFF_S)
        )
        self._try_at = time.monotonic() + self._backoff_s
        if not self._broker_is_away:
            self._broker_is_away = True
            log.warning(LogEvent.BROKER_LOST, reason=reason)

    def _broker_answered(self) -> None:
        self._backoff_s = 0.0
        if self._broker_is_away:
            self._broker_is_away = False
            log.warning(LogEvent.BROKER_RESTORED)


def run_watch(settings: WatchSettings, *, once: bool = False) -> ExitCode:
    """Watch a root until SIGTERM or SIGINT; return the exit code.

    Parameters
    ----------
    once : bool
        Whether to look once and return.

    Raises
    ------
    ConfigurationError
        If a broker's address is none.
    NoRootError
        If the folder does not exist, or is no root and has no scans.
    ImportError
        If the extra ``scanbus[icat]`` is not installed.
    """
    for each in settings.brokers:
        parse_address(each)
    check_tree(settings.root, settings.allowed_roots)
    _check_packages()
    stopped = threading.Event()

    def leave(*_: Any) -> None:
        stopped.set()

    before = {
        sign: signal.signal(sign, leave) for sign in (signal.SIGTERM, signal.SIGINT)
    }
    watcher = Watcher(settings, stopped)
    n_left = 0
    try:
        notify("READY=1")
        with suppress(_StoppedError):
            while not stopped.is_set():
                n_left = watcher.look()
                notify("WATCHDOG=1")
                if once:
                    break
                stopped.wait(settings.period_s)
        notify("STOPPING=1")
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)
    return ExitCode.PARTIAL if once and n_left else ExitCode.COMPLETE


def pending(
    root: Path, *, allowed_roots: Sequence[Path] = ()
) -> tuple[PendingDataset, ...]:
    """Return the datasets below a root of which ICAT does not know what it should.

    Raises
    ------
    NoRootError
        If the folder does not exist, or is no root and has no scans.
    """
    check_tree(root, allowed_roots)
    allow_links_to(allowed_roots)
    found = (_pending(place) for place, _ in _datasets(root))
    return tuple(one for one in found if one is not None)


def _pending(place: DatasetPlace) -> PendingDataset | None:
    folder = str(place.folder)
    try:
        activity = read_activity(place.folder)
        if activity.unfinished:
            names = ", ".join(activity.unfinished[:5])
            return PendingDataset(folder, f"open: {names} not finished")
        return _untold(place) if activity.n_finished else None
    except FileNotFoundError:
        return PendingDataset(folder, "never sent")
    except (ScanbusError, OSError) as error:
        return PendingDataset(folder, str(error))


def _untold(place: DatasetPlace) -> PendingDataset | None:
    folder = str(place.folder)
    with opened_outbox(place, None) as outbox:
        mark = outbox.mark()
        if mark is not None:
            is_told = is_current(place, mark)
            changed = PendingDataset(folder, "sent before, its scans are others now")
            return None if is_told else changed
        if outbox.kept() is None:
            return PendingDataset(folder, "never sent")
        path = str(outbox.message_path)
        return PendingDataset(folder, "its message waits in the outbox", path)


def _waits(place: DatasetPlace) -> bool:
    """Whether the message about a dataset is in the outbox."""
    try:
        with opened_outbox(place, None) as outbox:
            return outbox.mark() is None and outbox.kept() is not None
    except FileNotFoundError:
        return False


def _is_settled(changed_ns: int, activity: Activity, now_ns: int) -> bool:
    """Whether a dataset is as it was when it was looked at, without looking."""
    is_same = changed_ns == now_ns and time.time_ns() - changed_ns > _SETTLED_NS
    return is_same and bool(activity.n_finished) and not activity.unfinished


def _kept(root: Path) -> Iterator[DatasetPlace]:
    """Yield the datasets whose messages wait, however old they are."""
    for path in sorted(paths_below(root, _KEPT_GLOB)):
        collection, _, dataset = path.stem.partition("@")
        folder = path.parent.parent / collection / f"{collection}_{dataset}"
        try:
            yield place_of(folder)
        except (ScanbusError, OSError):
            continue  # It was moved; nobody can make its message again.


def _datasets(root: Path, since_s: float = 0.0) -> Iterator[tuple[DatasetPlace, int]]:
    """Yield the datasets below a root that changed lately, and when they did, in ns."""
    for folder in sorted(paths_below(root, DATASETS_GLOB)):
        try:
            status = folder.stat()
            if status.st_mtime >= since_s:
                yield place_of(folder), status.st_mtime_ns
        except (ScanbusError, OSError):
            continue  # No folder, no dataset's, or it leads out of the root.


def _check_packages() -> None:
    """Raise ImportError at the start, and not at the first closed dataset."""
    import icat_esrf_definitions  # noqa: F401, PLC0415 - optional
    import pyicat_plus  # noqa: F401, PLC0415 - optional
