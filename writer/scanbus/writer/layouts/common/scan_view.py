"""What profiles read of a scan: its NXentry as a tree, its channels, its numbers.

Profiles start from the entry in ESRF's layout, in which the metadata are merged: what a
program, a gateway or a file header said stands there under NeXus's names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property

import numpy as np

from scanbus.bus.protocol import ScanRecord
from scanbus.schemas import Role
from scanbus.schemas.file_names import scan_folder_name, scan_master_name
from scanbus.writer.layouts.common.channel_nodes import Place, find_places
from scanbus.writer.layouts.common.conversions import converted
from scanbus.writer.model.nexus_tree import (
    Array,
    CopiedDataset,
    Dataset,
    Group,
    HardLink,
    Node,
    SoftLink,
    Source,
    VirtualDataset,
)
from scanbus.writer.model.scan_contents import ScanContents, linked_path

__all__ = ["ScanView", "utc_time"]

_MAX_LINKS = 16
# In metres, or in millimetres? Nobody knows without units.
_NEEDED = ("m", "mm", "angstrom", "eV", "keV")


@dataclass(frozen=True)
class ScanView:
    """A scan, as profiles see it.

    Attributes
    ----------
    contents : ScanContents
        The scan.
    entry : Group
        Its NXentry in ESRF's layout. Paths are relative to it: ``instrument/eiger``.
    """

    contents: ScanContents
    entry: Group

    @property
    def record(self) -> ScanRecord:
        """The scan's events and verdict."""
        return self.contents.record

    @property
    def scan_name(self) -> str:
        """The start of all file names of the scan: ``scan0001``."""
        return scan_folder_name(self.record.identity.scan_number)

    @cached_property
    def places(self) -> dict[str, Place]:
        """The place of every channel in the NXentry, by channel name."""
        return find_places(self.contents)

    @property
    def detectors(self) -> tuple[Place, ...]:
        """Channels of two-dimensional frames, in the order of declaration."""
        return tuple(
            place
            for place in self.places.values()
            if place.channel.role is Role.DETECTOR and len(place.channel.shape) == 2
        )

    @property
    def axes(self) -> tuple[Place, ...]:
        """Scanned axes with one number per point, in the order of declaration."""
        return tuple(
            place
            for place in self.places.values()
            if place.channel.role is Role.AXIS and not place.channel.shape
        )

    def node(self, path: str) -> Node | None:
        """Return what is at a path of the entry; links inside it are followed."""
        return self._find(path, _MAX_LINKS)

    def _find(self, path: str, n_links: int) -> Node | None:
        node: Node | None = self.entry
        for name in filter(None, path.split("/")):
            if not isinstance(node, Group):
                return None
            node = node.children.get(name)
            if isinstance(node, SoftLink | HardLink):
                inside = node.path.removeprefix(f"/{self.contents.entry_name}/")
                if n_links == 0 or inside == node.path:
                    return None
                node = self._find(inside, n_links - 1)
        return node

    def group(self, path: str) -> Group | None:
        """Return the group at a path; None if there is none."""
        node = self.node(path)
        return node if isinstance(node, Group) else None

    def groups(self, nx_class: str, path: str = "") -> Iterator[tuple[str, Group]]:
        """Yield the groups of a class right below a path, with their paths."""
        for name, node in (self.group(path) or Group()).children.items():
            if isinstance(node, Group) and node.nx_class == nx_class:
                yield f"{path}/{name}".lstrip("/"), node

    def dataset(self, path: str) -> Dataset | None:
        """Return a dataset whose value is known; None if there is none at a path."""
        node = self.node(path)
        return node if isinstance(node, Dataset) else None

    def text(self, path: str) -> str:
        """Return the text at a path; empty if there is none."""
        node = self.dataset(path)
        return node.value if node is not None and isinstance(node.value, str) else ""

    def number(self, path: str, units: str) -> float | None:
        """Return a finite number in given units; None if there is none.

        Parameters
        ----------
        path : str
            Path of a scalar, or of an array with one value. A length or an energy needs
            units of its own, as millimetres are common; of others, what has none is
            taken as one in `units`.
        units : str
            Units as pint spells them.
        """
        node = self.dataset(path)
        if node is None or isinstance(node.value, str | tuple):
            return None
        value = np.asarray(node.value)
        if value.dtype.kind not in "iuf" or value.size != 1:
            return None
        given = _units_of(node)
        if not given and units in _NEEDED:
            return None
        return converted(float(value.ravel()[0]), given, units)

    def size(self, path: str, units: str) -> float | None:
        """Return a number above zero, as `number`: a distance, a size, a time."""
        found = self.number(path, units)
        return found if found is not None and found > 0 else None

    def lacks(self, path: str, units: str) -> str:
        """Return what is missing for a number: its path, or why it is none.

        Empty if it is there. For the notes of a verdict: what a path says can be set.
        """
        found = self.number(path, units)
        if found is not None:
            is_size = units != "pixel"
            return f"{path} (it is not above 0)" if is_size and found <= 0 else ""
        node = self.dataset(path)
        if node is None:
            return path
        given = _units_of(node)
        if not given and units in _NEEDED:
            return f"{path}@units"
        return f"{path} (no number that is one in {units})"

    def fitting(self, place: Place | None, count: int | None) -> Node | None:
        """Return the points of a channel if there are as many as of another one.

        While the scan runs any number fits: readers see the shorter one.
        """
        if place is None:
            return None
        is_over = self.record.final_verdict is not None
        if is_over and place.n_points != count:
            return None
        return self.points(place.channel.name)

    def complete(self, place: Place | None, count: int | None) -> Node | None:
        """Return the points of a channel as `fitting`, if none of them is missing."""
        if place is None:
            return None
        numbers = self.positions(place.channel.name)
        if numbers is not None and not np.isfinite(numbers).all():
            return None
        return self.fitting(place, count)

    def points(self, channel: str) -> Node | None:
        """Return a dataset with a channel's points, for a file beside the scan master.

        Small scalars are copied; anything else is a virtual dataset or an external link
        to where the data stand. Attribute ``target`` is not set.

        Returns
        -------
        Node or None
            None while the scan has no points of it.
        """
        place = self.places.get(channel)
        if place is None or place.n_points is None:
            return None
        inside = place.path.removeprefix(f"/{self.contents.entry_name}/")
        node = self._elsewhere(self.node(inside))
        if isinstance(node, CopiedDataset | VirtualDataset | Dataset):
            attributes = {**node.attributes}
            attributes.pop("target", None)
            return replace(node, attributes=attributes)
        return node

    def positions(self, channel: str) -> Array | None:
        """Return the numbers of a channel with one per point; NaN where one is missing.

        Returns
        -------
        numpy.ndarray or None
            Shape (points,), float64; None if they are not known: while the scan runs,
            and of a very long one.
        """
        return self.contents.positions.get(channel)

    def _elsewhere(self, node: Node | None) -> Node | None:
        """Return a node of the scan master for another file of its folder."""
        if not isinstance(node, VirtualDataset):
            return node
        master = scan_master_name(self.record.identity.scan_number)
        sources = tuple(self._named(source, master) for source in node.sources)
        return replace(node, sources=sources)

    def _named(self, source: Source, master: str) -> Source:
        if source.file != ".":
            return source
        path = linked_path(master, self.record.uid, source.path)
        return replace(source, file=master, path=path)

    @property
    def start_time(self) -> str:
        """When the scan was acquired, from its metadata or its events, in UTC."""
        return utc_time(self.text("start_time"))

    @property
    def end_time(self) -> str:
        """When it ended, in UTC; empty before the final verdict."""
        return utc_time(self.text("end_time"))


def utc_time(text: str) -> str:
    """Return a time as NXmx wants it, in UTC with ``Z``; empty if it is none.

    A time without an offset stays as it is: what its zone is nobody knows.

    Examples
    --------
    >>> utc_time("2024-01-31T01:00:00.5+01:00"), utc_time("soon")
    ('2024-01-31T00:00:00.500000Z', '')
    """
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            return moment.isoformat()
        return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError):
        return ""


def _units_of(node: Dataset) -> str:
    units = node.attributes.get("units", "")
    return units if isinstance(units, str) else ""
