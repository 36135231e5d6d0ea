"""Make segments while writes are refused: ``python -m … FOLDER SEED HOW N_SEGMENTS``.

HOW is ``full`` (the folder is a small file system, filled up by another file) or
``limit`` (files may not be longer than a random number of bytes). Prints how many
segments were given up, and how many files HDF5 could not close.
"""

import os
import random
import resource
import sys
from pathlib import Path
from typing import TypeAlias

from scanbus.bus.protocol import Entry, checksum_of, entry_id, pack_header, parse_entry
from scanbus.schemas import LaneDescription, Storage
from scanbus.writer.storage import hdf5
from scanbus.writer.storage.frame_segment import FrameSegment
from scanbus.writer.storage.value_segment import ValueSegment
from tests.support.descriptions import channel, lane_of

VALUES = lane_of(channel("c"), channel("e"), per_segment=2000)
FRAMES = lane_of(
    channel("d", "d", dtype="uint16", shape=(64, 64), codec="none"),
    per_segment=200,
    per_chunk=1,
    storage=Storage.FILES,
)
Segment: TypeAlias = type[ValueSegment] | type[FrameSegment]
KINDS: dict[str, Segment] = {VALUES.name: ValueSegment, FRAMES.name: FrameSegment}
_NO_LIMIT = resource.RLIM_INFINITY


def entry(lane: LaneDescription, first: int) -> Entry:
    """Return an entry with points that cannot be compressed."""
    sizes: tuple[int, ...]
    if lane is FRAMES:
        count, sizes = 1, (64 * 64 * 2,)
    else:
        count, sizes = 10, (80, 80)
    payload = os.urandom(sum(sizes))
    header = pack_header(
        session=b"s" * 8,
        checksum=checksum_of(payload),
        codecs=("none",) * len(sizes),
        sizes=sizes,
    )
    return parse_entry(lane, entry_id(first, count), {b"h": header, b"p": payload})


def refuse_soon(folder: Path, how: str, chance: random.Random) -> None:
    """Let a write be refused after a random number of bytes."""
    if how == "limit":
        soft = chance.randrange(2_000, 200_000)
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, _NO_LIMIT))
        return
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_bsize
    n_left = chance.randrange(300) << 10
    (folder / "ballast").write_bytes(bytes(max(0, free - n_left)))


def refuse_nothing(folder: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (_NO_LIMIT, _NO_LIMIT))
    (folder / "ballast").unlink(missing_ok=True)


def make_segment(path: Path, chance: random.Random) -> bool:
    """Make one segment; return whether it was given up."""
    lane = chance.choice((VALUES, FRAMES))
    segment = None
    try:
        segment = KINDS[lane.name](path, "uid00000", lane, 0)
        point = 0
        for _ in range(chance.randrange(1, 150)):
            one = entry(lane, point)
            segment.put(one)
            point = one.stop
            if chance.random() < 0.1:
                segment.flush()
        segment.close(point)
        segment.verify()
    except (OSError, RuntimeError, ValueError):
        if segment is not None:
            segment.discard()
        return True
    return False


def main() -> None:
    folder, how = Path(sys.argv[1]), sys.argv[3]
    chance = random.Random(int(sys.argv[2]))
    n_refused = 0
    for number in range(int(sys.argv[4])):
        path = folder / f"{number}.h5"
        refuse_soon(folder, how, chance)
        n_refused += make_segment(path, chance)
        refuse_nothing(folder)
        path.unlink(missing_ok=True)
    sys.stdout.write(f"{n_refused} {len(hdf5._lost)}\n")
    sys.stdout.flush()
    if hdf5.has_lost_files():
        os._exit(0)


if __name__ == "__main__":
    main()
