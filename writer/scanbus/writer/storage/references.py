"""Look for the files of frames by reference: their shape, type and count.

Their data are neither read nor copied, and have no checksums. Only files below the
external roots are opened.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import h5py

from scanbus.bus.external import FrameFiles, image_below
from scanbus.bus.protocol import Variable
from scanbus.schemas import ChannelDescription, LaneDescription, Storage
from scanbus.schemas.errors import ExternalFileError
from scanbus.schemas.file_names import scan_master_path
from scanbus.schemas.frame_references import frame_runs
from scanbus.schemas.wording import counted
from scanbus.writer.model.nexus_tree import FrameSource
from scanbus.writer.model.reference_map import (
    MAX_MAPPINGS,
    Extent,
    ReferenceFiles,
    frame_sources,
    points_of,
)
from scanbus.writer.model.scan_contents import ScanContents, data_path
from scanbus.writer.model.sources import MAX_SOURCES
from scanbus.writer.storage.hdf5 import open_hdf5
from scanbus.writer.storage.lane_values import LaneValues
from scanbus.writer.storage.shared_sections import OpenFiles, Section
from scanbus.writer.storage.tree_writer import check_mapping

__all__ = [
    "NOTHING_FOUND",
    "Found",
    "allow_references_below",
    "examine_references",
    "read_reference_files",
    "reference_files",
    "with_references",
]

_TEXTS: Final = 4096
_POLL_S: Final = 0.5
_MOST_NAMED: Final = 5
# Of this process: whoever reads the settings sets it once, before files are opened.
_roots: tuple[Path, ...] = ()


def allow_references_below(roots: Iterable[Path]) -> None:
    """Set the roots below which files by reference are opened, for this process."""
    global _roots  # noqa: PLW0603 - a setting of the process
    _roots = tuple(roots)


@dataclass(frozen=True)
class Found:
    """What was found of a scan's files by reference, in sentences.

    Attributes
    ----------
    notes : tuple of str
        What holds also if nothing is missing.
    problems : tuple of str
        Files that lack frames.
    """

    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


NOTHING_FOUND: Final = Found()


@dataclass(frozen=True)
class _References:
    """What was found of one channel's files.

    Attributes
    ----------
    extents : mapping
        File and path of each file that may be mapped.
    problems : tuple of str
        One sentence for each file that lacks frames, the first ones of many.
    is_waiting : bool
        Whether frames may still come.
    """

    extents: Mapping[tuple[str, str], Extent]
    problems: tuple[str, ...]
    is_waiting: bool


def reference_files(
    lanes: Iterable[LaneDescription], sections: Mapping[str, Sequence[Section]]
) -> dict[str, ReferenceFiles]:
    """Return the files of each channel by reference, from its segments.

    Parameters
    ----------
    sections : mapping
        Name of each lane of small values to its sections of shared segments.
    """
    found: dict[str, ReferenceFiles] = {}
    with OpenFiles() as files:
        for lane in lanes:
            if lane.is_late or not any(one.is_reference for one in lane.channels):
                continue
            for points in LaneValues(lane, sections.get(lane.name, ()), files):
                for channel, block in zip(lane.channels, points.blocks, strict=True):
                    if channel.is_reference and isinstance(block, Variable):
                        held = found.setdefault(channel.name, ReferenceFiles())
                        held.add(frame_runs(block.texts()))
    return found


def examine_references(
    channels: Iterable[ChannelDescription],
    files: Mapping[str, ReferenceFiles],
    *,
    wait_s: float = 0.0,
    tick: Callable[[], None] = lambda: None,
) -> Found:
    """Look at the files of all channels by reference.

    Parameters
    ----------
    wait_s : float
        How long to wait for files that are not there or not complete, in seconds.
    tick : callable
        Called between looks.
    """
    notes: list[str] = []
    problems: list[str] = []
    deadline = time.monotonic() + wait_s
    for channel in channels:
        if not channel.is_reference or channel.name not in files:
            continue
        held = files[channel.name]
        found = _examine(channel, held)
        while found.is_waiting and time.monotonic() < deadline:
            tick()
            time.sleep(_POLL_S)
            found = _examine(channel, held)
        notes.append(f"{channel.name}: by reference, not checksummed")
        notes += [f"{channel.name}: {text}" for text in _unmapped(held)]
        problems += [f"{channel.name}: {text}" for text in found.problems]
    return Found(tuple(notes), tuple(problems))


def _unmapped(files: ReferenceFiles) -> Iterator[str]:
    """Say why the frames of a channel are listed by URL and not mapped."""
    n_files = len({file for file, path in files.pieces if path})
    if n_files < len({file for file, _ in files.pieces}):
        yield "files other than HDF5 are listed by URL"
    if n_files > MAX_SOURCES or files.n_pieces > MAX_MAPPINGS:
        yield (
            f"{n_files} files in {files.n_pieces} pieces are listed by URL: a master "
            f"maps at most {MAX_SOURCES} files"
        )


def _examine(channel: ChannelDescription, files: ReferenceFiles) -> _References:
    extents: dict[tuple[str, str], Extent] = {}
    problems: list[str] = []
    n_bad, is_waiting = 0, False
    looks = _Looks(channel, files)
    for file in files.pieces:
        extent, error = looks.look_at(file)
        if extent is not None:
            extents[file] = extent
        if error is None:
            continue
        is_waiting = is_waiting or error.is_absent
        n_bad += 1
        if n_bad <= _MOST_NAMED:
            length = extent.length if extent is not None else None
            problems.append(_problem(error, files, file, length or 0))
    if n_bad > _MOST_NAMED:
        problems.append(
            f"and {n_bad - _MOST_NAMED} more of {counted(len(files.pieces), 'file')}"
        )
    return _References(extents, tuple(problems), is_waiting)


class _Looks:
    """Looks at the files of one channel, once each."""

    def __init__(self, channel: ChannelDescription, files: ReferenceFiles) -> None:
        if channel.frames is None:
            raise ValueError(f"{channel.name} is not by reference")
        self._frames = channel.frames
        self._files = files
        # What stands behind several of them is looked at once.
        self._opened = FrameFiles(channel.frames, _roots)

    def look_at(
        self, file: tuple[str, str]
    ) -> tuple[Extent | None, ExternalFileError | None]:
        """Return what a file has, None if it may not be mapped, and what is wrong."""
        needed = self._files.frames_needed(file)
        try:
            extent = self._extent(*file, needed)
        except ExternalFileError as error:
            # What is there and cannot be read would make all of the dataset unreadable.
            may_come = error.is_absent and not os.path.lexists(file[0])
            return (Extent(file[0], None) if may_come else None), error
        try:
            self._check_mapping(file, extent)
        except ValueError as error:
            return None, ExternalFileError(file[0], str(error))
        if extent.length is None or extent.length >= needed:
            return extent, None
        reason = f"has {extent.length} of {counted(needed, 'frame')}"
        return extent, ExternalFileError(file[0], reason, is_absent=True)

    def _extent(self, file: str, path: str, n_frames: int) -> Extent:
        if not path:  # Other formats are not opened: how many frames is not known.
            image_below(file, _roots, n_frames * self._frames.n_bytes)
            return Extent(file, None)
        length, rank = self._opened.length(file, path)
        return Extent(file, length, is_single=rank == len(self._frames.shape))

    def _check_mapping(self, file: tuple[str, str], extent: Extent) -> None:
        """Raise ValueError if HDF5 would refuse the frames of a file in a master."""
        if file[1] and len(self._files.pieces[file]) <= MAX_MAPPINGS:
            real = extent._replace(file=os.path.realpath(file[0]))
            sources = frame_sources(self._files, {file: real})
            check_mapping(sources, self._files.n_points, self._frames.shape)


def _problem(
    error: ExternalFileError, files: ReferenceFiles, file: tuple[str, str], length: int
) -> str:
    ranges = points_of(files.pieces[file], length)
    shown = ", ".join(
        str(start) if stop == start + 1 else f"{start} to {stop - 1}"
        for start, stop in ranges[:_MOST_NAMED]
    )
    more = ", …" if len(ranges) > _MOST_NAMED else ""
    return f"{error} (points {shown}{more})"


def with_references(folder: Path, contents: ScanContents) -> ScanContents:
    """Return contents with the sources of channels by reference.

    Parameters
    ----------
    folder : pathlib.Path
        The scan's folder, with the scan file in which the references are.

    Raises
    ------
    OSError
        If the scan file cannot be read.
    """
    prepared = contents.record.prepared
    if prepared is None or contents.values_file is None:
        return contents
    wanted = [
        (lane, channel)
        for lane in prepared.lanes
        if lane.storage is Storage.VALUES
        for channel in lane.channels
        if channel.is_reference
    ]
    if not wanted:
        return contents
    root = _root_of(folder, contents)
    found: dict[str, tuple[FrameSource, ...]] = {}
    n_files = 0
    with open_hdf5(folder / contents.values_file) as file:
        for lane, channel in wanted:
            files = read_reference_files(file[data_path(lane, channel)])
            n_files += len({name for name, _ in files.pieces})
            if n_files <= MAX_SOURCES and files.n_pieces <= MAX_MAPPINGS:
                sources = _sources(channel, files, folder, root)
                if sources:
                    found[channel.name] = sources
    return replace(contents, referenced=found)


def _root_of(folder: Path, contents: ScanContents) -> Path:
    """Return the root, below which the tree may be moved as a whole."""
    depth = len(Path(scan_master_path(contents.record.identity)).parent.parts)
    return Path(os.path.realpath(folder)).parents[depth - 1]


def read_reference_files(dataset: h5py.Dataset) -> ReferenceFiles:
    """Return the files that a channel's URLs in a scan file name.

    Raises
    ------
    ValueError
        If one is no URL of a frame.
    """
    files, texts = ReferenceFiles(), dataset.asstr()
    for start in range(0, dataset.shape[0], _TEXTS):
        files.add(frame_runs(texts[start : start + _TEXTS]))
    return files


def _sources(
    channel: ChannelDescription, files: ReferenceFiles, folder: Path, root: Path
) -> tuple[FrameSource, ...]:
    """Return the sources of a channel; none if not all of its files are HDF5."""
    if not all(path for _, path in files.pieces):
        return ()
    extents = {
        file: extent._replace(file=_name_in_master(file[0], folder, root))
        for file, extent in _examine(channel, files).extents.items()
    }
    return frame_sources(files, extents)


def _name_in_master(file: str, folder: Path, root: Path) -> str:
    """Return a relative name of a file below the root, else its real path."""
    real, here = os.path.realpath(file), os.path.realpath(folder)
    is_below = Path(real).is_relative_to(root)
    return os.path.relpath(real, here) if is_below else real
