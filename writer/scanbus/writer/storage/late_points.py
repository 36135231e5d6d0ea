"""Point numbers of late segments: each row is an arrival, and belongs to some point.

They are flushed with the rows, because salvage cannot use a row without its number.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import numpy.typing as npt

from scanbus.writer.model.scan_contents import OWN_GROUP
from scanbus.writer.storage.hdf5 import open_hdf5

__all__ = ["LatePoints", "point_numbers", "read_late_points"]

_NAME: Final = f"{OWN_GROUP}/point"
_NONE: Final = -1
_CHUNK: Final = 1024


class LatePoints:
    """The point number of each row of an open late segment; -1 for a lost arrival.

    Parameters
    ----------
    file : h5py.File
        The segment, open for writing.
    """

    def __init__(self, file: h5py.File) -> None:
        self._numbers: list[int] = []
        self._n_written = 0
        self._dataset = file.create_dataset(
            _NAME, (0,), "<i8", maxshape=(None,), chunks=(_CHUNK,), fillvalue=_NONE
        )

    def note(self, row: int, point: int) -> None:
        """Record the point of a row; rows come in order."""
        self._fill_up_to(row)
        self._numbers.append(point)

    def write(self, n_rows: int = 0) -> npt.NDArray[np.int64]:
        """Write what was recorded since the last call, and return it.

        Rows without a point up to `n_rows` get -1.
        """
        self._fill_up_to(n_rows)
        new = np.array(self._numbers[self._n_written :], np.int64)
        self._dataset.resize(len(self._numbers), axis=0)
        self._dataset[self._n_written :] = new
        self._n_written = len(self._numbers)
        return new

    def _fill_up_to(self, row: int) -> None:
        self._numbers += [_NONE] * (row - len(self._numbers))


def point_numbers(file: h5py.File) -> npt.NDArray[np.int64]:
    """Return the point number of each row of a late segment; -1 if it has none."""
    found: npt.NDArray[Any] = file[_NAME][()]
    return found.astype(np.int64)


def read_late_points(path: Path) -> list[int]:
    """Return the points, in their channel, that a late segment holds."""
    with open_hdf5(path) as file:
        return [int(point) for point in point_numbers(file) if point != _NONE]
