"""Build small C libraries that tests preload into processes."""

import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Final

__all__ = ["NO_COMPILER", "build", "can_preload"]

NO_COMPILER: Final = "there is no C compiler here (Debian: gcc)"


def _compiler() -> str | None:
    return shutil.which("cc") or shutil.which("gcc")


def can_preload() -> bool:
    return _compiler() is not None and sysconfig.get_platform().startswith("linux")


def build(source: Path, library: Path) -> Path:
    """Compile a C file to a shared library, and return the path of that."""
    command = [str(_compiler()), "-O2", "-shared", "-fPIC", "-D_GNU_SOURCE"]
    subprocess.run([*command, "-o", library, source], check=True)
    return library
