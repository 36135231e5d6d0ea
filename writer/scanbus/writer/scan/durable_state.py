"""What the bus knows of a scan's durable points, and of the root that has them.

A replay's files are no durable files of the scan: it may write in any folder, and none
of its files was acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from scanbus.bus.protocol import LONGEST_TTL_MS, SEAL_ID, ScanRecord
from scanbus.bus.store import (
    Bus,
    accepted_losses,
    find_lanes,
    hold_scan,
    lanes_in_use,
    read_cursors,
    stream_ends,
)
from scanbus.writer.scan.admission import admit
from scanbus.writer.steps import waiting
from scanbus.writer.storage.root_identity import RootGuard

__all__ = ["DurableState", "ReplayState", "ScanState"]


class DurableState(Protocol):
    """What is durable of one scan, by the bus."""

    def admit(
        self, root: Path, beamline: str, wait: Callable[[float], None]
    ) -> RootGuard:
        """Return the guard of a root below which this scan may be written."""
        ...

    def cursors(self, lanes: Sequence[str]) -> list[int]:
        """Return the points before which all points of lanes were durable."""
        ...

    def lost(self, lanes: Sequence[str]) -> list[int]:
        """Return the points before which files of lanes may be missing."""
        ...

    def first_on_bus(self, lane: str) -> int | None:
        """Return the first point of a lane on the bus, and keep it there for a minute.

        None if there is none.
        """
        ...

    def has_lanes(self) -> bool:
        """Whether points of the scan are, or were, on the bus, whoever knows which."""
        ...


class ScanState:
    """State of a scan that is written for the first time.

    Parameters
    ----------
    client : Bus
        A connection used by this attempt only.
    uid : str
        Uid of the scan.
    """

    def __init__(self, client: Bus, uid: str) -> None:
        self._client = client
        self._uid = uid

    def admit(
        self, root: Path, beamline: str, wait: Callable[[float], None]
    ) -> RootGuard:
        """Compare the root with the one that the bus knows, and claim the beamline.

        Raises
        ------
        NoRootError, RootConflictError, RootUnusableError
            If nothing may be written there now.
        """
        return admit(self._client, root, beamline, wait)

    def cursors(self, lanes: Sequence[str]) -> list[int]:
        """Return the writer's cursors."""
        with waiting():
            return read_cursors(self._client, [(self._uid, lane) for lane in lanes])

    def lost(self, lanes: Sequence[str]) -> list[int]:
        """Return the points before which an operator accepts that files are missing."""
        with waiting():
            pairs = [(self._uid, lane) for lane in lanes]
            return accepted_losses(self._client, pairs)

    def first_on_bus(self, lane: str) -> int | None:
        """Return the first point of a lane on the bus, and keep it there for a minute.

        None if there is none.
        """
        with waiting():
            hold_scan(self._client, self._uid, LONGEST_TTL_MS)
            ends = stream_ends(self._client, self._uid, lane)
        if ends is None or ends[0] in (b"0-0", SEAL_ID):
            return None
        return int(ends[0].partition(b"-")[0])

    def has_lanes(self) -> bool:
        """Look among all keys of Redis: nothing else says which lanes there are."""
        with waiting():
            lanes = find_lanes(self._client, self._uid)
            return bool(lanes_in_use(self._client, self._uid, lanes))


class ReplayState:
    """State of a replay: its files are not those of the scan.

    Parameters
    ----------
    record : ScanRecord
        The scan; what its verdict has as missing is in no file, and not asked for.
    """

    def __init__(self, record: ScanRecord) -> None:
        self._record = record

    def admit(
        self, root: Path, beamline: str, wait: Callable[[float], None]
    ) -> RootGuard:
        """Return the guard of any folder: a replay writes where it is told."""
        del beamline, wait
        return RootGuard(root)

    def cursors(self, lanes: Sequence[str]) -> list[int]:
        """Return 0 for each."""
        return [0] * len(lanes)

    def lost(self, lanes: Sequence[str]) -> list[int]:
        """Return the points before which the verdict has all points as missing."""
        return [self._lost(lane) for lane in lanes]

    def _lost(self, lane: str) -> int:
        if self._record.verdict is None:
            return 0
        ledgers = self._record.verdict.channels
        missing = [
            ledgers[channel.name].missing[:1]
            for one in self._record.lanes
            if one.name == lane
            for channel in one.channels
            if channel.name in ledgers
        ]
        stops = [one[0][1] if one and one[0][0] == 0 else 0 for one in missing]
        return min(stops, default=0)

    def first_on_bus(self, lane: str) -> int | None:
        """Return None: it is not asked, as nothing was durable."""
        del lane
        return None

    def has_lanes(self) -> bool:
        """Return False: nobody waits for a replay."""
        return False
