"""Descriptions and documents of small scans."""

from typing import Any

from scanbus.schemas import (
    ChannelDescription,
    LaneDescription,
    ScanAnnounced,
    ScanIdentity,
    ScanPrepared,
    Storage,
)

NOW = 1_700_000_000.0
UID = "0123456789abcdef"


def identity(uid: str = UID, scan_number: int = 1) -> ScanIdentity:
    return ScanIdentity(
        uid=uid,
        proposal="hg123",
        beamline="id00",
        session="20250101",
        collection="sample",
        dataset="sample_0001",
        scan_number=scan_number,
    )


def channel(name: str, group: str = "group", **more: Any) -> ChannelDescription:
    return ChannelDescription(name=name, group=group, device=name, **more)


def lane_of(
    *channels: ChannelDescription,
    per_segment: int = 100,
    per_chunk: int = 10,
    storage: Storage = Storage.VALUES,
) -> LaneDescription:
    return LaneDescription(
        name=channels[0].group,
        storage=storage,
        channels=channels,
        points_per_segment=per_segment,
        points_per_chunk=per_chunk,
    )


def bytes_lane(per_segment: int = 100, per_chunk: int = 10) -> LaneDescription:
    """A lane whose points are one byte each."""
    only = channel("a", dtype="uint8")
    return lane_of(only, per_segment=per_segment, per_chunk=per_chunk)


def announced(uid: str = UID, scan_number: int = 1) -> ScanAnnounced:
    return ScanAnnounced(time=NOW, scan=identity(uid, scan_number), title="a scan")


def prepared(*lanes: LaneDescription, uid: str = UID, **more: Any) -> ScanPrepared:
    more.setdefault("quota_bytes", 2**20)
    return ScanPrepared(time=NOW, scan=identity(uid), lanes=lanes, **more)
