"""How a folder is watched."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path

__all__ = ["WatchSettings"]


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """How a folder is watched.

    Parameters
    ----------
    folder : Path
        The folder; those below it are watched too.
    database : Path
        File that keeps which files were taken; on a local disk.
    match : str
        Pattern of the names of files.
    n_frames : int, optional
        Frames of a series, after which it ends.
    idle_s : float
        A series ends when no file of it has come or grown for so long, in seconds.
    settle_s : float
        How long a file must not change if nobody was seen to close it, in seconds.
    look_s : float
        Shortest time between looks at all files, in seconds.
    by_arrival : bool
        Number files as they come, not by the numbers in their names.
    skip_existing : bool
        Leave alone what is in a folder that was not watched before.
    remove : bool
        Remove the files of a scan whose verdict is complete.
    link_into : Path, optional
        Folder into which the files of a scan are linked that has a verdict.
    zone : tzinfo, optional
        Time zone of dates in headers that have none.
    """

    folder: Path
    database: Path
    match: str = "*"
    n_frames: int | None = None
    idle_s: float = 10.0
    settle_s: float = 2.0
    look_s: float = 1.0
    by_arrival: bool = False
    skip_existing: bool = False
    remove: bool = False
    link_into: Path | None = None
    zone: tzinfo | None = None
