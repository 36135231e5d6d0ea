"""Find the frames of an HDF5 file: in it, or in others that it links to.

A file's frames are one dataset of its own. A master, which links to them in other
files, has them too if links are followed; a watched folder has those files themselves.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np

from scanbus.publisher.gateways.files.hdf5_written import missing_source

__all__ = ["frame_datasets"]

_MAX_OBJECTS: Final = 10_000
_MAX_DEPTH: Final = 16
# DECTRIS names the links of a master so.
_PART: Final = re.compile(r"data_\d+")
_OF_DETECTOR: Final = "detectorSpecific"
_MASKS: Final = frozenset(("pixel_mask", "mask", "flatfield", "dark"))


def frame_datasets(path: Path, file: Any, *, follows_links: bool) -> list[Any]:
    """Return the datasets of the frames of a file, in order; there may be none.

    Parameters
    ----------
    path : Path
        The file, for errors.
    file : h5py.File
        The same, open.
    follows_links : bool
        Whether frames in other files count, if it has none itself.

    Raises
    ------
    SourceError
        If a file is not there that is to be followed.
    """
    objects = _objects(file)
    groups = _groups_of_parts(objects)
    if not groups:
        found = _signal(file) or _largest(objects)
        if found is None or found.external:
            return []
        return [found] if _is_own(found) or follows_links else []
    return _linked(path, groups) if follows_links else []


def _groups_of_parts(objects: list[Any]) -> list[Any]:
    """Return the groups in which a master links to data files.

    What else a master has of two dimensions are masks and tables, not frames.
    """
    groups = [each for each in objects if isinstance(each, h5py.Group)]
    return [each for each in groups if any(_is_part(each, name) for name in each)]


def _is_part(group: Any, name: str) -> bool:
    if not _PART.fullmatch(name):
        return False
    link = group.get(name, getlink=True)
    return isinstance(link, (h5py.ExternalLink, h5py.SoftLink))


def _signal(file: Any) -> Any | None:
    """Return what NeXus says is to be plotted by default, if those are frames."""
    group: Any = file
    for _ in range(_MAX_DEPTH):
        following = _child(group, group.attrs.get("default"))
        if not isinstance(following, h5py.Group):
            break
        group = following
    found: Any = _child(group, group.attrs.get("signal"))
    return found if _is_frames(found) else None


def _child(group: Any, name: Any) -> Any | None:
    """Return what stands in a group itself, by a hard link."""
    if not isinstance(name, str) or "/" in name or name in {"", "."}:
        return None
    is_here = group.get(name, getlink=True, getclass=True) is h5py.HardLink
    return group[name] if is_here else None


def _largest(objects: list[Any]) -> Any | None:
    """Return the dataset of frames with the most pixels, its own or not."""
    found = [each for each in objects if _is_frames(each) and not _is_mask(each)]
    return max(found, key=lambda each: (each.size, _is_own(each)), default=None)


def _objects(file: Any) -> list[Any]:
    """Return what stands in a file by hard links."""
    found: list[Any] = [file]

    def look(_name: str, thing: Any) -> bool | None:
        found.append(thing)
        return True if len(found) > _MAX_OBJECTS else None

    file.visititems(look)
    return found


def _linked(path: Path, groups: list[Any]) -> list[Any]:
    """Return frames that stand in other HDF5 files, of which each must be there."""
    for group in groups:
        names = sorted(name for name in group if _is_part(group, name))
        parts = [_followed(path, group, name) for name in names]
        # Raw data could lead to any file, of any content.
        if all(_is_frames(each) and not each.external for each in parts):
            return parts
    return []


def _followed(path: Path, group: Any, name: str) -> Any:
    found = group.get(name)
    if found is None:
        link = group.get(name, getlink=True)
        raise missing_source(path, Path(getattr(link, "filename", name)))
    return found


def _is_own(dataset: Any) -> bool:
    """Whether the values of a dataset are in its own file."""
    return not dataset.is_virtual and not dataset.external


def _is_mask(dataset: Any) -> bool:
    """Whether a dataset of two dimensions describes a detector."""
    *groups, name = dataset.name.split("/")
    return dataset.ndim == 2 and (name in _MASKS or _OF_DETECTOR in groups)


def _is_frames(thing: Any) -> bool:
    return (
        isinstance(thing, h5py.Dataset)
        and thing.ndim in {2, 3}
        and thing.size > 0
        and np.dtype(thing.dtype).kind in "iuf"
    )
