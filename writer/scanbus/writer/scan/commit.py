"""Publish a full temporary segment and acknowledge its points.

The steps are, in this order: close, reopen and compare, check the lease, fsync, link,
fsync the folder, acknowledge. They run in a separate thread, while the next segment
fills.
"""

from __future__ import annotations

import filecmp
from pathlib import Path

import numpy as np

from scanbus.schemas.errors import LeaseLostError, NameTakenError
from scanbus.writer.model.scan_contents import OWN_GROUP
from scanbus.writer.scan.lane_writer import FinishedSegment
from scanbus.writer.scan.shared_segments import FinishedShared
from scanbus.writer.scan.write_authority import WriteAuthority
from scanbus.writer.storage.hashing import Hasher, hash_file, new_hasher
from scanbus.writer.storage.hdf5 import open_hdf5
from scanbus.writer.storage.manifest import ManifestLine
from scanbus.writer.storage.scan_file import read_scan_file
from scanbus.writer.storage.segment_header import read_header
from scanbus.writer.storage.shared_sections import read_shared_segment
from scanbus.writer.storage.work_folder import WorkFolder

__all__ = ["check_same", "check_same_file", "publish_scan_file", "publish_segment"]


def publish_segment(
    finished: FinishedSegment | FinishedShared,
    folder: Path,
    work_folder: WorkFolder,
    authority: WriteAuthority,
) -> None:
    """Give a segment its final name and acknowledge its points, of all its lanes.

    Parameters
    ----------
    folder : pathlib.Path
        The scan's folder.

    Raises
    ------
    VerificationError
        If the contents of the closed file differ from what was received.
    NameTakenError
        If a different file has the final name.
    LeaseLostError
        If another writer has the lease; nothing was published.
    OSError
        If the file system refuses; nothing was acknowledged.
    """
    final = folder / finished.name
    with work_folder.steps.step("close", final):
        finished.close()
    with work_folder.steps.step("verify", final):
        hasher = _verified(finished, is_hashed=work_folder.makes_manifest)
    try:
        with ManifestLine(folder, is_wanted=hasher is not None) as line:
            authority.check()
            work_folder.publish(finished.name, final)
            if hasher is not None:
                line.add(finished.name, hasher.hexdigest())
    except FileExistsError:
        made = work_folder.path(finished.name)
        if isinstance(finished, FinishedShared):
            check_same_file(made, final, authority.fence)
        else:
            check_same(made, final, authority.fence)
        work_folder.make_names_durable(folder)
    except FileNotFoundError as error:
        if work_folder.folder.exists():
            raise
        raise LeaseLostError(work_folder.folder.name, authority.fence) from error
    with work_folder.steps.phase("acknowledge", final):
        authority.acknowledge(finished.stops)


def _verified(
    finished: FinishedSegment | FinishedShared, *, is_hashed: bool
) -> Hasher | None:
    """Compare a closed file with what was received, and hash it in the same pass.

    Shared segments are not in the manifest: the scan file replaces them.
    """
    if isinstance(finished, FinishedShared):
        finished.segment.verify()
        return None
    hasher = new_hasher() if is_hashed else None
    finished.segment.verify(hasher)
    return hasher


def publish_scan_file(work_folder: WorkFolder, final: Path) -> None:
    """Give the scan file its final name.

    Raises
    ------
    NameTakenError
        If something else has the name.
    OSError
        As for `WorkFolder.publish`; `FileExistsError` if another writer has published
        this scan.
    """
    # It was compared just now, dataset by dataset: this reads it from memory.
    is_hashed = work_folder.makes_manifest
    digest = hash_file(work_folder.path(final.name)) if is_hashed else ""
    try:
        with ManifestLine(final.parent, is_wanted=is_hashed) as line:
            work_folder.publish(final.name, final)
            line.add(final.name, digest)
    except FileExistsError:
        read_scan_file(final)
        raise


def check_same(made: Path, final: Path, fence: int) -> None:
    """Accept a file under the final name if it holds the same points.

    Parameters
    ----------
    made : pathlib.Path
        The file that should have got the name.
    fence : int
        Fence of the lease under which it was made.

    Raises
    ------
    NameTakenError
        If the other file holds other points.
    LeaseLostError
        If another writer has ended the segment elsewhere.
    """
    ours, theirs = read_header(made), read_header(final)
    is_same_place = (ours.uid, ours.lane, ours.start) == (
        theirs.uid,
        theirs.lane,
        theirs.start,
    )
    if is_same_place and ours.stop != theirs.stop:
        # Points that another writer read as other entries: its file is kept.
        raise LeaseLostError(ours.uid, fence)
    if not is_same_place or not _same_checksums(made, final):
        raise NameTakenError(str(final), f"scan {theirs.uid}, lane {theirs.lane}")


def check_same_file(made: Path, final: Path, fence: int) -> None:
    """Accept a shared segment under the final name if it has the same sections.

    Raises
    ------
    NameTakenError
        If it is a file of another scan, or none of scanbus.
    LeaseLostError
        If another writer has ended its sections elsewhere.
    """
    ours, theirs = read_shared_segment(made), read_shared_segment(final)
    if ours.uid != theirs.uid:
        raise NameTakenError(str(final), f"scan {theirs.uid}")
    if ours.digest != theirs.digest or not filecmp.cmp(made, final, shallow=False):
        raise LeaseLostError(ours.uid, fence)


def _same_checksums(made: Path, final: Path) -> bool:
    with (
        open_hdf5(made) as ours,
        open_hdf5(final) as theirs,
    ):
        name = "entries" if "entries" in ours[OWN_GROUP] else "chunk_checksum"
        fields = "checksum" if name == "entries" else ()
        return bool(
            np.array_equal(
                ours[OWN_GROUP][name][fields], theirs[OWN_GROUP][name][fields]
            )
        )
