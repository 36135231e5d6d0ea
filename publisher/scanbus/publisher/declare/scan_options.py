"""The options with which a program opens a scan, and the document made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import time as wall_clock
from typing import Any

from scanbus.publisher.declare.arguments import sendable
from scanbus.publisher.declare.lane_plan import Declared, plan_lanes
from scanbus.schemas import PlotDescription, Positioner, ScanIdentity, ScanPrepared
from scanbus.schemas.plots import default_plots

__all__ = ["ScanOptions"]


@dataclass(frozen=True, slots=True)
class ScanOptions:
    """The options with which a program opens a scan; see ``Publisher.scan``."""

    title: str
    identity: dict[str, Any]
    instrument: str
    program: str
    metadata: dict[str, Any]
    positioners: dict[str, Positioner]
    plots: Sequence[PlotDescription] | None
    quota_bytes: int | None
    compression: float
    require_writer: bool

    def prepared(
        self, identity: ScanIdentity, declared: Sequence[Declared], quota_bytes: int
    ) -> ScanPrepared:
        """Return the document that fixes the scan.

        Raises
        ------
        QuotaRefusedError
            If the quota does not hold a chunk of every lane.
        ValueError
            If an option is invalid, or all together do not fit a document.
        """
        plots = self.plots
        if plots is None:
            plots = default_plots([each.channel for each in declared])
        return sendable(
            ScanPrepared,
            time=wall_clock(),
            scan=identity,
            title=self.title,
            lanes=plan_lanes(identity.uid, declared, quota_bytes, self.compression),
            quota_bytes=quota_bytes,
            instrument=self.instrument,
            publisher=self.program,
            metadata=self.metadata,
            positioners=self.positioners,
            plots=tuple(plots),
        )
