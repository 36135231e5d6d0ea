"""The last subscriber: from the bus into NeXus files, and their proof.

:func:`run_writer` is the service, :func:`replay` writes one scan again,
:func:`rebuild` makes masters from the disk alone, :func:`salvage` partial scans where
Redis was lost, :func:`check_files` proves files against the checksums made at the
source. Other components import from here only; each name is loaded when it is first
asked for, so ``check`` does not wait for the service.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from scanbus.writer.check import CheckReport, Finding, check_files
    from scanbus.writer.masters.rebuild import RebuildReport, SkippedScan, rebuild
    from scanbus.writer.masters.write import write_dataset_masters
    from scanbus.writer.recovery.salvage import SalvagedScan, SalvageReport, salvage
    from scanbus.writer.scan.replay import replay
    from scanbus.writer.service.service import run_writer
    from scanbus.writer.settings import WriterSettings

__all__ = [
    "CheckReport",
    "Finding",
    "RebuildReport",
    "SalvageReport",
    "SalvagedScan",
    "SkippedScan",
    "WriterSettings",
    "check_files",
    "rebuild",
    "replay",
    "run_writer",
    "salvage",
    "write_dataset_masters",
]

_MODULES: Final = {
    "CheckReport": "check",
    "Finding": "check",
    "RebuildReport": "masters.rebuild",
    "SalvageReport": "recovery.salvage",
    "SalvagedScan": "recovery.salvage",
    "SkippedScan": "masters.rebuild",
    "WriterSettings": "settings",
    "check_files": "check",
    "rebuild": "masters.rebuild",
    "replay": "scan.replay",
    "run_writer": "service.service",
    "salvage": "recovery.salvage",
    "write_dataset_masters": "masters.write",
}


def __getattr__(name: str) -> Any:
    """Load what is offered here when it is first asked for."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """Return what is offered here, loaded or not."""
    return sorted({*globals(), *__all__})
