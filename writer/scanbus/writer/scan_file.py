"""The scan file: a scan's small values, events, ledger and verdict, written once.

It is made from the groups' segments when every lane is sealed, and replaces them. With
it and the detectors' segments, every master can be made again.

Layout::

    /entry_0000/measurement/<channel>            points of every small channel
    /entry_0000/measurement/<channel>__length    lengths of a ragged channel's points
    /entry_0000/scanbus/uid, events, verdict     JSON lines as they stood on the bus
    /entry_0000/scanbus/problems                 events that could not be understood
    /entry_0000/scanbus/lanes/<lane>             one row per entry, with checksums
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
import numpy.typing as npt
import xxhash

from scanbus.bus.codecs import DEFAULT_CODEC
from scanbus.bus.codecs.codec import Buffer
from scanbus.bus.registry import ScanRecord
from scanbus.schemas import ChannelDescription, LaneDescription, Verdict, parse_event
from scanbus.schemas.errors import DocumentError, NameTakenError, VerificationError
from scanbus.writer.contents import DATA_GROUP, data_path, length_path
from scanbus.writer.datasets import (
    make_packed_dataset,
    pack_rows,
    stored_bytes,
    stored_chunks,
)
from scanbus.writer.events_file import said_events
from scanbus.writer.hdf5_files import make_hdf5, open_hdf5
from scanbus.writer.layouts.channels import channel_attributes
from scanbus.writer.segment_files import FREE_TEXT, NEXUS_TEXT, OWN_GROUP
from scanbus.writer.tree_writer import write_attributes
from scanbus.writer.value_segment import flat_name, length_name

__all__ = ["ScanFile", "read_scan_file", "write_scan_file"]

_CHUNK_BYTES = 1 << 20
# Smaller datasets are stored plain: readable by everything, and not worth a chunk.
_PLAIN_BYTES = 1 << 20
_MOST_OPEN = 64
_ENTRIES = f"{OWN_GROUP}/entries"
# What h5py and the parsers raise over anything else.
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
    """What a scan file says of its scan.

    Attributes
    ----------
    uid : str
        The scan.
    events : tuple of Event
        Everything that was said, in order.
    verdict : Verdict
        The final one.
    problems : tuple of str
        Events that could not be understood.
    """

    uid: str
    events: tuple[Any, ...]
    verdict: Verdict
    problems: tuple[str, ...] = ()


def write_scan_file(
    path: Path,
    record: ScanRecord,
    segments: Mapping[str, Sequence[Path]],
    verdict: Verdict,
) -> None:
    """Write and verify a scan file under a temporary name.

    Parameters
    ----------
    segments : mapping
        Lane name to the segments of that group, ascending.

    Raises
    ------
    VerificationError
        If what stands in the closed file is not what the segments hold.
    """
    if record.prepared is None:
        raise ValueError("a scan that was never prepared has no values")
    digests: dict[str, str] = {}
    with make_hdf5(path, track_order=True) as file:
        _make_groups(file)
        for lane in record.prepared.lanes:
            if lane.name in segments:
                digests |= _write_lane(file, lane, segments[lane.name])
        _write_words(file[OWN_GROUP], record, verdict)
    _verify(path, digests)


def _make_groups(file: h5py.File) -> None:
    classes = {
        "/": "NXroot",
        "entry_0000": "NXentry",
        DATA_GROUP: "NXcollection",
        OWN_GROUP: "NXcollection",
        f"{OWN_GROUP}/lanes": "NXcollection",
    }
    for name, nx_class in classes.items():
        group = file.require_group(name)
        group.attrs.create("NX_class", nx_class, dtype=NEXUS_TEXT)
    file.attrs.create("creator", "scanbus", dtype=NEXUS_TEXT)
    file.attrs.create("default", "entry_0000", dtype=NEXUS_TEXT)


def _write_words(own: h5py.Group, record: ScanRecord, verdict: Verdict) -> None:
    events = [event.to_json().decode() for event in said_events(record)]
    own.create_dataset("uid", data=record.uid, dtype=FREE_TEXT)
    own.create_dataset("events", data=events, dtype=FREE_TEXT)
    own.create_dataset("verdict", data=verdict.model_dump_json(), dtype=FREE_TEXT)
    ledger = {name: one.model_dump() for name, one in verdict.channels.items()}
    own.create_dataset("ledger", data=json.dumps(ledger), dtype=FREE_TEXT)
    if record.problems:
        own.create_dataset("problems", data=record.problems, dtype=FREE_TEXT)


def read_scan_file(path: Path) -> ScanFile:
    """Return what a scan file says.

    Raises
    ------
    NameTakenError
        If the file is none.
    """
    try:
        with open_hdf5(path) as file:
            own = file[OWN_GROUP]
            problems = own["problems"].asstr()[()] if "problems" in own else ()
            return ScanFile(
                uid=own["uid"].asstr()[()],
                events=tuple(parse_event(line) for line in own["events"][()]),
                verdict=Verdict.model_validate_json(own["verdict"].asstr()[()]),
                problems=tuple(str(problem) for problem in problems),
            )
    except _NO_SCAN_FILE as error:
        raise NameTakenError(str(path), f"no scan file ({error})") from error


def _write_lane(
    file: h5py.File, lane: LaneDescription, segments: Sequence[Path]
) -> dict[str, str]:
    with _Segments(segments) as opened:
        _write_entries(file[OWN_GROUP]["lanes"], lane.name, opened)
        digests: dict[str, str] = {}
        for channel in lane.channels:
            digests |= _write_channel(file, lane, channel, opened)
        return digests


class _Segments:
    """The segments of one group, one after the other, as often as asked for.

    A few stay open, for a group may have hundreds of channels; not thousands, for a
    process may have so many files, and each takes memory.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._kept: list[h5py.File] = []

    def __enter__(self) -> Self:
        if len(self._paths) <= _MOST_OPEN:
            for path in self._paths:
                self._kept.append(open_hdf5(path, reads_once=True))
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._kept:
            one.close()

    def __iter__(self) -> Iterator[h5py.File]:
        yield from self._kept
        for path in self._paths[len(self._kept) :]:
            with open_hdf5(path, reads_once=True) as one:
                yield one


