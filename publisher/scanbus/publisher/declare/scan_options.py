"""The options with which a program opens a scan, and the document made of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from time import time as wall_clock
from typing import Any

from scanbus.bus.protocol import quota_range
from scanbus.publisher.declare.arguments import sendable
from scanbus.publisher.declare.default_quota import default_quota, smaller_quotas
from scanbus.publisher.declare.json_text import text_of
from scanbus.publisher.declare.lane_plan import Declared, plan_lanes
from scanbus.publisher.declare.metadata import MetadataConverter
from scanbus.publisher.declare.static_arrays import StaticArrays
from scanbus.schemas import (
    ChannelDescription,
    LaneDescription,
    PlotDescription,
    Positioner,
    ScanIdentity,
    ScanPrepared,
    ScanUpdated,
    Storage,
)
from scanbus.schemas.documents import MAX_TEXT_LENGTH
from scanbus.schemas.errors import DeclarationError
from scanbus.schemas.layout_names import ONE_FRAME_LAYOUTS
from scanbus.schemas.plots import default_plots
from scanbus.schemas.valid_names import plain_text

__all__ = ["ScanOptions"]


@dataclass(frozen=True, slots=True)
class ScanOptions:
    """The options with which a program opens a scan; see ``Publisher.scan``."""

    title: str
    identity: dict[str, Any]
    original_uid: str
    original_folders: dict[str, str]
    instrument: str
    program: str
    converter: MetadataConverter
    statics: StaticArrays
    metadata: dict[str, Any]
    positioners: dict[str, Positioner]
    plots: Sequence[PlotDescription] | None
    layouts: tuple[str, ...]
    quota_bytes: int | None
    compression: float
    require_writer: bool
    is_reopened: bool = False

    def updated(self, metadata: Mapping[str, Any] | None, note: str) -> ScanUpdated:
        """Return an event that adds metadata or a note.

        Raises
        ------
        DeclarationError
            If they do not fit a document.
        """
        with self.statics.whole_or_none():
            return sendable(
                ScanUpdated,
                time=wall_clock(),
                metadata=self.converter.tree(metadata, none_withdraws=True),
                note=plain_text(text_of(note), MAX_TEXT_LENGTH),
            )

    def prepared(
        self,
        identity: ScanIdentity,
        declared: Sequence[Declared],
        quota_bytes: int,
        *,
        spooled: bool = False,
    ) -> ScanPrepared:
        """Return the document that fixes the scan.

        Metadata that do not fit it beside the channels are left to `left_over`.

        Parameters
        ----------
        spooled : bool
            Whether its data are written to a spool.

        Raises
        ------
        QuotaRefusedError
            If the quota does not hold a chunk of every lane.
        ValueError
            If an option is invalid, or all together do not fit a document.
        """
        channels = [each.channel for each in declared]
        plots = self.plots
        if plots is None:
            plots = default_plots(channels)
        names = _names_of(channels)
        fixed: dict[str, Any] = {
            "time": wall_clock(),
            "scan": identity,
            "title": self.title,
            "lanes": self._lanes(identity.uid, declared, quota_bytes),
            "quota_bytes": quota_bytes,
            "instrument": self.instrument,
            "publisher": self.program,
            "positioners": self.positioners,
            "plots": tuple(
                plot for plot in (_with_names(plot, names) for plot in plots) if plot
            ),
            "spooled": spooled,
            "original_uid": self.original_uid,
            "original_folders": self.original_folders,
            "layouts": self.layouts,
        }
        try:
            return sendable(ScanPrepared, metadata=self.metadata, **fixed)
        except DeclarationError:
            return sendable(ScanPrepared, metadata={}, **fixed)

    def chunked(self, declared: Sequence[Declared]) -> tuple[Declared, ...]:
        """Return channels whose chunks suit the readers of the scan's layouts.

        Small frames usually share a chunk. With one of `ONE_FRAME_LAYOUTS` each has its
        own, unless the program said how many frames a chunk has; and all files but the
        last have as many frames, as neggia takes them to have.
        """
        if ONE_FRAME_LAYOUTS.isdisjoint(self.layouts):
            return tuple(declared)
        return tuple(
            replace(each, **_one_by_one(each)) if _is_frame(each) else each
            for each in declared
        )

    def plot_notes(self, declared: Sequence[Declared]) -> list[str]:
        """Return a sentence for each channel that a plot names and the scan lacks."""
        known = _names_of([each.channel for each in declared])
        return [
            f"plot {plot.name!r}: there is no channel {name!r}"
            for plot in self.plots or ()
            for name in (*plot.signals, *plot.axes)
            if name not in known
        ]

    def left_over(self, prepared: ScanPrepared) -> list[ScanUpdated]:
        """Return an event with the metadata that `prepared` had no room for, if any.

        It fits a document: that was checked when the program gave them.
        """
        if prepared.metadata == self.metadata:
            return []
        return [ScanUpdated(time=wall_clock(), metadata=self.metadata)]

    def quotas(self, declared: Sequence[Declared], budget: int) -> Iterator[int]:
        """Yield the quotas with which the scan may start, in bytes, the best first.

        Parameters
        ----------
        budget : int
            Bytes that all scans together may reserve.
        """
        # Beside what the channels need, whether the program said that or not.
        room = self.statics.room_bytes
        if self.quota_bytes is not None:
            yield min(self.quota_bytes + room, max(self.quota_bytes, budget))
            return
        wanted = default_quota(declared, self.compression, budget)
        smaller = smaller_quotas(declared, self.compression, wanted, budget)
        for quota in chain([wanted], smaller):
            yield min(quota + room, budget)

    def with_documents(self, quota_bytes: int, n_bytes: int, budget: int) -> int:
        """Return a quota with the bytes of the scan's documents, if it is a default."""
        if self.quota_bytes is not None:
            return quota_bytes
        return min(quota_bytes + n_bytes, budget)

    def _lanes(
        self, uid: str, declared: Sequence[Declared], quota_bytes: int
    ) -> tuple[LaneDescription, ...]:
        rest = quota_bytes - self.statics.room_bytes
        return plan_lanes(uid, declared, rest, self.compression)

    def replanned(
        self, prepared: ScanPrepared, declared: Sequence[Declared], quota_bytes: int
    ) -> ScanPrepared:
        """Return the document with another quota, and lanes that fit it.

        Lanes that were planned for a smaller one fit, and stay: they are many.
        """
        lanes = prepared.lanes
        if quota_bytes < prepared.quota_bytes:
            lanes = self._lanes(prepared.scan.uid, declared, quota_bytes)
        return prepared.model_copy(update={"lanes": lanes, "quota_bytes": quota_bytes})

    def most_quota_bytes(self, quota_bytes: int, budget: int) -> int:
        """Return up to which a quota may grow, in bytes: not if it was asked for."""
        if self.quota_bytes is not None:
            return quota_bytes
        return max(quota_bytes, quota_range(budget)[1])


def _is_frame(declared: Declared) -> bool:
    return declared.storage is Storage.FILES and len(declared.channel.shape) == 2


def _one_by_one(declared: Declared) -> dict[str, Any]:
    return {
        "points_per_chunk": declared.points_per_chunk or 1,
        "has_equal_files": True,
    }


def _with_names(
    plot: PlotDescription, names: Mapping[str, str]
) -> PlotDescription | None:
    """Return a plot of the channels' names in files; None if it has no signal there."""
    found = {
        key: tuple(names[name] for name in getattr(plot, key) if name in names)
        for key in ("signals", "axes")
    }
    return plot.model_copy(update=found) if found["signals"] else None


def _names_of(channels: Sequence[ChannelDescription]) -> dict[str, str]:
    """Return the names of channels in files, by these and by those of the program."""
    given = {each.given_name: each.name for each in channels}
    return {each.name: each.name for each in channels} | given
