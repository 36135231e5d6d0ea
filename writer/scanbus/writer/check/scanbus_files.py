"""Read scanbus's own descriptions from open files: segments, masters, verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from scanbus.schemas import (
    ChannelDescription,
    ChannelLedger,
    LaneDescription,
    Storage,
    VerdictWord,
)
from scanbus.writer.model.file_stamp import CONVERTED, CREATOR
from scanbus.writer.model.ledger import SegmentAccount
from scanbus.writer.model.scan_contents import OWN_GROUP, data_path, linked_path

__all__ = [
    "Judgement",
    "MasterInfo",
    "SegmentInfo",
    "is_converted",
    "is_scanbus",
    "open_file",
    "read_masters",
    "read_segment",
    "uid_of",
]

# Holds a chunk of the scan file, so entries in one chunk decompress it only once.
_CACHE_BYTES = 8 << 20


@dataclass(frozen=True)
class SegmentInfo:
    """The header of a segment; `kind` is ``frames`` or ``values``."""

    uid: str
    lane: LaneDescription
    start: int
    stop: int
    account: SegmentAccount
    kind: str

    def channel_at(self, path: str, file_name: str) -> ChannelDescription | None:
        """Return the channel stored at a path in this segment, or None.

        Parameters
        ----------
        path : str
            The path in the data group, or the one with the scan's uid.
        file_name : str
            Name of the segment.
        """
        for channel in self.lane.channels:
            readable = data_path(self.lane, channel)
            if path in {readable, linked_path(file_name, self.uid, readable)}:
                return channel
        return None


@dataclass(frozen=True)
class Judgement:
    """The parts of a verdict in which master and scan file must agree."""

    word: VerdictWord
    provisional: bool
    reason: str
    ledgers: Mapping[str, ChannelLedger]


@dataclass(frozen=True)
class MasterInfo:
    """The scan of one NXentry in a scan master.

    Attributes
    ----------
    entry : str
        Path of the NXentry.
    uid : str
        Uid of the scan.
    scan_number : int
        Number of the scan.
    judgement : Judgement or None
        The verdict; None while there is none.
    sources : mapping
        Channel name to tuples of data file, start and stop of its points.
    """

    entry: str
    uid: str
    scan_number: int
    judgement: Judgement | None
    sources: Mapping[str, tuple[tuple[str, int, int], ...]]


def open_file(path: Path) -> h5py.File:
    """Open a file for reading without locking, also while another process writes it."""
    return h5py.File(path, "r", locking=False, rdcc_nbytes=_CACHE_BYTES)


def is_scanbus(file: h5py.File) -> bool:
    """Return whether a file was written by scanbus."""
    creator = file.attrs.get("creator")
    return isinstance(creator, str) and creator == CREATOR


def is_converted(file: h5py.File) -> bool:
    """Return whether a file is a copy by `convert`."""
    return CONVERTED in file.attrs


def uid_of(file: h5py.File) -> str | None:
    """Return the scan's uid in a segment, scan file or scan master, else None."""
    own = file.get(f"{OWN_GROUP}/uid")
    if isinstance(own, h5py.Dataset):
        return text(own)
    return next((one.uid for one in read_masters(file)), None)


def text(dataset: Any) -> str:
    """Return a scalar string dataset as text."""
    found: str = dataset.asstr()[()]
    return found


def read_segment(file: h5py.File) -> SegmentInfo | None:
    """Return the header of a segment, None if the file is not a segment.

    Raises
    ------
    ValueError, KeyError, TypeError
        If it was not finished, or is damaged.
    """
    own = file.get(OWN_GROUP)
    if not isinstance(own, h5py.Group) or "lane_name" not in own:
        return None
    if "account" not in own:
        raise ValueError("a segment that was never finished")
    lane = LaneDescription.model_validate_json(text(own["lane"]))
    return SegmentInfo(
        uid=text(own["uid"]),
        lane=lane,
        start=int(own["start"][()]),
        stop=int(own["stop"][()]),
        account=SegmentAccount.from_json(text(own["account"])),
        kind="frames" if lane.storage is Storage.FILES else "values",
    )


def read_masters(file: h5py.File) -> list[MasterInfo]:
    """Return the scans in a scan master, empty if the file is not a scan master."""
    found: list[MasterInfo] = []
    if CONVERTED in file.attrs:
        return found  # It says what a master says, and needs no other file.
    for name in file:
        if not isinstance(file.get(name, getlink=True), h5py.HardLink):
            continue
        own = file.get(f"{name}/scanbus")
        if isinstance(own, h5py.Group) and "scan_number" in own:
            found.append(_read_master(f"/{name}", own))
    return found


def _read_master(entry: str, own: h5py.Group) -> MasterInfo:
    return MasterInfo(
        entry=entry,
        uid=text(own["uid"]),
        scan_number=int(own["scan_number"][()]),
        judgement=_read_judgement(own) if "verdict" in own else None,
        sources={
            name: tuple(
                zip(
                    (str(one) for one in group["file"].asstr()[()]),
                    group["start"][()].tolist(),
                    group["stop"][()].tolist(),
                    strict=True,
                )
            )
            for name, group in own.get("sources", {}).items()
        },
    )


def _read_judgement(own: h5py.Group) -> Judgement:
    ledger = own["ledger"]
    names = [str(name) for name in ledger["channel"].asstr()[()]]
    columns = {
        key: ledger[key][()].tolist() for key in ("expected", "written", "sealed")
    }
    ledgers = {
        name: ChannelLedger(
            missing=_ranges(ledger, "missing", name),
            late=_ranges(ledger, "late", name),
            corrupt=_ranges(ledger, "corrupt", name),
            refused=_ranges(ledger, "refused", name),
            duplicate=_ranges(ledger, "duplicate", name),
            **{key: column[index] for key, column in columns.items()},
        )
        for index, name in enumerate(names)
    }
    word = VerdictWord(text(own["verdict"]))
    return Judgement(word, bool(own["provisional"][()]), text(own["reason"]), ledgers)


def _ranges(ledger: h5py.Group, kind: str, name: str) -> tuple[tuple[int, int], ...]:
    found = ledger.get(f"{kind}/{name}")
    if found is None:
        return ()
    rows = np.asarray(found[()], np.int64).reshape(-1, 2)
    return tuple((int(start), int(stop)) for start, stop in rows)
