"""What a figure was measured on: machine, disk, versions."""

import os
import platform
import shutil
import subprocess
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from scanbus.cli.private_redis import find_redis_server, server_version

PACKAGES = ("scanbus", "redis", "hiredis", "h5py", "hdf5plugin", "numpy", "bitshuffle")
_PROBE_BYTES = 256 * 2**20


def describe(folder: Path) -> dict[str, str]:
    """Return the machine in words, one line per thing; writes 256 MiB to the disk."""
    memory = psutil.virtual_memory().total / 2**30
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": f"{memory:.0f} GiB",
        "disk": f"{_disk_mb_per_s(folder):.0f} MB/s written and fsynced "
        f"({shutil.disk_usage(folder).free / 2**30:.0f} GiB free)",
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "Redis": server_version(find_redis_server()),
        "HDF5": _hdf5_version(),
        "packages": ", ".join(f"{name} {_version(name)}" for name in PACKAGES),
        "revision": _revision(),
        "load before": ", ".join(f"{load:.1f}" for load in os.getloadavg()),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _disk_mb_per_s(folder: Path) -> float:
    block = os.urandom(2**20)
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        started = time.perf_counter()
        for _ in range(_PROBE_BYTES // len(block)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        return _PROBE_BYTES / 1e6 / (time.perf_counter() - started)


def _hdf5_version() -> str:
    import h5py  # noqa: PLC0415 - only here, so that children start without it

    return str(h5py.version.hdf5_version)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(source tree)" if package == "scanbus" else "(none)"


def _revision() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent
    )
    return done.stdout.strip() or "unknown"
