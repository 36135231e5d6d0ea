"""Which plots a scan has: chosen by what its channels are.

A publisher puts default plots into its `prepared` document; a writer draws what the
document names, and adds plots so that every array can be looked at. Both choices are
made here. Pure: a choice depends on descriptions alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from scanbus.schemas.channels import ChannelDescription, Role
from scanbus.schemas.documents import PlotDescription
from scanbus.schemas.valid_names import nexus_name

__all__ = ["all_plots", "default_plots"]

_FRAME_RANK = 2


def default_plots(
    channels: Sequence[ChannelDescription],
) -> tuple[PlotDescription, ...]:
    """Return the plots of a scan whose program names none, for its `prepared`.

    Counters over the axes, one plot for each unit, then the first detector of frames;
    the frames come first if nothing was scanned and all counters are values of frames.
    All axes are named: which of them moved is known when the scan has ended.

    Parameters
    ----------
    channels : sequence of ChannelDescription
        All channels of the scan, in the order of their declaration.
    """
    scalars = [
        each
        for each in channels
        if each.shape == () and not each.is_string and each.stamp is None
    ]
    counters = [each for each in scalars if each.role is Role.COUNTER]
    axes = tuple(each.name for each in scalars if each.role is Role.AXIS)
    plots = _plots_by_units("plot0D", counters, axes)
    frames = [each for each in channels if _is_of_frames(each)]
    of_frames = [
        PlotDescription(name="plot2D", signals=(each.name,)) for each in frames[:1]
    ]
    detectors = {each.device for each in frames}
    are_of_frames = all(each.device in detectors for each in counters)
    is_first = are_of_frames and not axes
    return (*of_frames, *plots) if is_first else (*plots, *of_frames)


def _plots_by_units(
    name: str, counters: Sequence[ChannelDescription], axes: tuple[str, ...]
) -> list[PlotDescription]:
    """Return a plot for the counters of each unit; the first has the name alone.

    Amperes and hertz on one scale show a single curve, and lines at zero.
    """
    by_units: dict[str, list[str]] = {}
    for each in counters:
        by_units.setdefault(each.units.strip(), []).append(each.name)
    return [
        PlotDescription(
            name=name if not place else nexus_name(f"{name}_{units or 'unitless'}"),
            signals=tuple(signals),
            axes=axes,
        )
        for place, (units, signals) in enumerate(by_units.items())
    ]


def _is_of_frames(channel: ChannelDescription) -> bool:
    return len(channel.frame_channel.shape) >= _FRAME_RANK


def all_plots(
    named: Sequence[PlotDescription], channels: Sequence[ChannelDescription]
) -> tuple[PlotDescription, ...]:
    """Return the plots that a file can have, the default one first.

    Parameters
    ----------
    named : sequence of PlotDescription
        Those of the `prepared` document. Without any, the counters of one lane are
        plotted over the axes, its own first.
    channels : sequence of ChannelDescription
        The channels that can be drawn, lane by lane.

    Returns
    -------
    tuple of PlotDescription
        Also one for every array, which may have been named already.
    """
    return (*(named or _counter_plots(channels)), *_array_plots(channels))


def _counter_plots(channels: Sequence[ChannelDescription]) -> Iterator[PlotDescription]:
    """Yield plots of the scalar counters of the first lane that has any."""
    scalars = [each for each in channels if not each.shape and each.stamp is None]
    counters = [each for each in scalars if each.role is Role.COUNTER]
    if not counters:
        return
    lane = counters[0].group
    axes = [each for each in scalars if each.role is Role.AXIS]
    axes.sort(key=lambda each: each.group != lane)
    shown = [each for each in counters if each.group == lane]
    yield from _plots_by_units("plot", shown, tuple(each.name for each in axes))


def _array_plots(channels: Sequence[ChannelDescription]) -> Iterator[PlotDescription]:
    """Yield a plot for every detector of frames, then for every other array."""
    arrays = [each for each in channels if each.shape]
    arrays.sort(key=lambda each: not _is_of_frames(each))
    for each in arrays:
        name = nexus_name(f"plot_{each.name}")
        yield PlotDescription(name=name, signals=(each.name,))
