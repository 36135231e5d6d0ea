"""References to frames that stand in files which a detector writes itself.

On the bus a reference is a run: consecutive frames of one dataset of one file. Readers
and files have one URL per frame, as silx reads it: a point of the channel is a frame.
Pure; nothing here looks at a file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any, Final, NamedTuple

__all__ = [
    "MAX_URL_BYTES",
    "REFERENCE_CODEC",
    "FrameRun",
    "FrameUrl",
    "check_format",
    "check_run",
    "frame_runs",
    "frame_url",
    "parse_frame_url",
    "parse_runs",
    "runs_json",
]

REFERENCE_CODEC: Final = "reference"
"""Codec of a block of references: it says what the block holds."""
MAX_URL_BYTES: Final = 1024
"""Largest size of one URL in UTF-8, and the `max_point_bytes` of these channels."""
# A few bytes may stand for a million frames, each of which becomes a URL.
_MAX_EXPANDED_BYTES: Final = 64 * 2**20
_MAX_FRAME: Final = 2**48
_URL: Final = re.compile(
    r"(?:silx://(?P<hdf5>/[^?]*)\?path=(?P<path>/[^?&]*)&slice=(?P<frame>\d{1,15})"
    r"|fabio://(?P<image>/[^?]*)\?slice=(?P<number>\d{1,15}))\Z"
)
# What a URL gives another meaning, and what no name of a file needs.
_NOT_IN_NAMES: Final = re.compile(r"[?#&%\x00-\x1f\x7f]")


_HDF5: Final = frozenset(
    (".h5", ".hdf5", ".hdf", ".h5f", ".he5", ".nxs", ".nx5", ".nexus", ".cxi", ".nxspe")
)
_IMAGES: Final = frozenset((".cbf", ".edf", ".tif", ".tiff", ".mccd", ".img", ".raw"))


class FrameRun(NamedTuple):
    """Consecutive frames of one dataset, or places without a frame (empty `file`).

    Attributes
    ----------
    file : str
        Absolute path.
    path : str
        Absolute path of the dataset in an HDF5 file; empty for other formats.
    first, n_frames : int
        The frames ``[first, first + n_frames)`` along the first axis.
    """

    file: str
    path: str
    first: int
    n_frames: int


class FrameUrl(NamedTuple):
    """One frame of a file; `file` is empty if there is none."""

    file: str
    path: str
    frame: int


def check_run(run: FrameRun) -> None:
    """Check names and numbers; that the file exists is not asked.

    Raises
    ------
    ValueError
        If a path is relative, leads upwards, is too long, or cannot stand in a URL.
    """
    for name, what in ((run.file, "file"), (run.path, "path")):
        if _NOT_IN_NAMES.search(name):
            raise ValueError(
                f"the {what} of a reference, {name!r:.80}, has control characters, or "
                "one of ?#& or %"
            )
        if name and not name.startswith("/"):
            raise ValueError(f"the {what} of a reference, {name!r:.80}, is relative")
        if ".." in name.split("/"):
            raise ValueError(f"the {what} of a reference, {name!r:.80}, leads upwards")
    if not run.file and (run.path or run.first):
        raise ValueError("a reference names no file")
    _check_numbers(run)
    _url_bytes(run)


def check_format(file: str, path: str) -> None:
    """Refuse a dataset's path where the name of the file shows that it has none.

    And none where it must have one. Only publishers ask this.

    Raises
    ------
    ValueError
        With what to give instead.

    Examples
    --------
    >>> check_format("/data/a.cbf", "")
    >>> check_format("/data/a.h5", "")
    Traceback (most recent call last):
    ValueError: /data/a.h5 is an HDF5 file: give the path of the dataset in it, such \
