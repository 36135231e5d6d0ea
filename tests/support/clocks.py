"""Fake wall clocks that jump while a process runs; monotonic clocks do not jump."""

import os
import struct
from pathlib import Path
from typing import Final

from tests.support.preloaded import NO_COMPILER, build, can_preload

__all__ = ["NO_CLOCKS", "FakeClock", "clocks_can_jump"]

NO_CLOCKS: Final = f"{NO_COMPILER}: no clock jumps"
_SOURCE: Final = Path(__file__).with_suffix(".c")


def clocks_can_jump() -> bool:
    return can_preload()


class FakeClock:
    """The wall clock of a process: correct until :meth:`jump` is called.

    Parameters
    ----------
    folder : pathlib.Path
        Folder for its files.
    name : str
        Prefix of their names.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._offset = folder / f"{name}.offset"
        self._library = folder / f"{name}.so"
        self._name = name
        self.jump(0)
        build(_SOURCE, self._library)

    def jump(self, offset_s: int) -> None:
        """Set the clock ahead of the true time by `offset_s` seconds."""
        # Written in place: the processes have the file mapped.
        file = os.open(self._offset, os.O_RDWR | os.O_CREAT)
        os.pwrite(file, struct.pack("=q", offset_s), 0)
        os.close(file)

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables of a process that is to use this clock."""
        return {
            "LD_PRELOAD": str(self._library),
            "CLOCK_OFFSET_FILE": str(self._offset),
        }

    def program(self, binary: Path) -> Path:
        """Return a script that runs a program with this clock."""
        script = self._offset.with_name(self._name)
        given = " ".join(
            f"{name}='{value}'" for name, value in self.environment.items()
        )
        script.write_text(f"#!/bin/sh\n{given} exec '{binary}' \"$@\"\n")
        script.chmod(0o755)
        return script
