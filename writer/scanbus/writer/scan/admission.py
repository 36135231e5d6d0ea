"""Admission of a scan to a root: it must be that of its bus, under a beamline of it.

Asked at the beginning of every attempt, because disks, Redis and other buses may have
changed since the writer started.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from scanbus.bus.store import Bus, BusRoot, read_bus_id, take_root
from scanbus.schemas.errors import RootConflictError, RootUnusableError
from scanbus.writer.steps import waiting
from scanbus.writer.storage.beamline_claims import BeamlineClaim
from scanbus.writer.storage.root_identity import RootGuard, read_root_id

__all__ = ["admit", "compare_root", "own_root"]

# The service puts the id of the bus back before an attempt and with its heartbeat, if
# Redis lost it.
_BUS_ID_S: Final = 25.0
_POLL_S: Final = 0.1


def own_root(root: Path) -> BusRoot:
    """Return the root of this process, as the bus is told of it.

    Raises
    ------
    NoRootError, RootUnusableError
        If the folder is no root, or the file system refuses.
    """
    return BusRoot(read_root_id(root), str(root.absolute()), socket.gethostname())


def compare_root(client: Bus, own: BusRoot) -> None:
    """Compare a root with that of the bus, which takes it if it has none.

    Raises
    ------
    RootConflictError
        If the bus is written below another root.
    """
    with waiting():
        known = take_root(client, own)
    if known.id != own.id:
        raise RootConflictError(
            own.path,
            f"the scans of this bus are written below another root, {known.id}, which "
            f"was {known.path} on {known.host}; this one is {own.id}. Write there, or "
            f"move the bus on purpose: `scanbus root use {own.path}`",
        )


def admit(
    client: Bus, root: Path, beamline: str, wait: Callable[[float], None]
) -> RootGuard:
    """Return the guard of a root below which the bus may write a beamline.

    Parameters
    ----------
    wait : callable
        Waits for some seconds; raises if the attempt is to stop.

    Raises
    ------
    NoRootError
        If the folder is no root.
    RootConflictError
        If the bus has another root, or the beamline belongs to another living bus.
    RootUnusableError
        If the file system refuses.
    """
    own = own_root(root)
    compare_root(client, own)
    bus = _bus_id(client, root, wait)
    claim = BeamlineClaim(root, beamline, bus, f"{own.host}-{os.getpid()}")
    try:
        claim.take(wait)
    except OSError as error:
        raise RootUnusableError(str(root), error.strerror or str(error)) from error
    return RootGuard(root, own.id, claim.check)


def _bus_id(client: Bus, root: Path, wait: Callable[[float], None]) -> str:
    deadline = time.monotonic() + _BUS_ID_S
    while not (found := read_bus_id(client)):
        if time.monotonic() > deadline:
            raise RootUnusableError(str(root), "the bus has lost its id")
        wait(_POLL_S)
    return found
