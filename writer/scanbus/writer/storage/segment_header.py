"""Headers of segment files: writing, reading and verifying them.

A segment carries its scan's uid, its lane and its first point from its creation, and
its account is kept beside it until it is finished, so salvage can use unfinished
segments.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
import xxhash

from scanbus.schemas import LaneDescription, Storage
from scanbus.schemas.errors import NameTakenError, VerificationError
from scanbus.writer.layouts.common.root import root_attributes
from scanbus.writer.model.ledger import SegmentAccount
from scanbus.writer.model.scan_contents import DATA_GROUP, OWN_GROUP, link_group
from scanbus.writer.model.segment_chain import chain_of
from scanbus.writer.storage.chunked_dataset import stored_bytes, stored_chunks
from scanbus.writer.storage.hashing import Hasher, hash_range
from scanbus.writer.storage.hdf5 import discard_hdf5, make_hdf5, open_hdf5
from scanbus.writer.storage.provenance import stamp_now
from scanbus.writer.storage.regular_file import read_regular
from scanbus.writer.storage.tree_writer import write_attributes

__all__ = [
    "FREE_TEXT",
    "NEXUS_TEXT",
    "SegmentHeader",
    "compare_chunks",
    "digest_of_checksums",
    "finish_segment",
    "link_entry",
    "load_account",
    "make_segment_file",
    "read_header",
    "read_headers",
    "remove_account",
    "save_account",
    "write_root_attributes",
]

NEXUS_TEXT = h5py.string_dtype("ascii")
"""Type of NeXus keywords: variable-length ASCII, the only type all readers accept."""
FREE_TEXT = h5py.string_dtype("utf-8")
"""Type of free text: variable-length UTF-8."""
_ACCOUNT = ".account.json"


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """The header of a finished segment.

    Attributes
    ----------
    uid, lane : str
        Uid of its scan, and name of its lane.
    start, stop : int
        Its points ``[start, stop)``.
    account : SegmentAccount
        Missing, duplicate and damaged points among them.
    digest : int
        Digest of the table of checksums of its chunks; 0 if it has none.
    """

    uid: str
    lane: str
    start: int
    stop: int
    account: SegmentAccount
    digest: int = 0

    @property
    def identity(self) -> tuple[str, str, int, int, int]:
        """What two segments of the same points have in common."""
        return self.uid, self.lane, self.start, self.stop, self.digest


def make_segment_file(
    path: Path, uid: str, lane: LaneDescription, start: int
) -> h5py.File:
    """Create a file for the points of a lane from `start` on, and write its header.

    Raises
    ------
    FileExistsError, OSError
        If it exists, or cannot be created.
    """
    file = make_hdf5(path)
    try:
        _write_header(file, uid, lane, start)
    except BaseException:
        discard_hdf5(file)
        raise
    return file


def _write_header(file: h5py.File, uid: str, lane: LaneDescription, start: int) -> None:
    write_root_attributes(file)
    entry = _group(file, "entry_0000", "NXentry")
    entry.attrs.create("default", "measurement", dtype=NEXUS_TEXT)
    has_frames = lane.storage is Storage.FILES
    data = _group(entry, "measurement", "NXdata" if has_frames else "NXcollection")
    if has_frames:
        data.attrs.create("signal", "data", dtype=NEXUS_TEXT)
    own = _group(entry, "scanbus", "NXcollection")
    own.create_dataset("uid", data=uid, dtype=FREE_TEXT)
    own.create_dataset("lane", data=lane.model_dump_json(), dtype=FREE_TEXT)
    own.create_dataset("lane_name", data=lane.name, dtype=FREE_TEXT)
    own.create_dataset("start", data=start)
    link_entry(file, uid)


def write_root_attributes(file: h5py.File, publisher: str = "") -> None:
    """Write who makes a data file, when and with which software.

    Parameters
    ----------
    publisher : str
        Program that published the scan, with its version.
    """
    name = Path(file.filename).name
    words = {"NX_class": "NXroot", "default": "entry_0000"}
    write_attributes(file, {**words, **root_attributes(name, publisher, stamp_now())})


def link_entry(file: h5py.File, uid: str) -> None:
    """Link the entry of a data file in a root group whose name has the uid.

    A soft link, so that readers that visit all objects find each of them once.
    """
    links = file.create_group(link_group(Path(file.filename).name, uid))
    links["entry_0000"] = h5py.SoftLink("/entry_0000")


def _group(parent: h5py.Group, name: str, nx_class: str) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs.create("NX_class", nx_class, dtype=NEXUS_TEXT)
    return group


def finish_segment(file: h5py.File, stop: int, account: SegmentAccount) -> None:
    """Write the end point and the account; the caller closes the file."""
    own = file[OWN_GROUP]
    own.create_dataset("stop", data=stop)
    own.create_dataset("account", data=account.to_json(), dtype=FREE_TEXT)


def save_account(path: Path, account: SegmentAccount) -> None:
    """Save the account of an unfinished segment to a file beside it, for salvage.

    Without the account, fill values in a partly filled chunk look like points. It is
    not stored in the segment, because an interrupted attempt must give the same file as
    an uninterrupted one.
    """
    aside = path.with_suffix(".account.tmp")
    aside.write_text(account.to_json())
    aside.replace(path.with_suffix(_ACCOUNT))


def remove_account(path: Path) -> None:
    """Remove the account file of a segment that contains its account now."""
    path.with_suffix(_ACCOUNT).unlink(missing_ok=True)


def load_account(path: Path) -> SegmentAccount:
    """Return the account saved beside an unfinished segment, empty if there is none.

    Raises
    ------
    OSError, ValueError, KeyError, TypeError
        If it cannot be read.
    """
    try:
        text = read_regular(path.with_suffix(_ACCOUNT))
    except FileNotFoundError:
        return SegmentAccount()
    return SegmentAccount.from_json(text.decode())


def read_header(path: Path) -> SegmentHeader:
    """Return the header of a finished segment.

    Raises
    ------
    NameTakenError
        If the file is not a finished segment of scanbus.
    """
    try:
        with open_hdf5(path) as file:
            own = file[OWN_GROUP]
            return SegmentHeader(
                uid=own["uid"].asstr()[()],
                lane=own["lane_name"].asstr()[()],
                start=int(own["start"][()]),
                stop=int(own["stop"][()]),
                account=SegmentAccount.from_json(own["account"].asstr()[()]),
                digest=_digest(own),
            )
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise NameTakenError(str(path), f"no segment ({error})") from error


def _digest(own: h5py.Group) -> int:
    found = "chunk_checksum" in own
    return digest_of_checksums(own["chunk_checksum"][()]) if found else 0


def digest_of_checksums(checksums: npt.NDArray[np.uint64]) -> int:
    """Return the digest of the checksums of a segment's chunks."""
    return xxhash.xxh3_64_intdigest(np.ascontiguousarray(checksums, "<u8").data)


