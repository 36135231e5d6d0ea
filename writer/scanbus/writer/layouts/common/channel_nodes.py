"""Paths, groups and attributes of a scan's channels in its NXentry."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from scanbus.schemas import (
    ChannelDescription,
    LaneDescription,
    Storage,
)
from scanbus.schemas.channels import AttributeValue
from scanbus.schemas.valid_names import unique_name
from scanbus.writer.layouts.common.device_names import (
    field_names,
    is_positioner,
    measurement_names,
    owner_names,
    principal_of,
)
from scanbus.writer.layouts.common.value_nodes import n_values, value_node
from scanbus.writer.model.nexus_tree import (
    Dataset,
    ExternalLink,
    Group,
    Node,
    SoftLink,
    Source,
    Value,
    VirtualArray,
    VirtualDataset,
)
from scanbus.writer.model.scan_contents import (
    ScanContents,
    data_path,
    length_path,
    linked_path,
)
from scanbus.writer.model.sources import are_linked

__all__ = [
    "BY_REFERENCE",
    "Place",
    "ascii_units",
    "channel_attributes",
    "device_groups",
    "find_places",
    "static_arrays",
    "virtual_sources",
]

# NeXus units are ASCII; these are pint's spellings of common non-ASCII characters.
_ASCII_UNITS: Final = {
    "\N{MICRO SIGN}": "u",
    "\N{GREEK SMALL LETTER MU}": "u",
    "\N{ANGSTROM SIGN}": "angstrom",
    "\N{LATIN CAPITAL LETTER A WITH RING ABOVE}": "angstrom",
    "\N{DEGREE SIGN}C": "degC",
    "\N{DEGREE SIGN}": "deg",
    "\N{GREEK CAPITAL LETTER OMEGA}": "ohm",
    "\N{OHM SIGN}": "ohm",
    "\N{SUPERSCRIPT TWO}": "^2",
    "\N{SUPERSCRIPT THREE}": "^3",
    "\N{MIDDLE DOT}": "*",
}
BY_REFERENCE: Final = "by_reference"
"""Attribute of frames in files of a detector: the dataset with the URL of each."""
_COLOUR_TYPES: Final = ("uint8", "uint16")
# By the length of the last axis of images of these types.
_COLOURS: Final = {3: "rgb-image", 4: "rgba-image"}
_LEAST_IMAGE: Final = 4
_LENGTH: Final = np.dtype("<u4")
# Names in NXinstrument that a device must not have.
_RESERVED: Final = (
    "name",
    "positioners",
    "positioners_start",
    "positioners_end",
    "positioners_dial_start",
    "positioners_dial_end",
)


@dataclass(frozen=True, slots=True)
class Place:
    """The place of one channel in the scan master.

    Attributes
    ----------
    lane : LaneDescription
        The lane of the channel.
    channel : ChannelDescription
        The channel.
    device : str
        Name of the device's group in ``instrument``.
    field : str
        Name of the dataset in that group.
    path : str
        Absolute path of the dataset.
    n_points : int or None
        Number of points; None while no file can be linked for it.
    measured : str
        Name of the link to it in ``measurement``.
    """

    lane: LaneDescription
    channel: ChannelDescription
    device: str
    field: str
    path: str
    n_points: int | None
    measured: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the dataset; -1 for an axis whose length only the file defines."""
        return (self.n_points or 0, *self.channel.shape)


def ascii_units(units: str) -> str:
    """Return units in ASCII, as NeXus and pint spell them.

    Examples
    --------
    >>> ascii_units("µm"), ascii_units("Å")
    ('um', 'angstrom')
    """
    for typed, spelled in _ASCII_UNITS.items():
        units = units.replace(typed, spelled)
    return units


def channel_attributes(channel: ChannelDescription) -> dict[str, Value]:
    """Return the attributes of a channel's dataset; the same in every file."""
    found: dict[str, Value] = {
        name: _storable(value) for name, value in channel.nexus.attributes.items()
    }
    if channel.units:
        found["units"] = ascii_units(channel.units)
    if channel.stamp is not None:
        found["stamp"] = channel.stamp.value
    if channel.display_name:
        found["long_name"] = channel.display_name
    if channel.original_name:
        found["original_name"] = channel.original_name
    if channel.original_group:
        found["original_group"] = channel.original_group
    meaning = channel.nexus.interpretation or interpretation(channel)
    if meaning:
        found["interpretation"] = meaning
    mask_value = _mask_value(channel)
    if mask_value is not None:
        found.setdefault("_FillValue", mask_value)
    return found


