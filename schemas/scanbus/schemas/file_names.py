"""Names of folders and files: how they are made, and how they are recognised.

::

    {proposal}/{beamline}/{session}/RAW_DATA/           {proposal}_{beamline}.h5
        {collection}/                                   {proposal}_{collection}.h5
            {collection}_{dataset}/                     {collection}_{dataset}.h5
                scan{NNNN}/                             scan{NNNN}.h5
                                                        scan{NNNN}_values.h5
                                                        {lane}_{NNNN}.h5
                                                        {lane}_{NNNN}-{MMMM}.h5
                                                        late.{channel}_{NNNN}.h5
                                                        scan{NNNN}.sha256
                                                        scan{NNNN}_amendments.jsonl
                                                        scan{NNNN}_layouts.json
                        values-{NNNN}.segment           until the scan ends
                .scanbus/{uid}.{fence}.{token}/         what is not finished
                .scanbus/claim-scan{NNNN}               uid of the scan with that number
    .scanbus/replaced/{uid}.json                        see `replaced_record_path`

The folders are those of ESRF. A function ``…_path`` returns a path relative to the
writer's root, ``…_name`` a name without a folder, ``parse_…`` what a name was made
from, or None for a name that scanbus does not give. Pure: text in, text out.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple, Protocol

__all__ = [
    "COLLECTION_DATASETS_GLOB",
    "DATASETS_GLOB",
    "LATE_PREFIX",
    "RAW_DATA",
    "REPLACED_RECORDS_GLOB",
    "SCAN_FOLDERS_GLOB",
    "SESSIONS_GLOB",
    "SESSION_DATASETS_GLOB",
    "STATIC_PREFIX",
    "WORK_FOLDER",
    "WORK_FOLDERS_GLOB",
    "DatasetNames",
    "ScanNames",
    "SegmentName",
    "SessionName",
    "TemporaryName",
    "WorkFolderName",
    "amendments_name",
    "collection_master_name",
    "collection_path",
    "dataset_master_name",
    "dataset_path",
    "late_channel",
    "late_lane_name",
    "manifest_name",
    "parse_scan_folder",
    "parse_segment_file",
    "parse_session_path",
    "parse_shared_segment",
    "parse_temporary",
    "parse_work_folder",
    "proposal_master_name",
    "replaced_record_path",
    "salvaged_name",
    "scan_folder_name",
    "scan_master_name",
    "scan_master_path",
    "segment_file_name",
    "session_path",
    "shared_segment_name",
    "stale_folders_glob",
    "stale_name",
    "temporaries_glob",
    "temporary_name",
    "values_file_name",
    "work_folder_name",
    "work_folders_glob",
]

RAW_DATA: Final = "RAW_DATA"
WORK_FOLDER: Final = ".scanbus"
"""In a dataset's folder: where files are made before they get their final names."""
LATE_PREFIX: Final = "late."
"""What the names of lanes for late points begin with."""
STATIC_PREFIX: Final = "static."
"""What the names of lanes for static arrays, those of the metadata, begin with."""

# Glob patterns, relative to the root unless they say otherwise.
SESSIONS_GLOB: Final = f"*/*/*/{RAW_DATA}"
DATASETS_GLOB: Final = f"{SESSIONS_GLOB}/*/*"
SCAN_FOLDERS_GLOB: Final = f"{DATASETS_GLOB}/scan*"
"""Also matches other names: see `parse_scan_folder`."""
WORK_FOLDERS_GLOB: Final = f"{DATASETS_GLOB}/{WORK_FOLDER}"
COLLECTION_DATASETS_GLOB: Final = "*"
"""Datasets, relative to the folder of their collection."""
SESSION_DATASETS_GLOB: Final = "*/*"
"""Datasets, relative to the folder of their session."""
REPLACED_RECORDS_GLOB: Final = f"{WORK_FOLDER}/replaced/*.json"
"""Records of scans with files that were replaced: see `replaced_record_path`."""

_STALE: Final = "stale-"
_SALVAGED: Final = "salvaged-"
_SCAN_FOLDER: Final = re.compile(r"scan([0-9]{4,8})")
# No lane's name has a hyphen.
_SHARED: Final = re.compile(r"values-([0-9]{4,15})\.segment\Z")
_SEGMENT: Final = re.compile(r"(.+)_([0-9]{4,15})(?:-([0-9]{4,15}))?\.h5\Z")
_SESSION: Final = re.compile(rf"([^/]+)/([^/]+)/([^/]+)/{RAW_DATA}\Z")
_WORK_FOLDER: Final = re.compile(
    rf"({_STALE}|{_SALVAGED}|)([0-9A-Za-z]{{8,40}})\.([0-9]+)\.([0-9a-f]+)\Z"
)
_TEMPORARY: Final = re.compile(r"\.(.+)\.([0-9A-Za-z-]*)-([0-9]+)\.([0-9a-f]+)\.tmp\Z")


