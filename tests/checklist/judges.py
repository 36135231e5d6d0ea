"""Ask programs that others wrote: each in a process of its own.

They load what they like, warn and change HDF5's settings; here they do no harm. The
variable SCANBUS_JUDGES names the Python that has them; by default it is this one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from functools import cache
from pathlib import Path
from typing import Any

import pytest

__all__ = ["ask", "program"]

# Taken out: scanbus refuses variables of its prefix that it does not know.
_PYTHON = os.environ.pop("SCANBUS_JUDGES", "") or sys.executable
_SECONDS = 300.0
_HEAD = "import json, sys\nimport hdf5plugin\n"


def ask(package: str, code: str, *arguments: object) -> Any:
    """Return what a program says: what it assigns to `answer`, by way of JSON.

    Parameters
    ----------
    package : str
        The package that it needs; the test is skipped without it.
    code : str
        Python; the arguments are in ``sys.argv[1:]``.
    """
    if not _has(package):
        pytest.skip(f"{package} is not installed: pip install 'scanbus[judges]'")
    code = f"{_HEAD}{textwrap.dedent(code)}\nprint('\\n' + json.dumps(answer))\n"
    done = subprocess.run(
        [_PYTHON, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
        env=_environment(),
    )
    assert done.returncode == 0, f"{package}: {done.stderr[-2000:]}"
    return json.loads(done.stdout.splitlines()[-1])


def program(name: str) -> str:
    """Return the path of a program; the test is skipped without it."""
    beside = Path(_PYTHON).parent / name
    found = str(beside) if beside.is_file() else shutil.which(name)
    if found is None:
        pytest.skip(f"the program {name} is not on this machine")
    return found


@cache
def _has(package: str) -> bool:
    code = f"import importlib.util as u; exit(u.find_spec({package!r}) is None)"
    done = subprocess.run([_PYTHON, "-c", code], check=False, env=_environment())
    return done.returncode == 0


def _environment() -> dict[str, str]:
    return {**os.environ, "QT_QPA_PLATFORM": "offscreen", "PYFAI_OPENCL": "0"}
