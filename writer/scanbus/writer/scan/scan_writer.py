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
from scanbus.schemas import ScanPrepared, Verdict
from scanbus.schemas.errors import LeaseLostError, StorageError
from scanbus.schemas.file_names import values_file_name
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger
from scanbus.writer.masters.layout_notes import with_layout_notes
from scanbus.writer.masters.rebuild import read_contents
from scanbus.writer.model.scan_contents import ScanContents
from scanbus.writer.scan.agreement import keep_on_bus, refuse_absent_folder
from scanbus.writer.scan.bus_reader import BusReader
from scanbus.writer.scan.commit import publish_scan_file, publish_segment
from scanbus.writer.scan.commit_queue import CommitQueue, Finished, Owner, Stopped
from scanbus.writer.scan.disk_space import SpaceWatch, bytes_needed
from scanbus.writer.scan.durable_state import DurableState, ReplayState, ScanState
from scanbus.writer.scan.entry_sandbox import Sandbox
from scanbus.writer.scan.join import Joiner
from scanbus.writer.scan.lane_writer import LaneWriter
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
from scanbus.writer.scan.scan_lanes import ScanLanes
from scanbus.writer.scan.scan_masters import ScanMasters
from scanbus.writer.scan.scan_number import claim_number, settle_number
from scanbus.writer.scan.silence import Silence
from scanbus.writer.scan.write_authority import WriteAuthority
from scanbus.writer.steps import Steps, step, waiting
from scanbus.writer.storage.data_root import (
    dataset_folder,
    remove_shared_segments,
    scan_folder,
)
from scanbus.writer.storage.event_journal import EVENTS_FILE, EventJournal
from scanbus.writer.storage.manifest import complete_manifest
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
        self._steps = steps or Steps()
        self._folder = scan_folder(root, record.identity)
        self._work_folder = WorkFolder(
            dataset_folder(root, record.identity),
            authority.owner,
            authority.fence,
            self._steps,
            makes_manifest=self._pace.manifest,
        )
        make_path = self._work_folder.path
        self._all = ScanLanes(record, self._folder, make_path, sandbox)
        self._is_open = False
        self._commits = CommitQueue(self._publish)
        self._joins = Joiner(
            record.uid, self._folder, self._work_folder, authority, self._pace
        )
        self._next_flush = self._next_check = 0.0
        self._reader = BusReader(client, record, self._pace)
        self._space = SpaceWatch(root, self._folder, self._pace)
        self._masters = ScanMasters(
            root,
            record,
            self._folder,
            work_folder=self._work_folder,
            authority=authority,
            pace=self._pace,
        )
        # While it waits for a segment, the master that is due.
        self._is_growing = False
        self._awaited: Finished | None = None
        self.silence = Silence(client, record.uid, self._pace.lapse_s)
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
            verdict = unprepared(self._record, self._folder, self._state)
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
        except (OSError, RuntimeError, StorageError) as error:  # h5py: RuntimeError
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
            for owner in self._all.owners:
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
        # First: one read may return it together with the end of the scan.
        while (prepared := self._record.prepared) is None:
            if self.silence.is_lapsed() or self._record.ended is not None:
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
        self._all.find()
        self._space.check(self.bytes_needed)
        self._done = verdict_on_disk(self._record, self._folder)
        self._all.agree(self._state, self._publish, done=self._done)
        if any(lane.stored for lane in self._lanes):
            # A predecessor may have been killed between link and fsync.
            self._work_folder.make_names_durable(self._folder)
        stored = {lane.lane.name: lane.stored for lane in self._lanes}
        self._authority.acknowledge(stored)
        self._is_open = True
        self._all.add_named(self._state, self._authority)
        self._masters.begin(self._lanes)
        log.info(
            LogEvent.SCAN_OPENED,
            scan=prepared.scan.uid,
            folder=str(self._folder),
            stored=stored,
        )

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
    def _lanes(self) -> list[LaneWriter]:
        return self._all.writers

    def _write(self) -> bool:
        """Write until all lanes are over; return False if the publisher is gone."""
        while not self._is_over():
            ended = self._record.ended
            self._tick()
            n_arrivals = self._read()
            self._collect_published()
            self._joins.advance(self._lanes)
            self._masters.growth.has_news |= self._joins.needs_master or n_arrivals > 0
            self._update_master()
            if n_arrivals or self._record.ended is not ended or self._is_over():
                self.silence.end()
            elif self.silence.is_lapsed() and self._commits.is_empty:
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
        due_at = self._masters.growth.due_at
        self._reader.wake_at = 0.0 if self._is_growing else due_at
        readers = {lane.reader: lane for lane in self._lanes if not lane.reader.is_over}
        if not readers or self._commits.is_full:
            self._wait_for_commits_or_end()
            return 0
        n_arrivals = 0
        for reader, arrivals in self._reader.read(list(readers)):
            lane = readers[reader]
            n_arrivals += len(arrivals)
            with self._steps.phase("write", self._folder / lane.lane.name):
                for arrival in arrivals:
                    for finished in lane.take(arrival):
                        self._submit(lane, finished)
        with self._steps.phase("write", self._folder):
            shared = self._all.shared.end(self._lanes)
        if shared is not None:
            self._submit(self._all.shared, shared)
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
        with self._steps.working(self._folder / finished.name):
            self._guard.check()
            publish_segment(finished, self._folder, self._work_folder, self._authority)

    def _collect_published(self) -> None:
        """Process published segments; raise the error of a failed one."""
        for owner, finished in self._commits.published():
            owner.published(finished)
            report_points(self._lanes, finished.stops, self._on_points)
            self._masters.growth.has_news = True

    def _tick(self) -> None:
        if self._is_stopped():
            raise Stopped
        now = time.monotonic()
        if now >= self._next_check:
            self._next_check = now + self._pace.check_s
            self._check()
        if self._reader.poll_events():
            self._masters.growth.has_news |= self._is_open
            if self._events is not None:
                self._events.append(self._record)
            if self._is_open:
                self._all.add_named(self._state, self._authority)
        if now >= self._next_flush:
            self._next_flush = now + self._pace.flush_s
            with self._steps.phase("flush", self._folder):
                for owner in self._all.owners:
                    owner.flush()
                if self._events is not None:
                    self._events.touch()

    def _check(self) -> None:
        """Check the lease, what the bus knows, and the disk."""
        authority = self._authority
        (authority.keep if self._reader.is_idle else authority.check)()
        if not self._lanes:
            return
        if keep_on_bus(self._lanes, self._state, authority) or self._masters.is_asked:
            self._masters.show_again()
        with self._steps.phase("space", self._folder):
            self._guard.check()
            self._masters.remove_expired()
            self._space.check(self.bytes_needed)

    def _contents(self, verdict: Verdict | None = None) -> ScanContents:
        """Return the current contents, with a verdict that need not be announced."""
        # A copy: the record must hold only what is on the bus.
        record = replace(self._record, verdict=verdict or self._record.verdict)
        return contents_of(record, self._lanes, self._folder, self._pace.choice)

    def _write_masters(self, contents: ScanContents) -> None:
        """Write all masters."""
        with self._steps.phase("master", self._folder):
            self._guard.check()
            self._all.confirm_files()
            self._masters.write(contents, self._lanes)
            self._joins.note_master()

    def _update_master(self) -> None:
        """Update the master of a running scan, if that is due.

        First the shared segment ends: the master shows what is published, so that a
        successor never shows less.
        """
        if self._masters.growth.is_due and not self._is_growing:
            self._masters.growth.begin()
            self._is_growing = True
            self._awaited = self._all.shared.end(self._lanes, is_due=True)
            if self._awaited is not None:
                self._submit(self._all.shared, self._awaited)
        if self._is_growing and not self._commits.holds(self._awaited):
            self._is_growing, self._awaited = False, None
            self._write_masters(self._contents())

    def need_master(self) -> None:
        """Have the master written soon: Redis waits for room. Any thread may call."""
        self._masters.growth.is_needed = True

    def _finalise(self) -> Verdict:
        name = values_file_name(self._record.identity.scan_number)
        found = look_for_references(
            self._lanes, self._all.shared, self._pace, self._tick
        )
        with self._steps.phase("scan_file", self._folder / name):
            for owner in self._all.owners:
                owner.confirm()
            verdict = verdict_on(self._record, self._lanes, self._root, found)
            sections = self._all.shared.read_all(self._lanes)
            verdict, choice = with_layout_notes(self._contents(verdict), sections)
            segments = segment_paths(self._lanes, self._folder)
            path = self._work_folder.path(name)
            write_scan_file(
                path,
                self._record,
                segments,
                sections,
                verdict,
                copied_bytes=self._pace.copied_bytes,
                choice=choice,
            )
            self._guard.check()
        self._authority.check()
        with step("scan_file"):
            publish_scan_file(self._work_folder, self._folder / name)
        return self._publish_verdict(verdict, self._contents(verdict))

    def _publish_verdict(self, verdict: Verdict, contents: ScanContents) -> Verdict:
        """Write masters, clean up and announce the verdict; all of it is repeatable."""
        complete_manifest(self._folder, contents, self._work_folder)
        self._write_masters(contents)
        # Before the announcement: no writer opens a scan with a final verdict again.
        with self._steps.phase("clear", self._folder):
            self._joins.leave(self._root)
            remove_shared_segments(self._folder)
            self._work_folder.clear()
        self._all.confirm_files()
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
        finished = self._all.shared.end(self._lanes, is_due=True)
        if finished is not None:  # Its values are in files, whoever comes back.
            self._publish(finished)
            self._all.shared.published(finished)
        verdict = verdict_on(self._record, self._lanes, self._root, provisional=True)
        self._authority.shrink(lane.lane.name for lane in self._lanes)
        if verdict != self._record.verdict:
            self._write_masters(self._contents(verdict))
            self._authority.announce(verdict)
            log.warning(
                LogEvent.SCAN_INTERRUPTED, scan=self._record.uid, reason=verdict.reason
            )
        return verdict
