"""Read frames by reference from the files of their detector."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scanbus.schemas import ChannelDescription
from scanbus.schemas.errors import ExternalFileError
from scanbus.schemas.frame_references import frame_runs

__all__ = ["referenced_frames"]


def referenced_frames(
    channel: ChannelDescription, urls: Sequence[str], roots: Sequence[Path]
) -> npt.NDArray[Any]:
    """Return the frames behind URLs, shape ``(len(urls), *shape)``.

    Parameters
    ----------
    channel : ChannelDescription
        The channel by reference.
    roots : sequence of pathlib.Path
        Folders below which files are opened.

    Raises
    ------
    ExternalFileError
        If a file cannot be used.
    """
    # h5py is not imported by subscribers that read no files.
    from scanbus.bus.external import FrameFiles  # noqa: PLC0415

    if channel.frames is None:
        raise ValueError(f"{channel.name} is not by reference")
    files, made = FrameFiles(channel.frames, roots), channel.frame_channel
    found = np.full((len(urls), *made.shape), made.missing_value, made.numpy_dtype)
    start = 0
    for run in frame_runs(urls):
        if run.file and not run.path:
            raise ExternalFileError(run.file, "is no HDF5 file: read it by its URL")
        if run.file:
            found[start : start + run.n_frames] = files.read(*run)
        start += run.n_frames
    return found
