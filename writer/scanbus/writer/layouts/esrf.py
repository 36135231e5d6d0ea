"""The scan master in ESRF's layout, from the contents of a scan.

One NXentry ``N.1`` with ``instrument`` (a group per device), ``measurement`` (a link
per channel), positioners, sample, notes, plots, and the group ``scanbus``. A master
has copies of small values; virtual datasets refer to all else. Pure: neither HDF5 nor a
clock.

References
----------
The raw-data layout of Bliss: https://bliss.gitlab-pages.esrf.fr
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Final

from scanbus.bus.protocol import ScanRecord
from scanbus.schemas import Positioner, Role
from scanbus.schemas.file_names import scan_master_name
from scanbus.writer.layouts.common.channel_nodes import (
    Place,
    ascii_units,
    device_groups,
    find_places,
    static_arrays,
)
from scanbus.writer.layouts.common.conversions import conversions, unknown_units
from scanbus.writer.layouts.common.device_fields import with_device_fields
from scanbus.writer.layouts.common.ledger_notes import (
    note_groups,
    scanbus_group,
    writer_note,
)
from scanbus.writer.layouts.common.links import (
    SUBSCANS,
    subscan_links,
    with_targets,
)
from scanbus.writer.layouts.common.metadata import (
    Displaced,
    MetadataReader,
    merge_trees,
)
from scanbus.writer.layouts.common.nxdata import DEFAULT_PLOT, Drawn, plot_nodes
from scanbus.writer.layouts.common.root import iso_time, root_attributes
from scanbus.writer.layouts.common.scan_view import ScanView
from scanbus.writer.layouts.common.value_nodes import with_copies
from scanbus.writer.model.file_stamp import FileStamp
from scanbus.writer.model.nexus_tree import (
    Dataset,
    Group,
    HardLink,
    Node,
    SoftLink,
    Value,
)
from scanbus.writer.model.scan_contents import ScanContents, link_group

__all__ = ["layout", "view_of"]

# Names that metadata may set to text in ISO 8601: when something was acquired that is
# published later, which no event tells.
_ACQUIRED: Final = ("start_time", "end_time")
# Names that metadata must not set, even while the scan does not have them: the end of
# the scan, an application definition, and what scanbus itself writes.
_NOT_METADATA: Final = (
    "definition",
    "end_reason",
    "end_time",
    "notes",
    "scanbus",
    "start_time",
    "writer",
    DEFAULT_PLOT,
)


def layout(contents: ScanContents, *, stamp: FileStamp) -> Group:
    """Return the scan master.

    Parameters
    ----------
    contents : ScanContents
        The scan; equal contents give equal masters, except for the times of writing.
    stamp : FileStamp
        Time of writing and software versions.

    Returns
    -------
    Group
        An NXroot.
    """
    record = contents.record
    file_name = scan_master_name(record.identity.scan_number)
    attributes = root_attributes(
        file_name,
        record.prepared.publisher if record.prepared else "",
        stamp,
    )
    attributes["default"] = contents.entry_name
    entry = with_copies(contents, _entry(contents, stamp))
    # Masters above link to the entry through this group, whose name has the uid. It
    # has no class: readers that list the entries of a file must see one. A hard link:
    # nexusformat follows no soft link behind an external one.
    links = Group(
        None, children={contents.entry_name: HardLink(f"/{contents.entry_name}")}
    )
    children: dict[str, Node] = {
        contents.entry_name: entry,
        link_group(file_name, record.uid): links,
    }
    return Group("NXroot", attributes, children)


def view_of(contents: ScanContents, stamp: FileStamp) -> ScanView:
    """Return a scan as the profiles of other layouts see it."""
    return ScanView(contents, _entry(contents, stamp))


def _entry(contents: ScanContents, stamp: FileStamp) -> Group:
    record = contents.record
    places = find_places(contents)
    acquired = _acquired(record)
    known = Group(
        "NXentry",
        children={
            "title": Dataset(record.title),
            "start_time": Dataset(
                acquired.get("start_time", iso_time(_start_time(record)))
            ),
            "instrument": _instrument(contents, places),
            "measurement": _measurement(places),
        },
    )
    reader = MetadataReader(
        static_arrays(contents), with_users=contents.choice.with_users
    )
    displaced = Displaced(reader.problems)
    entry = merge_trees(known, _metadata(contents, reader, displaced), displaced)
    entry = merge_trees(entry, _defaults(record), Displaced([]))
    entry = _with_device_fields(entry, places)
    remarks = (*conversions(entry), *unknown_units(entry))
    wanted = record.prepared.plots if record.prepared else ()
    taken = (*_NOT_METADATA, *entry.children)
    fields = record.metadata().get("instrument")
    fields = fields if isinstance(fields, Mapping) else {}
    drawn = Drawn(places, fields, contents.trajectory, contents.grids)
    plots = plot_nodes(contents.entry_name, wanted, drawn, taken)
    default: dict[str, Value] = {"default": DEFAULT_PLOT} if plots else {}
    children = {
        **entry.children,
        **plots,
        "notes": note_groups(record),
        "scanbus": scanbus_group(
            contents, places, reader.problems, remarks, displaced.groups()
        ),
        "writer": writer_note(record, stamp),
        **_end(record, acquired),
    }
    made = Group("NXentry", {**entry.attributes, **default}, children)
    return with_targets(made, f"/{contents.entry_name}")


def _with_device_fields(entry: Group, places: Mapping[str, Place]) -> Group:
    instrument = entry.children["instrument"]
    if not isinstance(instrument, Group):
        return entry
    children = {
        **entry.children,
        "instrument": with_device_fields(instrument, places.values()),
    }
    return replace(entry, children=children)


def _start_time(record: ScanRecord) -> float:
    said = record.started or record.prepared
    return said.time if said else 0.0


def _acquired(record: ScanRecord) -> dict[str, str]:
    """Return when the scan was acquired, as far as its metadata say so."""
    tree = record.metadata()
    return {name: tree[name] for name in _ACQUIRED if _is_moment(tree.get(name))}


def _is_moment(text: object) -> bool:
    """Return whether text is a date with a time of day, as NeXus wants it."""
    if not isinstance(text, str) or "T" not in text:
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _end(record: ScanRecord, acquired: Mapping[str, str]) -> dict[str, Node]:
    """Return the fields about the end of the scan.

    Readers take ``end_time`` to mean that nothing will change, so it is written only
    with the final verdict.
    """
    nodes: dict[str, Node] = {}
    if record.ended:
        nodes["end_reason"] = Dataset(record.ended.end_reason.value)
    if record.final_verdict:
        nodes["end_time"] = Dataset(
            acquired.get("end_time", iso_time(_end_time(record)))
        )
    return nodes


def _end_time(record: ScanRecord) -> float:
    """Return the time of the end event; without one, that of the last event."""
    if record.ended:
        return record.ended.time
    return max([_start_time(record), *(update.time for update in record.updates)])


def _metadata(
    contents: ScanContents, reader: MetadataReader, displaced: Displaced
) -> Group:
    tree = contents.record.metadata()
    found = reader.read(tree)
    children = dict(found.children)
    for name in _NOT_METADATA:
        node = children.pop(name, None)
        is_used = name in _ACQUIRED and _is_moment(tree.get(name))
        if node is not None and not is_used:
            displaced.add(f"/{name}", node)
    subscans = subscan_links(children.get(SUBSCANS), contents.entry_name)
    if subscans is not None:
        children[SUBSCANS] = subscans
    return Group(found.nx_class, found.attributes, children)


def _defaults(record: ScanRecord) -> Group:
    """Return fields that are written where the metadata do not define them."""
    given = record.folder_as_given
    beamline, sample = given("beamline"), given("collection")
    name = Dataset(beamline, {"short_name": beamline})
    return Group(
        children={
            "experiment_identifier": Dataset(given("proposal")),
            "instrument": Group("NXinstrument", children={"name": name}),
            "sample": Group("NXsample", children={"name": Dataset(sample)}),
        }
    )


def _instrument(contents: ScanContents, places: Mapping[str, Place]) -> Group:
    prepared = contents.record.prepared
    children: dict[str, Node] = {}
    if prepared and prepared.instrument:
        short_name = contents.record.identity.beamline
        children["name"] = Dataset(prepared.instrument, {"short_name": short_name})
    children |= device_groups(contents, places)
    children |= _positioners(contents.record, places)
    return Group("NXinstrument", children=children)


def _positioners(record: ScanRecord, places: Mapping[str, Place]) -> dict[str, Node]:
    """Return motor positions before and after the scan, and links to scanned axes."""
    before = record.prepared.positioners if record.prepared else {}
    after = record.ended.positioners if record.ended else {}
    during: dict[str, Node] = dict(_positions(before))
    for name, place in places.items():
        if place.channel.role is Role.AXIS and place.n_points is not None:
            # The points of a scanned axis replace its initial position, as in Bliss.
            motor = place.channel.device if place.channel.device in before else name
            during[motor] = SoftLink(place.path)
    found = {
        "positioners": during,
        "positioners_start": _positions(before),
        "positioners_end": _positions(after),
        "positioners_dial_start": _dials(before),
        "positioners_dial_end": _dials(after),
    }
    return {
        group: Group("NXcollection", children=children)
        for group, children in found.items()
        if children or group == "positioners"
    }


def _positions(positioners: Mapping[str, Positioner]) -> dict[str, Node]:
    return {
        name: Dataset(each.value, _attributes(each))
        for name, each in positioners.items()
    }


def _dials(positioners: Mapping[str, Positioner]) -> dict[str, Node]:
    return {
        name: Dataset(each.dial, _attributes(each))
        for name, each in positioners.items()
        if each.dial is not None
    }


def _attributes(positioner: Positioner) -> dict[str, Value]:
    found = {
        "units": ascii_units(positioner.units),
        "original_name": positioner.original_name,
        "stored_as": positioner.stored_as,
    }
    return {name: text for name, text in found.items() if text}


def _measurement(places: Mapping[str, Place]) -> Group:
    links: dict[str, Node] = {
        place.measured: SoftLink(place.path)
        for place in places.values()
        if place.n_points is not None
    }
    return Group("NXcollection", children=links)
