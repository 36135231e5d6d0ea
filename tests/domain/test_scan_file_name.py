"""A scan file gets its final name, or says what has it."""

from pathlib import Path

import pytest

from scanbus.schemas.errors import NameTakenError
from scanbus.writer.scan.commit import publish_scan_file
from scanbus.writer.steps import Steps
from scanbus.writer.storage.work_folder import WorkFolder


def test_a_file_of_somebody_else_is_named_at_once(tmp_path: Path) -> None:
    work = WorkFolder(tmp_path, "ofthisscan", 1, Steps())
    work.open()
    name = "scan0007_values.h5"
    work.path(name).write_bytes(b"made")
    final = tmp_path / name
    final.write_bytes(b"of somebody else")

    with pytest.raises(NameTakenError, match="no scan file"):
        publish_scan_file(work, final)

    assert final.read_bytes() == b"of somebody else"
    assert work.path(name).read_bytes() == b"made"


def test_a_free_name_is_given(tmp_path: Path) -> None:
    work = WorkFolder(tmp_path, "ofthisscan", 1, Steps())
    work.open()
    work.path("scan0007_values.h5").write_bytes(b"made")

    publish_scan_file(work, tmp_path / "scan0007_values.h5")

    assert (tmp_path / "scan0007_values.h5").read_bytes() == b"made"
