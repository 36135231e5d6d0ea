"""Check virtual datasets by the shapes of their sources, without reading data.

A missing source silently reads as fill values; a source with fewer rows than mapped
makes the whole read fail. Both are found here, with the affected points.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import h5py

from scanbus.schemas import PointRange
from scanbus.schemas.wording import counted
from scanbus.writer.check.links import note_without_uid, target_of
from scanbus.writer.check.report import UNREADABLE, Spot, Tally, one_line
from scanbus.writer.check.scanbus_files import SegmentInfo, open_file, read_segment
from scanbus.writer.layouts.common.device_fields import DERIVED_FROM
from scanbus.writer.model.ledger import joined

__all__ = ["VirtualInfo", "check_virtual"]

# More than any writer makes: virtual datasets of virtual datasets.
_DEEPEST_MAPPING: Final = 16


@dataclass
class VirtualInfo:
    """A virtual dataset and its sources.

    Attributes
    ----------
    name : str
        Path of the dataset.
    n_rows : int
        Length along the first axis.
    channel : str or None
        Name of the channel, from its segments.
    parts : list
        Tuples of source file, as named in the mapping, start and stop of its rows.
    missing : list of PointRange
        Missing points, from the accounts of the segments.
    is_whole : bool
        Whether every source could be checked and fits its mapping.
    targets : set of pathlib.Path
        Source files that exist.
    """

    name: str
    n_rows: int
    channel: str | None = None
    parts: list[tuple[str, int, int]] = field(default_factory=list)
    missing: list[PointRange] = field(default_factory=list)
    is_whole: bool = True
    targets: set[Path] = field(default_factory=set)


@dataclass(frozen=True)
class _Mapping:
    """A mapping: rows ``[start, stop)`` come from a dataset of a source file."""

    file: str
    dataset: str
    start: int
    stop: int
    n_values: int
    selection: tuple[tuple[int, ...], tuple[int, ...]] | None
    is_block: bool

    @property
    def points(self) -> tuple[PointRange]:
        return ((self.start, self.stop),)


def check_virtual(
    file: h5py.File, path: Path, name: str, uid: str | None, tally: Tally
) -> VirtualInfo:
    """Check all sources of a virtual dataset.

    Parameters
    ----------
    name : str
        Path of the virtual dataset.
    uid : str or None
        Uid of the scan to which it must belong; None if it is not in a scan master.
    """
    dataset = file[name]
    parts = list(_mappings(dataset))
    spot = tally.at(path, name)
    checker = _VirtualCheck(dataset, path, uid, spot)
    for part in parts:
        tally.count(vds_sources=1)
        with tally.guard(path, name, part.points):
            checker.check(part)
    _check_cover(dataset, parts, spot, is_ours=uid is not None)
    return checker.info


def _mappings(dataset: h5py.Dataset) -> Iterator[_Mapping]:
    for one in dataset.virtual_sources():
        low, high = one.vspace.get_select_bounds()
        edges = tuple(length - 1 for length in dataset.shape[1:])
        is_all = one.src_space.get_select_type() == h5py.h5s.SEL_ALL
        n_values = int(one.vspace.get_select_npoints())
        yield _Mapping(
            file=one.file_name,
            dataset=one.dset_name,
            start=int(low[0]),
            stop=int(high[0]) + 1,
            n_values=n_values,
            selection=None if is_all else one.src_space.get_select_bounds(),
            is_block=not any(low[1:])
            and tuple(high[1:]) == edges
            and n_values == (high[0] + 1 - low[0]) * math.prod(dataset.shape[1:]),
        )


class _VirtualCheck:
    """Checks one virtual dataset, mapping by mapping."""

    def __init__(
        self, dataset: h5py.Dataset, path: Path, uid: str | None, spot: Spot
    ) -> None:
        n_rows = dataset.shape[0] if dataset.shape else 0
        self.info = VirtualInfo(spot.dataset, n_rows)
        self._dataset = dataset
        self._path = path
        self._uid = uid
        self._spot = spot

    def check(self, part: _Mapping) -> None:
        """Check the source of one mapping."""
        self.info.parts.append((part.file, part.start, part.stop))
        was_whole, self.info.is_whole = self.info.is_whole, False
        problem, points = self._problem(part)
        if problem:
            self._spot.record(problem, points)
        elif "%b" not in part.file:
            self.info.is_whole = was_whole

    def _problem(self, part: _Mapping) -> tuple[str, tuple[PointRange]]:
        """Return the problem of a source, empty if there is none, and its points."""
        if part.file == ".":
            return self._misfit(self._dataset.file, part)
        if "%b" in part.file:
            where = f"{self._spot.file}: {self._spot.dataset}"
            self._spot.tally.note(f"{where} names sources by a pattern, {part.file}")
            return "", part.points
        if Path(part.file).is_absolute():
            sentence = f"absolute source {part.file}: breaks when files move"
            self._spot.record(sentence, part.points)
        target = target_of(self._path, part.file)
        if not target.is_file():
            sentence = f"source {part.file} is not there: fill values are read instead"
            return sentence, part.points
        self.info.targets.add(target)
        try:
            source = open_file(target)
        except UNREADABLE as error:
            sentence = f"source {part.file} cannot be opened: {one_line(error)}"
            return sentence, part.points
        with source:
            problem, points = self._misfit(source, part)
            segment = read_segment(source)
            other = self._mismatch(segment, part) if segment else ""
        return (other, part.points) if other else (problem, points)

    def _misfit(self, file: h5py.File, part: _Mapping) -> tuple[str, tuple[PointRange]]:
        """Compare the type and shape of a source with its mapping."""
        source = file.get(part.dataset)
        if not isinstance(source, h5py.Dataset):
            return f"source {part.file} has no dataset {part.dataset}", part.points
        if source.is_virtual and _maps_itself(source, {_key(self._dataset)}, set()):
            # HDF5 would follow it until the process ends by a signal.
            return f"{part.file} maps what it is mapped into", part.points
        is_derived = DERIVED_FROM in self._dataset.attrs
        if source.dtype != self._dataset.dtype and not is_derived:
            sentence = f"{part.file} holds {source.dtype}, not {self._dataset.dtype}"
            return sentence, part.points
        sentence, lost = _misfit(source, part)
        return (f"{part.file}: {sentence}" if sentence else ""), (lost,)

    def _mismatch(self, segment: SegmentInfo, part: _Mapping) -> str:
        """Compare the header of a segment with its mapping."""
        channel = segment.channel_at(part.dataset, Path(part.file).name)
        if self._uid is not None and segment.uid != self._uid:
            return f"{part.file} belongs to scan {segment.uid}, not {self._uid}"
        if channel is None:
            return f"{part.file} does not describe {part.dataset}"
        if segment.uid not in part.dataset:
            note_without_uid(self._path, self._spot.tally)
        if segment.lane.is_static:
            return ""  # Its rows are no points.
        if self.info.channel not in (None, channel.name):
            return f"{part.file} holds {channel.name}, others {self.info.channel}"
        self.info.channel = channel.name
        self.info.missing += segment.account.missing_of(channel.name)
        if (segment.start, segment.stop) != (part.start, part.stop):
            return (
                f"{part.file} holds points {segment.start} to {segment.stop - 1}, "
                f"but stands at {part.start} to {part.stop - 1}"
            )
        return ""


def _key(dataset: h5py.Dataset) -> tuple[str, int]:
    name = os.path.realpath(dataset.file.filename)
    return name, h5py.h5o.get_info(dataset.id).addr


def _maps_itself(
    dataset: h5py.Dataset, above: set[tuple[str, int]], done: set[tuple[str, int]]
) -> bool:
    """Whether a virtual dataset leads back to itself, or to one of those above it."""
    key = _key(dataset)
    if key in above or len(above) > _DEEPEST_MAPPING:
        return True
    if key in done:
        return False
    done.add(key)
    path = Path(dataset.file.filename)
    for file, name in {(i.file_name, i.dset_name) for i in dataset.virtual_sources()}:
        try:
            opened = dataset.file if file == "." else open_file(target_of(path, file))
        except UNREADABLE:
            continue  # It gives fill values.
        found = opened.get(name)
        is_virtual = isinstance(found, h5py.Dataset) and found.is_virtual
        if is_virtual and _maps_itself(found, {*above, key}, done):
            return True
    return False


def _misfit(source: Any, part: _Mapping) -> tuple[str, PointRange]:
    """Return why a source's shape does not fit its mapping, and affected points."""
    every, shape = (part.start, part.stop), source.shape
    if part.selection is None:
        if math.prod(shape) == part.n_values:
            return "", every
        wanted = part.stop - part.start
    else:
        high = part.selection[1]
        if len(high) != len(shape):
            return f"shape {shape} has another rank than its mapping", every
        if all(edge < length for edge, length in zip(high, shape, strict=True)):
            return "", every
        wanted = int(high[0]) + 1
    n_rows = int(shape[0]) if shape else 0
    sentence = f"shape {shape}, where {wanted} points are mapped"
    short = part.is_block and n_rows < wanted
    start = max(part.start, part.stop - (wanted - n_rows)) if short else part.start
    return f"{sentence}: the whole dataset cannot be read", (start, part.stop)


