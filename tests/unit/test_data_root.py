"""Paths and links above scans."""

from __future__ import annotations

from pathlib import Path

import pytest

from scanbus.schemas.errors import RootUnusableError
from scanbus.schemas.file_names import values_file_name
from scanbus.writer.layouts.link_masters import ScanMaster, collection_layout
from scanbus.writer.model.file_stamp import FileStamp
from scanbus.writer.model.nexus_tree import ExternalLink
from scanbus.writer.storage import data_root as paths
from tests.support.scan_folders import identity


def test_files_stand_where_they_stand_at_esrf(tmp_path: Path) -> None:
    scan = identity(7)
    raw = tmp_path / "ch-1234/id00/20240131/RAW_DATA"
    folder = raw / "lyso-A/lyso-A_0001"
    assert paths.scan_master(tmp_path, scan) == folder / "scan0007/scan0007.h5"
    assert paths.dataset_master(tmp_path, scan) == folder / "lyso-A_0001.h5"
    assert paths.collection_master(tmp_path, scan) == raw / "lyso-A/ch-1234_lyso-A.h5"
    assert paths.proposal_master(tmp_path, scan) == raw / "ch-1234_id00.h5"
    assert values_file_name(7) == "scan0007_values.h5"


@pytest.mark.parametrize("depth", range(5))
def test_a_planted_link_does_not_lead_out_of_the_root(
    tmp_path: Path, depth: int
) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    elsewhere.mkdir()
    parts = Path(identity().dataset_folder).parts
    folder = root.joinpath(*parts[:depth])
    folder.mkdir(parents=True)
    (folder / parts[depth]).symlink_to(elsewhere)
    with pytest.raises(RootUnusableError, match="leads out of it"):
        paths.scan_folder(root, identity())


def test_the_root_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "root").symlink_to(tmp_path / "real")
    assert paths.scan_folder(tmp_path / "root", identity()).name == "scan0001"


def test_names_that_agree_after_cleaning_are_both_linked() -> None:
    scans = [
        ScanMaster(name, 1, f"{name}/m.h5", "uid00001")
        for name in ("a-b", "a_b", "a" * 90)
    ]
    links = collection_layout("x.h5", scans, FileStamp("", "", "", "")).children
    assert len(links) == 3
    assert links["a_b_1.1"] == ExternalLink("a-b/m.h5", "/m_uid00001/1.1")
    assert links["a_b_1.1_2"] == ExternalLink("a_b/m.h5", "/m_uid00001/1.1")
    assert all(len(name) <= 63 for name in links)