class DatasetNames(Protocol):
    """The names that say where a dataset belongs; `ScanIdentity` has them."""

    @property
    def proposal(self) -> str:
        """The proposal."""
        ...

    @property
    def beamline(self) -> str:
        """The beamline."""
        ...

    @property
    def session(self) -> str:
        """The session, a date YYYYMMDD."""
        ...

    @property
    def collection(self) -> str:
        """The collection, usually the sample."""
        ...

    @property
    def dataset(self) -> str:
        """The dataset, without its collection."""
        ...


class ScanNames(DatasetNames, Protocol):
    """A dataset's names and the number of a scan in it; `ScanIdentity` has them."""

    @property
    def scan_number(self) -> int:
        """Unique in its dataset, from 1."""
        ...


class SessionName(NamedTuple):
    """What the path of a session's data is made from."""

    proposal: str
    beamline: str
    session: str


class SegmentName(NamedTuple):
    """What the name of a segment is made from.

    Attributes
    ----------
    lane : str
        For frames, that is the name of their channel.
    number : int
        From 0; of a joined segment, the number of its first part.
    last : int
        Of a joined segment, the number of its last part; otherwise `number`.
    """

    lane: str
    number: int
    last: int

    @property
    def is_joined(self) -> bool:
        """Whether it has the points of several segments."""
        return self.last > self.number


class WorkFolderName(NamedTuple):
    """What the name of a work folder is made from.

    Attributes
    ----------
    uid : str
        The scan.
    fence : int
        The fence of the lease under which files are made in it.
    token : str
        Hexadecimal digits; no two folders have the same.
    is_stale : bool
        Whether a successor renamed it away.
    is_salvaged : bool
        Whether the scan was salvaged from it.
    """

    uid: str
    fence: int
    token: str
    is_stale: bool = False
    is_salvaged: bool = False


class TemporaryName(NamedTuple):
    """What the name of a file is made from that will replace another.

    Attributes
    ----------
    name : str
        Its final name.
    host, pid : str, int
        The process that makes it.
    token : str
        Hexadecimal digits; no two files have the same.
    """

    name: str
    host: str
    pid: int
    token: str


def session_path(names: DatasetNames) -> str:
    """Return the folder of all collections of a session."""
    return f"{names.proposal}/{names.beamline}/{names.session}/{RAW_DATA}"


def parse_session_path(path: str) -> SessionName | None:
    """Return what the path of a session's folder was made from.

    Examples
    --------
    >>> parse_session_path("ch-1234/id00/20240131/RAW_DATA").proposal
    'ch-1234'
    """
    match = _SESSION.match(path)
    return SessionName(*match.groups()) if match else None


def collection_path(names: DatasetNames) -> str:
    """Return the folder of all datasets of a collection."""
    return f"{session_path(names)}/{names.collection}"


def dataset_path(names: DatasetNames) -> str:
    """Return the folder of all scans of a dataset."""
    return f"{collection_path(names)}/{names.collection}_{names.dataset}"


def scan_master_path(names: ScanNames) -> str:
    """Return where the master of a scan stands."""
    number = names.scan_number
    return (
        f"{dataset_path(names)}/{scan_folder_name(number)}/{scan_master_name(number)}"
    )


def proposal_master_name(proposal: str, beamline: str) -> str:
    """Return the name of a proposal's master, in the folder of the session."""
    return f"{proposal}_{beamline}.h5"


def collection_master_name(proposal: str, collection: str) -> str:
    """Return the name of a collection's master, in the folder of the collection."""
    return f"{proposal}_{collection}.h5"


def dataset_master_name(folder_name: str) -> str:
    """Return the name of a dataset's master, in the dataset's folder of that name."""
    return f"{folder_name}.h5"


def scan_folder_name(scan_number: int) -> str:
    """Return the name of a scan's folder.

    Examples
    --------
    >>> scan_folder_name(7)
    'scan0007'
    """
    return f"scan{scan_number:04d}"


def scan_master_name(scan_number: int) -> str:
    """Return the name of a scan's master, in the scan's folder."""
    return f"{scan_folder_name(scan_number)}.h5"


def values_file_name(scan_number: int) -> str:
    """Return the name of the scan file, in the scan's folder."""
    return f"{scan_folder_name(scan_number)}_values.h5"


def manifest_name(scan_number: int) -> str:
    """Return the name of a scan's manifest, in the scan's folder.

    Examples
    --------
    >>> manifest_name(7)
    'scan0007.sha256'
    """
    return f"{scan_folder_name(scan_number)}.sha256"


def amendments_name(scan_number: int) -> str:
    """Return the name of the corrections of a scan's metadata, in the scan's folder."""
    return f"{scan_folder_name(scan_number)}_amendments.jsonl"


def parse_scan_folder(name: str) -> int | None:
    """Return the number of the scan whose folder has this name.

    Examples
    --------
    >>> parse_scan_folder("scan0007")
    7
    >>> parse_scan_folder("scan00007")  # None: scan 7 is called otherwise
    """
    match = _SCAN_FOLDER.fullmatch(name)
    number = int(match[1]) if match else None
    return number if number is not None and scan_folder_name(number) == name else None


