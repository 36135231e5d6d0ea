"""``scanbus layout``: show layouts, check templates, show the files of a scan."""

from __future__ import annotations

import difflib
import json
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scanbus.cli.interrupts import raise_on_interrupt
from scanbus.cli.logs import log_to_stderr
from scanbus.cli.options import (
    DEFAULT_REDIS,
    AsJson,
    ChosenLayouts,
    RedisUrl,
    Templates,
    path_given,
)
from scanbus.cli.output import print_json, print_note, printable, stdout
from scanbus.schemas.errors import LayoutError, UnknownScanError
from scanbus.schemas.exit_codes import ExitCode
from scanbus.schemas.wording import counted

if TYPE_CHECKING:
    from scanbus.writer import LayoutSummary, ScanPreview, TemplateCheck

__all__ = ["EXAMPLE", "run"]

EXAMPLE = "scanbus layout last --layout nxmx"

_WIDTH = 80
_TEMPLATES = (".toml", ".json")


def run(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[SCAN|LAYOUT|FILE]",
            help="Uid or number of a scan, 'last', or its folder; the name of a "
            "layout; a template. Without it, all layouts are listed.",
        ),
    ] = None,
    *,
    layouts: ChosenLayouts = None,
    templates: Templates = None,
    root: Annotated[
        Path | None,
        typer.Option(
            "--root",
            metavar="DIR",
            parser=path_given,
            help="Folder to which a path of a scan is relative.",
        ),
    ] = None,
    redis: RedisUrl = DEFAULT_REDIS,
    as_json: AsJson = False,
) -> int:
    """List layouts, check a template, or show the files of a scan; write nothing.

    Exit code: 0, or 1 if there is no such layout or scan, or a template is wrong.
    """
    from scanbus.writer import (  # noqa: PLC0415
        check_template,
        known_layouts,
        preview_files,
        preview_scan,
    )

    raise_on_interrupt()
    log_to_stderr()
    known = known_layouts(templates or ())
    if what is None:
        _print_known(known, as_json=as_json)
        return ExitCode.COMPLETE
    named = [each for each in known if each.name == what]
    if named:
        _print_layout(named[0], as_json=as_json)
        return ExitCode.COMPLETE
    path = (root or Path()) / what
    if path.suffix in _TEMPLATES:
        _print_template(check_template(path), as_json=as_json)
        return ExitCode.COMPLETE
    files = templates or ()
    names = layouts or [check_template(each).name for each in files]
    is_path = "/" in what or path.exists()
    if is_path:
        _print_scan(
            preview_files(path, layouts=names, templates=files), as_json=as_json
        )
    else:
        near = difflib.get_close_matches(what, [each.name for each in known], n=1)
        try:
            found = preview_scan(redis, what, layouts=names, templates=files)
        except UnknownScanError as error:
            hint = f"; did you mean {near[0]}?" if near else "."
            reason = f"there is no such layout{hint} Nor a scan: {error}"
            raise LayoutError(what, reason) from error
        _print_scan(found, as_json=as_json)
    return ExitCode.COMPLETE


def _print_known(known: tuple[LayoutSummary, ...], *, as_json: bool) -> None:
    if as_json:
        print_json([asdict(each) for each in known])
        return
    width = max(len(each.name) for each in known)
    for each in known:
        lines = textwrap.wrap(each.summary, _WIDTH - width - 2) or [""]
        for name, line in zip_longest([each.name], lines, fillvalue=""):
            _line(f"{name:{width}}  {line}")


def _print_layout(layout: LayoutSummary, *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(layout))
        return
    _line(f"{layout.name}: {layout.summary}")
    if layout.required:
        _line("required:")
    for path in layout.required:
        _line(f"  {path}")


def _print_template(template: TemplateCheck, *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(template))
        return
    _line(f"{template.name}: {template.summary or 'a layout of this site'}")
    _line(template.file)
    for path, node in template.nodes.items():
        depth = path.count("/") + 1
        name = path.rpartition("/")[2]
        _line(f"{'  ' * depth}{name}{_said(node)}")
    for message in template.messages:
        print_note(message)
    _line(f"in order: {counted(len(template.nodes), 'node')}")


def _said(node: Mapping[str, Any]) -> str:
    words = []
    for key, value in node.items():
        if key == "group":
            words.append(f":{value or 'NXcollection'}")
        elif key == "attributes":
            words.extend(f" @{name}" for name in value)
        else:
            words.append(f" {key}={_short(value)}")
    return "".join(words)


def _print_scan(preview: ScanPreview, *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(preview))
        return
    # What is missing comes first: a tree has many lines.
    for note in preview.notes:
        stdout().print(printable(f"note: {note}"), soft_wrap=True, markup=False)
    for name, tree in preview.files.items():
        for line in _tree(name, tree, 0):
            _line(line)
    if not preview.files:
        print_note("the scan would have none of these files")


def _tree(name: str, node: Mapping[str, Any], depth: int) -> Iterator[str]:
    """Yield the lines of a node, and of what is below it."""
    start = "  " * depth + name
    kind = node["kind"]
    if kind == "group":
        yield f"{start}:{node['class']}" if node["class"] else start
    elif kind == "link":
        file = f"{node['file']}:" if node["type"] == "external" else ""
        yield f"{start} -> {file}{node['path']}"
    elif kind == "copy":
        said = f": {_type(node)}" if "shape" in node else ""
        yield f"{start}{said}, copy of {node['source']['file']}"
    elif kind == "virtual":
        sources = counted(node["n_sources"], "source")
        yield f"{start}: {_type(node)}, virtual, {sources}"
    else:
        shown = f" = {_short(node['value'])}" if "value" in node else ""
        yield f"{start}: {_type(node)}{shown}"
    for key, value in node.get("attributes", {}).items():
        yield f"{'  ' * (depth + 1)}@{key} = {_short(value)}"
    for key, child in node.get("children", {}).items():
        yield from _tree(key, child, depth + 1)


def _type(node: Mapping[str, Any]) -> str:
    shape = "x".join(str(length) for length in node["shape"])
    return f"{node['dtype']} {shape}".rstrip()


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _line(text: str) -> None:
    """Print a line in 80 columns; what is longer is cut, and whole in the JSON."""
    shown = printable(text)
    if len(shown) > _WIDTH:
        shown = shown[: _WIDTH - 1] + "…"
    stdout().print(shown, soft_wrap=True, markup=False)
