"""Ask programs that others wrote: each in a process of its own.

They load what they like, warn and change HDF5's settings; here they do no harm. The
variable JUDGES_PYTHON names the Python that has them, with readers for node in the
folder `node` of its environment (`make checklist` makes both); by default it is this
one. Where CI is set, a judge that is missing fails its tests; elsewhere it skips them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import pytest

__all__ = [
    "DEBIAN",
    "NODE",
    "ask",
    "ask_debian",
    "ask_node",
    "missing",
    "plugin_path",
    "program",
    "run",
]

_PYTHON = os.environ.get("JUDGES_PYTHON") or sys.executable
NODE = Path(_PYTHON).parent.parent / "node"
"""Folder of the readers that run in node."""
DEBIAN = "/usr/bin/python3"
"""Python of the system, whose h5py is Debian's."""
_SECONDS = 300.0
_INSTALL = "`make checklist` installs it"
_PACKAGES = {"h5py": "python3-h5py", "dxtbx": "dials"}
_IMPORTS = "import json, sys\n"
_HEAD = f"{_IMPORTS}import hdf5plugin\n"


def ask(package: str, code: str, *arguments: object) -> Any:
    """Return what a program says: what it assigns to `answer`, by way of JSON.

    Parameters
    ----------
    package : str
        The package that it needs.
    code : str
        Python; the arguments are in ``sys.argv[1:]``.
    """
    if not _has(_PYTHON, package):
        missing(f"{package} is not installed: {_INSTALL}")
    return _answer([_PYTHON, "-c", _script(_HEAD, code), *map(str, arguments)])


def ask_debian(
    code: str, *arguments: object, filters: str | None = None, package: str = "h5py"
) -> Any:
    """Return what a program says to which Debian's h5py is h5py.

    It has no filters of its own: it finds those in a folder, by default `plugin_path`.
    """
    if not (Path(DEBIAN).is_file() and _has(DEBIAN, package)):
        missing(f"{DEBIAN} has no {package}: apt-get install {_PACKAGES[package]}")
    command = [DEBIAN, "-c", _script(_IMPORTS, code), *map(str, arguments)]
    folder = plugin_path() if filters is None else filters
    return _answer(command, HDF5_PLUGIN_PATH=folder)


def ask_node(code: str, *arguments: object, timeout_s: float = _SECONDS) -> Any:
    """Return what a module of JavaScript writes last, as JSON.

    The arguments are in ``process.argv.slice(2)``.
    """
    if not (NODE / "node_modules").is_dir():
        missing(f"{NODE} has no readers: {_INSTALL}")
    command = [program("node"), "--input-type=module", "-", *map(str, arguments)]
    done = run(command, input=code, cwd=NODE, timeout=timeout_s)
    return json.loads(done.stdout.splitlines()[-1])


def run(command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; what it complains about fails the test."""
    options = {"timeout": _SECONDS, "env": _environment(), **options}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, f"{command[0]}: {done.stderr[-2000:]}"
    return done


def program(name: str) -> str:
    """Return the path of a program."""
    beside = Path(_PYTHON).parent / name
    found = str(beside) if beside.is_file() else shutil.which(name)
    if found is None:
        missing(f"the program {name} is not on this machine")
    return found


@cache
def plugin_path() -> str:
    """Return the folder of the filters for programs that have none: hdf5plugin's."""
    code = "import hdf5plugin; print(hdf5plugin.PLUGIN_PATH)"
    return run([_PYTHON, "-c", code]).stdout.strip()


def missing(what: str) -> NoReturn:
    """Skip a test whose judge is not here; where all have to be here, fail it."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


def _answer(command: list[str], **variables: str) -> Any:
    done = run(command, env=_environment() | variables)
    return json.loads(done.stdout.splitlines()[-1])


def _script(head: str, code: str) -> str:
    return f"{head}{textwrap.dedent(code)}\nprint('\\n' + json.dumps(answer))\n"


@cache
def _has(python: str, package: str) -> bool:
    code = f"import importlib.util as u; exit(u.find_spec({package!r}) is None)"
    done = subprocess.run([python, "-c", code], check=False, env=_environment())
    return done.returncode == 0


def _environment() -> dict[str, str]:
    """Return that of the judges, without the folders of scanbus."""
    kept = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    return {**kept, "QT_QPA_PLATFORM": "offscreen", "PYFAI_OPENCL": "0"}