def _check_cover(
    dataset: h5py.Dataset, parts: list[_Mapping], spot: Spot, *, is_ours: bool
) -> None:
    """Check that every row has exactly one source."""
    if not all(part.is_block for part in parts):
        n_values = sum(part.n_values for part in parts)
        if n_values < dataset.size:
            lost = dataset.size - n_values
            spot.tally.note(
                f"{spot.file}: {lost} values of {spot.dataset} have no source"
            )
        return
    n_rows = dataset.shape[0] if dataset.shape else 0
    uncovered = holes(((part.start, part.stop) for part in parts), n_rows)
    n_twice = sum(part.stop - part.start for part in parts) - (
        n_rows - sum(stop - start for start, stop in uncovered)
    )
    if n_twice:
        spot.record(f"{counted(n_twice, 'point')} with more than one source")
    if uncovered and is_ours:
        spot.record("points without a source", uncovered)
    elif uncovered:
        sentence = f"rows of {spot.dataset} without a source: {uncovered}"
        spot.tally.note(f"{spot.file}: {sentence}")


def holes(covered: Any, stop: int) -> tuple[PointRange, ...]:
    """Return the parts of ``[0, stop)`` that no range covers.

    Examples
    --------
    >>> holes([(2, 4), (0, 1)], 6)
    ((1, 2), (4, 6))
    """
    found: list[PointRange] = []
    edge = 0
    for start, end in joined(covered):
        if start > edge:
            found.append((edge, min(start, stop)))
        edge = max(edge, end)
    if edge < stop:
        found.append((edge, stop))
    return tuple(found)