def late_lane_name(channel: str) -> str:
    """Return the name of the lane of a channel's late points."""
    return f"{LATE_PREFIX}{channel}"


def late_channel(lane: str) -> str | None:
    """Return the channel whose late points are in a lane; None for other lanes.

    Examples
    --------
    >>> late_channel("late.eiger")
    'eiger'
    """
    is_late = lane.startswith(LATE_PREFIX)
    return lane.removeprefix(LATE_PREFIX) if is_late else None


def segment_file_name(lane: str, number: int, last: int | None = None) -> str:
    """Return the name of a segment, in the scan's folder.

    Parameters
    ----------
    last : int, optional
        Number of the last one that is joined in it.

    Examples
    --------
    >>> segment_file_name("eiger", 12)
    'eiger_0012.h5'
    >>> segment_file_name("eiger", 0, 64)
    'eiger_0000-0064.h5'
    """
    if last is None or last == number:
        return f"{lane}_{number:04d}.h5"
    return f"{lane}_{number:04d}-{last:04d}.h5"


def parse_segment_file(name: str) -> SegmentName | None:
    """Return the lane of a segment, and its number or numbers in it.

    Examples
    --------
    >>> parse_segment_file("eiger_0012.h5")
    SegmentName(lane='eiger', number=12, last=12)
    """
    match = _SEGMENT.match(name)
    if match is None:
        return None
    lane, number, last = match.groups()
    found = SegmentName(lane, int(number), int(number if last is None else last))
    is_named = found.last >= found.number and segment_file_name(*found) == name
    return found if is_named else None


def shared_segment_name(number: int) -> str:
    """Return the name of a segment that all lanes of small values share.

    Examples
    --------
    >>> shared_segment_name(3)
    'values-0003.segment'
    """
    return f"values-{number:04d}.segment"


def parse_shared_segment(name: str) -> int | None:
    """Return the number of a shared segment.

    Examples
    --------
    >>> parse_shared_segment("values-0003.segment")
    3
    """
    match = _SHARED.match(name)
    number = int(match[1]) if match else None
    is_named = number is not None and shared_segment_name(number) == name
    return number if is_named else None


def replaced_record_path(uid: str) -> str:
    """Return the path of the record of a finished scan with replaced segments.

    They stay for a time after the scan has ended; the record tells the next writer.
    """
    return f"{WORK_FOLDER}/replaced/{uid}.json"


def work_folder_name(owner: str, fence: int, token: str) -> str:
    """Return the name of the folder in which a scan is written under a lease.

    Parameters
    ----------
    owner : str
        The scan's uid; of a replay, see `claim_names.replay_owner`.
    """
    return f"{owner}.{fence}.{token}"


def stale_name(name: str) -> str:
    """Return what a successor calls the work folder of its predecessor."""
    return f"{_STALE}{name}"


def salvaged_name(name: str) -> str:
    """Return what a stale work folder is called when its scan was salvaged.

    No writer removes a folder of this name.
    """
    return f"{_SALVAGED}{name.removeprefix(_STALE)}"


def parse_work_folder(name: str) -> WorkFolderName | None:
    """Return what the name of a scan's work folder was made from; None of a replay's.

    Examples
    --------
    >>> parse_work_folder("stale-0123456789abcdef.3.7f").fence
    3
    """
    match = _WORK_FOLDER.match(name)
    if match is None:
        return None
    state, uid, fence, token = match.groups()
    return WorkFolderName(uid, int(fence), token, state == _STALE, state == _SALVAGED)


def work_folders_glob(owner: str) -> str:
    """Return the glob pattern of an owner's work folders that nobody renamed."""
    return f"{owner}.*"


def stale_folders_glob(owner: str) -> str:
    """Return the glob pattern of an owner's work folders that were renamed away."""
    return f"{_STALE}{work_folders_glob(owner)}"


def temporary_name(name: str, host: str, pid: int, token: str) -> str:
    """Return under which name a file is made that will replace another.

    Parameters
    ----------
    name : str
        Its final name.
    host : str
        Letters, digits and hyphens: the machine.
    pid : int
        The process.
    token : str
        Hexadecimal digits; no two files have the same.
    """
    return f".{name}.{host}-{pid}.{token}.tmp"


def temporaries_glob(name: str) -> str:
    """Return the glob pattern of all temporary names of a file."""
    return f".{name}.*.tmp"


def parse_temporary(name: str) -> TemporaryName | None:
    """Return what a temporary name was made from.

    Examples
    --------
    >>> parse_temporary(".scan0007.h5.id00-control-4711.a1.tmp").host
    'id00-control'
    """
    match = _TEMPORARY.match(name)
    if match is None:
        return None
    final, host, pid, token = match.groups()
    return TemporaryName(final, host, int(pid), token)
