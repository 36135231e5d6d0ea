"""Run the writer service in this process: signals, missing packages, a prompt exit."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from scanbus.schemas.exit_codes import ExitCode
from scanbus.writer.service.service import WriterService
from scanbus.writer.service.worker_link import Progress
from scanbus.writer.service.worker_pool import launch_process, launch_thread
from scanbus.writer.settings import WriterSettings
from scanbus.writer.storage.layout_templates import with_templates

if TYPE_CHECKING:
    # Not loaded here: HDF5 is in the workers only, so that it cannot end the service.
    from scanbus.writer.scan.scan_writer import ScanWriter

__all__ = ["run_writer"]

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def run_writer(
    settings: WriterSettings,
    *,
    once: bool = False,
    progress: Progress | None = None,
    make_writer: type[ScanWriter] | None = None,
) -> ExitCode:
    """Run the writer until it is stopped; return its exit code.

    SIGTERM and SIGINT stop it within ``stop_s``; a successor finishes open scans. If a
    system call on the disk still hangs then, the process exits at once, without running
    exit handlers. Files are written by worker processes, which end with this one.

    Parameters
    ----------
    once : bool
        Whether to return when every announced scan has a verdict.
    progress : callable, optional
        Called with ``(channel, points stored, points expected or None)``.
    make_writer : callable, optional
        Creates the scan writer of each attempt. With it, workers are threads of this
        process, and what crashes them ends it.

    Raises
    ------
    BusUnavailableError, BusUnsuitableError, RootUnusableError, ConfigurationError
        If it cannot start.
    WorkerFailedError
        If the worker processes cannot start.
    ImportError
        If a package that they need is not installed.
    """
    _check_packages()
    launch = launch_process if make_writer is None else launch_thread(make_writer)
    service = WriterService(with_templates(settings), progress, launch=launch)

    def leave(*_: Any) -> None:
        service.stop()

    before = {sign: signal.signal(sign, leave) for sign in _SIGNALS}
    try:
        code = service.run(once=once)
        if service.stalled:
            # A normal exit of Python would wait for the hanging threads.
            sys.stdout.flush()
            os._exit(code)
        return code
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)


def _check_packages() -> None:
    """Raise ImportError for what the workers need: they would say it less well."""
    for package in ("h5py", "hdf5plugin"):
        if importlib.util.find_spec(package) is None:
            raise ImportError(f"no module named {package!r}", name=package)