as '/entry/data/data'
    """
    suffix = PurePosixPath(file).suffix.lower()
    if suffix in _HDF5 and not path:
        raise ValueError(
            f"{file} is an HDF5 file: give the path of the dataset in it, such as "
            "'/entry/data/data'"
        )
    if suffix in _IMAGES and path:
        raise ValueError(f"{file} is no HDF5 file, and has no dataset {path!r:.80}")


def _check_numbers(run: FrameRun) -> None:
    for number, least in ((run.first, 0), (run.n_frames, 1)):
        if type(number) is not int or not least <= number <= _MAX_FRAME:
            raise ValueError(f"a reference has {number!r:.40} as frame or count")


def _url_bytes(run: FrameRun) -> int:
    """Return the size of the longest URL of a run."""
    try:
        size = len(frame_url(run.file, run.path, run.first + run.n_frames).encode())
    except UnicodeEncodeError:
        raise ValueError(f"{run.file!r:.80} is not Unicode") from None
    if size > MAX_URL_BYTES:
        raise ValueError(f"a URL of {size} bytes; the limit is {MAX_URL_BYTES}")
    return size


def frame_url(file: str, path: str, frame: int) -> str:
    """Return the URL of one frame; empty if there is none.

    Examples
    --------
    >>> frame_url("/data/a.h5", "/entry/data", 3)
    'silx:///data/a.h5?path=/entry/data&slice=3'
    >>> frame_url("/data/a_0001.cbf", "", 0)
    'fabio:///data/a_0001.cbf?slice=0'
    """
    if not file:
        return ""
    if not path:
        return f"fabio://{file}?slice={frame}"
    return f"silx://{file}?path={path}&slice={frame}"


def parse_frame_url(url: str) -> FrameUrl:
    """Return what a URL of :func:`frame_url` names.

    Raises
    ------
    ValueError
        If it is no such URL.
    """
    if not url:
        return FrameUrl("", "", 0)
    found = _URL.match(url)
    if found is None:
        raise ValueError(f"{url!r:.80} is no URL of a frame")
    if found["hdf5"] is not None:
        return FrameUrl(found["hdf5"], found["path"], int(found["frame"]))
    return FrameUrl(found["image"], "", int(found["number"]))


def frame_runs(urls: Iterable[str]) -> Iterator[FrameRun]:
    """Yield URLs of frames as runs, as long as they can be.

    Examples
    --------
    >>> [*frame_runs(frame_url("/a.h5", "/d", k) for k in (4, 5, 9))]
    [FrameRun(file='/a.h5', path='/d', first=4, n_frames=2), \
FrameRun(file='/a.h5', path='/d', first=9, n_frames=1)]

    Raises
    ------
    ValueError
        If a text is no such URL.
    """
    run: FrameRun | None = None
    for url in urls:
        file, path, frame = parse_frame_url(url)
        if run is not None and (run.file, run.path) == (file, path):
            follows = frame == run.first + run.n_frames
            if follows or not file:
                run = run._replace(n_frames=run.n_frames + 1)
                continue
        if run is not None:
            yield run
        run = FrameRun(file, path, frame, 1)
    if run is not None:
        yield run


def runs_json(urls: Iterable[str]) -> bytes:
    """Return the block of references on the bus: a JSON array of runs.

    Raises
    ------
    ValueError
        If a text is no URL of a frame.
    """
    runs = [_as_object(run) for run in frame_runs(urls)]
    return json.dumps(runs, ensure_ascii=False, separators=(",", ":")).encode()


def _as_object(run: FrameRun) -> dict[str, str | int]:
    if not run.file:
        return {"count": run.n_frames}
    path: dict[str, str | int] = {"path": run.path} if run.path else {}
    return {"file": run.file, **path, "first": run.first, "count": run.n_frames}


def parse_runs(block: bytes, count: int) -> list[str]:
    """Return the URLs of the frames in a block of references.

    Raises
    ------
    ValueError
        If the block is no JSON array of runs of `count` frames together, or the URLs
        would take more than 64 MiB.
    """
    try:
        found = json.loads(block)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"references are not JSON: {error}") from error
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise ValueError("references are not an array of objects")
    runs = [_parse_run(each) for each in found]
    _check_size(runs, count)
    return [
        frame_url(run.file, run.path, run.first + index)
        for run in runs
        for index in range(run.n_frames)
    ]


def _parse_run(given: dict[str, Any]) -> FrameRun:
    file, path = given.get("file", ""), given.get("path", "")
    if not isinstance(file, str) or not isinstance(path, str):
        raise ValueError("the file or path of a reference is not text")
    run = FrameRun(file, path, given.get("first", 0), given.get("count", 0))
    check_run(run)
    return run


def _check_size(runs: Sequence[FrameRun], count: int) -> None:
    total = sum(run.n_frames for run in runs)
    if total != count:
        raise ValueError(f"references to {total} frames in an entry of {count} points")
    size = sum(run.n_frames * _url_bytes(run) for run in runs)
    if size > _MAX_EXPANDED_BYTES:
        raise ValueError(f"the URLs of an entry take {size} bytes; send shorter ones")
