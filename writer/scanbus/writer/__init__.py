"""Writer: writes scans from the bus into NeXus files, and verifies these files.

:func:`run_writer` runs the service, :func:`replay` writes one scan again,
:func:`rebuild` rebuilds master files from the disk alone, :func:`salvage` recovers
partial scans after a loss of Redis, :func:`check_files` compares files with the
checksums computed at the source, :func:`amend` corrects the metadata of a finished
scan, :func:`convert` repacks files, :func:`init_root` makes a folder a root. Other
components import from here only. Each name is loaded on first access, so ``check`` does
not load the service.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from scanbus.writer.check import CheckReport, Finding, check_files
    from scanbus.writer.masters.above import write_dataset_masters
    from scanbus.writer.masters.correction import AmendedScan, amend, amendments
    from scanbus.writer.masters.rebuild import RebuildReport, SkippedScan, rebuild
    from scanbus.writer.recovery.salvage import SalvagedScan, SalvageReport, salvage
    from scanbus.writer.repack import ConvertedFile, Packing, convert
    from scanbus.writer.scan.replay import replay
    from scanbus.writer.service.operator import accept_lost_files, use_root
    from scanbus.writer.service.run import run_writer
    from scanbus.writer.settings import WriterSettings
    from scanbus.writer.storage.root_identity import RootMark, init_root

__all__ = [
    "AmendedScan",
    "CheckReport",
    "ConvertedFile",
    "Finding",
    "Packing",
    "RebuildReport",
    "RootMark",
    "SalvageReport",
    "SalvagedScan",
    "SkippedScan",
    "WriterSettings",
    "accept_lost_files",
    "amend",
    "amendments",
    "check_files",
    "convert",
    "init_root",
    "rebuild",
    "replay",
    "run_writer",
    "salvage",
    "use_root",
    "write_dataset_masters",
]

_MODULES: Final = {
    "AmendedScan": "masters.correction",
    "CheckReport": "check",
    "ConvertedFile": "repack",
    "Packing": "repack",
    "Finding": "check",
    "RebuildReport": "masters.rebuild",
    "RootMark": "storage.root_identity",
    "SalvageReport": "recovery.salvage",
    "SalvagedScan": "recovery.salvage",
    "SkippedScan": "masters.rebuild",
    "WriterSettings": "settings",
    "accept_lost_files": "service.operator",
    "amend": "masters.correction",
    "amendments": "masters.correction",
    "check_files": "check",
    "convert": "repack",
    "init_root": "storage.root_identity",
    "rebuild": "masters.rebuild",
    "replay": "scan.replay",
    "run_writer": "service.run",
    "salvage": "recovery.salvage",
    "use_root": "service.operator",
    "write_dataset_masters": "masters.above",
}


def __getattr__(name: str) -> Any:
    """Load a public name on first access."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """Return all public names, loaded or not."""
    return sorted({*globals(), *__all__})
