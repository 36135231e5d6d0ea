"""The same accidents on scanbus and on blissdata + blisswriter, as a table.

    python -m benchmarks.peer.accidents [--modules DIR] [--only 2 5] [--no-page]

Makes the peer's environment below ``--cache``, starts a Redis for every run, and writes
docs/comparison.md. Needs gcc and a redis-server 7 (the peer uses Redis Functions).
"""

import argparse
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.peer.environment import Peer, PeerMissingError, make_peer
from benchmarks.peer.page import Row, page, table
from benchmarks.peer.processes import ROOT
from benchmarks.peer.scenarios import ACCIDENTS, Accident
from benchmarks.peer.stage import Outcome, Stage
from benchmarks.peer.systems import Bliss, Scanbus, System

PAGE = ROOT / "docs" / "comparison.md"


def play(accident: Accident, system: System, folder: Path) -> Outcome:
    with Stage(system, folder, accident.redis_options) as stage:
        accident.play(stage)
        outcome = stage.settle(accident.deadline_s)
    print(f"{accident.title} | {system.name}: {outcome}", file=sys.stderr)
    return outcome


def play_all(peer: Peer, chosen: list[int], parallel: int) -> list[Row]:
    systems: tuple[System, ...] = (Bliss(peer), Scanbus())
    with (
        tempfile.TemporaryDirectory(prefix="accidents-") as folder,
        ThreadPoolExecutor(parallel) as pool,
    ):
        # The longest first, as the others run in the meantime.
        order = sorted(chosen, key=lambda n: -ACCIDENTS[n].deadline_s)
        runs = {
            (number, system.name): pool.submit(
                play,
                ACCIDENTS[number],
                system,
                Path(folder, f"{number}-{system.name.split()[0]}"),
            )
            for number in order
            for system in systems
        }
        return [
            Row(
                number,
                ACCIDENTS[number],
                {system.name: runs[number, system.name].result() for system in systems},
            )
            for number in chosen
        ]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--modules",
        type=Path,
        default=ROOT.parent / "shared" / "bliss",
        help="folder with the source of the peer's stand-in modules",
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path.home() / ".cache" / "scanbus" / "peer",
        help="where the peer is installed",
    )
    parser.add_argument("--only", type=int, nargs="+", metavar="N")
    parser.add_argument("--parallel", type=int, default=2, help="runs at a time")
    parser.add_argument("--no-page", action="store_true", help="print the table only")
    arguments = parser.parse_args()
    try:
        peer = make_peer(arguments.cache, arguments.modules)
    except PeerMissingError as error:
        print(error, file=sys.stderr)
        return 1
    chosen = arguments.only or list(range(len(ACCIDENTS)))
    rows = play_all(peer, chosen, arguments.parallel)
    print(table(rows))
    if not (arguments.no_page or arguments.only):
        PAGE.write_text(page(rows, peer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
