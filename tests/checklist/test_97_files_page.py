"""The trees in docs/files.md are those of a scan that the writer wrote."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from scanbus.cli.private_redis import PrivateRedis
from scanbus.publisher import Publisher
from scanbus.schemas import Positioner
from tests.support.writers import final_verdict, wait_until, writer

PAGE = Path(__file__).parents[2] / "docs" / "files.md"
POINTS = np.arange(50)
METADATA = {
    "sample": {"name": "lysozyme"},
    "instrument": {
        "eiger": {
            "x_pixel_size": 75e-6,
            "x_pixel_size@units": "m",
            "y_pixel_size": 75e-6,
            "y_pixel_size@units": "m",
        }
    },
}


def written_scan(root: Path) -> tuple[Path, Path]:
    """Publish and write the scan of the page; return its master and the dataset's."""
    with (
        PrivateRedis() as server,
        writer(server.url, root),
        Publisher(server.url) as publisher,
    ):
        with publisher.scan(
            title="ascan th 0 12.25 49 0.1",
            proposal="mx2001",
            beamline="id00",
            session="20260102",
            collection="lysozyme",
            dataset="0001",
            instrument="ID00",
            metadata=METADATA,
            positioners={"th": ("deg", 0.0), "energy": ("keV", 12.7)},
        ) as scan:
            scan.channel("th", role="axis", units="deg", group="fast")
            scan.channel("diode", units="A", group="fast")
            scan.channel("comment", dtype="string", max_point_bytes=64)
            scan.channel("mca", role="spectrum", shape=(512,), dtype="uint32")
            scan.detector("eiger", shape=(64, 64), dtype="uint32", points_per_chunk=1)
            scan.send("th", POINTS / 4)
            scan.send("diode", POINTS * 1e-6)
            scan.send("comment", ["beam" for _ in POINTS])
            scan.send("mca", np.ones((len(POINTS), 512), np.uint32))
            scan.send("eiger", np.ones((len(POINTS), 64, 64), np.uint32))
            scan.end_positioners({"th": Positioner(value=12.25, units="deg")})
        master = root / final_verdict(server.url, scan.uid).master
        dataset = master.parent.parent / f"{master.parent.parent.name}.h5"
        above = root / "mx2001/id00/20260102/RAW_DATA/mx2001_id00.h5"
        wait_until(above.is_file)
    return master, dataset


def files_below(folder: Path, indent: str = "") -> Iterator[str]:
    """Say which files and folders there are; those of the writer begin with a dot."""
    for path in sorted(folder.iterdir(), key=lambda path: (path.is_dir(), path.name)):
        if not path.name.startswith("."):
            yield f"{indent}{path.name}{'/' if path.is_dir() else ''}"
            if path.is_dir():
                yield from files_below(path, indent + "    ")


def objects_below(
    group: h5py.Group, indent: str = "    ", seen: dict[int, str] | None = None
) -> Iterator[str]:
    """Say what is in a group: classes, links, shapes, types, units."""
    seen = {} if seen is None else seen
    for name, node in group.items():
        link = group.get(name, getlink=True)
        if isinstance(link, h5py.SoftLink):
            yield f"{indent}{name} -> {link.path}"
        elif isinstance(link, h5py.ExternalLink):
            yield f"{indent}{name} -> {link.filename}:{link.path}"
        elif (address := h5py.h5o.get_info(node.id).addr) in seen:
            yield f"{indent}{name} -> {seen[address]}"
        elif isinstance(node, h5py.Group):
            seen[address] = node.name
            yield f"{indent}{name}/ {node.attrs.get('NX_class', '')}".rstrip()
            yield from objects_below(node, indent + "    ", seen)
        else:
            yield f"{indent}{name} {kind(node)}".rstrip()


def kind(data: h5py.Dataset) -> str:
    """Return shape, type and units; whether it is made of other files."""
    of_text = h5py.check_string_dtype(data.dtype) is not None
    shape = " x ".join(map(str, data.shape))
    words = [f"[{shape}]" if shape else "", "text" if of_text else str(data.dtype)]
    words += [data.attrs.get("units", ""), "(virtual)" if data.is_virtual else ""]
    return " ".join(word for word in words if word)


def with_trees(page: str, trees: dict[str, str]) -> str:
    """Return the page with its trees made anew."""
    for name, tree in trees.items():
        text = re.sub(r"(?<=scan0001_)[0-9a-f]{32}", "{uid}", tree)
        head = f"<!-- tree: {name} -->\n```text\n"
        before, found, rest = page.partition(head)
        assert found, name
        _, end, after = rest.partition("```\n")
        page = f"{before}{head}{text}{end}{after}"
    return page


@pytest.mark.timeout(200)
def test_the_trees_of_the_page_are_those_of_a_scan(tmp_path: Path) -> None:
    master, dataset = written_scan(tmp_path / "data")
    trees = {"files": "\n".join(files_below(tmp_path / "data")) + "\n"}
    for name, path in (("dataset", dataset), ("scan", master)):
        with h5py.File(path) as file:
            trees[name] = f"{path.name}\n" + "\n".join(objects_below(file)) + "\n"

    written = PAGE.read_text()
    expected = with_trees(written, trees)
    if os.environ.get("WRITE_PAGES"):
        PAGE.write_text(expected)
    else:
        assert written == expected, "`make checklist` writes it again"
