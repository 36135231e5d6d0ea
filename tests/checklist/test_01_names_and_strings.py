"""Items 1 to 14: root, names, strings."""

from __future__ import annotations

import subprocess

import h5py
import pytest

from scanbus.publisher import Publisher
from scanbus.schemas.errors import ScanNumberTakenError
from tests.checklist.items import item
from tests.checklist.judges import ask, program
from tests.checklist.problems import problems, unstamped
from tests.checklist.sample import FOLDERS, Sample

# Part of what punx says by the rules of 2018, and why it is no fault.
PUNX_ALLOWED = {
    "validItemName": "names may begin with digits and have dots in v2026.01",
    "axes['.']": "NXdata: a dot is an axis without values",
}


@item(1, "h5py")
def test_01_every_file_has_an_nxroot(sample: Sample) -> None:
    assert len(sample.files) > 10
    assert unstamped(sample, 1) == []


@item(2, "h5py")
def test_02_every_file_has_its_time(sample: Sample) -> None:
    assert unstamped(sample, 2) == []


@item(3, "h5py")
def test_03_every_file_has_the_time_of_its_version(sample: Sample) -> None:
    assert unstamped(sample, 3) == []


@item(4, "h5py")
def test_04_every_file_has_a_creator(sample: Sample) -> None:
    assert unstamped(sample, 4) == []


@item(5, "h5py")
def test_05_every_file_has_the_versions_of_its_libraries(sample: Sample) -> None:
    assert unstamped(sample, 5) == []


@item(6, "h5py")
def test_06_masters_name_the_publisher(sample: Sample) -> None:
    assert problems(sample, 6) == []


@item(7, "h5py")
def test_07_the_default_of_a_root_is_an_entry(sample: Sample) -> None:
    assert problems(sample, 7) == []


@item(7, "silx")
def test_07_silx_finds_a_default_plot_in_every_master(sample: Sample) -> None:
    plotted = [
        path
        for name, path in sample.masters.items()
        if name not in {"sequence", "tomo"}
    ]
    answer = ask(
        "silx",
        """
        import silx.io
        from silx.io.nxdata import get_default
        answer = []
        for path in sys.argv[1:]:
            with silx.io.open(path) as file:
                found = get_default(file)
                answer.append(found is not None and found.is_valid)
        """,
        *plotted,
        sample.dataset,
    )
    assert answer[:-1] == [True] * len(plotted)


@item(8, "h5py")
def test_08_every_file_has_its_name(sample: Sample) -> None:
    assert unstamped(sample, 8) == []


@item(9, "h5py")
def test_09_names_are_those_of_nexus_and_not_merged(sample: Sample) -> None:
    assert problems(sample, 9) == []
    with h5py.File(sample.rich) as file:
        measured = file["1.1/measurement"]
        originals = {
            node.attrs.get("original_name", name)
            for name, node in measured.items()
            if name.startswith("a_b")
        }
        assert originals == {"a-b", "a_b"}


@item(9, "nexusformat")
def test_09_nexusformat_opens_every_master(sample: Sample) -> None:
    answer = ask(
        "nexusformat",
        """
        from nexusformat.nexus import nxload
        answer = [nxload(path).NXentry[0].nxclass for path in sys.argv[1:]]
        """,
        *sample.masters.values(),
    )
    assert set(answer) == {"NXentry"}


@item(9, "punx")
def test_09_punx_finds_nothing_but_what_is_allowed(sample: Sample) -> None:
    answer = ask(
        "punx",
        """
        import punx.validate, punx.finding
        validator = punx.validate.Data_File_Validator()
        validator.validate(sys.argv[1])
        answer = [[one.test_name, one.h5_address, one.comment]
                  for one in validator.validations
                  if one.status == punx.finding.ERROR]
        validator.close()
        """,
        sample.rich,
    )
    faults = [
        said
        for said in answer
        if not any(part in each for part in PUNX_ALLOWED for each in said)
    ]
    assert faults == []


@item(10, "h5py")
def test_10_entries_are_unique_and_numbered(sample: Sample) -> None:
    assert problems(sample, 10) == []
    with h5py.File(sample.dataset) as file:
        assert list(file) == ["1.1", "2.1", "3.1", "4.1"]
    with Publisher(sample.url) as publisher:
        taken = publisher.scan(scan_number=1, **FOLDERS)
        with pytest.raises(ScanNumberTakenError, match="1"):
            with taken:
                raise AssertionError("a second scan 1 was opened")


@item(11, "h5py")
def test_11_keywords_are_ascii_of_variable_length(sample: Sample) -> None:
    assert problems(sample, 11) == []


@item(12, "h5py")
def test_12_free_text_is_utf_8_of_variable_length(sample: Sample) -> None:
    assert problems(sample, 12) == []
    with h5py.File(sample.rich) as file:
        assert file["1.1/title"].asstr()[()] == "ascan th 0 3 12 0.1 № Å"
        assert list(file["1.1/measurement/comment"].asstr()) == sample.sent["comment"]


@item(13, "h5py")
def test_13_no_text_is_of_fixed_length(sample: Sample) -> None:
    assert problems(sample, 13) == []


@item(14, "h5dump")
def test_14_booleans_are_enumerations(sample: Sample) -> None:
    with h5py.File(sample.rich) as file:
        assert file["1.1/flag"][()].dtype == bool
        assert file["1.1/measurement/open"].dtype == bool
    command = [program("h5dump"), "-d", "/1.1/flag", str(sample.rich)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "H5T_ENUM" in said
    assert "TRUE" in said
