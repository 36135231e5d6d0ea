"""Compare the chunks of frame segments with the checksums computed at the source.

First each segment's table of checksums is compared with the chunks allocated in its
file, which reads no data. Then the bytes of chunks are compared, of all or of a sample.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
import xxhash

from scanbus.schemas import PointRange
from scanbus.schemas.wording import counted
from scanbus.writer.check.report import UNREADABLE, Tally, one_line
from scanbus.writer.check.sampling import sampled
from scanbus.writer.check.scanbus_files import SegmentInfo, open_file
from scanbus.writer.model.ledger import joined, without
from scanbus.writer.model.scan_contents import DATA_GROUP, OWN_GROUP
from scanbus.writer.storage.chunked_dataset import (
    StoredChunk,
    stored_bytes,
    stored_chunks,
)

__all__ = ["FrameFile", "check_chunks", "check_table"]

_DATA = f"{DATA_GROUP}/data"


@dataclass(frozen=True)
class FrameFile:
    """A frame segment with a valid table of checksums; its chunks can be compared."""

    path: Path
    segment: SegmentInfo
    chunks: tuple[int, ...]

    def points(self, index: int) -> PointRange:
        """Return the points of one chunk."""
        return _points(self.segment, index)


def _points(segment: SegmentInfo, index: int) -> PointRange:
    rows = segment.lane.points_per_chunk
    start = segment.start + index * rows
    return start, min(start + rows, segment.stop)


def check_table(
    file: h5py.File, path: Path, segment: SegmentInfo, tally: Tally
) -> FrameFile | None:
    """Compare a segment's table and account with the chunks allocated in the file.

    Return None if its shape, type or table is invalid.
    """
    dataset = file[_DATA]
    problem = _layout_problem(dataset, segment)
    if problem:
        every = ((segment.start, segment.stop),)
        tally.record(path, _DATA, problem, every)
        return None
    table = _table(file)
    rows = segment.lane.points_per_chunk
    if len(table) != -(-len(dataset) // rows):
        tally.record(
            path, _DATA, f"{len(table)} checksums do not fit {len(dataset)} points"
        )
        return None
    standing = {chunk.start // rows for chunk in stored_chunks(dataset)}
    wanted = {int(index) for index in np.flatnonzero(table)}
    tally.count(chunks=len(wanted))
    for odd, sentence in (
        (wanted - standing, "chunks that came over the bus are not in the file"),
        (standing - wanted, "chunks without a checksum"),
    ):
        if odd:
            tally.record(path, _DATA, sentence, (_points(segment, one) for one in odd))
    _check_account(path, segment, wanted, len(table), tally)
    return FrameFile(path, segment, tuple(sorted(wanted & standing)))


def _layout_problem(dataset: h5py.Dataset, segment: SegmentInfo) -> str:
    channel = segment.lane.channels[0]
    shape = (segment.stop - segment.start, *channel.shape)
    if dataset.shape != shape:
        return f"shape {dataset.shape} instead of {shape}"
    if dataset.dtype != channel.numpy_dtype:
        return f"{dataset.dtype} instead of {channel.numpy_dtype}"
    chunk = (segment.lane.points_per_chunk, *channel.shape)
    if dataset.chunks != chunk:
        return f"chunks {dataset.chunks} instead of {chunk}"
    return ""


def _table(file: h5py.File) -> npt.NDArray[np.uint64]:
    return np.asarray(file[OWN_GROUP]["chunk_checksum"][()], np.uint64)


def _check_account(
    path: Path, segment: SegmentInfo, wanted: set[int], n_chunks: int, tally: Tally
) -> None:
    """Check that exactly the points that the account calls missing have no chunks."""
    missing = segment.account.missing_of(segment.lane.channels[0].name)
    lost = [_points(segment, one) for one in range(n_chunks) if one not in wanted]
    unsaid = without(joined(lost), missing)
    if unsaid:
        tally.record(path, _DATA, "points without data that are not missing", unsaid)
    # Gaps of an entry do not count: their chunks exist, with arbitrary values.
    nothing = joined(segment.account.missing)
    kept = [
        _points(segment, one)
        for one in sorted(wanted)
        if not without((_points(segment, one),), nothing)
    ]
    if kept:
        tally.record(path, _DATA, "points said to be missing have data", kept)


def check_chunks(files: Sequence[FrameFile], tally: Tally, *, everything: bool) -> None:
    """Compare chunks of one channel's segments with their checksums, and unpack some.

    A sample is spread over the channel and includes at least one chunk per segment.
    """
    total = sum(len(one.chunks) for one in files)
    first = files[0].segment
    seed = f"{first.uid}/{first.lane.name}"
    picked = np.array(sampled(total, seed, everything=everything), np.int64)
    before = 0
    for one in files:
        n_chunks = len(one.chunks)
        mine = picked[(picked >= before) & (picked < before + n_chunks)] - before
        before += n_chunks
        chosen = {one.chunks[index] for index in mine} or set(one.chunks[:1])
        with tally.guard(one.path, _DATA):
            _check_file(one, sorted(chosen), tally, everything=everything)


def _check_file(
    one: FrameFile, chosen: list[int], tally: Tally, *, everything: bool
) -> None:
    with open_file(one.path) as file:
        table, dataset = _table(file), file[_DATA]
        rows = one.segment.lane.points_per_chunk
        chunks = {chunk.start // rows: chunk for chunk in stored_chunks(dataset)}
        descriptor = os.open(one.path, os.O_RDONLY)
        try:
            damaged: list[PointRange] = []
            for n_done, index in enumerate(chosen):
                tally.report_progress(one.path, n_done, len(chosen))
                if not _is_intact(descriptor, chunks[index], int(table[index])):
                    damaged.append(one.points(index))
                elif everything or n_done == 0:
                    _check_unpacks(dataset, one, index, tally)
            tally.count(chunks_checked=len(chosen))
        finally:
            os.close(descriptor)
    if damaged:
        verb = "is" if len(damaged) == 1 else "are"
        sentence = f"{counted(len(damaged), 'chunk')} {verb} not what came over the bus"
        tally.record(one.path, _DATA, sentence, damaged)


def _is_intact(descriptor: int, chunk: StoredChunk, checksum: int) -> bool:
    return xxhash.xxh3_64_intdigest(stored_bytes(descriptor, chunk)) == checksum


def _check_unpacks(
    dataset: h5py.Dataset, one: FrameFile, index: int, tally: Tally
) -> None:
    start, stop = one.points(index)
    try:
        dataset[start - one.segment.start : stop - one.segment.start]
    except UNREADABLE as error:
        sentence = f"bytes that match their checksum do not unpack: {one_line(error)}"
        tally.record(one.path, _DATA, sentence, ((start, stop),))
