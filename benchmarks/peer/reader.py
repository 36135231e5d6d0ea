"""A reader that opens every HDF5 file of a folder and holds it, as viewers do.

``python -m benchmarks.peer.reader FOLDER``: h5py's default way of locking; says each
file that it opened or could not open, and keeps all open until it is ended.
"""

import sys
import time
from pathlib import Path

import h5py

from benchmarks.peer.content import say


def hold(folder: Path) -> None:
    held: dict[Path, h5py.File] = {}
    refused: set[Path] = set()
    while True:
        for path in folder.rglob("*.h5"):
            is_hidden = any(part.startswith(".") for part in path.parts)
            if is_hidden or path in held:
                continue
            try:
                held[path] = h5py.File(path, "r")
                say(event="opened", file=path.name)
            except OSError as error:
                if path not in refused:
                    refused.add(path)
                    say(event="refused", file=path.name, error=str(error))
        say(event="looked", held=len(held))
        time.sleep(0.1)


if __name__ == "__main__":
    hold(Path(sys.argv[1]))
