"""A profile from a template: the trees of its files, from a scan."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from scanbus.schemas.errors import LayoutError
from scanbus.writer.layouts.common.links import with_targets
from scanbus.writer.layouts.common.scan_view import ScanView
from scanbus.writer.layouts.profile import Master, Profile
from scanbus.writer.layouts.site.nodes import NodeMaker
from scanbus.writer.layouts.site.placeholders import EACH, filled, words_in
from scanbus.writer.layouts.site.template import NodeTemplate, Template
from scanbus.writer.model.nexus_tree import Group, Node, SoftLink

__all__ = ["site_profile"]

# A thousand nodes take half a second of the time of each master.
_MAX_NODES: Final = 10_000
_MAX_REMARKS: Final = 12


def site_profile(template: Template) -> Profile:
    """Return the profile that a template describes."""
    required = tuple(path for path, node in template.nodes.items() if node.required)
    return Profile(
        template.name,
        lambda view: tuple(dict(_files(view, template))),
        lambda view: _masters(view, template),
        template.summary or "A layout of this site.",
        required,
    )


def _files(view: ScanView, template: Template) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the names of the files, with the words that are fixed in each."""
    identity = view.record.identity
    scan = {
        "scan": view.scan_name,
        "scan_number": str(identity.scan_number),
        # Those of folders, which are safe in the name of a file.
        "proposal": identity.proposal,
        "beamline": identity.beamline,
        "collection": identity.collection,
        "dataset": identity.dataset,
    }
    if "detector" not in words_in(template.file):
        yield filled(template.file, scan), scan
        return
    for place in view.detectors:
        words = {**scan, "detector": place.channel.name}
        yield filled(template.file, words), words


def _masters(view: ScanView, template: Template) -> dict[str, Master]:
    found = {
        name: _Build(view, template, words).master()
        for name, words in _files(view, template)
    }
    if not found:
        reason = "the scan has no detector of two-dimensional frames"
        raise LayoutError(template.name, reason)
    return found


@dataclass
class _Build:
    """One file while its nodes are made."""

    view: ScanView
    template: Template
    words: Mapping[str, str]
    nodes: dict[str, Node] = field(default_factory=dict)
    n_made: int = 0

    def master(self) -> Master:
        maker = NodeMaker(self.view)
        for pattern, node in self.template.nodes.items():
            for words in self._words_of(pattern):
                self._add(maker, filled(pattern, words), node, words)
        remarks = [*maker.remarks, *self._without_dead_links()]
        missing = tuple(maker.missing)
        if missing and not self._drop_definition():
            remarks.insert(0, f"the scan lacks {', '.join(missing[:_MAX_REMARKS])}")
            missing = ()
        n_more = len(remarks) - _MAX_REMARKS
        if n_more > 0:
            remarks = [*remarks[:_MAX_REMARKS], f"{n_more} more remarks"]
        children = {
            name: with_targets(node, f"/{name}") if isinstance(node, Group) else node
            for name, node in self._below("").items()
        }
        return Master(children, missing, tuple(remarks))

    def _words_of(self, pattern: str) -> Iterator[dict[str, str]]:
        """Yield the words for each node that a path with placeholders stands for."""
        free = [
            word
            for word in dict.fromkeys(words_in(pattern))
            if word in EACH and word not in self.words
        ]
        named = {
            "detector": self.view.detectors,
            "axis": self.view.axes,
            "channel": tuple(self.view.places.values()),
        }
        choices = [[place.channel.name for place in named[word]] for word in free]
        for names in itertools.product(*choices):
            yield {**self.words, **dict(zip(free, names, strict=True))}

    def _add(
        self,
        maker: NodeMaker,
        path: str,
        node: NodeTemplate,
        words: Mapping[str, str],
    ) -> None:
        self.n_made += 1
        if self.n_made > _MAX_NODES:
            reason = f"one of its files would have more than {_MAX_NODES} nodes"
            raise LayoutError(self.template.name, reason)
        parent = path.rpartition("/")[0]
        if parent and not isinstance(self.nodes.get(parent), Group):
            return  # Its group is not there.
        if path in self.nodes:
            maker.remarks.append(f"{path} is named twice; the first one is written")
            return
        made = maker.make(path, node, words)
        if made is not None:
            self.nodes[path] = made

    def _without_dead_links(self) -> Iterator[str]:
        """Remove links whose target is not there; yield a remark for each."""
        leading: dict[str, list[str]] = {}
        for path, node in self.nodes.items():
            if isinstance(node, SoftLink):
                leading.setdefault(node.path[1:], []).append(path)
        gone = [target for target in leading if target not in self.nodes]
        for target in gone:  # It grows: others may lead to a link that is removed.
            for path in leading.get(target, ()):
                del self.nodes[path]
                gone.append(path)
                yield f"{path} is not written, as the file has no /{target}"

    def _drop_definition(self) -> bool:
        """Remove the names of application definitions; return whether there were."""
        found = [
            path
            for path in self.nodes
            if path.count("/") == 1
            and path.endswith("/definition")
            and _is_entry(self.nodes[path.partition("/")[0]])
        ]
        for path in found:
            del self.nodes[path]
        return bool(found)

    def _below(self, start: str) -> dict[str, Node]:
        below: dict[str, dict[str, Node]] = {"": {}}
        # Backwards, so that the members of a group are known before it is.
        for path, node in reversed(self.nodes.items()):
            parent, _, name = path.rpartition("/")
            if isinstance(node, Group):
                members = dict(reversed(below.pop(path, {}).items()))
                made: Node = Group(node.nx_class, node.attributes, members)
            else:
                made = node
            below.setdefault(parent, {})[name] = made
        return dict(reversed(below[start].items()))


def _is_entry(node: Node) -> bool:
    return isinstance(node, Group) and node.nx_class == "NXentry"
