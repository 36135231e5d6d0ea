"""Traverse files and everything that they refer to, visiting each file once.

Files are visited breadth-first. Chunks are compared at the end, because only then the
number of chunks per channel, and so the size of the sample, is known.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import h5py

from scanbus.schemas.file_names import (
    WORK_FOLDER,
    manifest_name,
    parse_scan_folder,
    parse_shared_segment,
    values_file_name,
)
from scanbus.writer.check.chunks import FrameFile, check_chunks, check_table
from scanbus.writer.check.copies import check_copies
from scanbus.writer.check.counts import (
    check_master,
    compare_judgements,
    note_judgement,
)
from scanbus.writer.check.entries import check_value_segment
from scanbus.writer.check.late_files import check_late_files
from scanbus.writer.check.layout_files import check_added_layouts, layout_of, remedy_of
from scanbus.writer.check.links import Inventory, check_external, take_inventory
from scanbus.writer.check.manifests import (
    LAYOUT_SUFFIXES,
    MANIFEST_SUFFIX,
    check_manifest,
)
from scanbus.writer.check.references import SeenFiles, check_references
from scanbus.writer.check.report import UNREADABLE, Tally, one_line
from scanbus.writer.check.scan_files import check_scan_file, is_scan_file
from scanbus.writer.check.scanbus_files import (
    Judgement,
    MasterInfo,
    is_converted,
    is_scanbus,
    open_file,
    read_masters,
    read_segment,
)
from scanbus.writer.check.shared_segments import check_shared_segment
from scanbus.writer.check.times import check_segment_times
from scanbus.writer.check.virtual_datasets import VirtualInfo, check_virtual
from scanbus.writer.layouts.common.channel_nodes import BY_REFERENCE
from scanbus.writer.storage.paths_below import files_below
from scanbus.writer.storage.values_part import is_values_part

__all__ = ["Walk"]

_DEEPEST_FILE: Final = 16


class Walk:
    """Traversal of one check: files to visit, and what was learned from visited ones.

    Parameters
    ----------
    tally : Tally
        Collects the findings.
    everything : bool
        Whether all chunks and entries are compared, or a sample.
    external_roots : sequence of pathlib.Path
        Folders below which files of frames by reference are opened.
    """

    def __init__(
        self, tally: Tally, *, everything: bool, external_roots: Sequence[Path] = ()
    ) -> None:
        self._tally = tally
        self._referenced = SeenFiles(external_roots)
        self._everything = everything
        self._waiting: deque[tuple[Path, int]] = deque()
        self._seen: set[tuple[int, int]] = set()
        self._folders: list[Path] = []
        self._frames: dict[tuple[str, str], list[FrameFile]] = {}
        self._masters: list[tuple[Path, MasterInfo]] = []
        self._scan_files: dict[str, tuple[Path, Judgement]] = {}
        # Whether all their files are compared.
        self._manifests: dict[Path, bool] = {}

    def start_at(self, path: Path) -> None:
        """Add a file given by the user."""
        try:
            if not path.exists():
                self._refuse(path, "there is no such file")
            elif path.is_dir():
                self._start_in(path)
            elif not path.is_file():
                self._refuse(path, "not a file")
            elif path.suffix == MANIFEST_SUFFIX:
                self._add_manifest(path, everything=True)
            else:
                self._folders.append(path.resolve().parent)
                self._add(path, 0)
        except (OSError, RuntimeError) as error:  # loop of links, or name too long
            self._refuse(path, one_line(error))

    def _start_in(self, folder: Path) -> None:
        """Add what a folder and those below it have; links to folders stay."""
        self._folders.append(folder.resolve())
        found = sorted(filter(_is_ours, files_below(folder, self._refuse_folder)))
        files = [path for path in found if path.suffix != MANIFEST_SUFFIX]
        if not files:
            self._refuse(folder, "there is no HDF5 file in this folder")
        for path in files:
            with self._tally.guard(path, ""):
                self._add(path, 1)
        for path in found:
            if path.suffix == MANIFEST_SUFFIX:
                self._add_manifest(path)

    def _refuse_folder(self, error: OSError) -> None:
        path = Path(error.filename)
        # Nobody but root may read the file system's own folder.
        if WORK_FOLDER not in path.parts and path.name != "lost+found":
            self._refuse(path, f"cannot be read: {error.strerror}")

    def _add_manifest(self, path: Path, *, everything: bool = False) -> None:
        """Have a manifest compared; completely if that was asked for."""
        key = path.resolve()
        self._manifests[key] = everything or self._manifests.get(key, False)

    def run(self) -> None:
        """Visit all files, then compare chunks, verdicts and manifests."""
        while self._waiting:
            path, depth = self._waiting.popleft()
            self._tally.count(files=1)
            self._tally.report_progress(path, 0, None)
            self._visit(path, depth)
        for files in self._frames.values():
            files.sort(key=lambda one: one.segment.start)
            check_chunks(files, self._tally, everything=self._everything)
        for path, master in self._masters:
            ours, found = master.judgement, self._scan_files.get(master.uid)
            if ours is not None and found is not None:
                compare_judgements(path, ours, *found, self._tally)
        for path, is_asked in self._manifests.items():
            everything = is_asked or self._everything
            check_manifest(path, self._tally, everything=everything)

    def _refuse(self, path: Path, sentence: str) -> None:
        self._tally.unreadable.append(str(path))
        self._tally.record(path, "", sentence)

    def _add(self, path: Path, depth: int) -> None:
        status = path.stat()
        identity = (status.st_dev, status.st_ino)
        if identity in self._seen:
            return
        self._seen.add(identity)
        if depth > _DEEPEST_FILE:
            sentence = f"more than {_DEEPEST_FILE} files behind one another"
            self._tally.record(path, "", sentence)
            return
        if not any(path.resolve().is_relative_to(one) for one in self._folders):
            self._tally.note(
                f"{path} is outside of the folder that was checked; it was checked "
                "too, because links lead to it"
            )
        self._waiting.append((path, depth))

    def _follow(self, found: Iterable[Path | None], depth: int) -> None:
        for path in found:
            if path is not None:
                with self._tally.guard(path, ""):
                    self._add(path, depth + 1)

    def _visit(self, path: Path, depth: int) -> None:
        if parse_shared_segment(path.name) is not None:
            with self._tally.guard(path, ""):
                check_shared_segment(path, self._tally)
            return
        try:
            file = open_file(path)
        except UNREADABLE as error:
            sentence = (
                f"cannot be opened: {_open_problem(path, error)}{remedy_of(path)}"
            )
            if depth == 0:
                self._refuse(path, sentence)
            else:
                self._tally.record(path, "", sentence)
            return
        n_before = len(self._tally.findings)
        with file:
            with self._tally.guard(path, ""):
                self._visit_links(file, path, depth)
            with self._tally.guard(path, ""):
                self._visit_content(file, path)
            name = layout_of(file)
        if name and len(self._tally.findings) > n_before:
            self._tally.note(
                f"{path} is the file of layout {name}: where the scan itself is in "
                "order, `scanbus master rebuild` makes it again"
            )

    def _visit_links(self, file: h5py.File, path: Path, depth: int) -> None:
        tally = self._tally
        inventory = take_inventory(file, path, tally)
        masters: list[MasterInfo] = []
        with tally.guard(path, ""):
            masters = read_masters(file)
        uids = {one.entry: one.uid for one in masters}
        for name, links in inventory.external.items():
            with tally.guard(path, links[0][0]):
                target = check_external(path, name, links, uids, tally)
                self._follow([target], depth)
        infos: dict[str, list[VirtualInfo]] = {}
        for name in inventory.virtual:
            entry = "/" + name.strip("/").split("/")[0]
            with tally.guard(path, name):
                if BY_REFERENCE in file[name].attrs:
                    check_references(file[name], path, self._referenced, tally)
                    continue
                info = check_virtual(file, path, name, uids.get(entry), tally)
                infos.setdefault(entry, []).append(info)
                self._follow(sorted(info.targets), depth)
        for master in masters:
            self._visit_master(path, master, infos.get(master.entry, []))
            check_copies(file, path, master, tally)
            self._follow([self._values_file(path, master, inventory)], depth)
            with tally.guard(path, f"{master.entry}/scanbus/late"):
                late = check_late_files(path, master, inventory.external, tally)
                self._follow(late, depth)

    def _visit_master(
        self, path: Path, master: MasterInfo, infos: list[VirtualInfo]
    ) -> None:
        self._masters.append((path, master))
        check_master(path, master, infos, self._tally)
        if master.judgement is not None:
            note_judgement(path, master.judgement, self._tally)
        check_added_layouts(path.resolve().parent, self._tally)
        manifest = path.resolve().parent / manifest_name(master.scan_number)
        if manifest.is_file():
            self._add_manifest(manifest)

    def _values_file(
        self, path: Path, master: MasterInfo, inventory: Inventory
    ) -> Path | None:
        """Return the scan file, also if no link of the master leads to it."""
        name = values_file_name(master.scan_number)
        values = path.resolve().parent / name
        if values.is_file():
            return values
        is_final = master.judgement is not None and not master.judgement.provisional
        if is_final and name not in inventory.external:
            sentence = f"{name}, with the events and the ledger, is not there"
            self._tally.record(path, f"{master.entry}/scanbus", sentence)
        return None

    def _visit_content(self, file: h5py.File, path: Path) -> None:
        if is_values_part(file):
            return  # What it copies is compared where it comes from.
        segment = read_segment(file)
        if segment is not None:
            check_segment_times(file, path, segment, self._tally)
        if segment is not None and segment.kind == "values":
            check_value_segment(
                file, path, segment, self._tally, everything=self._everything
            )
        elif segment is not None:
            frames = check_table(file, path, segment, self._tally)
            if frames is not None:
                key = (segment.uid, segment.lane.name)
                self._frames.setdefault(key, []).append(frames)
        elif is_scan_file(file):
            self._visit_scan_file(file, path)
        elif is_converted(file):
            self._tally.note(
                f"{path} is a copy by scanbus convert: it has no checksums; sha256sum "
                "it, or check what it was made from"
            )
        elif not is_scanbus(file):
            self._tally.note(
                f"{path} was not written by scanbus: only links and virtual datasets "
                "were checked, as it has no checksums"
            )

    def _visit_scan_file(self, file: h5py.File, path: Path) -> None:
        said = check_scan_file(
            file, path, self._tally, self._referenced, everything=self._everything
        )
        if said is not None:
            uid, judgement = said
            self._scan_files[uid] = (path, judgement)
            note_judgement(path, judgement, self._tally)


def _open_problem(path: Path, error: BaseException) -> str:
    """Return why a file cannot be opened, as a short phrase for a finding."""
    if isinstance(error, PermissionError) or not os.access(path, os.R_OK):
        return "no permission to read it"
    try:
        if not h5py.is_hdf5(path):
            return "it is not an HDF5 file"
    except UNREADABLE:
        return one_line(error)
    if "truncated" in str(error):
        return f"it is truncated ({one_line(error)})"
    return one_line(error)


def _is_ours(path: Path) -> bool:
    """Whether a path is to be checked: an HDF5 file; of other layouts, of a scan."""
    place = path.parent.name
    is_of_scan = parse_scan_folder(place) is not None and path.name.startswith(place)
    suffixes = LAYOUT_SUFFIXES if is_of_scan else (".h5",)
    return (
        path.suffix in (*suffixes, MANIFEST_SUFFIX)
        and WORK_FOLDER not in path.parts
        and path.is_file()
    )
