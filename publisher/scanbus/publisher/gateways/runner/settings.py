"""How a gateway runs, and names its scans."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from scanbus.publisher.declare.folders import folders_of
from scanbus.publisher.gateways.runner.messages import SeriesStarted
from scanbus.schemas.errors import ConfigurationError, SpoolError
from scanbus.schemas.valid_names import FolderName

__all__ = ["GatewaySettings", "ScanNames"]

_FOLDERS = ("proposal", "beamline", "collection", "dataset")
_FOLDER: TypeAdapter[str] = TypeAdapter(FolderName)


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

    def check(self) -> None:
        """Refuse names that no scan can have, before there are frames to lose.

        Raises
        ------
        ConfigurationError
            If one is empty, or leads to another folder.
        """
        if not self.detector:
            raise ConfigurationError("detector", "the name is empty")
        given = {key: self.scan[key] for key in _FOLDERS if key in self.scan}
        folders, _ = folders_of(**given)
        for key, name in folders.items():
            try:
                _FOLDER.validate_python(name)
            except ValidationError as error:
                reason = f"{given[key]!r} cannot be the name of a folder"
                raise ConfigurationError(key, reason) from error


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

    def prepare(self) -> None:
        """Check the names and make the spool's folder, before the first frame.

        Raises
        ------
        ConfigurationError
            If no scan can have one of the names.
        SpoolError
            If the folder cannot be made.
        """
        self.names.check()
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
