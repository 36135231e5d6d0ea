"""Values of a frame that are times or numbers of it, by the names of senders."""

from __future__ import annotations

from typing import Final

from scanbus.schemas import Stamp

__all__ = ["stamp_of"]

_STAMPS: Final = {
    **{stamp.value: stamp for stamp in Stamp},
    "xfel_pulse_id": Stamp.PULSE_ID,  # Jungfraujoch
    "start_time": Stamp.DETECTOR_TIME,
}


def stamp_of(name: str, kind: type) -> Stamp | None:
    """Return what a value says of its frame; None if that is not known.

    Parameters
    ----------
    name : str
        As the sender calls it.
    kind : type
        Of the value.

    Examples
    --------
    >>> stamp_of("xfel_pulse_id", int), stamp_of("hash", str)
    (<Stamp.PULSE_ID: 'pulse_id'>, None)
    """
    return None if kind is str else _STAMPS.get(name)
