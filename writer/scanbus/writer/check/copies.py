"""Compare the small values that a scan master copies with those of the scan file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np
import numpy.typing as npt

from scanbus.schemas import ranges
from scanbus.writer.check.report import Tally
from scanbus.writer.check.scanbus_files import MasterInfo, open_file, text, uid_of

__all__ = ["check_copies"]

_READ_BYTES = 4 << 20
# Of a text, in memory.
_TEXT_BYTES = 100
_Record: TypeAlias = Callable[..., None]


def check_copies(file: h5py.File, path: Path, master: MasterInfo, tally: Tally) -> None:
    """Compare every copy of an entry with its original, value by value.

    A scan file that is not there is found elsewhere.
    """
    where = f"{master.entry}/scanbus/copies"
    listed = file.get(where)
    if not isinstance(listed, h5py.Group):
        return
    with tally.guard(path, where):
        name = text(listed["file"])
        target = path.resolve().parent / Path(name).name
        if not target.is_file():
            return
        with open_file(target) as values:
            uid = uid_of(values)
            if uid != master.uid:
                sentence = f"{name} belongs to scan {uid}, not {master.uid}"
                tally.record(path, where, sentence)
                return
            pairs = zip(
                listed["dataset"].asstr()[()],
                listed["original"].asstr()[()],
                strict=True,
            )
            for copy, original in pairs:
                with tally.guard(path, copy):
                    _compare(file, copy, values, original, tally.at(path, copy).record)


def _compare(
    file: h5py.File, copy: str, values: h5py.File, original: str, record: _Record
) -> None:
    ours, theirs = file[copy], values.get(original)
    if not isinstance(theirs, h5py.Dataset):
        record(f"{original} of the scan file, of which it is a copy, is not there")
    elif (ours.shape, ours.dtype) != (theirs.shape, theirs.dtype):
        record(
            f"{ours.shape} of {ours.dtype}, where the scan file has {theirs.shape} of "
            f"{theirs.dtype}"
        )
    elif points := ranges(_different(ours, theirs)):
        record("not what the scan file has", points)


def _different(ours: h5py.Dataset, theirs: h5py.Dataset) -> Iterator[int]:
    """Yield the points at which two datasets of one shape and type differ."""
    size = _TEXT_BYTES if ours.dtype.hasobject else ours.dtype.itemsize
    row_bytes = size * int(np.prod(ours.shape[1:], dtype=int))
    step = max(1, _READ_BYTES // max(1, row_bytes))
    for start in range(0, len(ours), step):
        left, right = ours[start : start + step], theirs[start : start + step]
        if left.dtype.hasobject:
            differ = left != right
        elif left.tobytes() == right.tobytes():
            continue
        else:
            differ = _rows(left) != _rows(right)
        yield from (start + int(row) for row in np.flatnonzero(differ))


def _rows(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return one item for each point, which is equal if all its bytes are."""
    flat = np.ascontiguousarray(values).reshape(len(values), -1)
    return flat.view(np.dtype((np.void, flat.dtype.itemsize * flat.shape[1]))).ravel()
