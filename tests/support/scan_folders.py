"""Folders of scans on the disk without their masters, written with plain h5py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np

from scanbus.bus.protocol import ScanRecord
from scanbus.schemas import (
    ChannelDescription,
    ChannelLedger,
    EndReason,
    LaneDescription,
    PlotDescription,
    Positioner,
    Role,
    ScanEnded,
    ScanIdentity,
    ScanPrepared,
    ScanStarted,
    ScanUpdated,
    Storage,
    Verdict,
    VerdictWord,
)
from scanbus.schemas.file_names import segment_file_name, values_file_name
from scanbus.writer.model.scan_contents import (
    TIMES_GROUP,
    ScanContents,
    SegmentFile,
    data_path,
    length_path,
)
from scanbus.writer.storage.data_root import scan_folder
from scanbus.writer.storage.segment_header import link_entry

N_POINTS = 25
POINTS_PER_SEGMENT = 10
FRAME_SHAPE = (6, 8)
MISSING = (12, 14)
START = 1_700_000_000.0


def identity(number: int = 1, dataset: str = "0001", **changes: Any) -> ScanIdentity:
    said = {
        "uid": f"uid{number:08d}x{dataset}",
        "proposal": "ch-1234",
        "beamline": "id00",
        "session": "20240131",
        "collection": "lyso-A",
        "dataset": dataset,
        "scan_number": number,
    }
    return ScanIdentity.model_validate({**said, **changes})


def channel(name: str, group: str, **said: Any) -> ChannelDescription:
    return ChannelDescription.model_validate(
        {"name": name, "group": group, "device": name, **said}
    )


def lanes() -> tuple[LaneDescription, ...]:
    values = (
        channel("th", "fast", role=Role.AXIS, units="deg", display_name="thêta"),
        channel("diode", "fast", units="A"),
        channel("monitor", "fast", dtype="int32"),
        channel("comment", "fast", dtype="string", max_point_bytes=64),
        channel("peaks", "fast", shape=(-1,), max_point_bytes=512),
        channel("mca_icr", "fast", device="mca", units="Hz"),
    )
    frames = channel(
        "eiger",
        "eiger",
        role=Role.DETECTOR,
        dtype="uint16",
        shape=FRAME_SHAPE,
        codec="bitshuffle-lz4",
    )
    spectra = channel(
        "mca", "mca", role=Role.SPECTRUM, dtype="uint32", shape=(16,), units=""
    )
    return (
        lane("fast", Storage.VALUES, *values),
        lane("eiger", Storage.FILES, frames),
        lane("mca", Storage.FILES, spectra),
    )


def lane(name: str, storage: Storage, *channels: ChannelDescription) -> LaneDescription:
    return LaneDescription(
        name=name,
        storage=storage,
        channels=channels,
        points_per_segment=POINTS_PER_SEGMENT,
        points_per_chunk=1 if storage is Storage.FILES else POINTS_PER_SEGMENT,
    )


def record(scan: ScanIdentity, **prepared: Any) -> ScanRecord:
    """Return the record of a scan with all its events and a verdict."""
    found = ScanRecord(scan)
    said: dict[str, Any] = {
        "metadata": {"sample": {"name": "Lysozym", "mass": 1.5, "mass@units": "mg"}},
        "plots": (PlotDescription(name="scan", signals=("diode",), axes=("th",)),),
        "instrument": "ID00 Streuung Å",
        "positioners": {
            "th": Positioner(value=0.5, units="deg", dial=0.25),
            "gone": Positioner(value="ERR"),
        },
    }
    found.fold(
        ScanPrepared(
            time=START - 1,
            scan=scan,
            title="ascan th 0 1 25 0.1",
            quota_bytes=2**20,
            publisher="spec 6.11",
            **{"lanes": lanes(), **said, **prepared},
        )
    )
    found.fold(ScanStarted(time=START))
    found.fold(ScanUpdated(time=START + 1, note="Verschluß geöffnet"))
    found.fold(
        ScanEnded(
            time=START + 10,
            end_reason=EndReason.SUCCESS,
            positioners={"th": Positioner(value=1.5, units="deg", dial=1.25)},
        )
    )
    found.verdict = Verdict(
        uid=scan.uid,
        verdict=VerdictWord.PARTIAL,
        reason="2 points of eiger are missing",
        end_reason="SUCCESS",
        channels={
            "eiger": ChannelLedger(expected=25, written=23, missing=(MISSING,)),
            "diode": ChannelLedger(expected=25, written=25),
        },
    )
    return found


def values_of(described: ChannelDescription, n_points: int = N_POINTS) -> Any:
    """Return the values of a channel of these scans."""
    points = np.arange(n_points)
    if described.is_string:
        return [f"Punkt № {point}" for point in points]
    if described.is_ragged:
        padded = np.full((n_points, 5), np.nan)
        for point in points:
            padded[point, : point % 6] = point
        return padded
    size = int(np.prod(described.shape))
    flat = points[:, None] * 7 + np.arange(size)
    found = flat.reshape(n_points, *described.shape).astype(described.numpy_dtype)
    if described.name == "eiger":
        found[slice(*MISSING)] = described.missing_value
    return found


def write_segment(
    path: Path,
    uid: str,
    lane: LaneDescription,
    start: int,
    n_points: int = N_POINTS,
) -> SegmentFile:
    stop = min(start + POINTS_PER_SEGMENT, n_points)
    with h5py.File(path, "w") as file:
        for described in lane.channels:
            if described.is_variable:
                continue
            data = values_of(described, n_points)[start:stop]
            chunked = {}
            if lane.storage is Storage.FILES:
                chunked = {"chunks": (1, *described.shape), **hdf5plugin.Bitshuffle()}
            file.create_dataset(data_path(lane, described), data=data, **chunked)
        link_entry(file, uid)
    return SegmentFile(path.name, start, stop)


def write_values(path: Path, uid: str, lane: LaneDescription) -> None:
    with h5py.File(path, "a") as file:
        file.create_dataset(f"{TIMES_GROUP}/{lane.name}", data=np.zeros(N_POINTS))
        for described in lane.channels:
            data = values_of(described)
            dtype = (
                h5py.string_dtype() if described.is_string else described.numpy_dtype
            )
            file.create_dataset(data_path(lane, described), data=data, dtype=dtype)
            if described.is_ragged:
                counts = np.arange(len(data), dtype="u4") % 6
                file.create_dataset(length_path(lane, described), data=counts)
        link_entry(file, uid)


def make_scan(root: Path, number: int = 1, **changes: Any) -> tuple[Path, ScanContents]:
    """Write a scan's data files; return its folder and contents."""
    said = {name: changes.pop(name) for name in ("dataset",) if name in changes}
    scan = identity(number, **said)
    found = record(scan, **changes)
    folder = scan_folder(root, scan)
    folder.mkdir(parents=True)
    contents = ScanContents(found)
    segments: dict[str, tuple[SegmentFile, ...]] = {}
    assert found.prepared is not None
    for each in found.prepared.lanes:
        if each.storage is Storage.FILES:
            segments[each.name] = write_lane(folder, scan.uid, each)
        else:
            name = values_file_name(number)
            write_values(folder / name, scan.uid, each)
            contents = replace(contents, values_file=name)
    return folder, replace(contents, segments=segments)


def write_lane(
    folder: Path, uid: str, lane: LaneDescription
) -> tuple[SegmentFile, ...]:
    starts = range(0, N_POINTS, POINTS_PER_SEGMENT)
    return tuple(
        write_segment(
            folder / segment_file_name(lane.name, index),
            uid,
            lane,
            start,
        )
        for index, start in enumerate(starts)
    )
