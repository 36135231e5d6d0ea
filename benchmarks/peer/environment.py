"""The peer: an environment of its own, and a Redis that it can use.

blissdata wants the modules ReJSON and search. Where they cannot be had, two small
stand-ins do: right answers, not the real modules' speed. Their source is not part of
this project.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("blissdata[test]==2.4.5", "blisswriter==3.0.0", "hdf5plugin")
SOURCE = "standin_modules.c"
_NAMES = ("blissdata", "blisswriter", "redis", "redis-om", "h5py", "numpy")


class PeerMissingError(Exception):
    """The peer cannot be run here; the message says why."""


@dataclass(frozen=True)
class Peer:
    """Paths and versions of the installed peer.

    Attributes
    ----------
    python : pathlib.Path
        Interpreter of its environment.
    redis_config : pathlib.Path
        Configuration of Redis that loads the modules.
    versions : dict
        Versions of its packages.
    """

    python: Path
    redis_config: Path
    versions: dict[str, str]


def make_peer(cache: Path, modules: Path) -> Peer:
    """Return the peer; install and build it below `cache` if necessary.

    Raises
    ------
    PeerMissingError
        If it cannot be installed or the modules cannot be built.
    """
    source = modules / SOURCE
    if not source.is_file():
        raise PeerMissingError(
            f"{source} is missing: the peer's Redis needs the modules ReJSON and "
            "search; say where the source of the stand-ins is with --modules DIR"
        )
    cache.mkdir(parents=True, exist_ok=True)
    python = _installed(cache.resolve() / "venv")
    config = _built(cache.resolve(), source)
    return Peer(python, config, _versions(python))


def _installed(folder: Path) -> Path:
    python, stamp = folder / "bin" / "python", folder / "installed"
    if stamp.exists() and stamp.read_text() == "\n".join(PACKAGES):
        return python
    print(f"installing {', '.join(PACKAGES)} into {folder} ...", file=sys.stderr)
    _run([sys.executable, "-m", "venv", str(folder)], 120)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--no-input"]
    _run([*pip, "--disable-pip-version-check", *PACKAGES], 900)
    stamp.write_text("\n".join(PACKAGES))
    return python


def _built(cache: Path, source: Path) -> Path:
    lines = []
    for name, flag in (("librejson", "JSON"), ("redisearch", "SEARCH")):
        library = cache / f"{name}.so"
        options = ["-O2", "-shared", "-fPIC", f"-DSTANDIN_{flag}"]
        _run(["gcc", *options, "-o", str(library), str(source)], 120)
        lines.append(f"loadmodule {library}\n")
    config = cache / "modules.conf"
    config.write_text("".join(lines))
    return config


def _versions(python: Path) -> dict[str, str]:
    code = (
        "import json, h5py; from importlib.metadata import version; "
        f"print(json.dumps({{n: version(n) for n in {_NAMES!r}}} "
        "| {'HDF5': h5py.version.hdf5_version}))"
    )
    found: dict[str, str] = json.loads(_run([str(python), "-c", code], 60))
    return found


def clean_environment() -> dict[str, str]:
    """Return an environment without our packages and without settings of HDF5."""
    dropped = ("PYTHONPATH", "HDF5_USE_FILE_LOCKING")
    return {key: text for key, text in os.environ.items() if key not in dropped}


def _run(command: list[str], timeout_s: float) -> str:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env=clean_environment(),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerMissingError(f"{command[0]}: {error}") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise PeerMissingError(f"{' '.join(command[:4])} ... failed: {last}")
    return done.stdout
