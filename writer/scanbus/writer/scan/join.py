"""Join the finished segments of a scan while it runs, aside from its other threads.

The virtual datasets of a scan have at most `MAX_SOURCES` files. Where the lengths of
its segments do not see to that, adjacent ones become one file: copied, compared with
the checksums of the source, fsynced and linked like a segment. Only then does a master
name it, and only after a grace period are the replaced files removed. An error delays
the join, not the scan: its points are safe already.
"""

from __future__ import annotations

import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from scanbus.schemas import Storage
from scanbus.schemas.errors import (
    LeaseLostError,
    NameTakenError,
    StorageError,
    StorageFullError,
)
from scanbus.schemas.file_names import parse_segment_file, segment_file_name
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger
from scanbus.writer.model.scan_contents import SegmentFile
from scanbus.writer.model.sources import (
    MAX_SOURCES,
    files_per_lane,
    last_join,
    next_join,
    sources_per_lane,
)
from scanbus.writer.scan.commit import check_same
from scanbus.writer.scan.commit_queue import Stopped
from scanbus.writer.scan.lane_writer import LaneWriter
from scanbus.writer.scan.pace import Pace
from scanbus.writer.scan.write_authority import WriteAuthority
from scanbus.writer.steps import step, waiting
from scanbus.writer.storage.durable_files import fsync_path
from scanbus.writer.storage.exclusive_names import give_name
from scanbus.writer.storage.hashing import new_hasher
from scanbus.writer.storage.joined_segment import JoinedSegment, join_segments
from scanbus.writer.storage.manifest import ManifestLine
from scanbus.writer.storage.replaced_files import (
    find_replaced,
    note_replaced,
    remove_replaced,
)
from scanbus.writer.storage.segment_header import digest_of_checksums
from scanbus.writer.storage.work_folder import WorkFolder

__all__ = ["Joiner"]

log = get_logger()

# Pause after a join that failed; then it is tried again.
_RETRY_S: Final = 5.0
# Failures after which the end of a scan does not wait for a join any more.
_LAST_TRIES: Final = 3


@dataclass(frozen=True, slots=True)
class _Join:
    """Files of one lane that become one."""

    lane: LaneWriter
    files: tuple[SegmentFile, ...]

    @property
    def name(self) -> str:
        first = parse_segment_file(self.files[0].name)
        assert first is not None
        last = self.files[-1].next_number - 1
        return segment_file_name(first.lane, first.number, last)


