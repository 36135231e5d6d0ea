"""Profiles: what other layouts than ESRF's are, and what they are made from.

A profile is a pure function of a scan. Its files are small masters beside the scan
master, which link or map the same data; these stand once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from scanbus.writer.layouts.common.scan_view import ScanView
from scanbus.writer.model.nexus_tree import Node, Value

__all__ = ["ENTRY", "Master", "Profile"]

ENTRY = "entry"
"""Name of the NXentry in the files of built-in profiles (dxtbx 3.12 fails on "1.1")."""


@dataclass(frozen=True)
class Master:
    """One file of a profile.

    Attributes
    ----------
    children : mapping
        The members of its NXroot.
    missing : tuple of str
        What the application definition requires and the scan lacks, as paths of the
        metadata that say it, such as ``"instrument/eiger/distance"``; the file has no
        ``definition`` then.
    remarks : tuple of str
        Other sentences for the verdict's notes, e.g. about readers that will refuse it.
    attributes : mapping
        Attributes of its root, besides those of every NXroot.
    """

    children: Mapping[str, Node]
    missing: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    attributes: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class Profile:
    """A layout of a scan's files.

    Attributes
    ----------
    name : str
        The name by which scans and settings ask for it.
    naming : callable
        Returns the names of its files in the scan's folder.
    masters : callable
        Returns these files by name. Neither raises for what a scan lacks.
    summary : str
        What it is for, one sentence.
    required : tuple of str
        What its application definition requires, as paths of the metadata by which it
        comes, for ``scanbus layout``.
    """

    name: str
    naming: Callable[[ScanView], tuple[str, ...]]
    masters: Callable[[ScanView], Mapping[str, Master]]
    summary: str = ""
    required: tuple[str, ...] = field(default=())
