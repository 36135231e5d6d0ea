"""Check frames by reference: that each file is there, with type, shape and frames.

Their data have no checksums. What is not below the external roots is not opened. The
scan file lists all of them; the master maps HDF5 files, as long as they were then.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py

from scanbus.bus.external import FrameFiles, image_below, literal_name, place_below
from scanbus.schemas import FrameDescription, LaneDescription, PointRange
from scanbus.schemas.errors import ExternalFileError
from scanbus.schemas.wording import counted
from scanbus.writer.check.report import Spot, Tally
from scanbus.writer.model.reference_map import points_of
from scanbus.writer.model.scan_contents import data_path
from scanbus.writer.storage.references import read_reference_files

__all__ = ["SeenFiles", "check_listed", "check_references"]


@dataclass
class _Mapped:
    """A dataset of a detector's file, and the points that are mapped from it."""

    file: str
    path: str
    points: list[PointRange] = field(default_factory=list)
    n_frames: int = 0


class SeenFiles:
    """Files by reference, and how many frames they were found to have, or not.

    Parameters
    ----------
    roots : sequence of pathlib.Path
        The external roots.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        self.roots = tuple(roots)
        self._needed: dict[tuple[str, str], int] = {}

    def add(self, file: str, path: str, n_frames: int) -> bool:
        """Note what a file must have; return whether that was not looked at yet."""
        key = os.path.realpath(file), path
        is_new = n_frames > self._needed.get(key, 0)
        if is_new:
            self._needed[key] = n_frames
        return is_new


def check_references(
    dataset: h5py.Dataset, path: Path, seen: SeenFiles, tally: Tally
) -> None:
    """Check all files of a virtual dataset of frames by reference.

    Parameters
    ----------
    path : pathlib.Path
        The scan master.
    seen : SeenFiles
        The external roots, and what was looked at.
    """
    roots = seen.roots
    spot = tally.at(path, dataset.name)
    frames = {"dtype": dataset.dtype.name, "shape": dataset.shape[1:]}
    files = FrameFiles(FrameDescription.model_validate(frames), roots)
    n_outside = 0
    for one in _mapped(dataset, path):
        tally.count(vds_sources=1)
        seen.add(one.file, one.path, one.n_frames)
        try:
            place_below(one.file, roots)
        except ExternalFileError:
            n_outside += 1
            continue
        _check_file(files, one, spot)
    tally.note(f"{spot.file}: {spot.dataset} is by reference, not checksummed")
    _note_outside(n_outside, spot)


def check_listed(
    file: h5py.File,
    path: Path,
    lane: LaneDescription,
    seen: SeenFiles,
    tally: Tally,
) -> None:
    """Check the files that a scan file lists, as far as no master maps them.

    Parameters
    ----------
    file, path
        The scan file.
    lane : LaneDescription
        A lane of small values.
    """
    for channel in lane.channels:
        if channel.frames is None:
            continue
        dataset = file[data_path(lane, channel)]
        spot, n_outside = tally.at(path, dataset.name), 0
        files = FrameFiles(channel.frames, seen.roots)
        listed = read_reference_files(dataset)
        for key, pieces in listed.pieces.items():
            needed = listed.frames_needed(key)
            if not seen.add(*key, needed):
                continue
            length, problem = 0, ""
            try:
                place_below(key[0], seen.roots)
            except ExternalFileError:
                n_outside += 1
                continue
            try:
                if key[1]:
                    length, _ = files.length(*key)
                    problem = f"{key[0]} has {length} of {counted(needed, 'frame')}"
                else:
                    image_below(key[0], seen.roots, needed * channel.frames.n_bytes)
                    length = needed  # Not known: other formats are not opened.
            except ExternalFileError as error:
                problem = str(error)
            if length < needed:
                spot.record(problem, points_of(pieces, length))
        if listed.pieces:
            tally.note(f"{spot.file}: {spot.dataset} is by reference, not checksummed")
        _note_outside(n_outside, spot)


def _note_outside(n_outside: int, spot: Spot) -> None:
    if n_outside:
        spot.tally.note(
            f"{spot.file}: {counted(n_outside, 'file')} of {spot.dataset} "
            f"{'is' if n_outside == 1 else 'are'} not below an external root that was "
            "given: not opened"
        )


def _check_file(files: FrameFiles, one: _Mapped, spot: Spot) -> None:
    try:
        length, _ = files.length(one.file, one.path)
    except ExternalFileError as error:
        spot.record(str(error), one.points)
        return
    if length < one.n_frames:
        reason = f"{one.file} has {length} of {counted(one.n_frames, 'frame')}"
        spot.record(f"{reason}: the whole dataset cannot be read", one.points)


def _mapped(dataset: h5py.Dataset, path: Path) -> Iterator[_Mapped]:
    """Yield the files of a virtual dataset, each once, by their absolute paths."""
    found: dict[tuple[str, str], _Mapped] = {}
    rank = len(dataset.shape)
    for one in dataset.virtual_sources():
        name = literal_name(one.file_name) or one.file_name
        file = str(path.resolve().parent / name)
        source = literal_name(one.dset_name) or one.dset_name
        held = found.setdefault((file, source), _Mapped(file, source))
        low, high = one.vspace.get_select_bounds()
        held.points.append((int(low[0]), int(high[0]) + 1))
        held.n_frames = max(held.n_frames, _frames_needed(one.src_space, rank))
    yield from found.values()


def _frames_needed(space: Any, rank: int) -> int:
    """Return how many frames a source must have; a whole one is a single frame."""
    if space.get_select_type() == h5py.h5s.SEL_ALL:
        return 1
    _, last = space.get_select_bounds()
    return int(last[0]) + 1 if len(last) == rank else 1
