"""How a gateway runs, and names its scans."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scanbus.publisher.gateways.runner.messages import SeriesStarted
from scanbus.schemas.errors import ConfigurationError, SpoolError

__all__ = ["GatewaySettings", "ScanNames"]


@dataclass(frozen=True, slots=True)
class ScanNames:
    """Names of the scans that a gateway publishes.

    Parameters
    ----------
    detector : str
        Name of the detector's channel.
    scan : mapping
        Arguments of ``Publisher.scan``: proposal, beamline, collection, …
    first_number : int, optional
        Number of the first frame of a series; by default it is learnt.
    """

    detector: str
    scan: Mapping[str, Any] = field(default_factory=dict[str, Any])
    first_number: int | None = None


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """How a gateway runs.

    Parameters
    ----------
    url : str
        Address of Redis.
    names : ScanNames
        Names of the scans.
    once : bool
        End after one series, when its verdict is known.
    wait : bool
        With `once`, wait for the verdict if a writer is alive.
    spool : pathlib.Path, optional
        Folder of the publisher's spool.
    queue_bytes, queue_messages : int
        Bounds of the queue between receiver and publisher.
    describe : callable, optional
        Returns what is known elsewhere of a series whose start was missed, or did not
        describe the detector; raises ConfigurationError if it is not to be had.
    """

    url: str
    names: ScanNames
    once: bool = False
    wait: bool = True
    spool: Path | None = None
    queue_bytes: int = 512 * 2**20
    queue_messages: int = 10_000
    describe: Callable[[SeriesStarted], SeriesStarted] | None = None

    def make_spool(self) -> None:
        """Make the spool's folder, before the first frame needs it.

        Raises
        ------
        SpoolError
            If it cannot be made.
        """
        if self.spool is None:
            return
        try:
            self.spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise SpoolError(str(self.spool), str(error.strerror)) from error

    def described(self, started: SeriesStarted) -> tuple[SeriesStarted, str]:
        """Return a series with what its start left out, and a note on that."""
        if self.describe is None or started.fields:
            return started, ""
        try:
            found = self.describe(started)
        except ConfigurationError as error:
            return started, str(error)
        return found, "the configuration was read from the detector"
