"""Goal 10: masters above 10, 1000 and 10 000 scans are opened and written quickly.

Each scan that ends changes the masters of its dataset, collection and proposal, which
link all scans of a session. One listing costs more the more scans there are, so what
counts is the mean over the whole history.
"""

import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory

import h5py

from benchmarks.harness.plan import Plan
from benchmarks.harness.results import Figure, figure_of
from scanbus.schemas import ScanIdentity
from scanbus.schemas.file_names import dataset_path, scan_master_path
from scanbus.schemas.running_files import unlisted_record_path
from scanbus.writer.masters.above import MastersAbove
from scanbus.writer.masters.list_scans import KnownScans
from scanbus.writer.masters.unlisted import UnlistedScans, note_unlisted
from scanbus.writer.model.scan_contents import linked_path

GOAL = 10
SIZES = (10, 1000, 10_000)
# Listings of one scan each, at so many sizes in between, stand for the whole history.
N_SAMPLES = 20
LOOKS = 5
BATCH = 20
GRACE_S = 30.0
CPU_S = 0.2
LISTED_S = 10.0


def measure(plan: Plan) -> Iterator[Figure]:
    if plan.quick:
        return
    with TemporaryDirectory(dir=plan.folder) as folder:
        session = _Session(Path(folder))
        opening = []
        for size in SIZES[:-1]:
            session.grow(size)
            opening.append((yield from _of_size(session, size)))
        yield from _history(session, SIZES[-1])
        opening.append((yield from _of_size(session, SIZES[-1])))
        few, many = SIZES[-2:]
        name = f"h5py opens and lists a dataset master, {many} / {few} scans"
        grown = opening[-1] / opening[-2]
        note = "100 x if each link cost more the more there are"
        yield Figure(GOAL, name, grown, "x", 4.0 * many / few, True, note=note)
        yield from _batches(session)


class _Session:
    """The masters of a session's scans, which have little else."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.n_scans = 0

    def grow(self, size: int) -> ScanIdentity:
        """Make scans up to a number; return the last one."""
        for number in range(self.n_scans + 1, size + 1):
            scan = _identity(number)
            path = self.root / scan_master_path(scan)
            path.parent.mkdir(parents=True)
            entry = f"/{number}.1"
            with h5py.File(path, "w", track_order=True) as file:
                file.create_group(entry).attrs["NX_class"] = "NXentry"
                file[f"{entry}/scanbus/uid"] = scan.uid
                file[f"{entry}/measurement/counter"] = float(number)
                link = linked_path(path.name, scan.uid, entry)
                file[link] = h5py.SoftLink(entry)
        self.n_scans = max(size, self.n_scans)
        return _identity(self.n_scans)

    def writer(self, relook_s: float = 60.0) -> MastersAbove:
        """Return what a writer's process has, from its start on."""
        known = KnownScans(self.root, trusts_masters=True, relook_s=relook_s)
        return MastersAbove(self.root, known, GRACE_S)

    def list_next(self, writer: MastersAbove, n_new: int = 1) -> float:
        """Return the CPU seconds in which new scans are listed together."""
        last = self.grow(self.n_scans + n_new)
        return _cpu(lambda: writer.write(last))

    def masters(self) -> list[Path]:
        """Return the masters of the dataset, the collection and the proposal."""
        dataset = self.root / dataset_path(_identity(1))
        above = (dataset, dataset.parent, dataset.parent.parent)
        return [path for each in above for path in sorted(each.glob("[!.]*.h5"))]


def _of_size(session: _Session, size: int) -> Generator[Figure, None, float]:
    """Measure with so many scans; return the seconds to open and list a dataset."""
    writer = session.writer()
    session.list_next(writer)
    runs = [session.list_next(writer) for _ in range(LOOKS)]
    name = f"masters above a scan, one scan more after {size}"
    yield figure_of(GOAL, name, runs, "CPU s")
    yield _listed(session, size)
    dataset_s = 0.0
    words = ("dataset", "collection", "proposal")
    for word, path in zip(words, session.masters(), strict=True):
        opens = [_open(path, session.n_scans) for _ in range(LOOKS)]
        listing = [each[0] * 1e3 for each in opens]
        value_ms = median(each[1] for each in opens) * 1e3
        name = f"h5py opens the {word} master and lists it, {size} scans"
        note = f"then a value of the last scan: {value_ms:.1f} ms"
        yield figure_of(GOAL, name, listing, "ms", note=note)
        dataset_s = dataset_s or median(listing) / 1e3
    return dataset_s


def _open(path: Path, n_scans: int) -> tuple[float, float]:
    started = time.perf_counter()
    with h5py.File(path, locking=False) as file:
        names = list(file)
        listed = time.perf_counter()
        if file[f"{names[-1]}/measurement/counter"][()] != n_scans:
            raise RuntimeError(f"{path} does not show scan {n_scans}")
        return listed - started, time.perf_counter() - listed


def _listed(session: _Session, size: int) -> Figure:
    """Time from the record that a scan leaves to its link, with a service's looks."""
    aside = UnlistedScans(session.root, GRACE_S)
    seconds = 0.0
    for _ in range(2):  # The second one comes as soon after the first as it may.
        scan = session.grow(session.n_scans + 1)
        note_unlisted(session.root, scan)
        record = session.root / unlisted_record_path(scan.uid)
        started = time.perf_counter()
        while record.exists():
            aside.start()
            time.sleep(0.05)
        seconds = time.perf_counter() - started
    name = f"verdict to listed, after {size} scans"
    return Figure(GOAL, name, seconds, "s", LISTED_S, True)


def _history(session: _Session, size: int) -> Iterator[Figure]:
    """Grow to a size, and list single scans at sizes in between."""
    one, other = session.writer(relook_s=0.0), session.writer()
    alone, in_turn = [], []
    step = size // N_SAMPLES
    for reached in range(step, size + 1, step):
        last = session.grow(reached - 2)
        for writer in (other, one):
            writer.write(last)
        alone.append(session.list_next(one))
        # The masters are those of another writer now, so it makes them anew.
        in_turn.append(session.list_next(other))
    what = f"masters above a scan, mean over {size} scans"
    name = f"{what}, which come a minute apart"
    yield Figure(GOAL, name, mean(alone), "CPU s", CPU_S, True, runs=len(alone))
    name = f"{what}, of two writers in turn"
    yield Figure(GOAL, name, mean(in_turn), "CPU s", CPU_S, True, runs=len(in_turn))


def _batches(session: _Session) -> Iterator[Figure]:
    writer, size = session.writer(), session.n_scans
    cold_s = session.list_next(writer)
    runs = [session.list_next(writer, BATCH) / BATCH for _ in range(LOOKS)]
    name = f"masters above a scan, each of {BATCH} quick ones after {size}"
    yield figure_of(GOAL, name, runs, "CPU s", wanted=CPU_S, at_most=True)
    name = f"first listing of a writer that starts, after {size} scans"
    yield Figure(GOAL, name, cold_s, "CPU s", before="5.8")


def _cpu(call: Callable[[], object]) -> float:
    started = time.process_time()
    call()
    return time.process_time() - started


def _identity(number: int) -> ScanIdentity:
    return ScanIdentity(
        uid=f"{number:032d}",
        proposal="hg123",
        beamline="id00",
        session="20260101",
        collection="sample",
        dataset="0001",
        scan_number=number,
    )
