"""Scans that are only a master, and a process that adds and lists them at random.

``python -m tests.support.listed_scans ROOT SEED N_SCANS``; it may be killed at any
moment. Whatever it lists, another process may list, too. It says ``begun`` when its
first scan has left its record, and ``added`` when it has added all of them.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

import h5py

from scanbus.schemas import ScanIdentity
from scanbus.schemas.file_names import scan_master_path
from scanbus.writer.layouts.link_masters import ScanMaster
from scanbus.writer.masters.unlisted import UnlistedScans, note_unlisted
from scanbus.writer.masters.write import replace_file
from scanbus.writer.model.nexus_tree import Dataset, Group, SoftLink

__all__ = ["NOTED", "add_scan", "identity_of", "lay_master", "links_of"]

# In this order by name: "a-b" comes before "a" once a dataset's name follows. And the
# names of entries of "a-b" and "a_b" collide in a NeXus file.
COLLECTIONS = ("a", "a-b", "a_b")
N_NUMBERS = 400
NOTED = "noted"
"""Folder of links to the masters of scans that have left their records."""


def identity_of(
    number: int, collection: str = "a", dataset: str = "0001", uid: str = ""
) -> ScanIdentity:
    return ScanIdentity(
        uid=uid or f"uid{number:08d}x{collection.encode().hex()}x{dataset}",
        proposal="ch-1234",
        beamline="id00",
        session="20240131",
        collection=collection,
        dataset=dataset,
        scan_number=number,
    )


def lay_master(root: Path, scan: ScanIdentity) -> Path:
    """Write the master of a scan that has nothing else, as the writer does: at once."""
    path = root / scan_master_path(scan)
    path.parent.mkdir(parents=True, exist_ok=True)
    entry = f"{scan.scan_number}.1"
    uid = Group("NXcollection", {}, {"uid": Dataset(scan.uid)})
    link = ScanMaster("", scan.scan_number, path.name, scan.uid).link.path
    group = link.split("/")[1]
    tree = Group(
        "NXroot",
        {},
        {
            entry: Group("NXentry", {}, {"scanbus": uid}),
            group: Group(None, {}, {entry: SoftLink(f"/{entry}")}),
        },
    )
    replace_file(path, tree)
    return path


def add_scan(root: Path, scan: ScanIdentity) -> Path:
    """Add a scan that is in no master above it yet, and has its verdict."""
    path = lay_master(root, scan)
    note_unlisted(root, scan)
    return path


def links_of(master: Path) -> dict[str, str]:
    """Return the scan masters that a master above links, by entry: all open."""
    with h5py.File(master, locking=False) as file:
        links = {name: file.get(name, getlink=True).filename for name in file}
        assert all(file.get(name) is not None for name in file)
        return links


def _say(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


def _main(root: Path, seed: str, n_scans: int) -> None:
    chance = random.Random(seed)
    aside = UnlistedScans(root, grace_s=1.0)
    mine: list[ScanIdentity] = []
    while len(mine) < n_scans:
        chosen = chance.random()
        if chosen < 0.5 or not mine:
            scan = identity_of(
                chance.randrange(1, N_NUMBERS),
                chance.choice(COLLECTIONS),
                chance.choice(("0001", "0002")),
            )
            folder = (root / scan_master_path(scan)).parent
            folder.parent.mkdir(parents=True, exist_ok=True)
            noted = root / NOTED / scan.uid
            try:
                folder.mkdir()
            except FileExistsError:
                continue  # The number is another scan's.
            path = add_scan(root, scan)
            noted.symlink_to(path)
            mine.append(scan)
            if len(mine) == 1:
                _say("begun")
        elif chosen < 0.6:
            lay_master(root, chance.choice(mine))  # It was amended, or goes on.
        elif chosen < 0.9:
            aside.run()
        else:
            time.sleep(chance.random() / 50)
    _say("added")
    while True:  # Until it is killed.
        aside.run()
        time.sleep(0.05)


if __name__ == "__main__":
    _main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
