"""Make the node of a file that one node of a template describes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from scanbus.schemas import ChannelDescription
from scanbus.schemas.file_names import scan_master_name
from scanbus.schemas.valid_names import nexus_name
from scanbus.writer.layouts.common.channel_nodes import ascii_units
from scanbus.writer.layouts.common.conversions import converted
from scanbus.writer.layouts.common.scan_view import ScanView
from scanbus.writer.layouts.site.placeholders import filled
from scanbus.writer.layouts.site.template import (
    Channels,
    Condition,
    NodeTemplate,
    Plain,
)
from scanbus.writer.layouts.site.values import as_value, cast
from scanbus.writer.model.nexus_tree import (
    CopiedDataset,
    Dataset,
    ExternalLink,
    Group,
    Node,
    SoftLink,
    Value,
    VirtualArray,
    VirtualDataset,
)
from scanbus.writer.model.scan_contents import linked_path

__all__ = ["NodeMaker"]

_MAX_CONVERTED: Final = 10_000
Words = Mapping[str, str]


class NodeMaker:
    """Makes the nodes of one file, and collects what the scan lacks.

    Parameters
    ----------
    view : ScanView
        The scan.
    """

    def __init__(self, view: ScanView) -> None:
        self._view = view
        self.missing: list[str] = []
        self.remarks: list[str] = []

    def make(self, path: str, node: NodeTemplate, words: Words) -> Node | None:
        """Return a node; None if the scan has nothing for it.

        Parameters
        ----------
        path : str
            Its path in the file, for sentences.
        words : mapping
            Values of placeholders.
        """
        if self._is_wanted(node, words):
            return self._made(path, node, words)
        return None

    def _made(self, path: str, node: NodeTemplate, words: Words) -> Node | None:
        attributes = {key: _text_of(one, words) for key, one in node.attributes.items()}
        if node.units:
            attributes["units"] = ascii_units(node.units)
        if node.group is not None:
            return Group(node.group, attributes)
        if node.value is not None:
            return Dataset(cast(_text_of(node.value, words), node.dtype), attributes)
        if node.link is not None:
            return SoftLink("/" + filled(node.link, words).removeprefix("/"))
        if node.channel is not None:
            return self._points(path, node, words, attributes)
        return self._from_entry(path, node, words, attributes)

    def _from_entry(
        self, path: str, node: NodeTemplate, words: Words, attributes: dict[str, Value]
    ) -> Node | None:
        inside = filled(node.metadata or node.master or "", words).removeprefix("/")
        found = self._view.node(inside)
        if node.master is not None:
            return self._in_master(inside) if found is not None else None
        made = self._metadata(path, node, inside, found, attributes)
        if made is None and node.default is not None:
            value = cast(_text_of(node.default, words), node.dtype)
            return Dataset(value, attributes)
        if made is None and node.required:
            self.missing.append(f"{inside} of its metadata, for {path}")
        return made

    def _is_wanted(self, node: NodeTemplate, words: Words) -> bool:
        if node.if_ is not None and not self._holds(node.if_, words):
            return False
        return node.unless is None or not self._holds(node.unless, words)

    def _holds(self, condition: Condition, words: Words) -> bool:
        if condition.channel is not None:
            return self._channel(condition.channel, words) is not None
        found = self._view.node(filled(condition.metadata or "", words))
        if condition.equals is None:
            return found is not None
        if not isinstance(found, Dataset):
            return False
        return _equals(found.value, condition.equals)

    def _channel(self, wanted: Channels | str, words: Words) -> str | None:
        """Return the name of the first channel that is meant."""
        for name, place in self._view.places.items():
            if _is_meant(place.channel, wanted, words):
                return name
        return None

    def _points(
        self, path: str, node: NodeTemplate, words: Words, attributes: dict[str, Value]
    ) -> Node | None:
        wanted = node.channel if node.channel is not None else ""
        name = self._channel(wanted, words)
        found = self._view.points(name) if name is not None else None
        if found is None:
            if node.required:
                what = "points of" if name is not None else "a channel"
                shown = filled(wanted, words) if isinstance(wanted, str) else wanted
                self.missing.append(f"{what} {_described(shown)}, for {path}")
            return None
        if not isinstance(found, Dataset | CopiedDataset | VirtualDataset):
            if attributes:
                reason = "as it is a link to where the data stand"
                self.remarks.append(f"{path} has no attributes of its own, {reason}")
            return found
        given = found.attributes.get("units", "")
        if node.units and given not in ("", attributes["units"]):
            attributes["units"] = given
            self.remarks.append(
                f"{path} stays in {given}: points of channels are not converted"
            )
        return replace(found, attributes={**found.attributes, **attributes})

    def _metadata(
        self,
        path: str,
        node: NodeTemplate,
        inside: str,
        found: Node | None,
        attributes: Mapping[str, Value],
    ) -> Node | None:
        if not isinstance(found, Dataset):
            if found is None:
                return None
            if node.units or node.dtype or (attributes and isinstance(found, Group)):
                reason = f"{inside} is an array or a group, which is linked as it is"
                self.remarks.append(f"{path}: {reason}")
            if isinstance(found, VirtualArray) and not node.units:
                merged = {**_own(found.attributes), **attributes}
                return replace(found, attributes=merged)
            return self._in_master(inside)
        try:
            value = cast(_in_units(found, node.units), node.dtype)
        except ValueError as error:
            self.remarks.append(f"{path} is not that of the scan: {inside}: {error}")
            return None
        return Dataset(value, {**_own(found.attributes), **attributes})

    def _in_master(self, inside: str) -> ExternalLink:
        record, entry = self._view.record, self._view.contents.entry_name
        master = scan_master_name(record.identity.scan_number)
        return ExternalLink(
            master, linked_path(master, record.uid, f"/{entry}/{inside}")
        )


def _own(attributes: Mapping[str, Value]) -> dict[str, Value]:
    """Return attributes without the path in the scan master."""
    return {key: value for key, value in attributes.items() if key != "target"}


def _text_of(given: Plain, words: Words) -> Value:
    if isinstance(given, str):
        return filled(given, words)
    value = as_value(given)
    if isinstance(value, tuple):
        return tuple(filled(each, words) for each in value)
    return value


def _is_meant(
    channel: ChannelDescription, wanted: Channels | str, words: Words
) -> bool:
    names = (channel.name, channel.original_name)
    if isinstance(wanted, str):
        name = filled(wanted, words)
        return name in names or nexus_name(name) == channel.name
    devices = (channel.device, channel.original_device)
    return (
        _matches(filled(wanted.name, words), names)
        and _matches(filled(wanted.device, words), devices)
        and wanted.role in (None, channel.role)
        and wanted.ndim in (None, len(channel.shape))
    )


def _matches(pattern: str, names: tuple[str, ...]) -> bool:
    """Return whether one of the names has a pattern with ``*`` and ``?``."""
    return any(_like(pattern, name) for name in names)


def _like(pattern: str, name: str) -> bool:
    # Not by a regular expression: many stars would take it forever.
    parts = re.sub(r"\*+", "*", pattern).split("*")
    if len(parts) == 1:
        return _same(parts[0], name)
    first, *middle, last = parts
    if len(name) < len(first) + len(last):
        return False
    if not (_same(first, name[: len(first)]) and _same(last, _end(name, len(last)))):
        return False
    start, stop = len(first), len(name) - len(last)
    for part in middle:
        places = range(start, stop - len(part) + 1)
        at = next((k for k in places if _same(part, name[k : k + len(part)])), None)
        if at is None:
            return False
        start = at + len(part)
    return True


def _end(name: str, length: int) -> str:
    return name[len(name) - length :]


def _same(pattern: str, name: str) -> bool:
    return len(pattern) == len(name) and all(
        sign in ("?", found) for sign, found in zip(pattern, name, strict=True)
    )


def _described(wanted: Channels | str) -> str:
    if isinstance(wanted, str):
        return wanted
    return " ".join(_parts(wanted))


def _parts(wanted: Channels) -> Iterator[str]:
    yield wanted.name
    if wanted.device != "*":
        yield f"of device {wanted.device}"
    if wanted.role is not None:
        yield f"of role {wanted.role.value}"
    if wanted.ndim is not None:
        yield f"of {wanted.ndim} axes"


def _equals(value: Value, wanted: str | bool | float) -> bool:
    if isinstance(value, tuple):
        return False
    array = np.asarray(value)
    if array.ndim or isinstance(value, str) != isinstance(wanted, str):
        return False
    return bool(array.item() == wanted)


def _in_units(found: Dataset, wanted: str | None) -> Value:
    given = found.attributes.get("units", "")
    if not wanted or given == wanted:
        return found.value
    if isinstance(found.value, str | tuple):
        raise ValueError("a text has no units")
    array = np.asarray(found.value)
    if array.dtype.kind not in "iuf" or array.size > _MAX_CONVERTED:
        raise ValueError(f"it cannot be converted to {wanted}")
    if not given:
        return found.value
    numbers = [converted(float(one), str(given), wanted) for one in array.ravel()]
    if any(number is None for number in numbers):
        raise ValueError(f"{given} cannot be converted to {wanted}")
    made = np.array(numbers, dtype=np.float64).reshape(array.shape)
    return made if made.ndim else made[()]