def _mask_value(channel: ChannelDescription) -> Value | None:
    """Return the value of masked and missing points, of the type of the dataset.

    H5Web and netCDF leave such points out of scales and plots; the attribute must be a
    scalar. NaN needs none. All values of a byte are data, unless the program says.
    """
    missing, dtype = channel.missing_value, channel.numpy_dtype
    if isinstance(missing, str | complex) or dtype.kind not in "iuf":
        return None
    if channel.fill_value is None and dtype.itemsize == 1:
        return None
    return None if math.isnan(missing) else dtype.type(missing)


def interpretation(channel: ChannelDescription) -> str:
    """Return how the points of a channel are looked at; empty for scalars.

    The last axes are those of an image, of colours if there are three or four small
    unsigned integers for each pixel; axes before them count images.
    """
    shape = channel.shape
    if len(shape) < 2:
        return "spectrum" if shape else ""
    is_coloured = (
        channel.dtype in _COLOUR_TYPES
        and len(shape) > 2
        and shape[-1] in _COLOURS
        and min(shape[-3:-1]) >= _LEAST_IMAGE
    )
    return _COLOURS[shape[-1]] if is_coloured else "image"


def _storable(value: AttributeValue) -> Value:
    if not isinstance(value, list):
        # JSON integers are unbounded, HDF5 integers have at most 64 bits.
        is_large = isinstance(value, int) and not -(2**63) <= value < 2**63
        return str(value) if is_large else value
    if value and all(isinstance(item, str) for item in value):
        return tuple(map(str, value))
    numbers = np.asarray(value)
    return numbers if numbers.dtype.kind in "biuf" else str(value)


def find_places(contents: ScanContents) -> dict[str, Place]:
    """Return the place of every channel of a scan, by channel name."""
    prepared = contents.record.prepared
    lanes = prepared.lanes if prepared else ()
    owners = owner_names(prepared.channels if prepared else ())
    by_device: dict[str, list[tuple[LaneDescription, ChannelDescription]]] = {}
    for lane in lanes:
        for described in lane.channels:
            is_mapped = described.name in contents.referenced
            channel = described.frame_channel if is_mapped else described
            by_device.setdefault(owners[channel.name], []).append((lane, channel))
    channels = {
        device: [channel for _, channel in members]
        for device, members in by_device.items()
    }
    fields: dict[str, str] = {}
    for device, found in channels.items():
        fields |= field_names(device, found)
    measured = measurement_names(channels, fields)
    places: dict[str, Place] = {}
    devices: set[str] = set(_RESERVED)
    for device, members in by_device.items():
        name = unique_name(device, devices)
        devices.add(name)
        for lane, channel in members:
            field = fields[channel.name]
            path = f"/{contents.entry_name}/instrument/{name}/{field}"
            n_points = _n_points(contents, lane, channel)
            places[channel.name] = Place(
                lane, channel, name, field, path, n_points, measured[channel.name]
            )
    # In the order of declaration, which is the order in `measurement`.
    return {each.name: places[each.name] for lane in lanes for each in lane.channels}


def _n_points(
    contents: ScanContents, lane: LaneDescription, channel: ChannelDescription
) -> int | None:
    if lane.storage is Storage.VALUES:
        return n_values(contents, data_path(lane, channel))
    segments = contents.segments.get(lane.name, ())
    n_points = segments[-1].stop if segments else 0
    # A name is there once it has points: readers take what is empty for the whole.
    return n_points if n_points or contents.is_final else None


def device_groups(
    contents: ScanContents, places: Mapping[str, Place]
) -> dict[str, Group]:
    """Return an NXdetector or NXpositioner for every device."""
    members: dict[str, list[Place]] = {}
    for place in places.values():
        members.setdefault(place.device, []).append(place)
    # pyFAI takes the first NXdetector of a file for the detector of the experiment.
    ordered = sorted(members.items(), key=lambda item: not _has_frames(item[1]))
    return {name: _device_group(contents, found) for name, found in ordered}


def _has_frames(members: Iterable[Place]) -> bool:
    return any(len(place.channel.shape) >= 2 for place in members)


