"""Detectors that write their files themselves: declared, and sent by reference."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from scanbus.publisher.declare.arguments import declare_reference
from scanbus.publisher.declare.declarations import ChannelDeclarations
from scanbus.publisher.declare.times import GivenTimes
from scanbus.schemas import FrameRun, NexusHints
from scanbus.schemas.frame_references import check_format, check_run, frame_url

__all__ = ["FrameReferences"]


class FrameReferences(ChannelDeclarations):
    """Detectors of a scan whose frames stand in their own files; see ``Scan``."""

    def external_detector(
        self,
        name: str,
        *,
        shape: tuple[int, ...],
        dtype: Any,
        points: int | None = None,
        group: str | None = None,
        device: str | None = None,
        units: str = "",
        fill_value: float | None = None,
        display_name: str = "",
        nexus: NexusHints | Mapping[str, Any] | None = None,
    ) -> None:
        """Declare a detector whose frames stand in files that it writes itself.

        Its points are sent by ``Scan.reference``: where each frame is, not the frame.

        Parameters
        ----------
        shape : tuple of int
            Shape of one frame in these files.
        dtype : str or numpy.dtype
            Type of its values; either byte order.
        group : str, optional
            Channels that advance together with it, e.g. its frame numbers.

        Other parameters are those of `channel`.

        Raises
        ------
        ScanStateError
            After the first send.
        ValueError
            If the description is inconsistent, or the channel was declared before.
        """
        self._declare(
            declare_reference(
                name,
                shape=shape,
                dtype=dtype,
                points=points,
                group=group,
                device=device,
                units=units,
                fill_value=fill_value,
                display_name=display_name,
                nexus=nexus,
            )
        )

    def reference(
        self,
        name: str,
        file: str | os.PathLike[str],
        path: str = "",
        *,
        first: int = 0,
        count: int = 1,
        time: GivenTimes = None,
        point: int | None = None,
    ) -> None:
        """Send where frames are, of a detector that writes its files itself.

        The writer looks for them at the end of the scan; until then the file may be
        incomplete, or not exist.

        Parameters
        ----------
        name : str
            A channel that `external_detector` declared.
        file : str or path
            Absolute path of the file, as the writer sees it.
        path : str
            Absolute path of the dataset in an HDF5 file, whose first axis counts its
            frames; empty for other formats.
        first, count : int
            The frames ``[first, first + count)`` of the file.
        time, point
            As for `send`.

        Raises
        ------
        ValueError
            If a path or a number is invalid, or an HDF5 file has no path of a dataset;
            else those of `send`.
        """
        run = FrameRun(os.fspath(file), path, int(first), int(count))
        check_run(run)
        check_format(run.file, run.path)
        urls = [frame_url(*run[:2], run.first + index) for index in range(count)]
        self.send(name, urls, time=time, point=point)

    @abstractmethod
    def send(
        self,
        name: str,
        values: Any = None,
        *,
        packed: Any = None,
        time: GivenTimes = None,
        point: int | None = None,
        copy: bool = True,
    ) -> None:
        """Send points of a channel; see ``Scan.send``."""
