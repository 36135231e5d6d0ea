"""Read scans in a process that may open few files."""

import subprocess
import sys
from pathlib import Path
from typing import Final

__all__ = ["read_with_few_descriptors"]

_SCRIPT: Final = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]),) * 2)
import h5py, hdf5plugin, numpy as np
n_points, dataset, *masters = sys.argv[2:]
wanted = np.arange(int(n_points))
opened = [h5py.File(path)[dataset] for path in masters]
for data in opened:
    assert data.shape[0] == len(wanted), data.shape
    whole = data[...]
    assert (whole == whole[:, :1, :1]).all()
    np.testing.assert_array_equal(whole[:, 0, 0], wanted)
for number in wanted:
    for data in opened:
        assert (data[number] == number).all(), number
print("equal")
"""


def read_with_few_descriptors(
    n_descriptors: int, dataset: str, n_points: int, *masters: Path
) -> str:
    """Read frames that are filled with their numbers, whole and one by one.

    All scans are open at once.

    Parameters
    ----------
    n_descriptors : int
        Number of files that the process may have open.
    dataset : str
        Path of the frames in each master.

    Returns
    -------
    str
        ``equal``, or what differs.
    """
    command = [sys.executable, "-c", _SCRIPT, str(n_descriptors), str(n_points)]
    done = subprocess.run(
        [*command, dataset, *map(str, masters)],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or done.stderr
