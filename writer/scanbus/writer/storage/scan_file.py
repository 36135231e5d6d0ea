"""The scan file: a scan's small values, events, ledger and verdict, written once.

It is written from the segments of small values when every lane is sealed, and replaces
them. All masters can be rebuilt from it and the detectors' segments.

Layout::

    /entry_0000/measurement/<channel>            points of every small channel
    /entry_0000/measurement/<channel>__length    lengths of a ragged channel's points
    /entry_0000/scanbus/uid, events, verdict     JSON lines as on the bus
    /entry_0000/scanbus/problems                 events that could not be parsed
    /entry_0000/scanbus/lanes/<lane>             one row per entry, with checksums
    /entry_0000/scanbus/times/<lane>             time of each point, also of detectors
    /entry_0000/scanbus/copied_bytes             size up to which a master copies values
    /entry_0000/scanbus/layouts                  JSON: layouts of the scan's files
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from scanbus.bus.protocol import ScanRecord
from scanbus.schemas import Storage, Verdict, parse_event
from scanbus.schemas.errors import DocumentError, NameTakenError, VerificationError
from scanbus.writer.model.layout_choice import LayoutChoice
from scanbus.writer.model.scan_contents import DATA_GROUP, OWN_GROUP, TIMES_GROUP
from scanbus.writer.model.value_files import COPIED_BYTES
from scanbus.writer.storage.event_journal import scan_events
from scanbus.writer.storage.hdf5 import open_hdf5, written_hdf5
from scanbus.writer.storage.lane_values import LaneValues
from scanbus.writer.storage.segment_header import (
    FREE_TEXT,
    NEXUS_TEXT,
    link_entry,
    write_root_attributes,
)
from scanbus.writer.storage.shared_sections import OpenFiles, Section
from scanbus.writer.storage.value_arrays import COPIED_NAME
from scanbus.writer.storage.value_columns import (
    digest_of,
    segment_times,
    write_lane,
    write_times,
)

__all__ = ["ScanFile", "make_groups", "read_scan_file", "write_scan_file"]

_LAYOUTS = f"{OWN_GROUP}/layouts"
# Errors of h5py and the parsers on a file that is not a scan file.
_NO_SCAN_FILE = (
    OSError,
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    DocumentError,
)


@dataclass(frozen=True)
class ScanFile:
    """The scan's uid, events and verdict from a scan file.

    Attributes
    ----------
    uid : str
        Uid of the scan.
    events : tuple of Event
        All events of the publisher, in order.
    verdict : Verdict
        The final verdict.
    problems : tuple of str
        Events that could not be parsed.
    choice : LayoutChoice or None
        Layouts of the scan's files; None in a file of a version without them.
    """

    uid: str
    events: tuple[Any, ...]
    verdict: Verdict
    problems: tuple[str, ...] = ()
    choice: LayoutChoice | None = None


def write_scan_file(
    path: Path,
    record: ScanRecord,
    segments: Mapping[str, Sequence[Path]],
    sections: Mapping[str, Sequence[Section]],
    verdict: Verdict,
    *,
    copied_bytes: int = COPIED_BYTES,
    choice: LayoutChoice | None = None,
) -> None:
    """Write and verify a scan file under a temporary name.

    Parameters
    ----------
    segments : mapping
        Name of each lane of frames to its segments, ascending.
    sections : mapping
        Name of each lane of small values to its sections of shared segments, ascending.
    copied_bytes : int
        Bytes of small values that every master made from it copies.
    choice : LayoutChoice
        Layouts of every master made from it; by default those that the scan asks for.

    Raises
    ------
    VerificationError
        If the contents of the closed file differ from those of the segments.
    ValueError
        If the scan was never prepared.
    OSError
        If the file system refuses.
    """
    if record.prepared is None:
        raise ValueError("a scan that was never prepared has no values")
    choice = choice or LayoutChoice().chosen(record.prepared.layouts)
    digests: dict[str, str] = {}
    with written_hdf5(path, track_order=True) as file, OpenFiles() as files:
        make_groups(file, record.prepared.publisher)
        for lane in record.prepared.lanes:
            if lane.storage is Storage.VALUES:
                values = LaneValues(lane, sections.get(lane.name, ()), files)
                digests |= write_lane(file, lane, values)
            elif lane.name in segments:
                times = segment_times(segments[lane.name])
                digests |= write_times(file, lane, times)
        link_entry(file, record.uid)
        _write_words(file[OWN_GROUP], record, verdict)
        file.create_dataset(COPIED_NAME, data=np.int64(copied_bytes))
        file.create_dataset(_LAYOUTS, data=choice.to_json(), dtype=FREE_TEXT)
    _verify(path, digests)


def make_groups(file: h5py.File, publisher: str = "") -> None:
    """Make the groups of a file with small values, and say who makes it.

    Parameters
    ----------
    publisher : str
        Program that published the scan, with its version.
    """
    write_root_attributes(file, publisher)
    classes = {
        "entry_0000": "NXentry",
        DATA_GROUP: "NXcollection",
        OWN_GROUP: "NXcollection",
        f"{OWN_GROUP}/lanes": "NXcollection",
        TIMES_GROUP: "NXcollection",
    }
    for name, nx_class in classes.items():
        group = file.require_group(name)
        group.attrs.create("NX_class", nx_class, dtype=NEXUS_TEXT)


def _write_words(own: h5py.Group, record: ScanRecord, verdict: Verdict) -> None:
    events = [event.to_json().decode() for event in scan_events(record)]
    uid = own.create_dataset("uid", data=record.uid, dtype=FREE_TEXT)
    if record.prepared is not None and record.prepared.original_uid:
        uid.attrs.create("original_name", record.prepared.original_uid, dtype=FREE_TEXT)
    own.create_dataset("events", data=events, dtype=FREE_TEXT)
    own.create_dataset("verdict", data=verdict.model_dump_json(), dtype=FREE_TEXT)
    ledger = {name: one.model_dump() for name, one in verdict.channels.items()}
    own.create_dataset("ledger", data=json.dumps(ledger), dtype=FREE_TEXT)
    if record.problems:
        own.create_dataset("problems", data=record.problems, dtype=FREE_TEXT)


def read_scan_file(path: Path) -> ScanFile:
    """Return the uid, events and verdict in a scan file.

    Raises
    ------
    NameTakenError
        If the file cannot be read as a scan file.
    """
    try:
        with open_hdf5(path) as file:
            own = file[OWN_GROUP]
            problems = own["problems"].asstr()[()] if "problems" in own else ()
            said = own["layouts"].asstr()[()] if "layouts" in own else None
            return ScanFile(
                uid=own["uid"].asstr()[()],
                events=tuple(parse_event(line) for line in own["events"][()]),
                verdict=Verdict.model_validate_json(own["verdict"].asstr()[()]),
                problems=tuple(str(problem) for problem in problems),
                choice=None if said is None else LayoutChoice.from_json(said),
            )
    except _NO_SCAN_FILE as error:
        raise NameTakenError(str(path), f"no scan file ({error})") from error


def _verify(path: Path, digests: Mapping[str, str]) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with open_hdf5(path, reads_once=True) as file:
            for name, expected in digests.items():
                if digest_of(file, name, descriptor) != expected:
                    raise VerificationError(
                        str(path), f"{name} is not what the segments hold"
                    )
    finally:
        os.close(descriptor)
