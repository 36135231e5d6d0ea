"""Default plots: NXdata groups whose members are links to channels.

:mod:`scanbus.schemas.plots` chooses the plots of a scan. Members whose length differs
from the signal's are left out, because readers reject an NXdata whose axis is longer
than its signal. Lanes grow independently, so this occurs in every growing scan.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from scanbus.schemas import PlotDescription
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

    Returns
    -------
    dict
        Name to NXdata group or link; empty if nothing can be plotted yet.
    """
    nodes: dict[str, Node] = {}
    occupied = {*taken, DEFAULT_PLOT}
    plottable = [each.channel for each in places.values() if _is_plottable(each)]
    for plot in all_plots(wanted, plottable):
        group = _plot_group(plot, places)
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


def _plot_group(plot: PlotDescription, places: Mapping[str, Place]) -> Group | None:
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
    # NXdata: a dot is an axis without values, e.g. pixels or channels of a spectrum.
    rest = (".",) * len(signal.channel.shape)
    names = tuple(axis.channel.name for axis in axes) or (".",)
    attributes["axes"] = (*names, *rest)
    for axis in axes:
        attributes[f"{axis.channel.name}_indices"] = 0
    members = {
        place.channel.name: SoftLink(place.path) for place in (signal, *others, *axes)
    }
    return Group("NXdata", attributes, members)


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
