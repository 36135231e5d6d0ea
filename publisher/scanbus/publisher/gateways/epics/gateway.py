"""Receive the images of EPICS 7's areaDetector, and PVs beside them."""

from __future__ import annotations

from typing import Any

from scanbus.publisher.gateways.epics.ndarray_message import NdArray, decode_ndarray
from scanbus.publisher.gateways.epics.source import (
    OpenedScan,
    PvaSettings,
    PvaSource,
)
from scanbus.publisher.gateways.runner.gateway import Source
from scanbus.publisher.gateways.runner.messages import Message
from scanbus.schemas.errors import ConfigurationError

__all__ = ["PvaGateway", "PvaSettings"]


class PvaGateway:
    """Images of one PV over PVAccess.

    Parameters
    ----------
    settings : PvaSettings
        What is subscribed to.

    Raises
    ------
    ConfigurationError
        If the PV of the images has no name.
    """

    kind = "pva"
    detector = "detector"

    def __init__(self, settings: PvaSettings) -> None:
        if not settings.pv:
            raise ConfigurationError("pv", "the name of the PV of the images is empty")
        self.address = settings.pv
        self._settings = settings
        self._opened = OpenedScan()

    def open(self) -> Source:
        """Subscribe, now or when the IOC is there."""
        return PvaSource(self._settings, self._opened)

    def decode(self, content: Any) -> Message:
        """Return what an image says; other messages are ready.

        Raises
        ------
        MessageError
            If an image cannot be used.
        """
        if isinstance(content, NdArray):
            return decode_ndarray(content)
        message: Message = content
        return message

    def scan_opened(self, key: str, uid: str, next_number: int) -> None:  # noqa: ARG002
        """Take note that the scan of the series is open."""
        self._opened.set(next_number)