def read_headers(folder: Path, uid: str, lane: str) -> dict[str, SegmentHeader]:
    """Return the headers of a lane's published segments, up to the first missing one.

    Segments that were replaced by a joined one are left out, whether or not they are
    still there.

    Parameters
    ----------
    folder : pathlib.Path
        The scan's folder.
    uid, lane : str
        Uid of the scan, and name of the lane.

    Returns
    -------
    dict
        File name to header, ascending and contiguous.

    Raises
    ------
    NameTakenError
        If a file with a segment's final name is not that segment.
    """
    headers: dict[str, SegmentHeader] = {}
    start = 0
    names = os.listdir(folder) if folder.is_dir() else []  # noqa: PTH208
    for name in chain_of(lane, names).names:
        path = folder / name
        header = read_header(path)
        if (header.uid, header.lane, header.start) != (uid, lane, start):
            raise NameTakenError(str(path), f"scan {header.uid}, lane {header.lane}")
        _check_links(path, uid)
        headers[name] = header
        start = header.stop
    return headers


def _check_links(path: Path, uid: str) -> None:
    """Raise if a file lacks the links that masters need."""
    name = link_group(path.name, uid)
    with open_hdf5(path) as file:
        if name not in file:
            raise NameTakenError(
                str(path), f"a file of an earlier scanbus, without the group {name}"
            )


def compare_chunks(
    path: Path, expected: npt.NDArray[np.uint64], hasher: Hasher | None = None
) -> None:
    """Compare every stored chunk of a frame segment with a table of checksums.

    Parameters
    ----------
    expected : numpy.ndarray
        XXH3 checksums, uint64, shape ``(n_chunks,)``; 0 where no chunk is stored.
    hasher : Hasher, optional
        Gets all bytes of the file, in order; none is read twice.

    Raises
    ------
    VerificationError
        If a chunk differs, is missing, or is stored where none is expected.
    """
    with open_hdf5(path) as file:
        dataset = file[f"{DATA_GROUP}/data"]
        rows = dataset.chunks[0]
        chunks = {one.start // rows: one for one in stored_chunks(dataset)}
    wanted = {int(index) for index in np.flatnonzero(expected)}
    if wanted != set(chunks):
        odd = sorted(wanted ^ set(chunks))[:5]
        raise VerificationError(str(path), f"chunks {odd} are not as they should be")
    edge = 0
    with path.open("rb", buffering=0) as stream:
        for index, chunk in sorted(chunks.items(), key=lambda one: one[1].offset):
            if hasher is not None:
                hash_range(stream, hasher, edge, chunk.offset)
            packed = stored_bytes(stream.fileno(), chunk)
            if xxhash.xxh3_64_intdigest(packed) != int(expected[index]):
                raise VerificationError(
                    str(path), f"chunk {index} is not what came over the bus"
                )
            if hasher is not None:
                hasher.update(packed)
            edge = chunk.offset + chunk.nbytes
        if hasher is not None:
            hash_range(stream, hasher, edge)
