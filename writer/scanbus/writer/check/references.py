"""Check frames by reference: that each file is there, with type, shape and frames.

Their data have no checksums. What is not below the external roots is not opened.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py

from scanbus.bus.external import FrameFiles, literal_name, place_below
from scanbus.schemas import FrameDescription, PointRange
from scanbus.schemas.errors import ExternalFileError
from scanbus.writer.check.report import Spot, Tally

__all__ = ["check_references"]


@dataclass
class _Mapped:
    """A dataset of a detector's file, and the points that are mapped from it."""

    file: str
    path: str
    points: list[PointRange] = field(default_factory=list)
    n_frames: int = 0


def check_references(
    dataset: h5py.Dataset, path: Path, roots: Sequence[Path], tally: Tally
) -> None:
    """Check all files of a virtual dataset of frames by reference.

    Parameters
    ----------
    path : pathlib.Path
        The scan master.
    roots : sequence of pathlib.Path
        The external roots.
    """
    spot = tally.at(path, dataset.name)
    frames = {"dtype": dataset.dtype.name, "shape": dataset.shape[1:]}
    files = FrameFiles(FrameDescription.model_validate(frames), roots)
    n_outside = 0
    for one in _mapped(dataset, path):
        tally.count(vds_sources=1)
        try:
            place_below(one.file, roots)
        except ExternalFileError:
            n_outside += 1
            continue
        _check_file(files, one, spot)
    tally.note(f"{spot.file}: {spot.dataset} is by reference, not checksummed")
    if n_outside:
        tally.note(
            f"{spot.file}: {n_outside} files of {spot.dataset} are not below an "
            "external root that was given: not opened"
        )


def _check_file(files: FrameFiles, one: _Mapped, spot: Spot) -> None:
    try:
        length, _ = files.length(one.file, one.path)
    except ExternalFileError as error:
        spot.record(str(error), one.points)
        return
    if length < one.n_frames:
        reason = f"{one.file} has {length} of {one.n_frames} frames"
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
