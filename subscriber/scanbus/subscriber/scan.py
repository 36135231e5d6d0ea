"""Reader of one scan: its state and the points of its channels."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from scanbus.bus.codecs import find_codec
from scanbus.bus.protocol import ScanRecord
from scanbus.bus.store import publisher_is_alive, read_events, wait_for_events
from scanbus.schemas import (
    ArrayValue,
    ChannelDescription,
    PointRange,
    ScanPrepared,
    Stamp,
    Verdict,
    is_array,
)
from scanbus.schemas.errors import (
    ScanInterruptedError,
    ScanStateError,
    UnknownChannelError,
)
from scanbus.schemas.file_names import scan_master_path
from scanbus.subscriber.batch import Batch
from scanbus.subscriber.channel import ChannelReader
from scanbus.subscriber.connection import Link
from scanbus.subscriber.deadline import Deadline
from scanbus.subscriber.holes import without
from scanbus.subscriber.joined import Ids, Joined, join_ids
from scanbus.subscriber.lane_view import LaneView
from scanbus.subscriber.points import Values
from scanbus.subscriber.referenced_frames import referenced_frames
from scanbus.subscriber.stamps import ids_of, stamp_channels, stamp_name, stamps_of
from scanbus.subscriber.stream import ScanStream

__all__ = ["ScanReader"]

PREPARED_TIMEOUT_S = 60.0
ARRAY_TIMEOUT_S = 60.0
_ARRAY_POLL_S = 0.05


class ScanReader:
    """Reads one scan; created by a :class:`Subscriber`.

    Reading a point that is not there raises one of three errors: :class:`NotYetError`,
    :class:`NeverError` (the channel ended before it) or :class:`NoLongerError`, which
    names the file that has it. Points that were lost, damaged or declared as gaps have
    the channel's missing value; the batch that has them says why.

    It is not safe to share between threads.

    Parameters
    ----------
    link : Link
        Connection to Redis.
    record : ScanRecord
        State of the scan so far.
    lapse_s : float
        How long a publisher without a heartbeat counts as alive, in seconds.
    external_roots : sequence of pathlib.Path
        Folders below which files of frames by reference are opened.

    Attributes
    ----------
    record : ScanRecord
        State of the scan; see :meth:`refresh`.
    """

    def __init__(
        self,
        link: Link,
        record: ScanRecord,
        *,
        lapse_s: float,
        external_roots: Sequence[Path] = (),
    ) -> None:
        self._link = link
        self._external_roots = tuple(external_roots)
        self._lapse_s = lapse_s
        self._channels: dict[str, ChannelReader] = {}
        self._arrays: dict[str, ChannelReader] = {}
        self.record = record

    def __repr__(self) -> str:
        number = self.record.identity.scan_number
        return f"<ScanReader {number} {self.uid} {self.state}>"

    @property
    def uid(self) -> str:
        """The scan's uid."""
        return self.record.uid

    @property
    def state(self) -> str:
        """One word: announced, prepared, started, ended, or the final verdict."""
        return self.record.state

    @property
    def verdict(self) -> Verdict | None:
        """The writer's verdict so far; None if there is none."""
        return self.record.verdict

    @property
    def channels(self) -> dict[str, ChannelDescription]:
        """Descriptions of the channels by name; empty before the scan is prepared.

        Methods take the name that the program gave, too (``original_name``), and that
        of the lane to which the metadata of the scan refer for a large array.
        """
        prepared = self.record.prepared
        return {each.name: each for each in prepared.channels} if prepared else {}

    def refresh(self) -> bool:
        """Read new events; return whether there were any."""
        return self._link.ask(lambda client: read_events(client, self.record))

    def publisher_is_alive(self) -> bool:
        """Whether the heartbeat of the scan's publisher has not expired."""
        return self._link.ask(lambda client: publisher_is_alive(client, self.uid))

    def is_judged(self) -> bool:
        """Whether the scan has its final verdict: nothing more will come."""
        self.refresh()
        return self.record.final_verdict is not None

    def file(self) -> str:
        """Return the path of the scan master, relative to the writer's root."""
        self.refresh()
        if self.verdict is not None and self.verdict.master:
            return self.verdict.master
        return scan_master_path(self.record.identity)

    def lost(self, channel: str) -> Sequence[PointRange]:
        """Return the points of a channel that no file has, by the final verdict.

        Empty as long as there is none: a point that was trimmed may be one of them.
        """
        self.refresh()
        verdict = self.record.final_verdict
        if verdict is None or not self.channels:
            return ()
        name = self._channel(channel).description.name
        found = verdict.channels.get(name)
        if found is None:
            return ()
        return without(found.missing, found.late)

    def wait_prepared(self, timeout_s: float | None = PREPARED_TIMEOUT_S) -> None:
        """Wait until the scan's channels are known.

        Parameters
        ----------
        timeout_s : float or None
            Longest wait, in seconds; None to wait as long as the publisher is alive.

        Raises
        ------
        DeadlineError
            If they are not known by then.
        ScanInterruptedError
            If the publisher is silent.
        ScanStateError
            If the scan was judged without them.
        """
        deadline = Deadline(f"prepared of scan {self.uid}", timeout_s, self._lapse_s)
        self.refresh()
        while self.record.prepared is None:
            if self._wait_for_event(deadline.block_ms()):
                self.refresh()
                continue
            if self.record.final_verdict is not None:
                what = f"scan {self.uid} is over: it was never prepared"
                raise ScanStateError(what)
            deadline.check()
            if deadline.is_lost(publisher_alive=self.publisher_is_alive()):
                raise ScanInterruptedError(self.uid, {})

    def _wait_for_event(self, block_ms: int) -> bool:
        return bool(
            self._link.ask(
                lambda client: wait_for_events(client, [self.record], block_ms)
            )
        )

    def length(self, channel: str) -> int:
        """Return the number of points of a channel so far, including trimmed ones.

        Raises
        ------
        ScanStateError
            If the scan is not prepared yet.
        UnknownChannelError
            If the scan has no such channel.
        """
        return self._channel(channel).view.extent().stop

    def is_over(self, channel: str) -> bool:
        """Whether a channel is sealed, or the scan judged: no further point will come.

        Raises as :meth:`length` does.
        """
        return self._channel(channel).view.extent().is_over or self.is_judged()

    def read(self, channel: str, start: int = 0, stop: int | None = None) -> Values:
        """Return the points ``[start, stop)`` of a channel.

        Parameters
        ----------
        channel : str
            Its name.
        start : int
            The first point.
        stop : int or None
            The point after the last one; all points so far if not given.

        Returns
        -------
        numpy.ndarray or list
            Shape ``(stop - start, *shape)``; a list of strings or of arrays for
            channels whose points differ in size.

        Raises
        ------
        NotYetError, NeverError, NoLongerError
            With the first point that is not there.
        PayloadError
            If the bytes of an entry do not fit the channel's description, or so many
            consecutive points are missing that fewer must be read at once.
        ScanStateError, UnknownChannelError
            If the scan is not prepared yet, or has no such channel.
        ValueError
            If `start` is negative or larger than `stop`.
        """
        return self._channel(channel).read(start, stop)

    def array(
        self, value: Mapping[str, Any], timeout_s: float = ARRAY_TIMEOUT_S
    ) -> npt.NDArray[Any]:
        """Return an array of the metadata, wherever it travels.

        Parameters
        ----------
        value : mapping
            What ``record.metadata()`` has in its place: ``{"array": {…}}``.
        timeout_s : float
            How long to wait for one that travels in a lane of its own, in seconds.

        Raises
        ------
        NotYetError, NeverError, NoLongerError
            If it did not come in time, never came, or is in a file only.
        ValueError
            If `value` is no array.
        """
        if not is_array(value):
            raise ValueError(f"no array of the metadata: {value!r:.80}")
        packed = value["array"]
        data = base64.b64decode(packed.get("data", ""))
        described = ArrayValue.model_validate({**packed, "data": data})
        if not described.lane:
            codec, dtype = find_codec(described.codec), np.dtype(described.dtype)
            return codec.decode(described.data, dtype, described.shape)
        deadline = time.monotonic() + timeout_s
        while not (self.length(described.lane) or self.is_over(described.lane)):
            if time.monotonic() >= deadline:
                break
            time.sleep(_ARRAY_POLL_S)
        return np.asarray(self.point(described.lane, 0)).reshape(described.shape)

    def batches(
        self, channel: str, start: int = 0, stop: int | None = None
    ) -> Iterator[Batch]:
        """Return the points ``[start, stop)`` entry by entry; see :meth:`read`.

        For data that do not fit into memory, and to find out which points are missing.
        """
        return self._channel(channel).batches(start, stop)

    def stamps(self, batch: Batch) -> dict[str, npt.NDArray[Any]]:
        """Return what the device says of each point of a batch, as far as it came.

        Parameters
        ----------
        batch : Batch
            Of any channel of the device.

        Returns
        -------
        dict
            Stamp, e.g. ``"pulse_id"`` or ``"arrival_time"``, to one number per point,
            and the missing value of its channel where it has none, or not yet.
        """
        device = batch.description.device
        return {
            stamp: stamps_of(self._channel(name), batch.start, batch.stop)
            for stamp, name in stamp_channels(self.channels.values(), device).items()
        }

    def join(
        self, *channels: str, by: Stamp | str | Mapping[str, str] = Stamp.PULSE_ID
    ) -> Joined:
        """Return which points of several channels belong together, by their numbers.

        What came so far: call it again while the scan goes on.

        Parameters
        ----------
        channels : str
            Names; each needs a channel of its device that has the numbers.
        by : Stamp, str or mapping
            The stamp; or channel to the channel that has its numbers.

        Returns
        -------
        Joined
            Numbers, the point of each channel for each, and the holes of each channel.

        Raises
        ------
        UnknownChannelError
            If there is no such channel, or none of its device has that stamp.
        NoLongerError
            If numbers are in the scan's file only.
        ValueError
            If the numbers of a channel are not integers.
        """
        of: dict[str, Ids] = {}
        described = {name: self._channel(name).description for name in channels}
        for name in described:
            channel = self._channel(name)
            named = by.get(name) if isinstance(by, Mapping) else None
            stamp = named or stamp_name(channel.description, self.channels, by)
            of[name] = ids_of(channel, self._channel(stamp), self.is_over)
        return join_ids(of, self.batches, described)

    def frames(
        self, channel: str, start: int = 0, stop: int | None = None
    ) -> npt.NDArray[Any]:
        """Return frames, also of a channel by reference: its files are opened here.

        Only files below the `external_roots` of the subscriber are. `read` returns the
        URLs of the frames instead.

        Parameters
        ----------
        channel, start, stop
            As for :meth:`read`.

        Returns
        -------
        numpy.ndarray
            Shape ``(stop - start, *shape)``; points without a frame have the channel's
            missing value.

        Raises
        ------
        ExternalFileError
            If a file is elsewhere, not there or not complete yet, or no HDF5 file.
        NotYetError, NeverError, NoLongerError, PayloadError, ScanStateError
            As for :meth:`read`.
        """
        described = self._channel(channel).description
        values = self.read(channel, start, stop)
        if not described.is_reference:
            return np.asarray(values)
        return referenced_frames(described, values, self._external_roots)

    def frames_of(self, batch: Batch) -> npt.NDArray[Any]:
        """Return the frames of a batch; see :meth:`frames`."""
        if not batch.description.is_reference:
            return np.asarray(batch.values)
        roots = self._external_roots
        return referenced_frames(batch.description, batch.values, roots)

    def point(self, channel: str, point: int) -> Any:
        """Return one point, reading only the entry that holds it.

        Returns
        -------
        numpy.ndarray, numpy.generic or str
            Of the channel's shape.

        Raises
        ------
        NotYetError, NeverError, NoLongerError
            If it is not there.
        ValueError
            If `point` is negative.
        """
        return self._channel(channel).point(point)

    def latest(self, channel: str) -> tuple[int, Any]:
        """Return the newest point of a channel and its value.

        Raises
        ------
        NotYetError, NeverError, NoLongerError
            If there is no point yet, the channel ended without any, or the newest one
            is no longer on the bus.
        """
        return self._channel(channel).latest()

    def stream(
        self,
        *channels: str,
        start: int | Literal["now"] = 0,
        latest_only: bool = False,
        timeout_s: float | None = None,
    ) -> ScanStream:
        """Return an iterable of batches, past and live, until the channels are sealed.

        Parameters
        ----------
        channels : str
            Names; all channels if none is given.
        start : int or "now"
            First point wanted; "now" for points that come after this call.
        latest_only : bool
            Skip points that came while the last batch was processed.
        timeout_s : float or None
            Longest wait without data, in seconds; None for as long as the publisher is
            alive.

        Returns
        -------
        ScanStream
            See there for the errors that it raises during iteration.

        Raises
        ------
        ScanStateError, UnknownChannelError
            If the scan is not prepared yet, or has no such channel.
        ValueError
            If `start` is negative.
        """
        if start != "now" and start < 0:
            raise ValueError(f"start: point {start} is negative")
        return ScanStream(
            self._link,
            self,
            self._lanes_of(channels),
            start=None if start == "now" else start,
            latest_only=latest_only,
            deadline=Deadline(f"data of scan {self.uid}", timeout_s, self._lapse_s),
        )

    def _lanes_of(self, names: tuple[str, ...]) -> list[tuple[LaneView, list[int]]]:
        """Return the lanes of the named channels, each with their places in it."""
        self._prepared()
        lanes: dict[str, tuple[LaneView, list[int]]] = {}
        for name in dict.fromkeys(names or self.channels):
            channel = self._channel(name)
            view = channel.view
            lanes.setdefault(view.lane.name, (view, []))[1].append(channel.index)
        return list(lanes.values())

    def _channel(self, name: str) -> ChannelReader:
        if not self._channels:
            self._channels = {
                described.name: ChannelReader(
                    LaneView(self._link, self.uid, lane), index, self
                )
                for lane in self._prepared().lanes
                for index, described in enumerate(lane.channels)
            }
        static = self.record.static.get(name)
        if static is not None:
            view = LaneView(self._link, self.uid, static)
            return self._arrays.setdefault(name, ChannelReader(view, 0, self))
        if name in self._channels:
            return self._channels[name]
        for channel in self._channels.values():
            if channel.description.original_name == name:
                return channel
        raise UnknownChannelError(name, tuple(self._channels))

    def _prepared(self) -> ScanPrepared:
        if self.record.prepared is None:
            self.refresh()
        if self.record.prepared is None:
            raise ScanStateError(
                f"scan {self.uid} is not prepared yet: its channels are not known; "
                "call wait_prepared() first"
            )
        return self.record.prepared
