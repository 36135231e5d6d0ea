"""The times of the points of a segment: one float64 per point, beside the data.

Points without a time, missing ones among them, have NaN. A checksum of all of them is
an attribute of the dataset, here and in the scan file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import h5py
import numpy as np
import xxhash

from scanbus.bus.protocol import Entry, Times, checksum_of
from scanbus.schemas.errors import VerificationError
from scanbus.writer.model.scan_contents import OWN_GROUP, TIME_ATTRIBUTES
from scanbus.writer.storage.hdf5 import open_hdf5
from scanbus.writer.storage.tree_writer import write_attributes

__all__ = ["TIME_CHECKSUM", "TIME_NAME", "TimeColumn", "is_intact", "stored_times"]

TIME_NAME: Final = "time"
"""Name of the dataset in scanbus's own group of a segment."""
TIME_CHECKSUM: Final = "checksum"
"""Attribute of the dataset: XXH3 of its bytes; an unfinished segment has none."""
# HDF5 allocates whole chunks, and most segments have few points.
_ROWS_PER_CHUNK: Final = 1024


class TimeColumn:
    """The times of one segment; it owns the dataset while the file is open.

    Parameters
    ----------
    file : h5py.File
        The new segment.
    max_rows : int
        Most points of the segment.
    """

    def __init__(self, file: h5py.File, max_rows: int) -> None:
        self._dataset = file[OWN_GROUP].create_dataset(
            TIME_NAME,
            (0,),
            "<f8",
            maxshape=(max_rows,),
            chunks=(min(max_rows, _ROWS_PER_CHUNK),),
        )
        write_attributes(self._dataset, TIME_ATTRIBUTES)
        self._held: list[Times] = []
        self._stop = self._n_written = 0
        self._digest = xxhash.xxh3_64()
        self._damaged_checksum: int | None = None

    def keep_damage(self, checksum: int) -> None:
        """Keep a checksum that times did not match: a check must still find them."""
        self._damaged_checksum = checksum

    def put(self, first: int, times: Times) -> None:
        """Take the times of points from row `first` on, behind those taken before."""
        self._reach(first)
        self._held.append(times)
        self._stop += len(times)

    def _reach(self, row: int) -> None:
        if row > self._stop:
            self._held.append(np.full(row - self._stop, np.nan))
            self._stop = row

    def write(self) -> Times:
        """Write the times that are not in the file yet; return them."""
        if not self._held:
            return np.empty(0)
        times = np.concatenate(self._held)
        stop = self._n_written + len(times)
        self._dataset.resize(stop, axis=0)
        self._dataset[self._n_written :] = times
        self._digest.update(times.data)
        self._n_written = stop
        self._held = []
        return times

    def close(self, n_rows: int) -> None:
        """Write the times of all `n_rows` points, and their checksum."""
        self._reach(n_rows)
        self.write()
        checksum = self._damaged_checksum
        if checksum is None:
            checksum = self._digest.intdigest()
        write_attributes(self._dataset, {TIME_CHECKSUM: np.uint64(checksum)})

    def verify(self, path: Path) -> None:
        """Compare the times in the closed file with those that were taken.

        Raises
        ------
        VerificationError
            If they differ.
        """
        with open_hdf5(path) as file:
            times = file[OWN_GROUP][TIME_NAME][()]
        if checksum_of(times.data) != self._digest.intdigest():
            raise VerificationError(str(path), "times are not what came over the bus")


def is_intact(dataset: h5py.Dataset) -> bool:
    """Return whether times that were written completely match their checksum."""
    return checksum_of(dataset[()].data) == int(dataset.attrs[TIME_CHECKSUM])


def stored_times(entry: Entry) -> Times:
    """Return the times of an entry's points; NaN where no channel has the point."""
    if len(entry.gaps) < len(entry.sizes):
        return np.ascontiguousarray(entry.times)
    is_there = np.zeros(entry.count, bool)
    for gaps in entry.gaps.values():
        has = np.ones(entry.count, bool)
        for start, stop in gaps:
            has[start - entry.first : stop - entry.first] = False
        is_there |= has
    return np.where(is_there, entry.times, np.nan)