class Joiner:
    """The joins of one attempt, one after the other, and what they have replaced.

    One scan writer owns it. Use it as a context manager: on exit it cancels the running
    join and ends the thread.

    Parameters
    ----------
    uid : str
        Uid of the scan.
    folder : pathlib.Path
        The scan's folder.
    work_folder : WorkFolder
        Where joined files are made.
    authority : WriteAuthority
        Checked before a file is published or removed.
    pace : Pace
        Grace period, number of files, and free disk space that a join must leave.
    """

    def __init__(
        self,
        uid: str,
        folder: Path,
        work_folder: WorkFolder,
        authority: WriteAuthority,
        pace: Pace,
    ) -> None:
        self._uid = uid
        self._folder = folder
        self._work_folder = work_folder
        self._authority = authority
        self._pace = pace
        self._thread = ThreadPoolExecutor(1, "scanbus-join")
        self._running: tuple[_Join, Future[JoinedSegment]] | None = None
        self._is_cancelled = False
        self._not_before = 0.0
        self._reported: set[str] = set()
        # Replaced files that the master may name, and others with their last moment.
        self._named: list[str] = []
        self._expiring: deque[tuple[float, tuple[str, ...]]] = deque()
        self.bytes_needed = 0

    def __enter__(self) -> Self:
        self._named += find_replaced(self._folder)
        return self

    def __exit__(self, *_: object) -> None:
        self._is_cancelled = True
        self._thread.shutdown()

    @property
    def needs_master(self) -> bool:
        """Whether the master may name files that have been replaced."""
        return bool(self._named)

    def note_master(self) -> None:
        """Record that a master was written that names no replaced file."""
        if self._named:
            deadline = time.monotonic() + self._pace.grace_s
            self._expiring.append((deadline, tuple(self._named)))
            self._named.clear()

    def advance(self, lanes: Sequence[LaneWriter]) -> None:
        """Take the result of the last join, start the next, remove expired files.

        Raises
        ------
        LeaseLostError
            If another writer has the lease.
        NameTakenError
            If another file has the name of a joined one.
        """
        try:
            self._collect()
            self._remove_expired()
            self._start_next(_planned(lanes, self._pace.wanted_sources))
        except (LeaseLostError, NameTakenError):
            raise
        except (OSError, RuntimeError, StorageError) as error:
            self._delay(error)

    def complete(
        self, lanes: Sequence[LaneWriter], while_waiting: Callable[[], None]
    ) -> None:
        """Join what is left at the end of a scan.

        Parameters
        ----------
        while_waiting : callable
            Called several times per second.

        Raises
        ------
        OSError, StorageError
            If a join fails, and without it the scan has more than `MAX_SOURCES` files.
        """
        n_failed = 0
        is_joining = True
        while is_joining and n_failed < _LAST_TRIES:
            while_waiting()
            try:
                is_joining = self._is_joining(lanes)
            except (LeaseLostError, NameTakenError):
                raise
            except (OSError, RuntimeError, StorageError) as error:
                n_failed += 1
                n_files = sum(len(lane.segments) for lane in _lanes_of_files(lanes))
                if n_failed == _LAST_TRIES and n_files > MAX_SOURCES:
                    raise
                self._delay(error)

    def _is_joining(self, lanes: Sequence[LaneWriter]) -> bool:
        self._collect()
        self._not_before = 0.0
        planned = _planned(lanes, self._pace.wanted_sources)
        self._start_next(planned or _planned_last(lanes))
        if self._running is None:
            return False
        with waiting():
            wait([self._running[1]], timeout=0.2)
        return True

    def leave(self, root: Path) -> None:
        """Let other writers remove the replaced files of the finished scan."""
        if self._pace.grace_s > 0:
            note_replaced(root, self._uid, self._folder)
        else:
            remove_replaced(self._folder, self._uid)

    def _collect(self) -> None:
        if self._running is None or not self._running[1].done():
            return
        (join, future), self._running = self._running, None
        self.bytes_needed = 0
        joined = future.result()
        join.lane.replace(
            SegmentFile(join.name, joined.start, joined.stop),
            joined.account,
            digest_of_checksums(joined.checksums),
        )
        self._named += [one.name for one in join.files]
        for path in joined.damaged:
            log.warning(LogEvent.SEGMENT_DAMAGED, scan=self._uid, file=str(path))

    def _start_next(self, join: _Join | None) -> None:
        if self._running is not None or time.monotonic() < self._not_before:
            return
        if join is not None:
            self._check_space(join)
            self._running = join, self._thread.submit(self._join, join)

    def _check_space(self, join: _Join) -> None:
        sizes = [(self._folder / one.name).stat().st_size for one in join.files]
        self.bytes_needed = sum(sizes)
        free = shutil.disk_usage(self._folder).free
        if free < self.bytes_needed + self._pace.least_free_bytes:
            raise StorageFullError(str(self._folder), self.bytes_needed, free)

    def _delay(self, error: BaseException) -> None:
        self._not_before = time.monotonic() + _RETRY_S
        reason = str(error).partition("\n")[0] or type(error).__name__
        if type(error).__name__ not in self._reported:
            self._reported.add(type(error).__name__)
            log.warning(LogEvent.JOIN_DELAYED, scan=self._uid, reason=reason)

    def _join(self, join: _Join) -> JoinedSegment:
        """Write and publish one joined file; called in the thread."""
        made, final = self._work_folder.path(join.name), self._folder / join.name
        with self._work_folder.steps.working(final):
            made.unlink(missing_ok=True)
            try:
                joined, digest = self._copied(join, made, final)
                self._publish(made, final, digest)
            finally:
                made.unlink(missing_ok=True)
            return joined

    def _copied(
        self, join: _Join, made: Path, final: Path
    ) -> tuple[JoinedSegment, str]:
        steps = self._work_folder.steps
        with steps.step("join_copy", final):
            joined = join_segments(
                made,
                self._uid,
                join.lane.lane,
                [self._folder / one.name for one in join.files],
                self._check_cancelled,
            )
        hasher = new_hasher() if self._work_folder.makes_manifest else None
        with steps.step("join_verify", final):
            joined.verify(hasher)
        return joined, "" if hasher is None else hasher.hexdigest()

    def _publish(self, made: Path, final: Path, digest: str) -> None:
        steps = self._work_folder.steps
        with ManifestLine(self._folder, is_wanted=bool(digest)) as line:
            self._authority.check()
            with steps.step("join_fsync", final):
                fsync_path(made)
            with steps.step("join_link", final):
                try:
                    give_name(made, final)
                    line.add(final.name, digest)
                except FileExistsError:
                    check_same(made, final, self._authority.fence)
        with steps.step("join_fsync_folder", final):
            fsync_path(self._folder)

    def _check_cancelled(self) -> None:
        if self._is_cancelled:
            raise Stopped

    def _remove_expired(self) -> None:
        if not self._expiring or self._expiring[0][0] > time.monotonic():
            return
        self._authority.check()
        _, names = self._expiring.popleft()
        with self._work_folder.steps.phase("join_remove", self._folder):
            for name in names:
                with step("join_remove"):
                    (self._folder / name).unlink(missing_ok=True)


def _lanes_of_files(lanes: Sequence[LaneWriter]) -> Iterator[LaneWriter]:
    for lane in lanes:
        if lane.lane.storage is Storage.FILES and not lane.lane.is_late:
            yield lane


def _planned(lanes: Sequence[LaneWriter], wanted: int) -> _Join | None:
    """Return the next join while a scan runs, if there is one."""
    ours = list(_lanes_of_files(lanes))
    most = files_per_lane(len(ours), wanted)
    for lane in ours:
        place = next_join([one.n_parts for one in lane.segments], most)
        if place is not None:
            return _Join(lane, tuple(lane.segments[place]))
    return None


def _planned_last(lanes: Sequence[LaneWriter]) -> _Join | None:
    """Return the next join at the end of a scan that has too many files."""
    ours = [lane for lane in _lanes_of_files(lanes) if lane.segments]
    if sum(len(lane.segments) for lane in ours) <= MAX_SOURCES:
        return None
    share = sources_per_lane(len(ours))
    for lane in ours:
        place = last_join([one.n_parts for one in lane.segments], share)
        if place is not None:
            return _Join(lane, tuple(lane.segments[place]))
    return None
