"""No reader gets another scan's data, in whatever folder and by whatever link.

HDF5 searches for the target of a link in folders of its environment, in the current
folder and beside the file, and the files of all scans have the same names.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scanbus.schemas.exit_codes import ExitCode
from scanbus.schemas.log_events import LogEvent
from scanbus.writer.check import check_files
from scanbus.writer.masters.above import write_dataset_masters
from scanbus.writer.masters.rebuild import rebuild
from scanbus.writer.model.scan_contents import link_group
from tests.support.file_reader import FAILED, FileReader, Found, file_reader
from tests.support.written_scans import WrittenScan, write_scan

FILL = np.uint16(65535)
N_POINTS = 14
LOST = [(6, 9)]
LATE = {"eiger": [9], "label": [7]}
TOPS = ("master", "dataset", "collection", "proposal", "values", "segment")


class Scan(NamedTuple):
    """A scan of the template, and what each of its files holds."""

    folder: Path
    tops: dict[str, Path]
    uid: str


@dataclass(frozen=True, repr=False)
class Template:
    """Scans in several trees, all alike but for uid and values."""

    root: Path
    scans: tuple[Scan, ...]
    intact: dict[Path, Found]
    prefix: Path
    readers: tuple[FileReader, FileReader]

    def _repr_pretty_(self, printer: Any, _cycle: object) -> None:
        printer.text("template")  # Hypothesis would print all arrays.


def relative(scan: WrittenScan, root: Path) -> Scan:
    tops = {
        "master": scan.master,
        "dataset": scan.dataset,
        "collection": scan.dataset.parents[1] / "hg123_sample.h5",
        "proposal": scan.proposal,
        "late": scan.segment(0, "late.eiger"),
        "segment": scan.segment(1),
        "values": scan.values,
    }
    return Scan(
        scan.folder.relative_to(root),
        {name: path.relative_to(root) for name, path in tops.items()},
        scan.identity.uid,
    )


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Template]:
    root = tmp_path_factory.mktemp("template")
    scans = tuple(
        relative(
            write_scan(
                root / tree,
                number=number,
                uid=f"uid0000{tree}{number}",
                salt=1000 * (1 + index),
                n_points=N_POINTS,
                lost=LOST,
                late=LATE,
            ),
            root,
        )
        for index, (tree, number) in enumerate((("a", 1), ("a", 2), ("b", 1)))
    )
    prefix = tmp_path_factory.mktemp("prefix") / "folder"
    with ExitStack() as stack:
        readers = (
            stack.enter_context(file_reader()),
            stack.enter_context(file_reader(prefix)),
        )
        paths = {path for scan in scans for path in scan.tops.values()}
        intact = {path: readers[0].read(root / path, Path("/")) for path in paths}
        yield Template(root, scans, intact, prefix, readers)


def test_the_template_has_data_everywhere_and_no_two_scans_alike(
    template: Template,
) -> None:
    for one, other in ((0, 2), (2, 0)):
        ours = template.intact[template.scans[one].tops["master"]]
        theirs = template.intact[template.scans[other].tops["master"]]
        for channel in ("eiger", "th", "label", "peaks", "mca", "phase"):
            path = f"1.1/measurement/{channel}"
            pairs = zip(ours[path], theirs[path], strict=True)
            assert sum(same(a, b) for a, b in pairs) < N_POINTS / 2, channel
        for late in ("eiger", "label"):
            inner = "data" if late == "eiger" else "label__flat"
            path = f"1.1/scanbus/late/{late}_0000/measurement/{inner}"
            assert not same(ours[path], theirs[path])
    assert any(
        "2.1/" in path for path in template.intact[template.scans[0].tops["dataset"]]
    )


operations = st.lists(
    st.tuples(
        st.sampled_from(
            (
                "delete",
                "rename",
                "copy",
                "swap",
                "folder",
                "master",
                "link",
                "folder link",
            )
        ),
        st.integers(0, 2),
        st.integers(0, 2),
        st.integers(0, 20),
    ),
    max_size=4,
)


@settings(
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    steps=operations,
    here=st.integers(0, 6),
    prefix=st.integers(-2, 5),
    opened=st.lists(st.integers(0, 17), min_size=1, max_size=3),
)
def test_every_way_down_leads_to_this_scans_data_its_fill_value_or_an_error(
    template: Template,
    steps: list[tuple[str, int, int, int]],
    here: int,
    prefix: int,
    opened: list[int],
) -> None:
    place = Place(template, template.root.with_name("tree"))
    for step in steps:
        place.perform(*step)
    folders = place.folders()
    reader = template.readers[0]
    if prefix >= 0:
        reader = template.readers[1]
        template.prefix.unlink(missing_ok=True)
        template.prefix.symlink_to(folders[prefix])
    for path, origin in place.opened(opened).items():
        found = reader.read(path, folders[here])
        judge(found, template.intact[origin], f"{path} from {folders[here]}")
    shutil.rmtree(place.root)


class Place:
    """A copy of the template in which users move and link files."""

    def __init__(self, template: Template, root: Path) -> None:
        self.root = root
        self._template = template
        shutil.rmtree(root, ignore_errors=True)  # of an example that failed
        shutil.copytree(template.root, root)
        # What is opened, and which file of the template it is.
        self.tops = {
            root / path: path
            for scan in template.scans
            for name, path in scan.tops.items()
            if name in TOPS
        }

    def opened(self, picks: list[int]) -> dict[Path, Path]:
        """Return some files of the template, and all that were made since."""
        each = list(self.tops.items())
        made = [one for one in each if one[0] != self.root / one[1]]
        return dict([*made, *(each[pick] for pick in picks if pick < len(each))])

    def folders(self) -> list[Path]:
        """Folders to be in: of scans, of datasets, and one without any file."""
        scans = [self.root / scan.folder for scan in self._template.scans]
        elsewhere = self.root / "elsewhere"
        elsewhere.mkdir(exist_ok=True)
        return [*scans, scans[0].parent, scans[2].parent, elsewhere, self.root]

    def perform(self, kind: str, one: int, other: int, number: int) -> None:
        """Do what a user may do to the files of a scan."""
        scan, target = self._template.scans[one], self._template.scans[other]
        match kind:
            case "delete" | "rename" | "copy":
                self._change(kind, scan, target, number)
            case "swap" if scan is not target:
                self._swap(self.root / scan.folder, self.root / target.folder)
            case "folder" | "folder link":
                made = self.root / f"other{number}" / target.folder.name
                self._double(kind, scan, made)
            case "master" | "link":
                self._double_top(kind, scan, number)
            case _:
                pass

    def _change(self, kind: str, scan: Scan, target: Scan, number: int) -> None:
        files = sorted((self.root / scan.folder).iterdir())
        files = [path for path in files if path not in self.tops]
        if not files:
            return
        picked = files[number % len(files)]
        if kind == "delete":
            picked.unlink()
        elif kind == "rename":
            picked.rename(files[number // 3 % len(files)])
        else:
            placed = self.root / target.folder / picked.name
            self._forget(placed)
            if placed != picked:
                shutil.copy(picked, placed)

    def _swap(self, folder: Path, there: Path) -> None:
        self._forget(folder, there)
        aside = self.root / "aside"
        folder.rename(aside)
        there.rename(folder)
        aside.rename(there)

    def _double(self, kind: str, scan: Scan, made: Path) -> None:
        if made.is_symlink() or made.exists():
            return
        made.parent.mkdir(exist_ok=True)
        if kind == "folder link":
            made.symlink_to(self.root / scan.folder)
        else:
            shutil.copytree(self.root / scan.folder, made)
        self._take(made / scan.tops["master"].name, scan, "master")

    def _double_top(self, kind: str, scan: Scan, number: int) -> None:
        name = TOPS[number % len(TOPS)]
        source = self.root / scan.tops[name]
        folders = self.folders()
        made = folders[number % len(folders)] / f"{kind}_{scan.uid}_{name}.h5"
        if not source.exists() or made.is_symlink() or made.exists():
            return
        if kind == "link":
            made.symlink_to(source)
        else:
            shutil.copy(source, made)
        self._take(made, scan, name)

    def _take(self, path: Path, scan: Scan, name: str) -> None:
        if self.root / scan.tops[name] in self.tops:
            self.tops[path] = scan.tops[name]

    def _forget(self, *paths: Path) -> None:
        """From now on another scan has these paths, and what links lead there."""
        real = [path.resolve() for path in paths]
        self.tops = {
            path: origin
            for path, origin in self.tops.items()
            if not any(path.resolve().is_relative_to(one) for one in real)
        }


def judge(found: Found, intact: Found, where: str) -> None:
    for path, points in found.items():
        assert path in intact, (where, path)
        assert len(points) == len(intact[path]), (where, path)
        for point, (one, right) in enumerate(zip(points, intact[path], strict=True)):
            is_fill = np.ndim(right) == 2 and np.all(one == FILL)
            is_good = one is FAILED or same(one, right) or is_fill
            assert is_good, (where, path, point)


def same(one: Any, two: Any) -> bool:
    return one is not FAILED and bool(
        np.array_equal(one, two, equal_nan=np.asarray(one).dtype.kind in "fc")
    )


@pytest.fixture
def old(tmp_path: Path) -> WrittenScan:
    """A scan as an earlier scanbus wrote it: links do not carry its uid."""
    scan = write_scan(tmp_path, lost=LOST, n_points=N_POINTS)
    names = [scan.segment(0), scan.segment(1), scan.values]
    for path in (*names, scan.master):
        with h5py.File(path, "r+") as file:
            del file[link_group(path.name, scan.identity.uid)]
    with h5py.File(scan.master, "r+") as file:
        places = {"th": "instrument/th/value", "counts": "instrument/counts/data"}
        for name, field in places.items():
            del file["1.1"][field]
            inner = f"/entry_0000/measurement/{name}"
            file["1.1"][field] = h5py.ExternalLink(scan.values.name, inner)
    return scan


def test_files_of_an_earlier_scanbus_are_not_rebuilt_into_worse_ones(
    old: WrittenScan,
) -> None:
    before = old.master.read_bytes()
    report = rebuild(old.root)
    assert old.master.read_bytes() == before
    (skipped,) = report.skipped
    assert "a file of an earlier scanbus, without the group" in skipped.reason
    assert report.exit_code is ExitCode.PARTIAL


def test_check_notes_links_of_an_earlier_scanbus(old: WrittenScan) -> None:
    notes = check_files([old.master]).notes
    assert any("was written by an earlier scanbus" in note for note in notes)


def test_a_scan_master_that_cannot_be_read_is_left_out_of_the_masters_above(
    tmp_path: Path,
) -> None:
    first = write_scan(tmp_path)
    second = write_scan(tmp_path, number=2, uid="another0001")
    first.master.write_bytes(b"no HDF5")
    with structlog.testing.capture_logs() as logs:
        write_dataset_masters(tmp_path, second.identity)
    with h5py.File(second.dataset) as file:
        assert list(file) == ["2.1"]
    assert {each["event"] for each in logs} == {LogEvent.MASTER_NOT_LINKED}
