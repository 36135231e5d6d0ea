"""Read template files: those of scanbus, and ``nexus_structure`` of the ESS.

The file writer of the European Spallation Source describes files by a tree of JSON.
What has a counterpart becomes a node; for anything else there is a message.

References
----------
The file writer's documentation: https://github.com/ess-dmsc/kafka-to-nexus
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from scanbus.schemas.errors import LayoutError
from scanbus.schemas.layout_names import is_layout_name
from scanbus.schemas.valid_names import NEXUS_NAME, nexus_name
from scanbus.writer.layouts.site.parse import as_template, parse_text
from scanbus.writer.layouts.site.template import Template
from scanbus.writer.layouts.site.values import as_value

__all__ = ["ReadTemplate", "read_template"]

_MAX_DEPTH: Final = 32
_MAX_ATTRIBUTE_TEXT: Final = 2**13
_OWN_KEYS: Final = ("name", "file", "summary")
_NAME: Final = re.compile(NEXUS_NAME[:-1] + r"\Z")
_CLASS: Final = re.compile(r"NX[A-Za-z0-9_]{1,60}\Z")
# Streams whose values a channel of the same name has.
_STREAMS: Final = ("f142", "f144", "ADAr", "NDAr", "senv", "se00")
_EVENTS: Final = ("ev42", "ev43", "ev44", "hs00", "hs01", "da00")
_DTYPES: Final = {
    "double": "float64",
    "float": "float32",
    "int": "int32",
    "short": "int16",
    "long": "int64",
    "str": "string",
    **{
        f"{sign}int{size}": f"{sign}int{size}" for sign in ("", "u") for size in (8, 16)
    },
    **{
        f"{sign}int{size}": f"{sign}int{size}"
        for sign in ("", "u")
        for size in (32, 64)
    },
    "float32": "float32",
    "float64": "float64",
    "bool": "bool",
    "string": "string",
}


@dataclass(frozen=True)
class ReadTemplate:
    """A template as its file has it.

    Attributes
    ----------
    template : Template
        What was understood.
    messages : tuple of str
        Parts of a ``nexus_structure`` that have no counterpart, a sentence each.
    """

    template: Template
    messages: tuple[str, ...] = ()


def read_template(file_name: str, text: str) -> ReadTemplate:
    """Return the template that the text of a file is.

    Parameters
    ----------
    file_name : str
        Its name without the folder; ``.toml`` is TOML, others are JSON.
    text : str
        Its text.

    Raises
    ------
    LayoutError
        If anything in it is wrong; names the node, and what to do.
    """
    found = parse_text(file_name, text, is_toml=file_name.endswith(".toml"))
    if "nexus_structure" not in found and "children" not in found:
        return ReadTemplate(as_template(file_name, found))
    return _from_structure(file_name, found)


def _from_structure(file_name: str, found: Mapping[str, Any]) -> ReadTemplate:
    structure = found.get("nexus_structure", found)
    if isinstance(structure, str):  # As in the message that starts a file.
        structure = parse_text(file_name, structure, is_toml=False)
    children = structure.get("children") if isinstance(structure, Mapping) else None
    if not isinstance(children, list):
        raise LayoutError(file_name, "nexus_structure has no list of children")
    name = found.get("name") if "nexus_structure" in found else None
    if not isinstance(name, str):
        stem = file_name.rpartition(".")[0] or file_name
        name = re.sub(r"[^a-z0-9_]", "_", stem.lower())[:32]
    if not is_layout_name(name):
        reason = f"{name!r} is no name of a layout; add a name beside nexus_structure"
        raise LayoutError(file_name, reason)
    structured = _Structure()
    structured.add_children("", children, 0)
    structured.drop_dead_links()
    own = {
        key: found[key]
        for key in _OWN_KEYS
        if key in found and "nexus_structure" in found
    }
    made = {"file": f"{{scan}}_{name}.nxs", **own, "name": name}
    template = as_template(file_name, {**made, "nodes": structured.nodes})
    return ReadTemplate(template, tuple(structured.messages))


@dataclass
class _Structure:
    """Nodes made of a ``nexus_structure``, and messages about the others."""

    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def add_children(self, parent: str, children: Any, depth: int) -> None:
        if not isinstance(children, list):
            self._say(parent, "its children are no list")
            return
        if depth == _MAX_DEPTH:
            self._say(parent, f"groups deeper than {_MAX_DEPTH} are left out")
            return
        for child in children:
            if isinstance(child, Mapping):
                self._add_child(parent, child, depth)
            else:
                self._say(parent, "a child that is no object is left out")

    def _add_child(self, parent: str, child: Mapping[str, Any], depth: int) -> None:
        kind = child.get("module", child.get("type"))
        config = _config(child)
        if kind == "stream":
            kind = config.get("writer_module", "")
        if kind == "group":
            self._add_group(parent, child, depth)
        elif kind == "dataset":
            self._add_dataset(parent, child, config)
        elif kind == "link":
            self._add_link(parent, child, config)
        elif kind == "mdat":
            self._add_metadata(parent, config)
        elif kind in _STREAMS:
            self._add_stream(parent, child, config)
        elif kind in _EVENTS:
            self._say(parent, f"stream {kind} is left out: scanbus has no event data")
        else:
            self._say(parent, f"{str(kind)[:40]} has no counterpart; it is left out")

    def _add_group(self, parent: str, child: Mapping[str, Any], depth: int) -> None:
        path = self._path(parent, child.get("name"))
        if not path:
            return
        attributes = self._attributes(path, child)
        given = attributes.pop("NX_class", "")
        is_class = isinstance(given, str) and _CLASS.match(given) is not None
        if given and not is_class:
            self._say(path, f"{given!r} is no class of NeXus; it has none")
        self.nodes[path] = {
            "group": given if is_class else "",
            "attributes": attributes,
        }
        self.add_children(path, child.get("children", []), depth + 1)

    def _add_metadata(self, parent: str, config: Mapping[str, Any]) -> None:
        items = config.get("items", ())
        for item in items if isinstance(items, list) else ():
            path = self._path(parent, item)
            if path:
                self.nodes[path] = {"metadata": nexus_name(item)}

    def _path(self, parent: str, name: object) -> str:
        if not isinstance(name, str) or not name:
            self._say(parent, "a child without a name is left out")
            return ""
        valid = nexus_name(name)
        path = f"{parent}/{valid}".lstrip("/")
        if path in self.nodes:
            self._say(path, "another one of that name is left out")
            return ""
        if valid != name:
            self._say(path, f"its name {name[:80]!r} is no NeXus name, and is changed")
        return path

    def _attributes(self, path: str, child: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value, dtype in _listed(child.get("attributes")):
            try:
                as_value(value, dtype)
            except (ValueError, TypeError, OverflowError) as error:
                self._say(path, f"attribute {name[:80]} is left out: {error}")
                continue
            is_name = _NAME.match(name) is not None and name != "target"
            if not is_name or len(str(value)) > _MAX_ATTRIBUTE_TEXT:
                reason = "its name or its size cannot be"
                self._say(path, f"attribute {name[:80]} is left out: {reason}")
                continue
            found[name] = value
        return found

    def _add_dataset(
        self, parent: str, child: Mapping[str, Any], config: Mapping[str, Any]
    ) -> None:
        path = self._path(parent, config.get("name", child.get("name")))
        if not path:
            return
        attributes = self._attributes(path, child)
        attributes.pop("NX_class", None)
        value = config.get("values", child.get("values"))
        given = config.get("dtype", config.get("type"))
        dtype = _DTYPES.get(given) if isinstance(given, str) else None
        try:
            as_value(value, dtype)
        except (ValueError, TypeError, OverflowError) as error:
            self._say(path, f"the dataset is left out: {error}")
            return
        node = {"value": value, "attributes": attributes}
        self.nodes[path] = {**node, "dtype": dtype} if dtype else node

    def _add_link(
        self, parent: str, child: Mapping[str, Any], config: Mapping[str, Any]
    ) -> None:
        path = self._path(parent, config.get("name", child.get("name")))
        target = config.get("source", config.get("target", child.get("target")))
        if path and isinstance(target, str):
            self.nodes[path] = {"link": _absolute(parent, target)}
        elif path:
            self._say(path, "the link is left out, as it has no source")

    def _add_stream(
        self, parent: str, child: Mapping[str, Any], config: Mapping[str, Any]
    ) -> None:
        source = config.get("source")
        if not isinstance(source, str) or not source or "{" in source:
            self._say(parent, "a stream is left out, as it has no name of a source")
            return
        path = f"{parent}/value".lstrip("/")
        if path in self.nodes:
            self._say(parent, f"stream {source[:80]} is left out: value is taken")
            return
        attributes = self._attributes(path, child)
        attributes.pop("NX_class", None)
        units = config.get(
            "value_units", config.get("unit", attributes.pop("units", ""))
        )
        node: dict[str, Any] = {"channel": source, "attributes": attributes}
        if isinstance(units, str) and units and len(units) < 64:
            node["units"] = units
        self.nodes[path] = node

    def drop_dead_links(self) -> None:
        """Leave out links to what is not there, or not inside the file."""
        leading: dict[str, list[str]] = {}
        for path, node in self.nodes.items():
            if "link" in node:
                leading.setdefault(node["link"].removeprefix("/"), []).append(path)
        gone = [target for target in leading if target not in self.nodes]
        for target in gone:  # It grows: others may lead to a link that is removed.
            for path in leading.get(target, ()):
                del self.nodes[path]
                gone.append(path)
                self._say(
                    path, f"the link to /{target[:200]} is left out: no such node"
                )

    def _say(self, path: str, sentence: str) -> None:
        self.messages.append(f"{path or '/'}: {sentence}")


def _config(child: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a child says besides its type, in the new or the old form."""
    for key in ("config", "stream", "dataset"):
        found = child.get(key)
        if isinstance(found, Mapping):
            return found
    return {}


def _listed(attributes: Any) -> Iterator[tuple[str, Any, str | None]]:
    """Yield name, value and type of attributes, which are a list or a mapping."""
    if isinstance(attributes, Mapping):
        for name, value in attributes.items():
            if isinstance(value, Mapping):
                yield name, value.get("values"), _DTYPES.get(str(value.get("dtype")))
            else:
                yield name, value, None
    elif isinstance(attributes, list):
        for each in attributes:
            if isinstance(each, Mapping) and isinstance(each.get("name"), str):
                given = each.get("dtype", each.get("type"))
                yield each["name"], each.get("values"), _DTYPES.get(str(given))


def _absolute(parent: str, target: str) -> str:
    """Return the path of a link, which may be relative to the group that has it."""
    parts = (
        [] if target.startswith("/") else [part for part in parent.split("/") if part]
    )
    for part in target.split("/"):
        if part == "..":
            if not parts:
                return f"/{target}"
            parts.pop()
        elif part not in ("", "."):
            parts.append(nexus_name(part))
    return "/" + "/".join(parts)
