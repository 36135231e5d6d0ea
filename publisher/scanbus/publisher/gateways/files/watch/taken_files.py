"""Which files were taken, into which series, with which number; it survives a kill.

A file is noted before its frames leave this process. After a restart the frames of a
series that has not ended in order are sent again; the points that are there stay.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scanbus.publisher.gateways.files.watch.folder import FileId
from scanbus.schemas.errors import ConfigurationError, SourceFailedError

__all__ = ["TakenFile", "TakenFiles", "TakenSeries"]

_FORMAT = 1
_TABLES = """
CREATE TABLE IF NOT EXISTS series (
    key TEXT PRIMARY KEY, name TEXT NOT NULL, first INTEGER NOT NULL,
    frames_per_file INTEGER NOT NULL, uid TEXT NOT NULL DEFAULT '',
    is_sent INTEGER NOT NULL DEFAULT 0, is_done INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS files (
    path TEXT PRIMARY KEY, mtime_ns INTEGER NOT NULL, size INTEGER NOT NULL,
    inode INTEGER NOT NULL, series TEXT, number INTEGER NOT NULL,
    is_whole INTEGER NOT NULL DEFAULT 1
);
CREATE INDEX IF NOT EXISTS files_of_series ON files (series, number);
"""


@dataclass(slots=True)
class TakenSeries:
    """A series of files.

    Attributes
    ----------
    key : str
        Unique.
    name : str
        Its name, which another one may have later.
    first : int
        Number of its first file.
    frames_per_file : int
        Number of frames of its first file.
    uid : str
        Its scan; empty if that is not known yet.
    """

    key: str
    name: str
    first: int
    frames_per_file: int
    uid: str = ""


@dataclass(frozen=True, slots=True)
class TakenFile:
    """A file of a series: its path, what it was, and its number."""

    path: Path
    id: FileId
    number: int


class TakenFiles:
    """The files of one watched folder; one thread uses it at a time.

    Parameters
    ----------
    database : Path
        Its file; made if it is not there.

    Attributes
    ----------
    is_new : bool
        Whether the folder was not watched before.

    Raises
    ------
    ConfigurationError
        If another process uses it, or it cannot be used. Where it fails later, each
        call raises SourceFailedError.
    """

    def __init__(self, database: Path) -> None:
        self.is_new = not database.exists()
        self._path = database
        try:
            database.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(
                database, timeout=1.0, isolation_level=None, check_same_thread=False
            )
            # The lock lasts until the process ends, however it does.
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.executescript(_TABLES)
            self._check_format(database)
        except (sqlite3.Error, OSError) as error:
            is_locked = "locked" in str(error)
            reason = "another process watches the folder" if is_locked else str(error)
            raise ConfigurationError("state", f"{database}: {reason}") from error

    def _check_format(self, database: Path) -> None:
        (found,) = self._db.execute("PRAGMA user_version").fetchone()
        if found not in {0, _FORMAT}:
            raise ConfigurationError("state", f"{database}: of another version")
        self._db.execute(f"PRAGMA user_version = {_FORMAT}")

    def _run(self, query: str, values: tuple[Any, ...] = ()) -> list[Any]:
        """Run a query; return its rows."""
        with self._translated():
            return self._db.execute(query, values).fetchall()

    def _run_many(self, query: str, rows: list[tuple[Any, ...]]) -> None:
        with self._translated():
            self._db.executemany(query, rows)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise SourceFailedError(f"the database {self._path}", str(error)) from error

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    # --------------------------------------------------------------------- files

    def has(self, path: Path, found: FileId) -> bool:
        """Whether a file was taken as it is now."""
        query = "SELECT mtime_ns, size, inode FROM files WHERE path = ?"
        rows = self._run(query, (str(path),))
        return bool(rows) and FileId(*rows[0]) == found

    def add(self, series: TakenSeries | None, file: TakenFile) -> None:
        """Note a file; without a series it is one that nobody wants."""
        key = None if series is None else series.key
        values = (str(file.path), *file.id, key, file.number)
        self._run("REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, 1)", values)

    def note_refused(self, file: TakenFile) -> None:
        """Note that some frames of a file are in no scan."""
        self._run("UPDATE files SET is_whole = 0 WHERE path = ?", (str(file.path),))

    def has_number(self, series: TakenSeries, number: int) -> bool:
        """Whether a series has a file with a number."""
        query = "SELECT 1 FROM files WHERE series = ? AND number = ?"
        return bool(self._run(query, (series.key, number)))

    def of(self, series: TakenSeries, first: int = 0) -> Iterator[TakenFile]:
        """Yield the files of a series by number, from a number on."""
        return self._of("number >= ?", series, first)

    def whole_of(self, series: TakenSeries, stop: int) -> Iterator[TakenFile]:
        """Yield the files of a series up to a number, of which no frame was refused."""
        return self._of("number < ? AND is_whole", series, stop)

    def _of(
        self, condition: str, series: TakenSeries, bound: int
    ) -> Iterator[TakenFile]:
        query = (
            "SELECT path, mtime_ns, size, inode, number FROM files "
            f"WHERE series = ? AND {condition} ORDER BY number"
        )
        rows = self._run(query, (series.key, bound))
        for path, mtime_ns, size, inode, number in rows:
            yield TakenFile(Path(path), FileId(mtime_ns, size, inode), number)

    def stop_of(self, series: TakenSeries) -> int:
        """Return the number after that of the last file of a series."""
        query = "SELECT MAX(number) + 1 FROM files WHERE series = ?"
        ((found,),) = self._run(query, (series.key,))
        return int(found or 0)

    def count_of(self, series: TakenSeries) -> int:
        """Return the number of files of a series."""
        query = (
            "SELECT COUNT(DISTINCT number) FROM files WHERE series = ? AND number >= ?"
        )
        ((found,),) = self._run(query, (series.key, series.first))
        return int(found)

    # -------------------------------------------------------------------- series

    def begin(self, name: str, first: int, frames_per_file: int) -> TakenSeries:
        """Note a new series."""
        series = TakenSeries(uuid.uuid4().hex, name, first, frames_per_file)
        self._run(
            "INSERT INTO series (key, name, first, frames_per_file) "
            "VALUES (?, ?, ?, ?)",
            (series.key, name, first, frames_per_file),
        )
        return series

    def set_scan(self, series: TakenSeries, uid: str) -> None:
        """Note which scan a series is."""
        series.uid = uid
        self._run("UPDATE series SET uid = ? WHERE key = ?", (uid, series.key))

    def unsent(self) -> list[TakenSeries]:
        """Return the series whose scans have not ended in order."""
        return self._series("NOT is_sent")

    def undone(self) -> list[TakenSeries]:
        """Return the series whose scans have ended, and whose files still matter."""
        return self._series("is_sent AND NOT is_done")

    def _series(self, condition: str) -> list[TakenSeries]:
        columns = "key, name, first, frames_per_file, uid"
        query = f"SELECT {columns} FROM series WHERE {condition} ORDER BY rowid"
        return [TakenSeries(*row) for row in self._run(query)]

    def note_sent(self, series: TakenSeries) -> None:
        """Note that all of a series is in its scan, which has ended."""
        self._run("UPDATE series SET is_sent = 1 WHERE key = ?", (series.key,))

    def note_done(self, series: TakenSeries) -> None:
        """Note that nothing is left to be done for a series."""
        self._run("UPDATE series SET is_done = 1 WHERE key = ?", (series.key,))

    def forget(self, file: TakenFile) -> None:
        """Forget a file that was removed."""
        self._run("DELETE FROM files WHERE path = ?", (str(file.path),))

    def forget_gone(self) -> None:
        """Forget series that are done and whose files are gone.

        If all files are gone, the file system may be: then none is forgotten.
        """
        query = (
            "SELECT path FROM files LEFT JOIN series ON files.series = series.key "
            "WHERE files.series IS NULL OR is_done"
        )
        paths = [path for (path,) in self._run(query)]
        gone = [(path,) for path in paths if not Path(path).exists()]
        if len(gone) == len(paths):
            return
        self._run_many("DELETE FROM files WHERE path = ?", gone)
        self._run(
            "DELETE FROM series WHERE is_done "
            "AND key NOT IN (SELECT series FROM files WHERE series IS NOT NULL)"
        )