def _device_group(contents: ScanContents, members: list[Place]) -> Group:
    channels = [place.channel for place in members]
    principal = principal_of(members[0].device, channels)
    nx_class = _device_class(principal, channels)
    children: dict[str, Node] = {}
    for place in members:
        if place.n_points is None:
            continue
        children[place.field] = _points_node(contents, place)
        if place.channel.name in contents.referenced:
            path = data_path(place.lane, place.channel)
            children |= _more_values(contents, f"{place.field}__url", path, None)
        if place.channel.is_ragged:
            path = length_path(place.lane, place.channel)
            name = f"{place.field}__length"
            children |= _more_values(contents, name, path, _LENGTH)
        if place.channel is principal and nx_class != "NXpositioner":
            children.setdefault("data", SoftLink(place.path))
    original = principal.original_device
    attributes: dict[str, Value] = {"original_name": original} if original else {}
    return Group(nx_class, attributes, children)


def _device_class(
    principal: ChannelDescription, channels: list[ChannelDescription]
) -> str:
    hint = principal.nexus.nx_class or ""
    if hint.startswith("NX"):
        return hint
    return "NXpositioner" if is_positioner(channels) else "NXdetector"


def _points_node(contents: ScanContents, place: Place) -> Node:
    """Return a link to a channel's points, or a virtual dataset of its segments.

    Every file of an open virtual dataset stays open. With very many detectors each of
    them is a single file, and linked: HDF5 opens it when the link is followed.
    """
    lane, channel = place.lane, place.channel
    if channel.name in contents.referenced:
        return _referenced_frames(contents, place)
    attributes: dict[str, Value] = {**channel_attributes(channel), "target": place.path}
    missing = channel.missing_value
    if lane.storage is Storage.VALUES:
        dtype = None if channel.is_string else channel.numpy_dtype
        fill = None if isinstance(missing, str) else missing
        node = value_node(
            contents, data_path(lane, channel), dtype, fill, attributes=attributes
        )
        assert node is not None, "it has points"
        return node
    sources = virtual_sources(contents, lane, channel)
    if isinstance(missing, str) or not sources:
        # nexusformat opens the first source of every virtual dataset: one must exist.
        return Dataset(np.empty(place.shape, channel.numpy_dtype), attributes)
    if len(sources) == 1 and are_linked(contents.segments):
        return ExternalLink(sources[0].file, sources[0].path)
    shape, dtype = place.shape, channel.numpy_dtype
    return VirtualDataset(shape, dtype, missing, sources, attributes)


def _referenced_frames(contents: ScanContents, place: Place) -> VirtualDataset:
    channel = place.channel
    attributes: dict[str, Value] = {
        **channel_attributes(channel),
        "target": place.path,
        BY_REFERENCE: f"{place.field}__url",
    }
    missing, frames = channel.missing_value, contents.referenced[channel.name]
    if isinstance(missing, str):
        raise ValueError(f"{channel.name}: frames are numbers")
    shape, dtype = place.shape, channel.numpy_dtype
    return VirtualDataset(shape, dtype, missing, (), attributes, frames)


def _more_values(
    contents: ScanContents, name: str, path: str, dtype: np.dtype[Any] | None
) -> dict[str, Node]:
    """Return what belongs to the values of a channel, under its name."""
    node = value_node(contents, path, dtype, None if dtype is None else 0)
    return {} if node is None else {name: node}


def virtual_sources(
    contents: ScanContents, lane: LaneDescription, channel: ChannelDescription
) -> tuple[Source, ...]:
    """Return the segments of a channel as sources of a virtual dataset."""
    uid, path = contents.record.uid, data_path(lane, channel)
    return tuple(
        Source(
            segment.name,
            linked_path(segment.name, uid, path),
            segment.start,
            segment.stop,
        )
        for segment in contents.segments.get(lane.name, ())
    )


def static_arrays(contents: ScanContents) -> dict[str, VirtualArray]:
    """Return the arrays of the metadata that are in files of their own, by lane."""
    found: dict[str, VirtualArray] = {}
    for lane in contents.record.static.values():
        (channel,) = lane.channels
        missing = channel.missing_value
        sources = virtual_sources(contents, lane, channel)
        if sources and not isinstance(missing, str):
            source = sources[0]
            found[lane.name] = VirtualArray(
                source.file,
                source.path,
                (1, *channel.shape),
                channel.shape,
                channel.numpy_dtype,
                missing,
            )
    return found
