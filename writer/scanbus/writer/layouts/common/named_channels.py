"""The channel of a part in a technique, by what the metadata say or by usual names."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from scanbus.writer.layouts.common.channel_nodes import Place
from scanbus.writer.layouts.common.scan_view import ScanView

__all__ = ["channel_named", "is_number"]


def channel_named(
    view: ScanView,
    profile: str,
    key: str,
    usual: Sequence[str] = (),
    fits: Callable[[Place], bool] | None = None,
) -> Place | None:
    """Return the channel of a part in a technique.

    Parameters
    ----------
    profile, key : str
        The metadata say its name in ``technique/PROFILE/KEY``: that of the channel as
        the program or the file has it.
    usual : sequence of str
        Names of channels for which it need not be said; the first one counts.
    fits : callable
        Whether a channel can be it; by default `is_number`.
    """
    fits = fits or is_number
    said = view.text(f"technique/{profile}/{key}")
    for place in view.places.values():
        names = (place.channel.name, place.channel.given_name, place.measured)
        if said and said in names:
            return place if fits(place) else None
    if said:
        return None
    for name in usual:
        for place in view.places.values():
            if place.channel.name.lower() == name and fits(place):
                return place
    return None


def is_number(place: Place) -> bool:
    """Return whether a channel has one number per point."""
    channel = place.channel
    is_plain = not channel.shape and not channel.is_string
    return is_plain and channel.numpy_dtype.kind in "iuf"
