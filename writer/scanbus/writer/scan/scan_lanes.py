"""The lanes of a scan that is being written, and the files that some of them share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from scanbus.bus.protocol import ScanRecord
from scanbus.schemas import LaneDescription, Storage, Verdict
from scanbus.writer.scan.agreement import fill_holes, find_lost
from scanbus.writer.scan.commit_queue import Finished, Owner
from scanbus.writer.scan.durable_state import DurableState
from scanbus.writer.scan.entry_sandbox import Sandbox
from scanbus.writer.scan.lane_writer import LaneWriter
from scanbus.writer.scan.shared_segments import SharedSegments
from scanbus.writer.scan.write_authority import WriteAuthority

__all__ = ["ScanLanes"]


class ScanLanes:
    """The lanes of one attempt; one scan writer owns it.

    Parameters
    ----------
    record : ScanRecord
        The scan.
    folder : pathlib.Path
        The scan's folder.
    make_path : callable
        Returns the temporary path of a segment, given its final name.
    sandbox : Sandbox or None
        Unpacks entries in a child process first, after attempts that ended in a kill.

    Attributes
    ----------
    writers : list of LaneWriter
        The lanes; none before `find`.
    shared : SharedSegments
        The segments that lanes of small values share.
    """

    def __init__(
        self,
        record: ScanRecord,
        folder: Path,
        make_path: Callable[[str], Path],
        sandbox: Sandbox | None,
    ) -> None:
        self._record = record
        self._folder = folder
        self._make_path = make_path
        self._sandbox = sandbox
        self.writers: list[LaneWriter] = []
        self.shared = SharedSegments(record.uid, folder, make_path)

    @property
    def owners(self) -> list[Owner]:
        """All that have open segments."""
        return [*self.writers, self.shared]

    def find(self) -> None:
        """Make the lanes, each behind its published points.

        Raises
        ------
        NameTakenError
            If a file with a segment's final name is not that segment.
        """
        self.shared = SharedSegments(self._record.uid, self._folder, self._make_path)
        self.shared.find()
        self.writers = [
            self._lane(lane) for lane in self._record.lanes if not lane.is_late
        ]

    def agree(
        self,
        state: DurableState,
        publish: Callable[[Finished], None],
        *,
        done: Verdict | None,
    ) -> None:
        """Compare the files with what was acknowledged; see `scan.agreement`.

        Raises
        ------
        FilesMissingError
            If files are missing, and their points are not on the bus.
        """
        uid, folder = self._record.uid, self._folder
        while True:
            shared = self.shared
            lost = find_lost(uid, folder, self.writers, state, shared, done=done)
            filled = [fill_holes(folder, lane, shared, publish) for lane in lost]
            if not any(filled):
                shared.forget()
                return
            finished = shared.end(self.writers, is_due=True)
            if finished is not None:
                publish(finished)
            self.find()  # Segments behind the holes count now.

    def add_named(self, state: DurableState, authority: WriteAuthority) -> None:
        """Add the lanes that events name later: of late points, of static arrays."""
        known = {lane.lane.name for lane in self.writers}
        for described in self._record.lanes:
            if described.name not in known:
                lane = self._lane(described)
                find_lost(self._record.uid, self._folder, [lane], state, self.shared)
                authority.acknowledge({described.name: lane.stored})
                self.writers.append(lane)

    def confirm_files(self) -> None:
        """Check that all segments that masters name are in their places."""
        for lane in self.writers:
            if lane.has_own_files:
                lane.confirm()

    def _lane(self, lane: LaneDescription) -> LaneWriter:
        has_own = lane.storage is Storage.FILES or lane.is_late
        shared = None if has_own else self.shared
        return LaneWriter(
            self._record.uid,
            lane,
            self._folder,
            self._make_path,
            self._sandbox,
            shared=shared,
        )
