"""Frames by reference as sources of a virtual dataset. Pure.

A detector with several writers deals its frames out to several files, one by one or in
blocks. So frames of a file are mapped in steps: a mapping for each frame would make the
master slow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from scanbus.schemas import FrameRun, PointRange
from scanbus.schemas.verdict import ranges
from scanbus.writer.model.nexus_tree import FrameSource

__all__ = [
    "MAX_MAPPINGS",
    "Extent",
    "Piece",
    "ReferenceFiles",
    "frame_sources",
    "points_of",
]

MAX_MAPPINGS: Final = 10_000
"""Most mappings of a virtual dataset: HDF5 looks at all of them for each read."""


class Piece(NamedTuple):
    """Frames of one file in even steps: see `FrameSource`."""

    start: int
    step: int
    n_frames: int
    first: int
    frame_step: int


class Extent(NamedTuple):
    """What was found of a file's dataset.

    Attributes
    ----------
    file : str
        Its name in the master.
    length : int or None
        Number of its frames; None if that is not known, as it is not there yet.
    is_single : bool
        Whether it is one frame, without an axis that counts frames.
    """

    file: str
    length: int | None
    is_single: bool = False


@dataclass(slots=True)
class ReferenceFiles:
    """The files of one channel by reference, and which frame each point is.

    Attributes
    ----------
    pieces : dict
        File and path to its pieces, in the order of the points.
    n_points : int
        Number of points so far.
    """

    pieces: dict[tuple[str, str], list[Piece]] = field(default_factory=dict)
    n_points: int = 0

    def add(self, runs: Iterable[FrameRun]) -> None:
        """Add the references of the next points."""
        for run in runs:
            start, self.n_points = self.n_points, self.n_points + run.n_frames
            if run.file:
                found = self.pieces.setdefault((run.file, run.path), [])
                _add(found, Piece(start, 1, run.n_frames, run.first, 1))

    @property
    def n_pieces(self) -> int:
        """Number of pieces of all files."""
        return sum(map(len, self.pieces.values()))

    def frames_needed(self, file: tuple[str, str]) -> int:
        """Return how many frames a file must have."""
        return max(
            one.first + (one.n_frames - 1) * one.frame_step + 1
            for one in self.pieces[file]
        )


def _add(found: list[Piece], piece: Piece) -> None:
    """Append a piece; as part of the last one if both go on in the same steps."""
    if not found:
        found.append(piece)
        return
    last = found[-1]
    step = piece.start - (last.start + (last.n_frames - 1) * last.step)
    frame_step = piece.first - (last.first + (last.n_frames - 1) * last.frame_step)
    fits_last = last.n_frames == 1 or (step, frame_step) == (last.step, last.frame_step)
    fits_next = piece.n_frames == 1 or (step, frame_step) == (1, 1)
    if fits_last and fits_next and frame_step > 0:
        count = last.n_frames + piece.n_frames
        found[-1] = Piece(last.start, step, count, last.first, frame_step)
    else:
        found.append(piece)


def frame_sources(
    files: ReferenceFiles, extents: Mapping[tuple[str, str], Extent]
) -> tuple[FrameSource, ...]:
    """Return the sources of a channel's virtual dataset, by their first points.

    A file that is not there yet is mapped too: its frames are read once it is. Of one
    that is too short only the frames that it has: else HDF5 could read none at all.
    """
    found: list[FrameSource] = []
    for file, extent in extents.items():
        for piece in files.pieces[file]:
            count = piece.n_frames
            if extent.length is not None:
                room = extent.length - piece.first
                count = min(count, max(0, -(-room // piece.frame_step)))
            if count:
                found.append(
                    FrameSource(
                        extent.file,
                        file[1],
                        piece.start,
                        piece.step,
                        count,
                        piece.first,
                        piece.frame_step,
                        extent.is_single,
                    )
                )
    return tuple(sorted(found, key=lambda one: one.start))


def points_of(pieces: Iterable[Piece], length: int = 0) -> tuple[PointRange, ...]:
    """Return the points whose frames are not among the first `length` of the file."""
    points = (
        one.start + index * one.step
        for one in pieces
        for index in range(one.n_frames)
        if one.first + index * one.frame_step >= length
    )
    return ranges(sorted(points))
