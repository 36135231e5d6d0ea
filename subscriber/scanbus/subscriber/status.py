"""Overview of the bus: list of scans, and status of Redis and the writers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from scanbus.bus.protocol import ScanRecord
from scanbus.bus.store import (
    Announced,
    Bus,
    ServerReport,
    gateways_alive,
    load_announced,
    publisher_is_alive,
    read_final_verdict,
    reserved_quotas,
    used_memory,
    writers_alive,
)
from scanbus.schemas import ScanAnnounced, Verdict
from scanbus.subscriber.connection import Link
from scanbus.subscriber.lane_view import LaneView

__all__ = ["BusStatus", "ScanInfo", "gather_status", "scan_info"]

# States in which a silent publisher means that the scan was interrupted.
_RUNNING = ("announced", "prepared", "started")


@dataclass(frozen=True)
class ScanInfo:
    """Summary of one scan.

    Attributes
    ----------
    uid, number, title, proposal, beamline, session, collection, dataset
        Identity of the scan.
    state : str
        announced, prepared, started, ended, interrupted, or the final verdict.
    start_time : float
        When it started, or was announced if it has not started; seconds since 1970.
    verdict : str
        The writer's verdict so far, empty if there is none.
    end_reason : str
        Why it ended, empty if it has not ended.
    points : dict
        Channel to its number of points so far.
    problems : tuple of str
        Events that cannot be understood, and why.
    """

    uid: str
    number: int
    title: str
    proposal: str
    beamline: str
    session: str
    collection: str
    dataset: str
    state: str
    start_time: float
    verdict: str = ""
    end_reason: str = ""
    points: dict[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether there is no final verdict yet."""
        return self.state not in ("complete", "partial", "failed")


@dataclass(frozen=True)
class BusStatus:
    """Status of the bus.

    Attributes
    ----------
    redis_version : str
        Version of the server.
    used_bytes, maxmemory_bytes : int
        Memory that Redis uses, and its limit in bytes; 0 for no limit.
    warnings : tuple of str
        Settings of Redis that weaken the guarantees.
    reserved_bytes, n_reserved : int
        Sum and number of the quotas of scans.
    writers : dict
        Writers that are alive, with their status.
    n_scans : int
        Number of announced scans.
    open : tuple of ScanInfo
        Scans without a final verdict.
    later : dict
        Uid to a sentence: scans of a later protocol, without a final verdict.
    gateways : dict
        Gateways that are alive, with what they do.
    """

    redis_version: str
    used_bytes: int
    maxmemory_bytes: int
    warnings: tuple[str, ...]
    reserved_bytes: int
    n_reserved: int
    writers: dict[str, dict[str, Any]]
    n_scans: int
    open: tuple[ScanInfo, ...]
    later: dict[str, str]
    gateways: dict[str, dict[str, Any]] = field(default_factory=dict)


def scan_info(
    link: Link, announcement: str, announced: ScanAnnounced
) -> ScanInfo | None:
    """Return a summary of one scan from its events and the extents of its lanes.

    None if it was removed after its announcement was read.
    """
    record = link.ask(
        lambda client: load_announced(
            client, announcement, announced, skip_updates=True
        )
    )
    if record is None:
        return None
    scan = record.identity
    return ScanInfo(
        uid=scan.uid,
        number=scan.scan_number,
        title=record.title,
        proposal=scan.proposal,
        beamline=scan.beamline,
        session=scan.session,
        collection=scan.collection,
        dataset=scan.dataset,
        state=_state(link, record),
        start_time=record.started.time if record.started else announced.time,
        verdict=record.verdict.verdict.value if record.verdict else "",
        end_reason=record.ended.end_reason.value if record.ended else "",
        points=_points(link, record),
        problems=tuple(record.problems),
    )


def _state(link: Link, record: ScanRecord) -> str:
    if record.state in _RUNNING and not link.ask(
        lambda client: publisher_is_alive(client, record.uid)
    ):
        return "interrupted"
    return record.state


def _points(link: Link, record: ScanRecord) -> dict[str, int]:
    points = {}
    for lane in record.prepared.lanes if record.prepared else ():
        stop = LaneView(link, record.uid, lane).extent().stop
        points.update({channel.name: stop for channel in lane.channels})
    return points


def _later(link: Link, lines: Iterable[Announced]) -> dict[str, str]:
    found = {}
    for line in lines:
        uid = line.later_uid
        if uid and link.ask(partial(_judged, uid=uid)) is None:
            found[uid] = line.problem
    return found


def _judged(client: Bus, *, uid: str) -> Verdict | None:
    return read_final_verdict(client, uid)


def gather_status(
    link: Link,
    report: ServerReport,
    n_scans: int,
    open_scans: tuple[ScanInfo, ...],
    unparsed: Iterable[Announced],
) -> BusStatus:
    """Return the status of the bus; server report and announcements are given."""
    reserved = link.ask(reserved_quotas)
    return BusStatus(
        redis_version=report.version,
        used_bytes=link.ask(used_memory),
        maxmemory_bytes=report.maxmemory_bytes,
        warnings=report.warnings,
        reserved_bytes=sum(reserved.values()),
        n_reserved=len(reserved),
        writers=link.ask(writers_alive),
        n_scans=n_scans,
        open=open_scans,
        later=_later(link, unparsed),
        gateways=link.ask(gateways_alive),
    )
