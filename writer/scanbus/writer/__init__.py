"""Writer: writes scans from the bus into NeXus files, and verifies these files.

:func:`run_writer` runs the service, :func:`replay` writes one scan again,
:func:`rebuild` rebuilds master files from the disk alone, :func:`salvage` recovers
partial scans after a loss of Redis, :func:`check_files` compares files with the
checksums computed at the source, :func:`amend` corrects the metadata of a finished
scan, :func:`convert` repacks files, :func:`init_root` makes a folder a root,
:func:`send_dataset` and :func:`run_watch` tell ICAT of closed datasets. Other
components import from here only. Each name is loaded on first access, so ``check`` does
not load the service.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from scanbus.writer.check import CheckReport, Finding, check_files
    from scanbus.writer.icat.mirror import Mirrored, icat_from_nexus, nexus_from_icat
    from scanbus.writer.icat.send import SendReport, SendState, send_dataset
    from scanbus.writer.icat.watch import (
        PendingDataset,
        WatchSettings,
        pending,
        run_watch,
    )
    from scanbus.writer.masters.above import write_dataset_masters
    from scanbus.writer.masters.correction import AmendedScan, amend, amendments
    from scanbus.writer.masters.preview import (
        LayoutSummary,
        ScanPreview,
        TemplateCheck,
        check_template,
        known_layouts,
        preview_files,
        preview_scan,
    )
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
    "LayoutSummary",
    "Mirrored",
    "Packing",
    "PendingDataset",
    "RebuildReport",
    "RootMark",
    "SalvageReport",
    "SalvagedScan",
    "ScanPreview",
    "SendReport",
    "SendState",
    "SkippedScan",
    "TemplateCheck",
    "WatchSettings",
    "WriterSettings",
    "accept_lost_files",
    "amend",
    "amendments",
    "check_files",
    "check_template",
    "convert",
    "icat_from_nexus",
    "init_root",
    "known_layouts",
    "nexus_from_icat",
    "pending",
    "preview_files",
    "preview_scan",
    "rebuild",
    "replay",
    "run_watch",
    "run_writer",
    "salvage",
    "send_dataset",
    "use_root",
    "write_dataset_masters",
]

_MODULES: Final = {
    "AmendedScan": "masters.correction",
    "CheckReport": "check",
    "ConvertedFile": "repack",
    "Mirrored": "icat.mirror",
    "Packing": "repack",
    "Finding": "check",
    "PendingDataset": "icat.watch",
    "RebuildReport": "masters.rebuild",
    "RootMark": "storage.root_identity",
    "SalvageReport": "recovery.salvage",
    "SalvagedScan": "recovery.salvage",
    "SendReport": "icat.send",
    "SendState": "icat.send",
    "SkippedScan": "masters.rebuild",
    "WatchSettings": "icat.watch",
    "WriterSettings": "settings",
    "accept_lost_files": "service.operator",
    "amend": "masters.correction",
    "amendments": "masters.correction",
    "LayoutSummary": "masters.preview",
    "ScanPreview": "masters.preview",
    "TemplateCheck": "masters.preview",
    "check_template": "masters.preview",
    "known_layouts": "masters.preview",
    "preview_files": "masters.preview",
    "preview_scan": "masters.preview",
    "check_files": "check",
    "convert": "repack",
    "icat_from_nexus": "icat.mirror",
    "init_root": "storage.root_identity",
    "nexus_from_icat": "icat.mirror",
    "pending": "icat.watch",
    "rebuild": "masters.rebuild",
    "replay": "scan.replay",
    "run_watch": "icat.watch",
    "run_writer": "service.run",
    "salvage": "recovery.salvage",
    "send_dataset": "icat.send",
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
