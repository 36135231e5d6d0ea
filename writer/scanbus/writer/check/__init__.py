"""Prove files: everything below them is there, and is what came over the bus.

Nothing is changed, no Redis is asked: the checksums that were made where the data were
born stand in the files. May import storage and what that may.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scanbus.writer.check.report import CheckReport, Finding, Progress, Tally
from scanbus.writer.check.walk import Walk

__all__ = ["CheckReport", "Finding", "check_files"]


def check_files(
    paths: Sequence[Path],
    *,
    everything: bool = False,
    progress: Progress | None = None,
) -> CheckReport:
    """Check files and all that they lead to.

    Parameters
    ----------
    paths : sequence of pathlib.Path
        Masters of any level, scan files, segments, or other HDF5 files, of which
        links and virtual datasets are checked.
    everything : bool
        Whether all chunks and entries are compared with their checksums; else at
        least one in a hundred and at least twenty of each channel.
    progress : callable, optional
        Called with a file, how much of it is done, and of how much (None if unknown).

    Returns
    -------
    CheckReport
        Whatever is wrong with the files is in it; nothing is raised over them.
    """
    tally = Tally(progress)
    walk = Walk(tally, everything=everything)
    for path in paths:
        walk.start_at(Path(path))
    walk.run()
    return tally.report()
