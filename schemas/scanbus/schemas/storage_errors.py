"""Errors about files that are written; `scanbus.schemas.errors` offers them."""

from __future__ import annotations

from scanbus.schemas.error_base import ScanbusError
from scanbus.schemas.exit_codes import ExitCode

__all__ = [
    "ExternalFileError",
    "FilesMissingError",
    "LayoutError",
    "LeaseLostError",
    "NameTakenError",
    "NoRootError",
    "RootConflictError",
    "RootUnusableError",
    "SpoolError",
    "StorageError",
    "StorageFullError",
    "VerificationError",
]


class StorageError(ScanbusError):
    """Base class of errors about files that are written."""

    exit_code = ExitCode.FAILED


class NameTakenError(StorageError):
    """A file of that name exists and belongs to something else."""

    path: str
    holder: str
    template = (
        "name taken: {path} exists and holds {holder}; nothing was "
        "overwritten. Move it away, or choose another root or scan number."
    )


class LayoutError(StorageError):
    """A layout of files that does not exist, or whose template is wrong."""

    exit_code = ExitCode.USAGE

    name: str
    reason: str
    template = "layout {name}: {reason}"


class RootUnusableError(StorageError):
    """The output folder cannot be written."""

    exit_code = ExitCode.USAGE

    path: str
    reason: str
    template = "cannot write below {path}: {reason}"


class NoRootError(RootUnusableError):
    """A folder that is no root of scanbus: not made one, moved away, not mounted."""

    def __str__(self) -> str:
        return (
            f"{self.path} is no root of scanbus: {self.reason}. Mount its file system "
            f"if that is missing; a new root is made with `scanbus root init "
            f"{self.path}`"
        )


class RootConflictError(RootUnusableError):
    """A root that another bus writes, or a bus that is written below another root."""


class FilesMissingError(StorageError):
    """Files that were written and acknowledged are not in their places.

    Attributes
    ----------
    scan, folder : str
        Uid of the scan, and the folder of its files.
    missing : dict
        Lane to its points that no file holds, as text.
    """

    scan: str
    folder: str
    missing: dict[str, str]

    def __str__(self) -> str:
        points = ", ".join(f"{lane} {which}" for lane, which in self.missing.items())
        return (
            f"files of scan {self.scan} that were written are gone from {self.folder} "
            f"(points: {points}), and Redis has their data no longer. Put them back, "
            "and the scan goes on; if they are lost for good: "
            f"`scanbus root accept-loss {self.scan}`"
        )


class ExternalFileError(StorageError):
    """A file to which frames by reference refer cannot be used.

    Attributes
    ----------
    file : str
        The file, as the reference names it.
    reason : str
        What is wrong with it, after its name.
    is_absent : bool
        Whether it, or what is named in it, may still come.
    """

    file: str
    reason: str
    is_absent: bool = False
    template = "{file} {reason}"


class StorageFullError(StorageError):
    """The disk is full; data that cannot be written stay on the bus."""

    path: str
    needed_bytes: int
    free_bytes: int

    def __str__(self) -> str:
        needed_gb, free_gb = self.needed_bytes / 1e9, self.free_bytes / 1e9
        return (
            f"no space on {self.path}, need {needed_gb:.3g} GB, {free_gb:.3g} GB free"
        )


class SpoolError(StorageError):
    """A publisher's spool cannot be read or written, is damaged, or is in use."""

    path: str
    reason: str
    template = "the spool {path}: {reason}"


class LeaseLostError(StorageError):
    """The lease of a scan is lost: another writer took it, or Redis lost its data."""

    scan: str
    fence: int
    template = "scan {scan}: the lease with fence {fence} is lost"


class VerificationError(StorageError):
    """A file does not hold the data from the bus; they were not acknowledged."""

    path: str
    reason: str
    template = "{path}: {reason}"
