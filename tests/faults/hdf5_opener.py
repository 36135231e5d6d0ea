"""Make or open an HDF5 file on a mount that hangs; say so while it does, and leave.

    python -m tests.faults.hdf5_opener made|opened PATH

As if the mount had gone after the system was asked: only HDF5 asks here.
"""

import os
import sys
import threading
from pathlib import Path

from scanbus.writer.storage import hdf5


def main(how: str, path: Path) -> None:
    opening = hdf5._made if how == "made" else hdf5._opened
    thread = threading.Thread(target=opening, args=(path,), daemon=True)
    thread.start()
    thread.join(1)
    said = "hangs, others run" if thread.is_alive() else "does not hang"
    os.write(sys.stdout.fileno(), f"{said}\n".encode())
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
