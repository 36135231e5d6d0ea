"""A reader that opens the masters of growing scans again and again.

What it sees it compares with what was sent, so a fill value is a fault; so are fewer
points than before, or than a master must show by what Redis says, and a name that has
no points yet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np

from scanbus.bus.store import Bus, connect, find_scan, shown_points, stream_ends
from scanbus.schemas.errors import UnknownScanError
from tests.faults.content import UID_PREFIX, points
from tests.support.onlooking import Looking
from tests.support.waiting import found_below

__all__ = ["Onlooker", "Seen"]


@dataclass
class Seen:
    """What was read of one scan.

    Attributes
    ----------
    lengths : dict
        Number of points of each name, of the last read.
    masters : set of int
        Inodes of the masters that were read.
    is_over : bool
        Whether the last read was of the final master.
    """

    lengths: dict[str, int] = field(default_factory=dict)
    masters: set[int] = field(default_factory=set)
    is_over: bool = False


class Onlooker(Looking):
    """Reads all masters below a root until it has seen a fault.

    Attributes
    ----------
    seen : dict
        Uid of each scan to what was read of it.
    counts : Counter
        How much was looked at: reads, values, and points that Redis said are shown.
    fault : BaseException or None
        Why it has ended.
    """

    def __init__(self, url: str, root: Path) -> None:
        super().__init__()
        self._root = root
        self._uids: dict[Path, str] = {}
        self._lanes: dict[str, dict[str, str]] = {}
        self.seen: dict[str, Seen] = {}
        self.counts: Counter[str] = Counter()
        self._url = url

    @property
    def n_masters(self) -> int:
        """Number of masters that were read, of all scans."""
        return sum(len(each.masters) for each in tuple(self.seen.values()))

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Look during a block, and raise at its end what was found."""
        with connect(self._url, name="onlooker") as self._client, super().looking():
            yield

    def look(self) -> None:
        """Read each master that is not final yet."""
        for path in found_below(self._root, "scan[0-9]*/scan[0-9]*.h5"):
            if path.stem != path.parent.name:
                continue
            before = self.seen.get(self._uids.get(path, ""))
            if before is None or not before.is_over:
                self._read(self._client, path)

    def _read(self, client: Bus, path: Path) -> None:
        promised = self._promised(client, self._uids.get(path, ""))
        with h5py.File(path, locking=False) as file:
            name = next(one for one in file if not one.startswith("scan"))
            entry = file[name]
            uid = str(entry["scanbus/uid"].asstr()[()])
            self._uids[path] = uid
            seen = self.seen.setdefault(uid, Seen())
            lengths = dict(self._compared(uid, entry))
            for channel, least in {**seen.lengths, **promised}.items():
                got = lengths.get(channel, 0)
                what = f"{got} of {least} points of {channel} in {path}"
                assert got >= least, what
            seen.lengths = lengths
            seen.masters.add(path.stat().st_ino)
            seen.is_over = "end_time" in entry
        self.counts["reads"] += 1
        self.counts["values"] += sum(lengths.values())
        self.counts["promised"] += sum(promised.values())

    def _promised(self, client: Bus, uid: str) -> dict[str, int]:
        """Return how many points of each channel a master must show, by what is said.

        That is what was shown before, and what is not on the bus any more.
        """
        if not uid:
            return {}
        if uid not in self._lanes:
            try:
                prepared = find_scan(client, uid).prepared
            except UnknownScanError:
                return {}
            self._lanes[uid] = {
                channel.name: lane.name
                for lane in (prepared.lanes if prepared else ())
                for channel in lane.channels
            }
        lanes = sorted({*self._lanes[uid].values()})
        least = dict(
            zip(
                lanes,
                shown_points(client, [(uid, lane) for lane in lanes]),
                strict=True,
            )
        )
        for lane in lanes:
            ends = stream_ends(client, uid, lane)
            if ends is not None:
                first = int(ends[0].split(b"-")[0])
                least[lane] = max(least[lane], first if first < 2**40 else 0)
        return {name: least[lane] for name, lane in self._lanes[uid].items()}

    @staticmethod
    def _compared(uid: str, entry: h5py.Group) -> Iterator[tuple[str, int]]:
        """Compare all that a master has with what was sent; yield the lengths."""
        seed, _, number = uid.removeprefix(UID_PREFIX).partition("x")
        own = entry["scanbus"]
        # Then what nobody sent is in the file, empty.
        is_over = "verdict" in own and not own["provisional"][()]
        for name, node in entry["measurement"].items():
            is_text = h5py.check_string_dtype(node.dtype) is not None
            values: Any = node.asstr()[()] if is_text else node[()]
            assert is_over or len(values), f"{name} of {uid} is there without a point"
            sent = points(int(seed, 16), int(number), name, 0, len(values))
            np.testing.assert_array_equal(values, sent, f"{name} of {uid}")
            yield name, len(values)
