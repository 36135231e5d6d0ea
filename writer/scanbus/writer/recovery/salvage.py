"""Salvage: recover partial scans from files of killed writers after a loss of Redis.

Published segments are used unchanged. For each following segment, the best temporary
one is copied: each attempt to write a scan has left one, and the one with the most
points has all points of the others. Salvage works in a fenced work folder like a
writer, so a writer that was only paused does no damage when it resumes. All files are
written and verified before any gets its final name; nothing is overwritten, and the
temporary files are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from scanbus.schemas import (
    ChannelLedger,
    LaneDescription,
    PointRange,
    ScanPrepared,
    Storage,
    Verdict,
    ranges,
)
from scanbus.schemas.errors import NameTakenError, VerificationError
from scanbus.schemas.exit_codes import ExitCode
from scanbus.schemas.file_names import (
    parse_segment_file,
    segment_file_name,
    values_file_name,
)
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger
from scanbus.writer.masters.rebuild import (
    SkippedScan,
    finished_segments,
    late_lanes,
    read_contents,
)
from scanbus.writer.masters.unlisted import list_scan
from scanbus.writer.masters.write import write_scan_master
from scanbus.writer.model.ledger import SegmentAccount, judge, lane_ledgers
from scanbus.writer.model.scan_contents import SegmentFile
from scanbus.writer.recovery.segment_recovery import (
    TemporarySegment,
    read_temporary_segment,
    restore,
)
from scanbus.writer.recovery.shared_recovery import accounts_of, find_sections
from scanbus.writer.recovery.unfinished import UnfinishedScan, find_unfinished
from scanbus.writer.steps import Steps
from scanbus.writer.storage.data_root import (
    allow_links_to,
    check_tree,
    remove_shared_segments,
    scan_folder,
    scan_master,
)
from scanbus.writer.storage.durable_files import make_folder
from scanbus.writer.storage.frame_segment import FrameSegment
from scanbus.writer.storage.late_points import read_late_points
from scanbus.writer.storage.manifest import complete_manifest
from scanbus.writer.storage.references import (
    allow_references_below,
    examine_references,
    reference_files,
)
from scanbus.writer.storage.replaced_files import note_replaced
from scanbus.writer.storage.scan_file import write_scan_file
from scanbus.writer.storage.segment_header import read_header
from scanbus.writer.storage.shared_sections import Section
from scanbus.writer.storage.value_segment import ValueSegment
from scanbus.writer.storage.work_folder import WorkFolder, work_folders

__all__ = [
    "SalvageReport",
    "SalvagedScan",
    "SegmentPlan",
    "plan_segments",
    "salvage",
]

log = get_logger()


@dataclass(frozen=True, slots=True)
class SalvagedScan:
    """A scan that was salvaged.

    Attributes
    ----------
    folder : str
        The scan's folder.
    verdict : Verdict
        The verdict: partial and final.
    unusable : tuple of str
        One sentence for each temporary segment that could not be used.
    """

    folder: str
    verdict: Verdict
    unusable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SalvageReport:
    """Result of a salvage: salvaged and skipped scans."""

    scans: tuple[SalvagedScan, ...] = ()
    skipped: tuple[SkippedScan, ...] = ()

    @property
    def exit_code(self) -> ExitCode:
        """``FAILED`` if scans were refused, else ``PARTIAL`` if some were salvaged.

        ``COMPLETE`` if there was nothing to do.
        """
        if any(scan.is_damaged for scan in self.skipped):
            return ExitCode.FAILED
        return ExitCode.PARTIAL if self.scans else ExitCode.COMPLETE


@dataclass(frozen=True, slots=True)
class SegmentPlan:
    """One segment to be written.

    Attributes
    ----------
    name : str
        Its final name.
    start, stop : int
        Its points ``[start, stop)``.
    source : TemporarySegment or None
        The file from which it is copied; None if there is none and all points are
        missing.
    """

    name: str
    start: int
    stop: int
    source: TemporarySegment | None


def plan_segments(
    lane: LaneDescription,
    finished: Sequence[SegmentFile],
    found: Iterable[TemporarySegment],
) -> tuple[SegmentPlan, ...]:
    """Return the segments of a lane to be written after the published ones.

    Pure. Segments are contiguous, so a segment without a source is planned too if a
    later one has a source. They may end anywhere; those of detectors, after a chunk.

    Parameters
    ----------
    finished : sequence of SegmentFile
        Published segments, ascending.
    found : iterable of TemporarySegment
        Temporary segments of all attempts.
    """
    length = lane.points_per_segment
    edge = finished[-1].stop if finished else 0
    unit = length if lane.segment_bytes is None else lane.points_per_chunk
    if lane.storage is Storage.FILES and edge % unit:
        return ()  # The lane was complete, or has been salvaged before.
    best: dict[int, TemporarySegment] = {}
    for one in found:
        other = best.get(one.start)
        is_new = one.start >= edge and one.stop > one.start
        if is_new and (other is None or _rank(one) > _rank(other)):
            best[one.start] = one
    if not best:
        return ()
    stop = edge
    for start in sorted(best):
        if start < stop:
            del best[start]  # From an attempt with other segment boundaries.
        else:
            stop = best[start].stop
    number = finished[-1].next_number if finished else 0
    boundaries = range((edge // length + 1) * length, stop, length)
    edges = sorted({edge, *best, *boundaries, stop})
    return tuple(
        SegmentPlan(
            segment_file_name(lane.name, number + index),
            start,
            end,
            best.get(start),
        )
        for index, (start, end) in enumerate(pairwise(edges))
    )


def _is_temporary_of(lane: LaneDescription, name: str) -> bool:
    """Whether a file of this name may have points that no published segment has."""
    found = parse_segment_file(name)
    return found is not None and found.lane == lane.name and not found.is_joined


def _has_own_files(lane: LaneDescription) -> bool:
    """Whether masters name its segments; lanes of small values share theirs."""
    return lane.storage is Storage.FILES or lane.is_late


def _rank(temporary: TemporarySegment) -> tuple[int, bool, int]:
    return temporary.n_points, temporary.is_closed, temporary.stop


def salvage(
    root: Path,
    names: Sequence[str] = (),
    *,
    force: bool = False,
    progress: Callable[[str, int, int | None], None] = lambda *_: None,
    allowed_roots: Sequence[Path] = (),
    external_roots: Sequence[Path] = (),
) -> SalvageReport:
    """Recover partial scans from files that writers left below a root.

    Parameters
    ----------
    names : sequence of str
        Uids or scan folders; all unfinished scans if empty.
    force : bool
        Whether to include scans whose work folders changed recently (`IDLE_S`).
    progress : callable
        Called with ``(uid, segments written, total)``.
    allowed_roots : sequence of pathlib.Path
        Other roots, to which symbolic links below the root may lead.
    external_roots : sequence of pathlib.Path
        Folders below which files of frames by reference are looked at.

    Raises
    ------
    NoRootError
        If the folder does not exist, or is no root and has no scans; if an allowed one
        is no root.
    RootUnusableError
        If the file system refuses.
    """
    check_tree(root, allowed_roots)
    allow_links_to(allowed_roots)
    allow_references_below(external_roots)
    scans: list[SalvagedScan] = []
    skipped: list[SkippedScan] = []
    known: set[str] = set()
    for unfinished in find_unfinished(root):
        named = unfinished.named_by(names)
        known |= named
        if names and not named:
            continue
        try:
            reason = unfinished.refusal(force=force)
            if reason is None:
                scans.append(_Salvage(unfinished, progress).run())
            else:
                skipped.append(SkippedScan(unfinished.uid, *reason))
        except (NameTakenError, VerificationError) as error:
            skipped.append(SkippedScan(unfinished.uid, str(error), is_damaged=True))
    for name in names:
        if name not in known:
            reason_unknown = f"no work folder of such a scan below {root}"
            skipped.append(SkippedScan(name, reason_unknown, is_damaged=True))
    return SalvageReport(tuple(scans), tuple(skipped))


class _Salvage:
    """Salvages one scan, from its work folders to its masters."""

    def __init__(
        self,
        unfinished: UnfinishedScan,
        progress: Callable[[str, int, int | None], None],
    ) -> None:
        if unfinished.record is None or unfinished.record.prepared is None:
            raise ValueError("the scan's events were not kept")
        self._root = unfinished.root
        self._dataset = unfinished.dataset
        self._record = unfinished.record
        self._prepared: ScanPrepared = unfinished.record.prepared
        self._progress = progress
        self._folder = scan_folder(unfinished.root, unfinished.record.identity)
        self._work_folder = WorkFolder(unfinished.dataset, unfinished.uid, 0, Steps())
        self._lanes: tuple[LaneDescription, ...] = (
            *self._prepared.lanes,
            *self._record.static.values(),
        )
        self._unusable: list[str] = []
        self._problems = ["what was not in a writer's files is lost with the bus"]
        self._notes: tuple[str, ...] = ()
        self._ledgers: dict[str, ChannelLedger] = {}
        self._late: dict[str, tuple[PointRange, ...]] = {}

    def run(self) -> SalvagedScan:
        """Write the scan's files; return the result."""
        self._work_folder.open()
        try:
            make_folder(self._folder)
            folders = [self._folder, *work_folders(self._dataset, self._record.uid)]
            self._lanes += late_lanes(self._prepared, folders)
            own = [one for one in self._lanes if _has_own_files(one)]
            finished = {
                lane.name: finished_segments(self._folder, self._record.uid, lane)
                for lane in own
            }
            plans = {
                lane.name: plan_segments(
                    lane, finished[lane.name], self._temporary_segments_of(lane)
                )
                for lane in own
            }
            sections = self._sections(folders)
            accounts = self._make_segments(plans)
            self._judge_own(finished, plans, accounts)
            self._judge_shared(sections)
            self._look_for_references(sections)
            verdict = self._verdict()
            self._publish(finished, plans, sections, verdict)
            self._work_folder.set_aside()
        finally:
            self._work_folder.remove()
        log.warning(
            LogEvent.SCAN_SALVAGED, scan=self._record.uid, reason=verdict.reason
        )
        return SalvagedScan(str(self._folder), verdict, tuple(self._unusable))

    def _temporary_segments_of(
        self, lane: LaneDescription
    ) -> Iterator[TemporarySegment]:
        for folder in work_folders(self._dataset, self._record.uid):
            for path in sorted(folder.iterdir()):
                if not _is_temporary_of(lane, path.name):
                    continue
                try:
                    yield read_temporary_segment(path, self._record.uid, lane)
                except VerificationError as error:
                    self._unusable.append(str(error))

    def _make_segments(
        self, plans: dict[str, tuple[SegmentPlan, ...]]
    ) -> dict[str, list[SegmentAccount]]:
        """Write all segments under temporary names; return their accounts by lane."""
        n_segments = sum(map(len, plans.values()))
        accounts: dict[str, list[SegmentAccount]] = {}
        n_made = 0
        for lane in filter(_has_own_files, self._lanes):
            accounts[lane.name] = []
            for plan in plans[lane.name]:
                accounts[lane.name].append(self._make_segment(lane, plan))
                n_made += 1
                self._progress(self._record.uid, n_made, n_segments)
        return accounts

    def _make_segment(self, lane: LaneDescription, plan: SegmentPlan) -> SegmentAccount:
        kind = FrameSegment if lane.storage is Storage.FILES else ValueSegment
        path = self._work_folder.path(plan.name)
        segment = kind(path, self._record.uid, lane, plan.start)
        reached = plan.start
        if plan.source is not None:
            restore(plan.source, lane, segment)
            reached = plan.source.stop
        if reached < plan.stop:
            segment.mark("missing", reached, plan.stop)
        segment.close(plan.stop)
        segment.verify()
        return segment.account

    def _sections(self, folders: Sequence[Path]) -> dict[str, list[Section]]:
        lanes = [lane for lane in self._lanes if not _has_own_files(lane)]
        uid, (folder, *made) = self._record.uid, folders
        sections, unusable = find_sections(uid, lanes, folder, made)
        self._unusable += unusable
        return sections

    def _judge_own(
        self,
        finished: dict[str, tuple[SegmentFile, ...]],
        plans: dict[str, tuple[SegmentPlan, ...]],
        made: dict[str, list[SegmentAccount]],
    ) -> None:
        """Count the points of lanes with files of their own."""
        for lane in filter(_has_own_files, self._lanes):
            stops = [0, *(one.stop for one in finished[lane.name])]
            stops += [one.stop for one in plans[lane.name]]
            before = [
                read_header(self._folder / one.name).account
                for one in finished[lane.name]
            ]
            self._count(lane, [*before, *made[lane.name]], stops[-1])
        for lane in self._lanes:
            if lane.is_late:
                late = self._late_points(finished[lane.name], plans[lane.name])
                self._late[lane.channels[0].name] = late

    def _judge_shared(self, sections: dict[str, list[Section]]) -> None:
        """Count the points of lanes that share files."""
        for lane in self._lanes:
            if lane.name in sections:
                found = sections[lane.name]
                self._count(lane, accounts_of(found), found[-1].stop if found else 0)

    def _look_for_references(self, sections: dict[str, list[Section]]) -> None:
        files = reference_files(self._lanes, sections)
        channels = [channel for lane in self._lanes for channel in lane.channels]
        found = examine_references(channels, files)
        self._notes = found.notes
        self._problems += found.problems

    def _count(
        self, lane: LaneDescription, accounts: list[SegmentAccount], stop: int
    ) -> None:
        noted = dict.fromkeys(text for one in accounts for text in one.problems)
        self._problems += [f"{lane.name}: {text}" for text in noted]
        if not lane.is_late:
            self._ledgers |= lane_ledgers(
                lane, accounts, expected=stop, stored=stop, sealed=False
            )

    def _verdict(self) -> Verdict:
        ledgers = dict(self._ledgers)
        for name, late in self._late.items():
            ledgers[name] = ledgers[name].model_copy(update={"late": late})
        ended = self._record.ended
        master = scan_master(self._root, self._record.identity)
        judged = judge(
            self._record.uid,
            ledgers,
            end_reason=ended.end_reason if ended else None,
            master=str(master.relative_to(self._root)),
            problems=self._problems,
            notes=self._notes,
        )
        return judged.model_copy(update={"reason": f"salvaged: {judged.reason}"})

    def _late_points(
        self, finished: Sequence[SegmentFile], plans: Sequence[SegmentPlan]
    ) -> tuple[PointRange, ...]:
        """Return the points in published and in new segments of a late lane."""
        paths = [
            *(self._folder / one.name for one in finished),
            *(self._work_folder.path(plan.name) for plan in plans),
        ]
        points = {point for path in paths for point in read_late_points(path)}
        return ranges(sorted(points))

    def _publish(
        self,
        finished: dict[str, tuple[SegmentFile, ...]],
        plans: dict[str, tuple[SegmentPlan, ...]],
        sections: dict[str, list[Section]],
        verdict: Verdict,
    ) -> None:
        """Publish all files, the scan file last, and write the masters."""
        lanes = self._lanes
        segments = {
            lane.name: [
                *(self._folder / one.name for one in finished[lane.name]),
                *(self._work_folder.path(one.name) for one in plans[lane.name]),
            ]
            for lane in lanes
            if lane.storage is Storage.FILES and not lane.is_late
        }
        name = values_file_name(self._record.identity.scan_number)
        path = self._work_folder.path(name)
        write_scan_file(path, self._record, segments, sections, verdict)
        for lane in filter(_has_own_files, lanes):
            for plan in plans[lane.name]:
                self._work_folder.publish(plan.name, self._folder / plan.name)
        self._work_folder.publish(name, self._folder / name)
        contents = read_contents(self._folder)
        complete_manifest(self._folder, contents, self._work_folder)
        write_scan_master(self._folder, contents, self._work_folder.folder)
        list_scan(self._root, self._record.identity)
        remove_shared_segments(self._folder)
        # A writer removes what readers of the running scan may still need.
        note_replaced(self._root, self._record.uid, self._folder)