def _write_entries(group: h5py.Group, name: str, opened: _Segments) -> None:
    """Write one row per entry, segment by segment."""
    found = [(len(one[_ENTRIES]), one[_ENTRIES].dtype) for one in opened]
    if not found:
        return
    n_rows = sum(length for length, _ in found)
    dataset = group.create_dataset(name, (n_rows,), found[0][1])
    done = 0
    for one in opened:
        table = one[_ENTRIES][()]
        dataset[done : done + len(table)] = table
        done += len(table)


def _write_channel(
    file: h5py.File,
    lane: LaneDescription,
    channel: ChannelDescription,
    opened: _Segments,
) -> dict[str, str]:
    path = data_path(lane, channel)
    if not channel.is_variable:
        n_points = sum(len(one[DATA_GROUP][channel.name]) for one in opened)
        rows = _rows_of(opened, channel.name)
        shape = (n_points, *channel.shape)
        return {path: _write_rows(file, path, channel, shape, rows)}
    lengths = [one[DATA_GROUP][length_name(channel)][()] for one in opened]
    if channel.is_string:
        return {path: _write_texts(file, path, channel, opened, lengths)}
    joined = np.concatenate([np.empty(0, "<u4"), *lengths])
    file.create_dataset(length_path(lane, channel), data=joined)
    shape = (len(joined), max(1, int(joined.max(initial=0))))
    rows = _padded(channel, opened, lengths, shape[1])
    return {path: _write_rows(file, path, channel, shape, rows)}


def _rows_of(opened: _Segments, name: str) -> Iterator[npt.NDArray[Any]]:
    for one in opened:
        dataset = one[DATA_GROUP][name]
        step = _step_of(dataset)
        for start in range(0, len(dataset), step):
            yield dataset[start : start + step]


