"""Default plots: NXdata groups whose members are links to channels.

:mod:`scanbus.schemas.plots` chooses the plots of a scan. Members whose length differs
from the signal's are left out, because readers reject an NXdata whose axis is longer
than its signal. Lanes grow independently, so this occurs in every growing scan.

How the axes moved decides over what counters are drawn: a mesh is an image with the
values in it, motors that move together make a curve over the first one, others points
in a plane.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from scanbus.schemas import PlotDescription, is_array
from scanbus.schemas.plots import all_plots
from scanbus.schemas.valid_names import unique_name
from scanbus.writer.layouts.common.channel_nodes import Place, channel_attributes
from scanbus.writer.model.nexus_tree import (
    Array,
    Dataset,
    Group,
    Node,
    SoftLink,
    Value,
)
from scanbus.writer.model.trajectory import Mesh, Trajectory

__all__ = ["DEFAULT_PLOT", "Drawn", "plot_nodes"]

DEFAULT_PLOT: Final = "plotselect"
"""Name of the link to the default plot, as in ESRF's files."""

# Names that mean something else in an NXdata: uncertainties, and a text.
_SPECIAL_MEMBERS: Final = ("errors", "title")


@dataclass(frozen=True)
class Drawn:
    """What plots are made of.

    Attributes
    ----------
    places : mapping
        Channel name to its place.
    fields : mapping
        Metadata of the devices: values of the axes of frames.
    trajectory : Trajectory or None
        How the axes moved; None if that is not known.
    grids : mapping
        Counters of a mesh to their values, in the mesh's shape.
    """

    places: Mapping[str, Place]
    fields: Mapping[str, Any] = field(default_factory=dict)
    trajectory: Trajectory | None = None
    grids: Mapping[str, Array] = field(default_factory=dict)


def plot_nodes(
    entry_name: str,
    wanted: tuple[PlotDescription, ...],
    drawn: Drawn,
    taken: Collection[str],
) -> dict[str, Node]:
    """Return the plots of an entry and the link to the default one.

    Parameters
    ----------
    entry_name : str
        Name of the NXentry.
    wanted : tuple of PlotDescription
        Plots requested by the publisher, the default one first.
    drawn : Drawn
        The channels, and how the axes moved.
    taken : collection of str
        Names in the entry that a plot must not have.

    Returns
    -------
    dict
        Name to NXdata group or link; empty if nothing can be plotted yet.
    """
    nodes: dict[str, Node] = {}
    occupied = {*taken, DEFAULT_PLOT}
    found = drawn.places.values()
    plottable = [each.channel for each in found if _is_plottable(each)]
    for plot in all_plots(wanted, plottable):
        group = _mesh_group(plot, drawn) or _plot_group(plot, drawn)
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


def _mesh_group(plot: PlotDescription, drawn: Drawn) -> Group | None:
    """Return a plot over both axes of a mesh as an image; None for any other plot."""
    mesh = drawn.trajectory.mesh if drawn.trajectory else None
    if mesh is None or not {mesh.slow, mesh.fast} <= {*plot.axes}:
        return None
    signals = [name for name in plot.signals if name in drawn.grids]
    if not signals:
        return None
    names = _member_names([*signals, mesh.slow, mesh.fast])
    attributes: dict[str, Value] = {"signal": names[signals[0]]}
    if len(signals) > 1:
        attributes["auxiliary_signals"] = tuple(names[name] for name in signals[1:])
    attributes["axes"] = (names[mesh.slow], names[mesh.fast])
    attributes[f"{names[mesh.slow]}_indices"] = 0
    attributes[f"{names[mesh.fast]}_indices"] = 1
    members = _mesh_members(mesh, signals, drawn)
    return Group("NXdata", attributes, {names[n]: m for n, m in members.items()})


def _member_names(channels: Iterable[str]) -> dict[str, str]:
    """Return the names of channels in an NXdata; almost always their own.

    There ``errors`` and ``{name}_errors`` are uncertainties, and ``title`` is a text: a
    counter of such a name would be drawn as error bars, or not at all.
    """
    wanted = [*dict.fromkeys(channels)]
    special = {*_SPECIAL_MEMBERS, *(f"{name}_errors" for name in wanted)}
    found = {name: name for name in wanted if name not in special}
    for name in wanted:
        if name in special:
            found[name] = unique_name(name, {*special, *wanted, *found.values()})
    return found


def _mesh_members(mesh: Mesh, signals: list[str], drawn: Drawn) -> dict[str, Node]:
    members: dict[str, Node] = {}
    for name in signals:
        attributes = channel_attributes(drawn.places[name].channel)
        if drawn.grids[name].dtype != drawn.places[name].channel.numpy_dtype:
            attributes.pop("_FillValue", None)  # NaN stands for it.
        attributes["interpretation"] = "image"
        members[name] = Dataset(drawn.grids[name], attributes)
    axes = {mesh.slow: mesh.slow_positions, mesh.fast: mesh.fast_positions}
    for name, positions in axes.items():
        attributes = channel_attributes(drawn.places[name].channel)
        attributes.pop("_FillValue", None)
        members[name] = Dataset(positions, attributes)
    return members


def _plot_group(plot: PlotDescription, drawn: Drawn) -> Group | None:
    places = drawn.places
    signals = [places[name] for name in plot.signals if _is_plottable(places[name])]
    if not signals:
        return None
    signal, others = signals[0], signals[1:]
    others = [
        other
        for other in others
        if other.shape == signal.shape and not other.channel.is_ragged
    ]
    axes, others_of_line = _axes(plot, signal, drawn)
    shown = (signal, *others, *axes, *others_of_line)
    named = _member_names(place.channel.name for place in shown)
    attributes: dict[str, Value] = {"signal": named[signal.channel.name]}
    if others:
        names = tuple(named[other.channel.name] for other in others)
        attributes["auxiliary_signals"] = names
    members: dict[str, Node] = {
        named[place.channel.name]: SoftLink(place.path) for place in shown
    }
    # NXdata: a dot is an axis without values, e.g. pixels or channels of a spectrum.
    taken = {one.field for one in places.values() if one.device == signal.device}
    rest = _frame_axes(signal, drawn.fields, {*members, *taken})
    names = tuple(named[axis.channel.name] for axis in axes) or (".",)
    attributes["axes"] = (*names, *rest)
    for axis in (*axes, *others_of_line):
        attributes[f"{named[axis.channel.name]}_indices"] = 0
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
    plot: PlotDescription, signal: Place, drawn: Drawn
) -> tuple[list[Place], list[Place]]:
    """Return the axes of a plot, and others that move along a line with the first one.

    Axes are as long as the signal, and moved. Two make a scatter plot of a scalar. If
    the second one follows the first, a curve shows more: it is an axis that a reader
    may choose instead.
    """
    fitting = [
        drawn.places[name]
        for name in dict.fromkeys(plot.axes)
        if _is_plottable(drawn.places[name])
        and not drawn.places[name].channel.shape
        and drawn.places[name].n_points == signal.n_points
        and name != signal.channel.name
    ]
    trajectory = drawn.trajectory
    if trajectory is not None:
        moved = [one for one in fitting if one.channel.name in trajectory.moving]
        fitting = moved or fitting[:1]
    if signal.channel.shape:
        return fitting[:1], []
    followers = trajectory.followers if trajectory else {}
    names = {one.channel.name for one in fitting}
    along = [one for one in fitting if followers.get(one.channel.name) in names]
    axes = [one for one in fitting if one not in along]
    return axes[:2], along if len(axes) == 1 else []
