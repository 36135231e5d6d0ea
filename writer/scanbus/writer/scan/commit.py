"""From a full temporary segment to an acknowledged file, step by step.

Close, reopen and compare, check the lease, fsync, link, fsync the folder, acknowledge:
in this order and no other. Runs in a thread of its own, while the next segment fills.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from scanbus.schemas.errors import LeaseLostError, NameTakenError
from scanbus.writer.failpoints import reach
from scanbus.writer.scan.authority import Custody
from scanbus.writer.scan.lane_writer import FinishedSegment
from scanbus.writer.storage.hdf5 import open_hdf5
from scanbus.writer.storage.segment_header import OWN_GROUP, read_header
from scanbus.writer.storage.work_folder import Workspace

__all__ = ["publish_segment"]


def publish_segment(
    finished: FinishedSegment,
    lane: str,
    folder: Path,
    workspace: Workspace,
    custody: Custody,
) -> None:
    """Give a segment its final name and acknowledge its points.

    Raises
    ------
    VerificationError
        If the closed file does not hold what came over the bus.
    NameTakenError
        If the final name holds something else.
    LeaseLostError
        If the lease is another's now; nothing was published.
    OSError
        If the file system refused; nothing was acknowledged.
    """
    final = folder / finished.name
    with workspace.steps.step("close", final):
        reach("close.before")
        finished.segment.close(finished.stop)
        reach("close.after")
    with workspace.steps.step("verify", final):
        reach("verify.before")
        finished.segment.verify()
        reach("verify.after")
    custody.check()
    try:
        workspace.publish(finished.name, final)
    except FileExistsError:
        _check_same(workspace, finished.name, final, custody.fence)
        workspace.make_names_durable(folder)
    except FileNotFoundError as error:
        if workspace.folder.exists():
            raise
        raise LeaseLostError(workspace.folder.name, custody.fence) from error
    with workspace.steps.step("acknowledge", final):
        custody.acknowledge(lane, finished.stop)


def _check_same(workspace: Workspace, name: str, final: Path, fence: int) -> None:
    """Accept a file under the final name if it holds the same points."""
    made = workspace.path(name)
    ours, theirs = read_header(made), read_header(final)
    is_same_place = (ours.uid, ours.lane, ours.start) == (
        theirs.uid,
        theirs.lane,
        theirs.start,
    )
    if is_same_place and ours.stop != theirs.stop:
        # Small values that another writer met as other entries: its file counts.
        raise LeaseLostError(ours.uid, fence)
    if not is_same_place or not _same_checksums(made, final):
        raise NameTakenError(str(final), f"scan {theirs.uid}, lane {theirs.lane}")


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
