"""Verify files: everything that they refer to exists and matches its checksums.

The checksums computed at the source are stored in the files, so Redis is not needed.
Nothing is changed. May import storage and what storage may import.
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
    external_roots: Sequence[Path] = (),
) -> CheckReport:
    """Check files and all files that they refer to.

    Parameters
    ----------
    paths : sequence of pathlib.Path
        Masters of any level, scan files, segments, manifests, folders with such files,
        or other HDF5 files. Of the latter only links and virtual datasets are checked.
    everything : bool
        Whether all chunks and entries are compared with their checksums; otherwise at
        least 1 % and at least 20 of each channel. Also whether all files are compared
        with the manifests beside them; otherwise the smallest, of together 1 GiB.
    progress : callable, optional
        Called with ``(file, items done, items in total or None)``.
    external_roots : sequence of pathlib.Path
        Folders below which files of frames by reference are opened; others are not.

    Returns
    -------
    CheckReport
        All problems of the files; no error is raised for them.
    """
    tally = Tally(progress)
    walk = Walk(tally, everything=everything, external_roots=external_roots)
    for path in paths:
        walk.start_at(Path(path))
    walk.run()
    return tally.report()
