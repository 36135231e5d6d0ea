"""Count the points of a scan in a file, read with plain h5py."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np

from benchmarks.peer.content import CHANNELS, values


@dataclass(frozen=True)
class Count:
    """Counts of the points in a file.

    Attributes
    ----------
    right : int
        Points of all channels that have the value that was sent, at the right place.
    wrong : int
        Points with another value that are not named as missing.
    problem : str
        Why the points cannot be counted, else empty.
    """

    right: int = 0
    wrong: int = 0
    problem: str = ""


def count(path: Path | None, entry: str, named: Mapping[str, Collection[int]]) -> Count:
    """Count the points of one scan.

    Parameters
    ----------
    path : pathlib.Path or None
        The file, or None if there is none.
    entry : str
        The scan's group in it.
    named : mapping
        Points that the system itself calls missing or damaged, per channel.
    """
    if path is None or not path.exists():
        return Count(problem="no file")
    try:
        with h5py.File(path, "r", locking=False) as file:
            if entry not in file:
                return Count(problem="the scan is not in the file")
            counts = [
                _counted(file[entry], name, named.get(name, ())) for name in CHANNELS
            ]
    except OSError as error:
        return Count(problem=f"the file does not open: {error}")
    return Count(sum(right for right, _ in counts), sum(wrong for _, wrong in counts))


def _counted(entry: h5py.Group, name: str, named: Collection[int]) -> tuple[int, int]:
    node = entry.get(f"measurement/{name}")
    if node is None:
        return 0, 0
    sent, rows = values(name), node[()]
    same = [bool(np.array_equal(a, b)) for a, b in zip(rows, sent, strict=False)]
    unnamed = [
        place
        for place in range(len(rows))
        if place not in named and not (place < len(same) and same[place])
    ]
    return sum(same), len(unnamed)
