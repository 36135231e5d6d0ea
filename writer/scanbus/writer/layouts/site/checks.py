"""Check what a template says as a whole: names, places, links, files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

from scanbus.schemas.errors import LayoutError
from scanbus.schemas.layout_names import is_reserved_name
from scanbus.schemas.valid_names import MAX_NAME_LENGTH, NEXUS_NAME
from scanbus.writer.layouts.common.conversions import is_known_unit
from scanbus.writer.layouts.site.placeholders import (
    EACH,
    FILE_WORDS,
    is_path,
    unknown_word,
    words_in,
)
from scanbus.writer.layouts.site.template import NodeTemplate, Plain, Template
from scanbus.writer.layouts.site.values import as_value

__all__ = ["MAX_NODES", "checked"]

MAX_NODES: Final = 5000
_MAX_DEPTH: Final = 32
_MAX_ATTRIBUTE_BYTES: Final = 2**14
_NAME: Final = re.compile(NEXUS_NAME[:-1] + r"\Z")
_FILE: Final = re.compile(r"\{scan\}[A-Za-z0-9_.{}-]*\.(h5|nxs|hdf5|cxi)\Z", re.ASCII)
_RESERVED: Final = ("esrf",)


def checked(where: str, template: Template) -> Template:
    """Return a template with clean paths.

    Raises
    ------
    LayoutError
        If names, places, links or its file are wrong.
    """
    if template.name in _RESERVED:
        raise LayoutError(where, f"{template.name} is a layout of scanbus; rename it")
    _check_file(where, template.file)
    if len(template.nodes) > MAX_NODES:
        raise LayoutError(where, f"it has more than {MAX_NODES} nodes")
    nodes: dict[str, NodeTemplate] = {}
    for given, node in template.nodes.items():
        path = given.removeprefix("/")
        if path in nodes:
            raise LayoutError(where, f"node {_shown(path)}: it is named twice")
        problem = (
            _name_problem(path)
            or _node_problem(node, path, template.file)
            or _units_problem(node)
        )
        if problem:
            raise LayoutError(where, f"node {_shown(path)}: {problem}")
        nodes[path] = node
    for path, node in nodes.items():
        problem = _place_problem(path, node, nodes)
        if problem:
            raise LayoutError(where, f"node {_shown(path)}: {problem}")
    if not any(
        node.group == "NXentry" and "/" not in path for path, node in nodes.items()
    ):
        reason = "it has no NXentry; add the node entry with group NXentry"
        raise LayoutError(where, reason)
    circle = _cycle(nodes)
    if circle:
        reason = f"a cycle of links: {' -> '.join(map(_shown, circle))}; remove one"
        raise LayoutError(where, reason)
    return template.model_copy(update={"nodes": nodes})


def _units_problem(node: NodeTemplate) -> str:
    if node.units is None or is_known_unit(node.units):
        return ""
    return f"pint does not know the units {_shown(node.units)}"


def _check_file(where: str, pattern: str) -> None:
    if "/" in pattern or "\\" in pattern or ".." in pattern:
        reason = "leads out of the scan's folder; give a name alone, as {scan}_x.nxs"
        raise LayoutError(where, f"file {_shown(pattern)}: it {reason}")
    word = unknown_word(pattern, FILE_WORDS)
    if word:
        known = ", ".join(f"{{{each}}}" for each in FILE_WORDS)
        reason = f"there is no placeholder {{{_shown(word)}}}; known are {known}"
        raise LayoutError(where, f"file {_shown(pattern)}: {reason}")
    if not _FILE.fullmatch(pattern):
        reason = (
            "it starts with {scan}, has letters, digits, _, - and dots, and ends "
            "with .h5, .nxs, .hdf5 or .cxi"
        )
        raise LayoutError(where, f"file {_shown(pattern)}: {reason}")
    example = re.sub(r"\{\w+\}", "1", pattern.replace("{scan}", "scan0001"))
    if is_reserved_name(example):
        reason = "the name is kept for files of the scan itself; choose another"
        raise LayoutError(where, f"file {pattern}: {reason}")


def _name_problem(path: str) -> str:
    parts = path.split("/")
    if len(parts) > _MAX_DEPTH:
        return f"more than {_MAX_DEPTH} groups below one another"
    for part in parts:
        if part in ("", ".", ".."):
            return "a path has names with single / between; it leads nowhere else"
        word = unknown_word(part, EACH)
        if word:
            known = ", ".join(f"{{{each}}}" for each in EACH)
            return f"there is no placeholder {{{_shown(word)}}}; known are {known}"
        plain = part
        for each in EACH:
            plain = plain.replace(f"{{{each}}}", "x")
        if len(plain) > MAX_NAME_LENGTH or not _NAME.match(plain):
            return (
                f"{_shown(part)} is no NeXus name; use at most {MAX_NAME_LENGTH} "
                "letters, digits, underscores and inner dots"
            )
    return ""


def _node_problem(node: NodeTemplate, path: str, file: str) -> str:
    for key, value in node.attributes.items():
        problem = _attribute_problem(key, value)
        if problem:
            return problem
    return _content_problem(node, path, file)


def _attribute_problem(key: str, value: Plain) -> str:
    if key == "NX_class":
        return "the class is given as group, not as attribute NX_class"
    if key == "target" or not _NAME.match(key) or len(key) > MAX_NAME_LENGTH:
        return f"attribute {_shown(key)}: the name cannot be given; use another"
    problem = _value_problem(value, None, _MAX_ATTRIBUTE_BYTES)
    return f"attribute {_shown(key)}: {problem}" if problem else ""


def _content_problem(node: NodeTemplate, path: str, file: str) -> str:
    for key, given in (("value", node.value), ("default", node.default)):
        problem = "" if given is None else _value_problem(given, node.dtype)
        if problem:
            return f"{key}: {problem}"
    for inside in (node.metadata, node.master, *_condition_paths(node)):
        if inside is not None and not is_path(inside):
            return f"{_shown(inside)} is no path inside the scan's NXentry"
    bound = {*words_in(path), *words_in(file)}
    for word in _words_of(node):
        if word in EACH and word not in bound:
            return f"{{{word}}} is known only below a node with it in its path"
    return ""


def _words_of(node: NodeTemplate) -> Iterator[str]:
    for text in (node.channel, node.metadata, node.master, node.link):
        if isinstance(text, str):
            yield from words_in(text)


def _condition_paths(node: NodeTemplate) -> Iterator[str | None]:
    for condition in (node.if_, node.unless):
        if condition is not None:
            yield condition.metadata


def _value_problem(value: Plain, dtype: str | None, most: int | None = None) -> str:
    try:
        found = as_value(value, dtype)
    except (ValueError, OverflowError, TypeError) as error:
        return str(error).partition("\n")[0]
    if isinstance(found, str):
        size = len(found.encode("utf-8", "replace"))
    elif isinstance(found, tuple):
        size = sum(len(each.encode("utf-8", "replace")) for each in found)
    else:
        size = np.asarray(found).nbytes
    return f"it has more than {most} bytes" if most is not None and size > most else ""


def _place_problem(path: str, node: NodeTemplate, nodes: Mapping[str, Any]) -> str:
    parent, inside, _ = path.rpartition("/")
    if inside and parent not in nodes:
        return f"there is no group {_shown(parent)}; add it"
    if inside and nodes[parent].group is None:
        return f"{_shown(parent)} is no group"
    if node.link is not None:
        target = node.link.removeprefix("/")
        if not is_path(target):
            return f"link {_shown(node.link)}: it leads out of the file"
        if target not in nodes:
            return (
                f"link {_shown(node.link)}: it leads nowhere; name a node by its path"
            )
    return ""


def _cycle(nodes: Mapping[str, NodeTemplate]) -> tuple[str, ...]:
    """Return nodes that lead back to the first by links and groups; else none."""
    below: dict[str, list[str]] = {path: [] for path in nodes}
    for path, node in nodes.items():
        parent = path.rpartition("/")[0]
        if parent:
            below[parent].append(path)
        if node.link is not None:
            below[path].append(node.link.removeprefix("/"))
    done: set[str] = set()
    for start in nodes:
        found = _circle_from(start, below, done)
        if found:
            return found
    return ()


def _circle_from(
    start: str, below: Mapping[str, list[str]], done: set[str]
) -> tuple[str, ...]:
    trail: list[tuple[str, Iterator[str]]] = []
    if start not in done:
        trail.append((start, iter(below[start])))
    on_trail = {start}
    while trail:
        path, rest = trail[-1]
        following = next(rest, None)
        if following is None:
            trail.pop()
            on_trail.discard(path)
            done.add(path)
        elif following in on_trail:
            names = [name for name, _ in trail]
            return (*names[names.index(following) :], following)
        elif following not in done:
            on_trail.add(following)
            trail.append((following, iter(below[following])))
    return ()


def _shown(text: str) -> str:
    return text if len(text) <= 100 and text.isprintable() else repr(text[:100])
