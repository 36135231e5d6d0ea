"""Names of devices, of their fields, and of channels in `measurement`, as Bliss's.

Pure functions of the descriptions of channels.

References
----------
``blisswriter.nexus.devices``: names of counters of MCAs, sampling counters, detectors.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from scanbus.schemas import ChannelDescription, Role
from scanbus.schemas.valid_names import unique_name

__all__ = [
    "field_names",
    "is_positioner",
    "measurement_names",
    "owner_names",
    "principal_of",
]

# Bliss's names of MCA counters, to the NeXus names of the same quantities.
_MCA_FIELDS: Final = {
    "icr": "trigger_count_rate",
    "ocr": "event_count_rate",
    "triggers": "triggers",
    "events": "events",
    "deadtime": "fractional_dead_time",
    "trigger_livetime": "trigger_live_time",
    "energy_livetime": "live_time",
    "livetime": "live_time",
    "realtime": "elapsed_time",
}
# What Bliss's sampling counters have beside their value.
_SAMPLING_FIELDS: Final = ("N", "std", "var", "min", "max", "p2v", "samples")
_NAMED: Final = frozenset({"data", "value"})


def owner_names(channels: Sequence[ChannelDescription]) -> dict[str, str]:
    """Return the device of each channel, by its name.

    A channel without a device of its own belongs to another one whose name it has, with
    that of a quantity: ``diode_std`` to ``diode``, ``mca_icr`` to the spectra ``mca``.
    """
    counters = {one.name for one in channels if one.role is Role.COUNTER}
    spectra = {one.device for one in channels if _is_spectrum(one)}
    found: dict[str, str] = {}
    for channel in channels:
        found[channel.name] = channel.device
        base, _, tail = channel.name.rpartition("_")
        if channel.device != channel.name:
            continue
        if tail in _SAMPLING_FIELDS and base in counters - spectra:
            found[channel.name] = found.get(base, base)
        for key in _MCA_FIELDS:
            base = channel.name.removesuffix(f"_{key}")
            if base != channel.name and base in spectra:
                found[channel.name] = base
    return found


def is_positioner(channels: Iterable[ChannelDescription]) -> bool:
    """Whether a device with these channels is a motor."""
    roles = {channel.role for channel in channels}
    return Role.AXIS in roles and not roles & {Role.DETECTOR, Role.SPECTRUM}


def principal_of(
    device: str, channels: Sequence[ChannelDescription]
) -> ChannelDescription:
    """Return the main channel of a device."""
    for role in (Role.DETECTOR, Role.SPECTRUM, Role.AXIS):
        for channel in channels:
            if channel.role is role:
                return channel
    named = [channel for channel in channels if channel.name == device]
    return (named or channels)[0]


def field_names(device: str, channels: Sequence[ChannelDescription]) -> dict[str, str]:
    """Return the dataset name of each channel in its device's group."""
    principal = principal_of(device, channels)
    names = {principal.name: _principal_field(device, principal, channels)}
    taken = {*_NAMED, names[principal.name]}
    for channel in channels:
        if channel is not principal:
            name = unique_name(channel.nexus.field or _tail(device, channel), taken)
            names[channel.name] = name
            taken.add(name)
    return names


def measurement_names(
    devices: Mapping[str, Sequence[ChannelDescription]],
    fields: Mapping[str, str],
) -> dict[str, str]:
    """Return the name of each channel in `measurement`.

    Channels have their own names; those of an MCA Bliss's, ``mca`` and
    ``mca_trigger_count_rate``.

    Parameters
    ----------
    devices : mapping
        Name of each device to its channels.
    fields : mapping
        Name of each channel to that of its dataset.
    """
    analyzers = {
        device: principal
        for device, channels in devices.items()
        if _is_spectrum(principal := principal_of(device, channels))
    }
    names = {
        channel.name: channel.name
        for device, channels in devices.items()
        for channel in channels
        if device not in analyzers
    }
    taken: set[str] = set(names)
    for device, principal in analyzers.items():
        for channel in devices[device]:
            field = fields[channel.name]
            wanted = device if channel is principal else f"{device}_{field}"
            names[channel.name] = _free_name(wanted, channel.name, taken)
            taken.add(names[channel.name])
    return names


def _free_name(wanted: str, own: str, taken: Collection[str]) -> str:
    return wanted if wanted not in taken else unique_name(own, taken)


def _is_spectrum(channel: ChannelDescription) -> bool:
    return channel.role is Role.SPECTRUM and len(channel.shape) == 1


def _principal_field(
    device: str,
    principal: ChannelDescription,
    channels: Sequence[ChannelDescription],
) -> str:
    if principal.nexus.field:
        return principal.nexus.field
    if is_positioner(channels):
        return "value"
    if principal.role is Role.DETECTOR and len(principal.shape) == 2:
        return "image"  # LImA's name for frames; `data` is a link to it
    if _is_spectrum(principal):
        return "spectrum"
    is_one_of_many = len(channels) > 1 and principal.name != device
    if is_one_of_many and principal.role is Role.COUNTER:
        # Sums and averages of a region: none of them is the device.
        return unique_name(_tail(device, principal), _NAMED)
    return "data"


def _tail(device: str, channel: ChannelDescription) -> str:
    """Return what a channel's name has beside that of its device.

    Bliss has the quantity inside, too: ``xmap1_icr_det0`` of ``xmap1_det0``.
    """
    name = channel.name
    tail = name.removeprefix(device).lstrip("_.") or name
    for key, field in _MCA_FIELDS.items():
        if tail == key or name.replace(f"_{key}_", "_", 1) == device != name:
            return field
    return tail
