"""Description of the machine, the disk and the versions."""

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
# A higher load means that others use the machine during the measurement.
_IDLE_LOAD = 1.0
_IN_MEMORY = ("tmpfs", "ramfs")


def describe(folder: Path) -> dict[str, str]:
    """Return a description of the machine in lines; writes 256 MiB to the disk."""
    memory = psutil.virtual_memory().total / 2**30
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": f"{memory:.0f} GiB",
        "disk": f"{_file_system(folder)}, {_disk_mb_per_s(folder):.0f} MB/s written "
        f"and fsynced ({shutil.disk_usage(folder).free / 2**30:.0f} GiB free)",
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "Redis": server_version(find_redis_server()),
        "HDF5": _hdf5_version(),
        "packages": ", ".join(f"{name} {_version(name)}" for name in PACKAGES),
        "revision": _revision(),
        "load before": ", ".join(f"{load:.1f}" for load in os.getloadavg()),
    }


def doubts(folder: Path) -> dict[str, str]:
    """Return reasons to doubt figures of this machine, as sentences by topic."""
    found = {}
    load = os.getloadavg()[0]
    if load > _IDLE_LOAD:
        found["WARNING, load"] = (
            f"the machine was not idle at the start (load {load:.1f} of the last "
            "minute): figures may be too low; measure again when nothing else runs"
        )
    file_system = _file_system(folder)
    if file_system in _IN_MEMORY:
        found["WARNING, disk"] = (
            f"{folder} lies in memory ({file_system}), files and AOF with it: give "
            "--folder a folder on the disk that is to be measured"
        )
    if _is_dirty():
        found["WARNING, revision"] = (
            "the source tree had changes that are not committed"
        )
    return found


def _file_system(folder: Path) -> str:
    """Return the kind of file system of a folder."""
    path = folder.resolve()
    mounts = [
        mount
        for mount in psutil.disk_partitions(all=True)
        if path.is_relative_to(mount.mountpoint)
    ]
    # Of several mounts at one place, the last one hides the others.
    nearest = max(
        reversed(mounts), key=lambda mount: len(mount.mountpoint), default=None
    )
    return nearest.fstype if nearest else "unknown file system"


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
    return _git("describe", "--always", "--dirty") or "unknown"


def _is_dirty() -> bool:
    return bool(_git("status", "--porcelain", "--untracked-files=no"))


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    )
    return done.stdout.strip()
