"""Headers are read in threads, each of which may be the first to need fabio."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from fabio.cbfimage import CbfImage
from fabio.edfimage import EdfImage

CODE = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from scanbus.publisher.gateways.files.fabio_images import read_headers

paths = [Path(name) for name in sys.argv[1:]]
ready = Barrier(len(paths))

def read(path):
    start = path.read_bytes()[:4096]
    ready.wait()
    return read_headers(path, start)

with ThreadPoolExecutor(len(paths)) as threads:
    assert all(threads.map(read, paths))
"""


def test_the_first_two_images_may_be_of_two_formats(tmp_path: Path) -> None:
    """fabio would be imported from both ends, and a good file refused."""
    pixels = np.zeros((16, 16), np.int32)
    paths = [str(tmp_path / "a.edf"), str(tmp_path / "b.cbf")]
    EdfImage(pixels).write(paths[0])
    CbfImage(pixels).write(paths[1])
    command = [sys.executable, "-c", CODE, *paths]
    for _ in range(3):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
