"""The two systems: how each is started, and where it reports the outcome of a scan."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from benchmarks.peer.content import N_POINTS
from benchmarks.peer.environment import Peer
from benchmarks.peer.processes import OURS, Process, until
from scanbus.bus.store import connect, find_scan
from scanbus.schemas import Verdict
from scanbus.schemas.errors import ScanbusError
from scanbus.schemas.file_names import scan_folder_name, scan_master_name
from scanbus.writer import init_root

START_S = 30.0
Entry = tuple[bytes, Mapping[bytes, bytes]]


@dataclass(frozen=True)
class Word:
    """Verdict of a system on a scan.

    Attributes
    ----------
    text : str
        The verdict and its reason; empty while there is none.
    is_final : bool
        Whether it is final.
    named : dict
        Points that it calls missing, damaged or refused, per channel.
    """

    text: str = ""
    is_final: bool = False
    named: dict[str, set[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """A scan to be published.

    Attributes
    ----------
    dataset : str
        Dataset of the scan.
    number : int
        Its number in the dataset.
    n_points : int
        Of each channel.
    """

    dataset: str = "0001"
    number: int = 1
    n_points: int = N_POINTS

    @property
    def name(self) -> str:
        """Name of its log files."""
        return f"publisher-{self.dataset}-{self.number}"


@dataclass(frozen=True)
class Run:
    """One scan on one system, to be looked at from outside.

    Attributes
    ----------
    url : str
        Of the Redis.
    folder : pathlib.Path
        Where files and logs are.
    scan : str
        Its uid or key.
    asked : Asked
        What was to be published.
    writers : list of Process
        All that were started.
    """

    url: str
    folder: Path
    scan: str
    asked: Asked
    writers: list[Process]


class System(Protocol):
    """One of the two."""

    name: str
    redis_config: Path | None

    def make_ready(self, url: str, folder: Path) -> None:
        """Prepare an empty Redis for use."""

    def writer(self, url: str, folder: Path, name: str) -> Process:
        """Start a writer and wait until it looks for scans."""

    def publisher(self, url: str, folder: Path, asked: Asked) -> Process:
        """Start a publisher of one scan."""

    def word(self, run: Run) -> Word:
        """Return the verdict on a scan."""

    def file(self, run: Run) -> Path | None:
        """Return the file to be read."""

    def n_points(self, entry: Entry) -> int:
        """Return how many points an entry of a stream has."""


class Scanbus:
    """This project, with its defaults."""

    name = "scanbus"
    redis_config: Path | None = None

    def make_ready(self, url: str, folder: Path) -> None:
        """Do nothing: each process creates the keys that it needs."""

    def writer(self, url: str, folder: Path, name: str) -> Process:
        """Start ``scanbus writer``."""
        command = [str(OURS), "-m", "scanbus.cli", "writer", "--redis", url]
        root = str(init_root(folder / "files").path)
        process = Process([*command, "--root", root], folder / name)
        until(lambda: "writer_started" in process.log_text(), START_S)
        return process

    def publisher(self, url: str, folder: Path, asked: Asked) -> Process:
        """Start a publisher."""
        command = [str(OURS), "-m", "benchmarks.peer.bus_publisher", url, asked.dataset]
        numbers = [str(asked.number), str(asked.n_points)]
        return Process([*command, *numbers], folder / asked.name)

    def word(self, run: Run) -> Word:
        """Return the verdict on the bus."""
        try:
            with connect(run.url, name="accidents") as client:
                verdict = find_scan(client, run.scan).verdict
        except ScanbusError:
            return Word()
        return Word() if verdict is None else _word_of(verdict)

    def file(self, run: Run) -> Path | None:
        """Return the scan master."""
        number, dataset = run.asked.number, f"*{run.asked.dataset}"
        path = f"{dataset}/{scan_folder_name(number)}/{scan_master_name(number)}"
        found = (run.folder / "files").rglob(path)
        return next(found, None)

    def n_points(self, entry: Entry) -> int:
        """Return the second part of its id, which is ``first-count``."""
        return int(entry[0].partition(b"-")[2])


def _word_of(verdict: Verdict) -> Word:
    named = {
        name: {
            point
            for kind in (ledger.missing, ledger.corrupt, ledger.refused)
            for start, stop in kind
            for point in range(start, stop)
        }
        for name, ledger in verdict.channels.items()
    }
    text = verdict.verdict.value + (" (provisional)" if verdict.provisional else "")
    text += f": {verdict.reason}" if verdict.reason else ""
    return Word(text, not verdict.provisional, named)


class Bliss:
    """blissdata and blisswriter, as their documentation starts them.

    Parameters
    ----------
    peer : Peer
        Where they are installed.
    """

    name = "blissdata + blisswriter"

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self.redis_config: Path | None = peer.redis_config

    def make_ready(self, url: str, folder: Path) -> None:
        """Let blissdata set up an empty Redis."""
        module = "benchmarks.peer.peer_publisher"
        command = [str(self._peer.python), "-m", module, _patient(url), "--init"]
        process = Process(command, folder / "init")
        if not until(lambda: not process.is_running, START_S):
            process.kill()

    def writer(self, url: str, folder: Path, name: str) -> Process:
        """Start ``blisswriter run``."""
        program = self._peer.python.with_name("blisswriter")
        process = Process([str(program), "run", _patient(url)], folder / name)
        until(lambda: "Listening to" in process.log_text(), START_S)
        return process

    def publisher(self, url: str, folder: Path, asked: Asked) -> Process:
        """Start a publisher."""
        module = "benchmarks.peer.peer_publisher"
        path = _path(folder, asked)
        command = [str(self._peer.python), "-m", module, _patient(url), str(path)]
        numbers = [str(asked.number), str(asked.n_points)]
        return Process([*command, *numbers], folder / asked.name)

    def word(self, run: Run) -> Word:
        """Return what the writers logged: the service says it nowhere else."""
        lines: list[tuple[str, str]] = []
        for writer in run.writers:
            found = re.findall(
                rf"^\S+ \S+ - (\w+) *- {re.escape(run.scan)} - (.*)$",
                writer.log_text(),
                re.MULTILINE,
            )
            lines += found
        problems = [text for level, text in lines if level in ("ERROR", "CRITICAL")]
        if any(text == "Saving complete." for _, text in lines):
            said = "".join(f"; error logged: {text.strip()}" for text in problems[:1])
            return Word(f"COMPLETE{said}", is_final=True)
        stopped = "Stream saving stopped"
        fatal = [text for text in problems if not text.startswith(stopped)]
        if fatal:
            return Word(f"FAILED: {fatal[0].strip()}", is_final=True)
        if any(text.startswith("Not to be saved") for _, text in lines):
            return Word("COMPLETE: Not to be saved, skip.", is_final=True)
        return Word()

    def file(self, run: Run) -> Path | None:
        """Return the dataset file."""
        return _path(run.folder, run.asked)

    def n_points(self, entry: Entry) -> int:
        """Return what the entry says, which it does when it holds several."""
        return int(entry[1].get(b"len", b"1"))


def _path(folder: Path, asked: Asked) -> Path:
    return folder / "files" / f"dataset_{asked.dataset}.h5"


def _patient(url: str) -> str:
    # With redis-py 8 a blocking read ends after 5 s unless the address says otherwise,
    # and every stream takes a connection of its own.
    return f"{url}?socket_timeout=3600&max_connections=10000"


def begun(publisher: Process) -> dict[str, Any]:
    """Return the message of a publisher at the start of its scan."""
    until(lambda: publisher.said("begun") or not publisher.is_running, START_S)
    told = publisher.said("begun")
    if not told:
        last = (publisher.log_text().strip().splitlines() or ["nothing"])[-1]
        raise RuntimeError(f"the publisher did not begin; it said: {last}")
    return told[0]
