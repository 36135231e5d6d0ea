"""Groups about the scan itself: verdict, ledgers, sources, notes, state of writing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np

from scanbus.bus.protocol import ScanRecord
from scanbus.schemas import (
    PROTOCOL,
    ChannelLedger,
    PointRange,
    Storage,
    Verdict,
    VerdictWord,
)
from scanbus.writer.layouts.common.channel_nodes import Place
from scanbus.writer.layouts.common.root import iso_time
from scanbus.writer.layouts.common.value_nodes import latest_group, times_group
from scanbus.writer.model.file_stamp import FileStamp
from scanbus.writer.model.nexus_tree import Array, Dataset, ExternalLink, Group, Node
from scanbus.writer.model.scan_contents import (
    ScanContents,
    data_path,
    linked_path,
)

__all__ = ["note_groups", "scanbus_group", "writer_note"]

_RANGES: Final = ("missing", "duplicate", "late", "corrupt", "refused")
_MAX_NOTES: Final = 100


def writer_note(record: ScanRecord, stamp: FileStamp) -> Group:
    """Return the NXnote with the state of writing that Bliss's readers expect.

    ``SUCCEEDED`` means that everything was written; a partial scan is ``FAILED``.
    """
    verdict = record.final_verdict
    if verdict is None:
        status = "RUNNING" if record.started else "STARTING"
    else:
        is_complete = verdict.verdict is VerdictWord.COMPLETE
        status = "SUCCEEDED" if is_complete else "FAILED"
    return Group(
        "NXnote",
        children={
            "status": Dataset(status),
            "date": Dataset(stamp.time),
            "author": Dataset("scanbus"),
        },
    )


def note_groups(record: ScanRecord) -> Group:
    """Return the notes added during the scan, and the text given at its end.

    Each is an NXnote; the last of `_MAX_NOTES` holds all further ones as arrays, since
    each group takes HDF5 longer than thousands of texts in one dataset.
    """
    said = [(update.time, update.note) for update in record.updates if update.note]
    if record.ended and record.ended.text:
        said.append((record.ended.time, record.ended.text))
    is_long = len(said) > _MAX_NOTES
    n_single = _MAX_NOTES - 1 if is_long else len(said)
    notes: dict[str, Node] = {
        f"note_{number:02d}": _note(text, iso_time(time))
        for number, (time, text) in enumerate(said[:n_single], start=1)
    }
    if is_long:
        texts = tuple(text for _, text in said[n_single:])
        times = tuple(iso_time(time) for time, _ in said[n_single:])
        notes[f"note_{_MAX_NOTES:02d}"] = _note(texts, times)
    return Group("NXcollection", children=notes)


def _note(text: str | tuple[str, ...], date: str | tuple[str, ...]) -> Group:
    return Group(
        "NXnote",
        children={
            "data": Dataset(text),
            "type": Dataset("text/plain"),
            "date": Dataset(date),
        },
    )


def scanbus_group(
    contents: ScanContents,
    places: Mapping[str, Place],
    problems: Iterable[str],
    remarks: Sequence[str],
    displaced: Mapping[str, Node],
) -> Group:
    """Return the scan's identity, verdict with ledgers, sources and problems.

    Parameters
    ----------
    contents : ScanContents
        The scan.
    places : mapping
        Channel name to its place.
    problems : iterable of str
        One sentence for each value that could not be written as it was sent.
    remarks : sequence of str
        One for each that is written, but not as it was given, or that few can read.
    displaced : mapping
        Nodes for metadata whose own place is taken.
    """
    record = contents.record
    scan = record.identity
    original = record.prepared.original_uid if record.prepared else ""
    children: dict[str, Node] = {
        "uid": Dataset(scan.uid, {"original_name": original} if original else {}),
        "protocol": Dataset(PROTOCOL),
        "session": Dataset(scan.session),
        "scan_number": Dataset(scan.scan_number),
    }
    for key in ("proposal", "beamline", "collection", "dataset"):
        name, first = getattr(scan, key), record.folder_as_given(key)
        children[key] = Dataset(name, {} if first == name else {"original_name": first})
    if record.prepared is not None and record.prepared.parent:
        children["parent"] = Dataset(record.prepared.parent)
    if record.renumbered is not None:
        children["renumbered"] = Dataset(record.renumbered.text)
    if record.verdict is not None:
        children |= _verdict_nodes(record.verdict, places)
    files = _collected_files(contents)
    if files:
        children["files"] = Dataset(files)
    sources = _source_groups(contents, places)
    if sources:
        children["sources"] = Group("NXcollection", children=sources)
    children |= {**times_group(contents), **latest_group(contents)}
    if contents.late:
        children["late"] = _late_group(contents)
    children |= displaced
    sentences = (*record.problems, *problems)
    if sentences:
        children["problems"] = Dataset(sentences)
    if remarks:
        children["remarks"] = Dataset(tuple(remarks))
    return Group("NXcollection", children=children)


def _collected_files(contents: ScanContents) -> tuple[str, ...]:
    """Return all data files of the scan, relative to its folder, or absolute.

    Whoever has the master knows from it what to copy, to archive or to process.
    """
    named: dict[str, None] = {}
    if contents.values_file:
        named[contents.values_file] = None
    for segments in contents.segments.values():
        named |= dict.fromkeys(segment.name for segment in segments)
    for late in contents.late.values():
        named |= dict.fromkeys(late)
    for frames in contents.referenced.values():
        named |= dict.fromkeys(source.file for source in frames)
    return tuple(named)


def _late_group(contents: ScanContents) -> Group:
    """Return links to the files with late points; these are not merged with others."""
    uid = contents.record.uid
    return Group(
        "NXcollection",
        children={
            f"{channel}_{index:04d}": ExternalLink(
                name, linked_path(name, uid, "/entry_0000")
            )
            for channel, names in contents.late.items()
            for index, name in enumerate(names)
        },
    )


def _verdict_nodes(verdict: Verdict, places: Mapping[str, Place]) -> dict[str, Node]:
    nodes: dict[str, Node] = {
        "verdict": Dataset(verdict.verdict.value),
        "reason": Dataset(verdict.reason),
        "provisional": Dataset(np.bool_(verdict.provisional)),
        "ledger": _ledger_group(verdict.channels, places),
    }
    return {**nodes, "notes": Dataset(verdict.notes)} if verdict.notes else nodes


def _ledger_group(
    ledgers: Mapping[str, ChannelLedger], places: Mapping[str, Place]
) -> Group:
    """Return the ledgers as columns, since a scan may have thousands of channels."""
    each = ledgers.values()
    children: dict[str, Node] = {
        "channel": Dataset(tuple(ledgers)),
        "measurement": Dataset(
            tuple(places[name].measured if name in places else name for name in ledgers)
        ),
        "expected": Dataset(np.array([one.expected for one in each], dtype=np.int64)),
        "written": Dataset(np.array([one.written for one in each], dtype=np.int64)),
        "sealed": Dataset(np.array([one.sealed for one in each], dtype=np.bool_)),
    }
    for kind in _RANGES:
        found: dict[str, Node] = {
            name: Dataset(_rows(getattr(ledger, kind)), {"columns": ("start", "stop")})
            for name, ledger in ledgers.items()
            if getattr(ledger, kind)
        }
        if found:
            children[kind] = Group("NXcollection", children=found)
    return Group("NXcollection", children=children)


def _rows(found: tuple[PointRange, ...]) -> Array:
    """Return ranges of points as an array, shape ``(n, 2)``."""
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def _source_groups(
    contents: ScanContents, places: Mapping[str, Place]
) -> dict[str, Node]:
    """Return the data files of each channel of ``Storage.FILES``.

    The virtual datasets name them too, but a reader of a virtual dataset cannot
    distinguish a missing file from missing points: both read as fill values.
    """
    groups: dict[str, Node] = {}
    for name, place in places.items():
        if place.lane.storage is not Storage.FILES or place.n_points is None:
            continue
        segments = contents.segments.get(place.lane.name, ())
        fill_value = place.channel.missing_value
        groups[name] = Group(
            "NXcollection",
            children={
                "file": Dataset(tuple(segment.name for segment in segments)),
                "path": Dataset(data_path(place.lane, place.channel)),
                "start": Dataset(np.array([s.start for s in segments], np.int64)),
                "stop": Dataset(np.array([s.stop for s in segments], np.int64)),
                "fill_value": Dataset(np.array(fill_value, place.channel.numpy_dtype)),
            },
        )
    return groups