def _step_of(dataset: h5py.Dataset) -> int:
    """Return how many rows to read at once: about a chunk of ours, of whole chunks."""
    row_bytes = int(dataset.dtype.itemsize * np.prod(dataset.shape[1:]))
    rows: int = dataset.chunks[0] if dataset.chunks else 1
    return max(1, _CHUNK_BYTES // max(1, rows * row_bytes)) * rows


def _padded(
    channel: ChannelDescription,
    opened: _Segments,
    lengths: Sequence[npt.NDArray[np.uint32]],
    width: int,
) -> Iterator[npt.NDArray[Any]]:
    step = max(1, _CHUNK_BYTES // (width * channel.numpy_dtype.itemsize))
    for one, counts in zip(opened, lengths, strict=True):
        edges = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        flat = one[DATA_GROUP][flat_name(channel)]
        for start in range(0, len(counts), step):
            stop = min(start + step, len(counts))
            values = flat[edges[start] : edges[stop]]
            rows = np.full(
                (stop - start, width), channel.missing_value, channel.numpy_dtype
            )
            rows[np.arange(width) < counts[start:stop, None]] = values
            yield rows


def _write_rows(
    file: h5py.File,
    path: str,
    channel: ChannelDescription,
    shape: tuple[int, ...],
    rows: Iterable[npt.NDArray[Any]],
) -> str:
    """Write the rows of a dataset of known shape; return the digest of what stands."""
    dtype = channel.numpy_dtype
    digest = xxhash.xxh3_64()
    row_bytes = dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
    if shape[0] * row_bytes <= _PLAIN_BYTES:
        dataset = file.create_dataset(path, shape, dtype)
        done = 0
        for block in rows:
            dataset[done : done + len(block)] = block
            done += len(block)
            digest.update(block.data)
    else:
        dataset = _make_packed(file, path, channel, shape)
        for index, block in enumerate(_rechunked(rows, dataset.chunks[0])):
            digest.update(_store_packed(dataset, channel, index, block))
    write_attributes(dataset, channel_attributes(channel))
    return digest.hexdigest()


def _make_packed(
    file: h5py.File, path: str, channel: ChannelDescription, shape: tuple[int, ...]
) -> h5py.Dataset:
    row_bytes = channel.numpy_dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
    folder, _, name = path.rpartition("/")
    return make_packed_dataset(
        file[folder],
        name,
        shape=shape,
        rows_per_chunk=min(shape[0], max(1, _CHUNK_BYTES // row_bytes)),
        dtype=channel.numpy_dtype,
        codec_name=_codec_of(channel),
        fill_value=channel.missing_value,
    )


def _codec_of(channel: ChannelDescription) -> str:
    return DEFAULT_CODEC if channel.codec == "none" else channel.codec


def _store_packed(
    dataset: h5py.Dataset,
    channel: ChannelDescription,
    index: int,
    block: npt.NDArray[Any],
) -> Buffer:
    """Pack one chunk and store it; return its bytes."""
    per_chunk = dataset.chunks[0]
    packed: Buffer = pack_rows(block, per_chunk, _codec_of(channel))
    place = (index * per_chunk,) + (0,) * (dataset.ndim - 1)
    dataset.id.write_direct_chunk(place, packed)
    return packed


def _rechunked(
    blocks: Iterable[npt.NDArray[Any]], rows: int
) -> Iterator[npt.NDArray[Any]]:
    """Yield the same rows in blocks of `rows`, the last one shorter."""
    held: list[npt.NDArray[Any]] = []
    n_held = 0
    for block in blocks:
        held.append(block)
        n_held += len(block)
        while n_held >= rows:
            joined = held[0] if len(held) == 1 else np.concatenate(held)
            yield joined[:rows]
            rest = joined[rows:]
            held, n_held = [rest] if len(rest) else [], n_held - rows
    if n_held:
        yield np.concatenate(held)


def _write_texts(
    file: h5py.File,
    path: str,
    channel: ChannelDescription,
    opened: _Segments,
    lengths: Sequence[npt.NDArray[np.uint32]],
) -> str:
    digest = xxhash.xxh3_64()
    dataset = file.create_dataset(path, (sum(map(len, lengths)),), FREE_TEXT)
    done = 0
    for one, counts in zip(opened, lengths, strict=True):
        flat = one[DATA_GROUP][flat_name(channel)][()].tobytes()
        edges = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        texts = [flat[start:stop].decode() for start, stop in itertools.pairwise(edges)]
        dataset[done : done + len(texts)] = texts
        done += len(texts)
        digest.update(_text_bytes(texts))
    write_attributes(dataset, channel_attributes(channel))
    return digest.hexdigest()


def _text_bytes(texts: Iterable[str]) -> bytes:
    return "".join(f"{text}\0" for text in texts).encode()


def _verify(path: Path, digests: Mapping[str, str]) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with open_hdf5(path) as file:
            for name, expected in digests.items():
                if _digest_of(file[name], descriptor) != expected:
                    raise VerificationError(
                        str(path), f"{name} is not what the segments hold"
                    )
    finally:
        os.close(descriptor)


def _digest_of(dataset: h5py.Dataset, descriptor: int) -> str:
    """Return the digest of what stands in the file: packed chunks as they are."""
    digest = xxhash.xxh3_64()
    if h5py.check_string_dtype(dataset.dtype) is not None:
        digest.update(_text_bytes(dataset.asstr()[()]))
    elif dataset.chunks is None:
        digest.update(dataset[()].data)
    else:
        for chunk in stored_chunks(dataset):
            digest.update(stored_bytes(descriptor, chunk))
    return digest.hexdigest()
