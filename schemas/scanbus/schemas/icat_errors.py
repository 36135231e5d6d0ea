"""Errors about messages for ICAT; `scanbus.schemas.errors` offers them."""

from __future__ import annotations

from scanbus.schemas.error_base import ScanbusError

__all__ = ["BrokerError", "DatasetOpenError", "IcatMessageError"]


class DatasetOpenError(ScanbusError):
    """A dataset with scans that are being written, or were interrupted."""

    dataset: str
    reason: str
    template = (
        "{dataset} is not closed: {reason}. Wait for its writer, or see "
        "`scanbus salvage`"
    )


class IcatMessageError(ScanbusError):
    """What is known of a dataset makes no message."""

    dataset: str
    reason: str
    template = "no message for ICAT about {dataset}: {reason}"


class BrokerError(ScanbusError):
    """No broker took a message."""

    broker: str
    reason: str
    template = "the message broker at {broker} took no message: {reason}"
