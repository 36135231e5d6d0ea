"""Default plots: NXdata groups whose members are links to channels.

:mod:`scanbus.schemas.plots` chooses the plots of a scan. Members whose length differs
from the signal's are left out, because readers reject an NXdata whose axis is longer
than its signal. Lanes grow independently, so this occurs in every growing scan.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from scanbus.schemas import PlotDescription, is_array
from scanbus.schemas.plots import all_plots
from scanbus.schemas.valid_names import unique_name
from scanbus.writer.layouts.common.channel_nodes import Place
from scanbus.writer.model.nexus_tree import Group, Node, SoftLink, Value

__all__ = ["DEFAULT_PLOT", "plot_nodes"]

DEFAULT_PLOT: Final = "plotselect"
"""Name of the link to the default plot, as in ESRF's files."""


def plot_nodes(
    entry_name: str,
    wanted: tuple[PlotDescription, ...],
    places: Mapping[str, Place],
    taken: Collection[str],
    fields: Mapping[str, Any],
) -> dict[str, Node]:
    """Return the plots of an entry and the link to the default one.

    Parameters
    ----------
    entry_name : str
        Name of the NXentry.
    wanted : tuple of PlotDescription
        Plots requested by the publisher, the default one first.
    places : mapping
        Channel name to its place.
    taken : collection of str
        Names in the entry that a plot must not have.
    fields : mapping
        Metadata of the devices: values of the axes of frames.

    Returns
    -------
    dict
        Name to NXdata group or link; empty if nothing can be plotted yet.
    """
    nodes: dict[str, Node] = {}
    occupied = {*taken, DEFAULT_PLOT}
    plottable = [each.channel for each in places.values() if _is_plottable(each)]
    for plot in all_plots(wanted, plottable):
        group = _plot_group(plot, places, fields)
        if group is None or _is_plotted(group, nodes):
            continue
        name = unique_name(plot.name, {*occupied, *nodes})
        nodes[name] = group
    if nodes:
        first = next(iter(nodes))
        nodes[DEFAULT_PLOT] = SoftLink(f"/{entry_name}/{first}")
    return nodes


def _is_plotted(group: Group, nodes: Mapping[str, Node]) -> bool:
    """Whether a plot of this signal alone is among the nodes already."""
    return any(
        isinstance(node, Group)
        and node.attributes["signal"] == group.attributes["signal"]
        and "auxiliary_signals" not in group.attributes
        for node in nodes.values()
    )


def _is_plottable(place: Place) -> bool:
    channel = place.channel
    return bool(place.n_points) and not channel.is_string and channel.dtype != "bool"


def _plot_group(
    plot: PlotDescription, places: Mapping[str, Place], fields: Mapping[str, Any]
) -> Group | None:
    signals = [places[name] for name in plot.signals if _is_plottable(places[name])]
    if not signals:
        return None
    signal, others = signals[0], signals[1:]
    others = [
        other
        for other in others
        if other.shape == signal.shape and not other.channel.is_ragged
    ]
    axes = _axes(plot, signal, places)
    attributes: dict[str, Value] = {"signal": signal.channel.name}
    if others:
        names = tuple(other.channel.name for other in others)
        attributes["auxiliary_signals"] = names
    members: dict[str, Node] = {
        place.channel.name: SoftLink(place.path) for place in (signal, *others, *axes)
    }
    # NXdata: a dot is an axis without values, e.g. pixels or channels of a spectrum.
    taken = {one.field for one in places.values() if one.device == signal.device}
    rest = _frame_axes(signal, fields, {*members, *taken})
    names = tuple(axis.channel.name for axis in axes) or (".",)
    attributes["axes"] = (*names, *rest)
    for axis in axes:
        attributes[f"{axis.channel.name}_indices"] = 0
    for index, name in enumerate(rest, start=1):
        if name != ".":
            attributes[f"{name}_indices"] = index
            members[name] = SoftLink(f"{signal.path.rpartition('/')[0]}/{name}")
    return Group("NXdata", attributes, members)


def _frame_axes(
    signal: Place, fields: Mapping[str, Any], taken: Collection[str]
) -> tuple[str, ...]:
    """Return the names of the axes of one point that have values, else dots."""
    device = fields.get(signal.device)
    values = device if isinstance(device, Mapping) else {}
    axes, shape = signal.channel.nexus.axes, signal.channel.shape
    if not axes or len({*axes}) < len(axes):
        return (".",) * len(shape)
    return tuple(
        name if name not in taken and _length(values, name) == length else "."
        for name, length in zip(axes, shape, strict=True)
    )


def _length(values: Mapping[str, Any], name: str) -> int | None:
    """Return how many numbers a field has; None if it is no list of numbers."""
    found: Any = values.get(name)
    if is_array(found):
        shape = found["array"].get("shape", ())
        return int(shape[0]) if len(shape) == 1 else None
    if not isinstance(found, list) or not found:
        return None
    are_numbers = all(type(each) in {int, float} for each in found)
    return len(found) if are_numbers else None


def _axes(
    plot: PlotDescription, signal: Place, places: Mapping[str, Place]
) -> list[Place]:
    """Return the axes as long as the signal; two make a scatter plot of a scalar."""
    fitting = [
        places[name]
        for name in plot.axes
        if _is_plottable(places[name])
        and not places[name].channel.shape
        and places[name].n_points == signal.n_points
        and name != signal.channel.name
    ]
    return fitting[: 1 if signal.channel.shape else 2]
