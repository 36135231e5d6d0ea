"""Write one scan from the bus into files, continuing from the files on the disk.

Any error ends the attempt. The caller starts another attempt, which continues from the
disk, so there is no state to repair.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from scanbus.bus.protocol import ScanRecord
from scanbus.bus.store import Bus
from scanbus.schemas import LaneDescription, ScanPrepared, Storage, Verdict
from scanbus.schemas.errors import LeaseLostError, StorageError
from scanbus.schemas.file_names import values_file_name
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger
from scanbus.writer.masters.rebuild import read_contents
from scanbus.writer.masters.write import write_dataset_masters, write_scan_master
from scanbus.writer.model.scan_contents import ScanContents
from scanbus.writer.scan.agreement import (
    fill_holes,
    find_lost,
    keep_on_bus,
    refuse_absent_folder,
)
from scanbus.writer.scan.bus_reader import BusReader
from scanbus.writer.scan.commit import publish_scan_file, publish_segment
from scanbus.writer.scan.commit_queue import CommitQueue, Finished, Owner, Stopped
from scanbus.writer.scan.disk_space import SpaceWatch, bytes_needed
from scanbus.writer.scan.durable_state import DurableState, ReplayState, ScanState
from scanbus.writer.scan.entry_sandbox import Sandbox
from scanbus.writer.scan.join import Joiner
from scanbus.writer.scan.lane_writer import LaneWriter
from scanbus.writer.scan.master_growth import MasterGrowth
from scanbus.writer.scan.pace import Pace
from scanbus.writer.scan.progress import (
    amended,
    contents_of,
    look_for_references,
    report_points,
    segment_paths,
    unprepared,
    verdict_on,
    verdict_on_disk,
)
from scanbus.writer.scan.scan_number import claim_number, settle_number
from scanbus.writer.scan.shared_segments import SharedSegments
from scanbus.writer.scan.silence import Silence
from scanbus.writer.scan.write_authority import WriteAuthority
from scanbus.writer.steps import Steps, step, waiting
from scanbus.writer.storage.data_root import (
    dataset_folder,
    remove_shared_segments,
    scan_folder,
)
from scanbus.writer.storage.event_journal import EVENTS_FILE, EventJournal
from scanbus.writer.storage.root_identity import RootGuard
from scanbus.writer.storage.scan_file import write_scan_file
from scanbus.writer.storage.work_folder import WorkFolder

__all__ = ["ScanWriter"]

log = get_logger()


class ScanWriter:
    """One attempt to write one scan.

    Parameters
    ----------
    client : Bus
        A connection used by this attempt only.
    record : ScanRecord
        The scan; further events are added to it.
    root : pathlib.Path
        Folder below which files are written.
    authority : WriteAuthority
        Authority of a lease or of a replay.
    pace : Pace
        Intervals and sizes.
    is_stopped : callable
        Called often; the attempt ends when it returns True.
    on_points : callable
        Called with ``(channel, points stored, points expected or None)``.
    sandbox : Sandbox or None
        Unpacks entries in a child process first, after attempts that ended in a kill.
    steps : Steps or None
        Timer of steps that may hang.

    Raises
    ------
    RootUnusableError
        If symbolic links lead the scan's folder out of the root.
    """

    def __init__(
        self,
        client: Bus,
        record: ScanRecord,
        root: Path,
        authority: WriteAuthority,
        *,
        pace: Pace | None = None,
        is_stopped: Callable[[], bool] = lambda: False,
        on_points: Callable[[str, int, int | None], None] = lambda *_: None,
        sandbox: Sandbox | None = None,
        steps: Steps | None = None,
    ) -> None:
        self._record = record
        self._root = root
        self._authority = authority
        self._pace = pace or Pace()
        self._is_stopped = is_stopped
        self._on_points = on_points
        self._sandbox = sandbox
        self._steps = steps or Steps()
        self._folder = scan_folder(root, record.identity)
        self._work_folder = WorkFolder(
            dataset_folder(root, record.identity),
            authority.owner,
            authority.fence,
            self._steps,
        )
        self._lanes: list[LaneWriter] = []
        self._is_open = False
        self._shared = SharedSegments(record.uid, self._folder, self._work_folder.path)
        self._commits = CommitQueue(self._publish)
        self._joins = Joiner(
            record.uid, self._folder, self._work_folder, authority, self._pace
        )
        self._next_flush = self._next_check = 0.0
        self._reader = BusReader(client, record, self._pace)
        self._space = SpaceWatch(root, self._folder, self._pace)
        self._growth = MasterGrowth(self._pace.master_s)
        self._silence = Silence(client, record.uid, self._pace.lapse_s)
        self._events: EventJournal | None = None
        self._guard = RootGuard(root)
        self._state: DurableState = (
            ReplayState(record)
            if authority.is_replay
            else ScanState(client, record.uid)
        )
        # The verdict in the scan file, if a predecessor has written it.
        self._done: Verdict | None = None

    def run(self) -> Verdict:
        """Write the scan until it ends, or until its publisher is gone.

        Returns
        -------
        Verdict
            Final; or provisional, if the publisher is gone and did not end the scan.

        Raises
        ------
        Stopped, Renumbered
            If `is_stopped` returned True; if the scan has another number now.
        LeaseLostError
            If another writer has the lease.
        NameTakenError
            If a different file has the name of one of the scan's files.
        StorageError, OSError, BusUnavailableError
            If this attempt failed; the next one continues from the disk.
        """
        prepared = self._wait_for_prepared()
        if prepared is None:
            verdict = unprepared(self._record)
            self._authority.announce(verdict)
            return verdict
        keep = True
        try:
            with self._steps.phase("open", self._folder):
                self._open(prepared)
            done = self._done
            if done is not None and not any(lane.is_behind for lane in self._lanes):
                return self._publish_done(done)
            with self._commits, self._joins:
                is_whole = self._write()
            if done is not None:
                return self._publish_done(amended(done, self._record, self._lanes))
            return self._finalise() if is_whole else self._interrupt()
        except (OSError, RuntimeError, StorageError) as error:
            # h5py raises RuntimeError if a file cannot be closed.
            keep = isinstance(error, LeaseLostError)
            self._guard.explain(error)
            if not keep and self._work_folder.was_taken:
                # The error is a consequence: a successor has renamed the folder.
                raise LeaseLostError(self._record.uid, self._authority.fence) from error
            raise
        finally:
            self._close(keep=keep)

    def _publish_done(self, verdict: Verdict) -> Verdict:
        """Publish the verdict of a scan that has a scan file already."""
        if verdict != self._done:  # Files were lost since then.
            return self._publish_verdict(verdict, self._contents(verdict))
        # From its files: Redis may lack events, and the end names late lanes.
        with self._steps.phase("master", self._folder):
            contents = read_contents(self._folder)
        return self._publish_verdict(verdict, contents)

    def _close(self, *, keep: bool) -> None:
        """Close open files; unpublished ones are written again from the bus.

        Temporary files are kept for salvage if the bus is lost. They are removed after
        an error on the disk, because the space that they use may be what is needed.
        """
        with self._steps.phase("leave", self._folder):
            for owner in self._owners:
                finished = self._commits.unpublished(owner)
                if keep:
                    owner.keep(finished)
                else:
                    owner.discard(finished)
            if self._events is not None:
                self._events.close()
            if not keep:
                self._work_folder.discard()

    def _wait_for_prepared(self) -> ScanPrepared | None:
        """Return the event ``prepared``; None if the scan ends or lapses before it."""
        # Checked first: one read may return it together with the end of the scan.
        while (prepared := self._record.prepared) is None:
            if self._silence.is_lapsed() or self._record.ended is not None:
                return None
            self._reader.wait_for_events()
            self._tick()
        return prepared

    def _take_over(self) -> None:
        """Take over from predecessors and check that this attempt has the lease."""
        try:
            self._work_folder.open(self._guard.make_folder)
        finally:
            # Also after an error: a successor may have removed the folder meanwhile.
            try:
                self._authority.check()
            except LeaseLostError:
                self._work_folder.remove()
                raise

    def _open(self, prepared: ScanPrepared) -> None:
        beamline = self._record.identity.beamline
        self._guard = self._state.admit(self._root, beamline, self._wait)
        settle_number(self._folder.parent, self._record, self._authority)
        names = [lane.name for lane in prepared.lanes]
        refuse_absent_folder(self._folder, self._record.uid, names, self._state)
        self._take_over()
        claim_number(self._work_folder, self._record, self._authority)
        self._guard.make_folder(self._folder)
        self._events = EventJournal(self._work_folder.path(EVENTS_FILE))
        self._events.append(self._record)
        self._work_folder.prune()
        self._lanes = self._make_lanes()
        self._space.check(self.bytes_needed)
        self._done = verdict_on_disk(self._record, self._folder)
        self._agree()
        if any(lane.stored for lane in self._lanes):
            # A predecessor may have been killed between link and fsync.
            self._work_folder.make_names_durable(self._folder)
        stored = {lane.lane.name: lane.stored for lane in self._lanes}
        self._authority.acknowledge(stored)
        self._is_open = True
        self._add_lanes()
        log.info(
            LogEvent.SCAN_OPENED,
            scan=prepared.scan.uid,
            folder=str(self._folder),
            stored=stored,
        )

    def _agree(self) -> None:
        """Compare the files with what was acknowledged; see `scan.agreement`."""
        uid, folder = self._record.uid, self._folder
        while True:
            shared, lanes, done = self._shared, self._lanes, self._done
            lost = find_lost(uid, folder, lanes, self._state, shared, done=done)
            filled = [fill_holes(folder, lane, shared, self._publish) for lane in lost]
            if not any(filled):
                shared.forget()
                return
            finished = shared.end(self._lanes, is_due=True)
            if finished is not None:
                self._publish(finished)
            self._lanes = self._make_lanes()  # Segments behind the holes count now.

    def _wait(self, seconds: float) -> None:
        if self._is_stopped():
            raise Stopped
        with waiting():
            time.sleep(seconds)

    @property
    def bytes_needed(self) -> int:
        """Estimate of the bytes that the rest of the scan needs on the disk."""
        return bytes_needed(self._lanes, self._folder) + self._joins.bytes_needed

    @property
    def _owners(self) -> list[Owner]:
        return [*self._lanes, self._shared]

    def _make_lanes(self) -> list[LaneWriter]:
        uid, make_path = self._record.uid, self._work_folder.path
        self._shared = SharedSegments(uid, self._folder, make_path)
        self._shared.find()
        return [self._lane(lane) for lane in self._record.lanes if not lane.is_late]

    def _lane(self, lane: LaneDescription) -> LaneWriter:
        has_own = lane.storage is Storage.FILES or lane.is_late
        shared = None if has_own else self._shared
        uid, path = self._record.uid, self._work_folder.path
        return LaneWriter(uid, lane, self._folder, path, self._sandbox, shared=shared)

    def _add_lanes(self) -> None:
        """Add the lanes that events name later: of late points, of static arrays."""
        if not self._is_open:
            return
        known = {lane.lane.name for lane in self._lanes}
        for described in self._record.lanes:
            if described.name not in known:
                lane = self._lane(described)
                uid, shared = self._record.uid, self._shared
                find_lost(uid, self._folder, [lane], self._state, shared)
                self._authority.acknowledge({described.name: lane.stored})
                self._lanes.append(lane)

    def _write(self) -> bool:
        """Write until all lanes are over; return False if the publisher is gone."""
        while not self._is_over():
            ended = self._record.ended
            self._tick()
            n_arrivals = self._read()
            self._collect_published()
            self._joins.advance(self._lanes)
            if self._joins.needs_master:
                self._update_master()
            if n_arrivals or self._record.ended is not ended or self._is_over():
                self._silence.end()
            elif self._silence.is_lapsed() and self._commits.is_empty:
                return False
        self._joins.complete(self._lanes, self._tick)
        return True

    def _is_over(self) -> bool:
        return (
            self._record.ended is not None
            and self._commits.is_empty
            and all(lane.is_over for lane in self._lanes)
        )

    def _read(self) -> int:
        readers = {lane.reader: lane for lane in self._lanes if not lane.reader.is_over}
        if not readers or self._commits.is_full:
            self._wait_for_commits_or_end()
            return 0
        found = self._reader.read(list(readers))
        n_arrivals = 0
        for reader, arrivals in found:
            lane = readers[reader]
            n_arrivals += len(arrivals)
            with self._steps.phase("write", self._folder / lane.lane.name):
                for arrival in arrivals:
                    for finished in lane.take(arrival):
                        self._submit(lane, finished)
        with self._steps.phase("write", self._folder):
            shared = self._shared.end(self._lanes)
        if shared is not None:
            self._submit(self._shared, shared)
        return n_arrivals

    def _submit(self, owner: Owner, finished: Finished) -> None:
        """Have a segment published; wait while many are, as each is an open file."""
        self._commits.submit(owner, finished)
        while self._commits.is_full:
            self._commits.wait(self._pace.poll_s)
            self._collect_published()
            self._tick()

    def _wait_for_commits_or_end(self) -> None:
        """Wait, when there is nothing to read, for commits or the end of the scan."""
        if not self._commits.is_empty:
            self._commits.wait(self._pace.poll_s)
        elif self._record.ended is None:
            self._reader.wait_for_events()

    def _publish(self, finished: Finished) -> None:
        """Publish one segment; called in the thread of the commit queue."""
        folder = self._folder
        with self._steps.working(folder / finished.name):
            self._guard.check()
            publish_segment(finished, folder, self._work_folder, self._authority)

    def _collect_published(self) -> None:
        """Process segments that were published; raise the error of a failed one."""
        for owner, finished in self._commits.published():
            owner.published(finished)
            report_points(self._lanes, finished.stops, self._on_points)
            self._update_master()

    def _tick(self) -> None:
        if self._is_stopped():
            raise Stopped
        now = time.monotonic()
        if now >= self._next_check:
            self._next_check = now + self._pace.check_s
            authority = self._authority
            (authority.keep if self._reader.is_idle else authority.check)()
            if self._lanes:
                keep_on_bus(self._lanes, self._state, self._authority)
                with self._steps.phase("space", self._folder):
                    self._guard.check()
                    self._space.check(self.bytes_needed)
        if self._reader.poll_events():
            if self._events is not None:
                self._events.append(self._record)
            self._add_lanes()
        if now >= self._next_flush:
            self._next_flush = now + self._pace.flush_s
            with self._steps.phase("flush", self._folder):
                for owner in self._owners:
                    owner.flush()
                if self._events is not None:
                    self._events.touch()

    def _contents(self, verdict: Verdict | None = None) -> ScanContents:
        """Return the current contents, with a verdict that need not be announced."""
        # A copy: the record must hold only what is on the bus.
        record = replace(self._record, verdict=verdict or self._record.verdict)
        return contents_of(record, self._lanes, self._folder)

    def _write_masters(self, contents: ScanContents) -> None:
        """Write all masters."""
        with self._steps.phase("master", self._folder):
            self._guard.check()
            self._confirm_files()
            write_scan_master(self._folder, contents, self._work_folder.folder)
            self._joins.note_master()
            write_dataset_masters(self._root, self._record.identity)

    def _confirm_files(self) -> None:
        """Check that all segments that masters name are in their places."""
        for lane in self._lanes:
            if lane.has_own_files:
                lane.confirm()

    def _update_master(self) -> None:
        """Update the masters of a growing scan, if that is due."""
        if self._growth.is_due(self._lanes, is_needed=self._joins.needs_master):
            self._write_masters(self._contents())

    def _finalise(self) -> Verdict:
        name = values_file_name(self._record.identity.scan_number)
        found = look_for_references(self._lanes, self._shared, self._pace, self._tick)
        with self._steps.phase("scan_file", self._folder / name):
            for owner in self._owners:
                owner.confirm()
            verdict = verdict_on(self._record, self._lanes, self._root, found)
            segments = segment_paths(self._lanes, self._folder)
            path = self._work_folder.path(name)
            sections = self._shared.read_all(self._lanes)
            write_scan_file(
                path,
                self._record,
                segments,
                sections,
                verdict,
                copied_bytes=self._pace.copied_bytes,
            )
            self._guard.check()
        self._authority.check()
        with step("scan_file"):
            publish_scan_file(self._work_folder, self._folder / name)
        return self._publish_verdict(verdict, self._contents(verdict))

    def _publish_verdict(self, verdict: Verdict, contents: ScanContents) -> Verdict:
        """Write masters, clean up and announce the verdict; all of it is repeatable."""
        self._write_masters(contents)
        # Before the announcement: no writer opens a scan with a final verdict again.
        with self._steps.phase("clear", self._folder):
            self._joins.leave(self._root)
            remove_shared_segments(self._folder)
            self._work_folder.clear()
        self._confirm_files()
        self._authority.announce(verdict)
        log.info(
            LogEvent.SCAN_CLOSED,
            scan=verdict.uid,
            verdict=verdict.verdict.value,
            reason=verdict.reason,
        )
        return verdict

    def _interrupt(self) -> Verdict:
        """Announce a provisional verdict: the publisher is gone, and may come back."""
        verdict = verdict_on(self._record, self._lanes, self._root, provisional=True)
        self._authority.shrink(lane.lane.name for lane in self._lanes)
        if verdict != self._record.verdict:
            self._write_masters(self._contents(verdict))
            self._authority.announce(verdict)
            log.warning(
                LogEvent.SCAN_INTERRUPTED, scan=self._record.uid, reason=verdict.reason
            )
        return verdict
