"""Names of folders and files: what is made is recognised, and nothing else is."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanbus.schemas import ScanIdentity, file_names
from scanbus.schemas.file_names import SegmentName, SessionName, TemporaryName

NAMES = st.from_regex(r"[a-zA-Z0-9_]([a-zA-Z0-9_.]{0,20}[a-zA-Z0-9_])?", fullmatch=True)
FOLDER_NAMES = st.from_regex(
    r"[a-zA-Z0-9_]([a-zA-Z0-9_.\-]{0,20}[a-zA-Z0-9_])?", fullmatch=True
)
NUMBERS = st.integers(0, 10**8 - 1)
TOKENS = st.from_regex(r"[0-9a-f]{1,16}", fullmatch=True)
UIDS = st.from_regex(r"[0-9A-Za-z]{8,40}", fullmatch=True)
HOSTS = st.from_regex(r"[0-9A-Za-z-]{0,20}", fullmatch=True)
IDENTITIES = st.builds(
    ScanIdentity,
    uid=UIDS,
    proposal=FOLDER_NAMES,
    beamline=FOLDER_NAMES,
    session=FOLDER_NAMES,
    collection=FOLDER_NAMES,
    dataset=FOLDER_NAMES,
    scan_number=st.integers(1, 10**8 - 1),
)


@given(number=NUMBERS)
def test_a_scan_is_found_by_the_names_of_its_folder_and_files(number: int) -> None:
    folder = file_names.scan_folder_name(number)
    master = file_names.scan_master_name(number)
    values = file_names.values_file_name(number)

    assert file_names.parse_scan_folder(folder) == number
    for parse, others in (
        (file_names.parse_scan_folder, (master, values)),
        (file_names.parse_segment_file, (folder, master, values)),
    ):
        assert [parse(other) for other in others] == [None] * len(others)


@given(lane=NAMES, index=NUMBERS, n_more=st.integers(0, 10**6))
def test_a_segment_is_found_by_its_name(lane: str, index: int, n_more: int) -> None:
    last = index + n_more
    name = file_names.segment_file_name(lane, index, last)

    found = file_names.parse_segment_file(name)
    assert found == SegmentName(lane, index, last)
    assert found.is_joined == (n_more > 0)


@given(channel=NAMES, index=NUMBERS)
def test_a_file_of_late_points_names_its_channel(channel: str, index: int) -> None:
    name = file_names.segment_file_name(file_names.late_lane_name(channel), index)

    found = file_names.parse_segment_file(name)
    assert found is not None
    assert file_names.late_channel(found.lane) == channel


@given(lane=NAMES)
def test_a_lane_is_late_by_its_prefix_alone(lane: str) -> None:
    assert (file_names.late_channel(lane) is None) != lane.startswith("late.")


@pytest.mark.parametrize(
    "name",
    [
        "scan007",
        "scan00007",
        "scan000000007",
        "scan\u0660\u0660\u0660\u0667",
        "scan0007\n",
        "Scan0007",
        "scans",
        "scan0007.h5.tmp",
        "scan00007.h5",
        "scan00007_values.h5",
        "eiger_007.h5",
        "eiger_00007.h5",
        "eiger_\u0660\u0660\u0660\u0667.h5",
        "_0007.h5",
        "eiger_0007.h5\n",
        "eiger_0007.hdf5",
        "eiger_0007-0007.h5",
        "eiger_0007-0006.h5",
        "eiger_0007-8.h5",
        "eiger_0007-00008.h5",
    ],
)
def test_names_that_scanbus_does_not_give_are_not_recognised(name: str) -> None:
    assert file_names.parse_scan_folder(name) is None
    assert file_names.parse_segment_file(name) is None
    assert file_names.parse_work_folder(name) is None
    assert file_names.parse_temporary(name) is None


@given(identity=IDENTITIES)
def test_paths_lie_below_each_other(identity: ScanIdentity) -> None:
    session = PurePosixPath(file_names.session_path(identity))
    dataset = PurePosixPath(file_names.dataset_path(identity))
    master = PurePosixPath(file_names.scan_master_path(identity))

    assert file_names.parse_session_path(str(session)) == SessionName(
        identity.proposal, identity.beamline, identity.session
    )
    assert identity.dataset_folder == str(dataset)
    assert master.parent.parent == dataset
    assert dataset.parent == session / identity.collection
    assert file_names.parse_scan_folder(master.parent.name) == identity.scan_number
    assert master.name == file_names.scan_master_name(identity.scan_number)


@given(identity=IDENTITIES)
def test_patterns_match_the_paths(identity: ScanIdentity) -> None:
    dataset = PurePosixPath(file_names.dataset_path(identity))
    folder = PurePosixPath(file_names.scan_master_path(identity)).parent

    for path, pattern in (
        (PurePosixPath(file_names.session_path(identity)), file_names.SESSIONS_GLOB),
        (dataset, file_names.DATASETS_GLOB),
        (folder, file_names.SCAN_FOLDERS_GLOB),
        (dataset / file_names.WORK_FOLDER, file_names.WORK_FOLDERS_GLOB),
    ):
        # Without a beginning "/", a pattern is matched from the right.
        assert PurePosixPath("/", path).match(f"/{pattern}")
    collection = (
        f"{file_names.session_path(identity)}/{file_names.COLLECTION_DATASETS_GLOB}"
    )
    session = f"{file_names.session_path(identity)}/{file_names.SESSION_DATASETS_GLOB}"
    assert dataset.parent.match(collection)
    assert dataset.match(session)


@pytest.mark.parametrize(
    "path", ["a/b/RAW_DATA", "a/b/c/PROCESSED", "a/b/c/d/RAW_DATA"]
)
def test_other_folders_are_no_sessions(path: str) -> None:
    assert file_names.parse_session_path(path) is None


@given(uid=UIDS, fence=st.integers(0, 2**63), token=TOKENS)
def test_a_work_folder_tells_its_scan_and_what_became_of_it(
    uid: str, fence: int, token: str
) -> None:
    name = file_names.work_folder_name(uid, fence, token)
    stale = file_names.stale_name(name)
    salvaged = file_names.salvaged_name(stale)

    for each, is_stale, is_salvaged in (
        (name, False, False),
        (stale, True, False),
        (salvaged, False, True),
    ):
        found = file_names.parse_work_folder(each)
        assert found == (uid, fence, token, is_stale, is_salvaged)
        path = PurePosixPath(each)
        assert path.match(file_names.work_folders_glob(uid)) == (each == name)
        assert path.match(file_names.stale_folders_glob(uid)) == is_stale


@given(number=NUMBERS, host=HOSTS, pid=st.integers(0, 2**32), token=TOKENS)
def test_a_temporary_file_tells_who_makes_it(
    number: int, host: str, pid: int, token: str
) -> None:
    final = file_names.scan_master_name(number)
    name = file_names.temporary_name(final, host, pid, token)

    assert file_names.parse_temporary(name) == TemporaryName(final, host, pid, token)
    assert PurePosixPath(name).match(file_names.temporaries_glob(final))


def test_masters_are_called_as_at_esrf() -> None:
    assert file_names.proposal_master_name("ch-1234", "id00") == "ch-1234_id00.h5"
    assert file_names.collection_master_name("ch-1234", "lyso-A") == "ch-1234_lyso-A.h5"
    assert file_names.dataset_master_name("lyso-A_0001") == "lyso-A_0001.h5"
    assert file_names.values_file_name(7) == "scan0007_values.h5"
