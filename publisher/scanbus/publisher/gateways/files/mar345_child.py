"""Read the pixels of a mar345 file from standard input; a program of `read_apart`.

fabio unpacks them in C that trusts what the file says, and makes zeros of those that
are lacking. The program imports nothing of this package, so that it starts quickly.
"""

import io
import re
import resource
import sys

# Processor time after which a damaged file is given up.
MOST_S = 20
# The packing of CCP4: runs of pixels, each with a head that says how many, of how many
# bits each. From bit 0 of each byte on.
PACKED = re.compile(rb"CCP4 packed image( V2)?, X: (\d+), Y: (\d+)\n")
BITS = (0, 4, 5, 6, 7, 8, 16, 32)
BITS_OF_V2 = (0, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 32)


def check_whole(content: bytes) -> None:
    """Follow the runs of pixels to the last one.

    Raises
    ------
    ValueError
        If there are no packed pixels, or some are lacking.
    """
    found = PACKED.search(content)
    if found is None:
        raise ValueError("no packed pixels")
    n_pixels = int(found[2]) * int(found[3])
    bits, half = (BITS_OF_V2, 4) if found[1] else (BITS, 3)
    mask = (1 << half) - 1
    at, end = 8 * found.end(), 8 * len(content)
    n_found = 0
    padded = content + b"\0"
    while n_found < n_pixels and at + 2 * half <= end:
        byte = at >> 3
        head = (padded[byte] | padded[byte + 1] << 8) >> (at & 7)
        n_run = 1 << (head & mask)
        n_found += n_run
        at += 2 * half + n_run * bits[head >> half & mask]
    if n_found < n_pixels or at > end:
        raise ValueError("pixels are lacking")


def main() -> None:
    """Write the pixels to standard output, as a file of numpy."""
    content = sys.stdin.buffer.read()
    check_whole(content)
    import fabio  # noqa: PLC0415 - it takes a while
    import numpy as np  # noqa: PLC0415
    from fabio.fabioutils import BytesIO  # noqa: PLC0415

    found = io.BytesIO()
    np.save(found, fabio.open(BytesIO(content)).data, allow_pickle=False)
    sys.stdout.buffer.write(found.getvalue())


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_S, MOST_S))
    main()
