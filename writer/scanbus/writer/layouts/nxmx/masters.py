"""The two files of NXmx.

References
----------
NXmx of the NeXus definitions v2026.01; what dxtbx, nxmx, neggia and durin read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Final

from scanbus.schemas.errors import LayoutError
from scanbus.writer.layouts.common.beam import lacks_wavelength, wavelength_of
from scanbus.writer.layouts.common.channel_nodes import Place, virtual_sources
from scanbus.writer.layouts.common.required import with_definition
from scanbus.writer.layouts.common.scan_view import ScanView
from scanbus.writer.layouts.nxmx.detector import (
    Geometry,
    detector_group,
    geometry_of,
    has_mask,
)
from scanbus.writer.layouts.nxmx.goniometer import (
    Rotation,
    find_rotation,
    has_own_axes,
    sample_group,
)
from scanbus.writer.layouts.profile import ENTRY, Master, Profile
from scanbus.writer.model.nexus_tree import (
    Dataset,
    ExternalLink,
    Group,
    Node,
    Value,
)

__all__ = ["NXMX"]

_REQUIRED: Final = (
    "start_time",
    "instrument/beam/incident_wavelength",
    "instrument/DETECTOR/distance",
    "instrument/DETECTOR/x_pixel_size",
    "instrument/DETECTOR/y_pixel_size",
    "instrument/DETECTOR/beam_center_x",
    "instrument/DETECTOR/beam_center_y",
    "instrument/DETECTOR/sensor_material",
    "instrument/DETECTOR/sensor_thickness",
)
# Of unsigned integers of these sizes; what neggia reads of XDS.
_COUNTS: Final = ("uint8", "uint16", "uint32", "int32")
# Numbers of a beam that mean nothing without units; headers often have none.
_OF_UNITS: Final = ("flux", "total_flux", "incident_beam_size", "incident_energy")
_CODECS: Final = ("bitshuffle-lz4", "lz4", "none")


def _names(view: ScanView) -> dict[str, tuple[str, str]]:
    """Return the names of both files of each detector, by channel."""
    places = view.detectors
    start = view.scan_name
    if len(places) == 1:
        return {places[0].channel.name: (f"{start}_master.h5", f"{start}.nxs")}
    return {
        place.channel.name: (
            f"{start}_{place.channel.name}_master.h5",
            f"{start}_{place.channel.name}.nxs",
        )
        for place in places
    }


def _naming(view: ScanView) -> tuple[str, ...]:
    return tuple(name for pair in _names(view).values() for name in pair)


def _masters(view: ScanView) -> Mapping[str, Master]:
    names = _names(view)
    if not names:
        raise LayoutError("nxmx", "the scan has no detector of two-dimensional frames")
    found: dict[str, Master] = {}
    for channel, (linking, mapping) in names.items():
        place = view.places[channel]
        rotation = find_rotation(view, place.n_points or 0)
        remarks = (*rotation.remarks, *_remarks(view, place))
        found[linking] = _master(view, place, rotation, remarks, links_files=True)
        found[mapping] = _master(view, place, rotation, (), links_files=False)
    return found


def _master(
    view: ScanView,
    place: Place,
    rotation: Rotation,
    remarks: tuple[str, ...],
    *,
    links_files: bool,
) -> Master:
    geometry = geometry_of(view, place.device)
    data = _data(view, place, links_files=links_files)
    detector = detector_group(view, place, geometry, links_files=links_files)
    children: dict[str, Node] = {
        "title": Dataset(view.record.title),
        "start_time": Dataset(view.start_time),
        "end_time_estimated": Dataset(_estimated_end(view, place)),
        "data": data,
        "source": _source(view),
        "sample": sample_group(view, rotation),
        "instrument": _instrument(view, _beam(view), detector),
    }
    if view.end_time:
        children["end_time"] = Dataset(view.end_time)
    missing = tuple(_missing(view, place, rotation, geometry, detector))
    entry = Group("NXentry", {"default": "data"}, children)
    return Master({ENTRY: with_definition(entry, "NXmx", missing)}, missing, remarks)


def _missing(
    view: ScanView,
    place: Place,
    rotation: Rotation,
    geometry: Geometry,
    group: Group,
) -> Iterator[str]:
    """Yield where to say what the definition, or its readers, require."""
    path = f"instrument/{place.device}"
    if not view.start_time:
        yield "start_time"
    if not place.n_points:
        yield "frames"
    if rotation.missing:
        yield rotation.missing
    wavelength = lacks_wavelength(view)
    if wavelength:
        yield wavelength
    for name in geometry.missing:
        yield view.lacks(f"{path}/{name}", "pixel" if "beam" in name else "m")
    material = view.text(f"{path}/sensor_material")
    if "sensor_material" not in group.children:
        known = f" (not {material!r}: Si, CdTe or GaAs)" if material else ""
        yield f"{path}/sensor_material{known}"
    if "sensor_thickness" not in group.children:
        yield view.lacks(f"{path}/sensor_thickness", "m")


def _data(view: ScanView, place: Place, *, links_files: bool) -> Group:
    """Return the NXdata of the frames: the first one that dxtbx meets."""
    children: dict[str, Node] = {}
    if links_files:
        lane, channel = place.lane, place.channel
        for number, source in enumerate(
            virtual_sources(view.contents, lane, channel), start=1
        ):
            children[f"data_{number:06d}"] = ExternalLink(source.file, source.path)
    else:
        frames = view.points(place.channel.name)
        if frames is not None:
            children["data"] = frames
    attributes: dict[str, Value] = {}
    if children:
        attributes["signal"] = next(iter(children))
    return Group("NXdata", attributes, children)


def _beam(view: ScanView) -> Group:
    """Return the NXbeam, with the wavelength in angstrom."""
    given = view.group("instrument/beam") or Group("NXbeam")
    children: dict[str, Node] = {
        name: node
        for name, node in given.children.items()
        if isinstance(node, Dataset) and name != "incident_wavelength"
        if "units" in node.attributes or name not in _OF_UNITS
    }
    wavelength = wavelength_of(view)
    if wavelength is not None:
        children["incident_wavelength"] = Dataset(wavelength, {"units": "angstrom"})
    return Group("NXbeam", children=children)


def _source(view: ScanView) -> Group:
    """Return the NXsource, which NXmx has in the entry."""
    given = next((group for _, group in view.groups("NXsource", "instrument")), None)
    given = view.group("source") or given or Group("NXsource")
    children = {
        name: node for name, node in given.children.items() if isinstance(node, Dataset)
    }
    if "name" not in children:
        # What it is nobody says: the beamline is the nearest that is known.
        beamline = view.record.identity.beamline
        children["name"] = Dataset(beamline, {"short_name": beamline})
    return Group("NXsource", children=children)


def _instrument(view: ScanView, beam: Group, detector: Group) -> Group:
    name = view.dataset("instrument/name")
    children: dict[str, Node] = {
        "name": name or Dataset(view.record.identity.beamline),
        "beam": beam,
        "detector": detector,
    }
    attenuator = view.group("instrument/attenuator")
    if attenuator is not None:
        children["attenuator"] = attenuator
    return Group("NXinstrument", children=children)


def _estimated_end(view: ScanView, place: Place) -> str:
    """Return when the scan ends: the end itself, else by the time of its frames."""
    if view.end_time:
        return view.end_time
    start = view.start_time
    expected = place.channel.points or 0
    frame_s = view.number(f"instrument/{place.device}/frame_time", "s") or 0.0
    try:
        moment = datetime.fromisoformat(start) + timedelta(seconds=frame_s * expected)
    except (ValueError, OverflowError):
        return start
    return moment.isoformat().replace("+00:00", "Z")


def _remarks(view: ScanView, place: Place) -> Iterator[str]:
    """Yield what keeps some readers from the frames."""
    lane, channel = place.lane, place.channel
    files = view.contents.segments.get(lane.name, ())
    lengths = [file.stop - file.start for file in files]
    if lane.points_per_chunk != 1:
        yield (
            f"XDS's neggia cannot read frames of {channel.name}: "
            f"{lane.points_per_chunk} share a chunk, as the scan did not ask for nxmx"
        )
    if channel.dtype not in _COUNTS or channel.codec not in _CODECS:
        yield (
            f"XDS's neggia cannot read frames of {channel.name}: they are "
            f"{channel.dtype} with the codec {channel.codec}"
        )
    if len(set(lengths[:-1])) > 1 or (lengths and lengths[-1] > lengths[0]):
        yield (
            f"XDS's neggia takes all files of {channel.name} to be as long as the "
            "first one, and they are not: durin reads them, and the .nxs file; a scan "
            "that asks for nxmx has equal ones"
        )
    if view.node(f"instrument/{place.device}/pixel_mask") and not has_mask(view, place):
        yield f"the pixel_mask of {place.device} does not fit: it is left out"
    if view.text("sample/depends_on") and not has_own_axes(view):
        yield (
            "sample/depends_on is not used: it names no axis in sample/transformations "
            "with units, vector and transformation_type"
        )
    if "T" in view.start_time and not view.start_time.endswith("Z"):
        yield "start_time has no time zone, as its source says none"


NXMX: Final = Profile(
    "nxmx",
    _naming,
    _masters,
    "crystallography: a master for XDS and one for DIALS, of each detector",
    _REQUIRED,
)
